//! What a check answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Severity;
use crate::config::redact;
use crate::model::{Link, Name, Server, ServerInfo, Snapshot, Time};

/// What a finding is about. IDs stand beside names for the reader; they are no part of its identity, for a
/// restart changes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Entity {
    /// The cluster.
    pub cluster: Option<Name>,
    /// The server's name; none for a finding about a whole cluster.
    pub server: Option<Name>,
    /// That server's ID in this life.
    pub server_id: Option<Name>,
    /// The remote cluster.
    pub remote: Option<Name>,
    /// The account.
    pub account: Option<Name>,
    /// The other server that it is about.
    pub peer_server: Option<Name>,
}

impl Entity {
    /// A server's gateway to a remote cluster.
    pub(super) fn of_link(link: &Link) -> Self {
        Self {
            cluster: Some(link.cluster.clone()),
            server: Some(link.server.clone()),
            server_id: Some(link.server_id.clone()),
            remote: Some(link.remote.clone()),
            ..Self::default()
        }
    }

    /// A server.
    pub(super) fn of_server(server: &Server) -> Self {
        Self {
            cluster: server.info.cluster.clone(),
            server: Some(server.info.name.clone()),
            server_id: Some(server.info.id.clone()),
            ..Self::default()
        }
    }

    /// What it is known by.
    pub fn names(&self) -> [Option<&Name>; 5] {
        [&self.cluster, &self.server, &self.remote, &self.account, &self.peer_server].map(Option::as_ref)
    }

    /// Whether both mean the same, whatever the ID of its present life.
    pub fn is(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

/// What a check says of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The check's slug.
    pub check: &'static str,
    /// How bad a violation is.
    pub severity: Severity,
    /// Of what.
    pub entity: Entity,
    /// What.
    pub outcome: Outcome,
}

/// Healthy, violated, unknown; or the entity is gone on purpose.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was seen to be well.
    Healthy,
    /// It could not be seen. Opens nothing and resolves nothing.
    Unknown,
    /// There is nothing to judge any more: it said goodbye, or nothing expects it.
    Gone,
    /// It is not well.
    Violated(Box<Violation>),
}

/// What is wrong, why, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Since when, as far as it was seen.
    pub since: Time,
    /// From when on it is worth a finding. Before that it only keeps back what it would explain.
    pub ripe_at: Time,
    /// One line: what, where.
    pub summary: String,
    /// Why.
    pub cause: Cause,
    /// What it does to messages.
    pub impact: String,
    /// What it rests on, by the keys that the contract names.
    pub evidence: Map<String, Value>,
    /// What to do, in order.
    pub remediation: Vec<Step>,
    /// The part of the evidence whose change is worth an update.
    pub essence: String,
    /// Who introduced itself as the server concerned.
    pub server: Option<ServerInfo>,
    /// How far it reaches, for what it explains.
    pub scope: Scope,
}

/// How far a violation reaches beyond its entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope", content = "names")]
pub enum Scope {
    /// Its entity.
    #[default]
    Entity,
    /// Only links to these remotes.
    Remotes(BTreeSet<Name>),
    /// Every link of its entity, in both directions.
    AllLinks,
    /// All but what is between its entity and these clusters.
    AllBut(BTreeSet<Name>),
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cause {
    /// Its kind.
    pub kind: CauseKind,
    /// How sure that is.
    pub confidence: Confidence,
    /// The observation it rests on.
    pub detail: String,
}

impl Cause {
    /// A cause of this kind.
    pub fn new(kind: CauseKind, confidence: Confidence, detail: impl Into<String>) -> Self {
        Self { kind, confidence, detail: detail.into() }
    }
}

/// The kinds of causes that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum CauseKind {
    /// Nobody sees a server of the remote cluster.
    RemoteClusterDown,
    /// Others see what this one does not.
    PathCut,
    /// The remote refused the login.
    AuthRejected,
    /// The remote was reached and the connection not accepted.
    TlsOrNameRejected,
    /// The remote was never reached.
    Unreachable,
    /// The configuration does not list the remote any more.
    ConfigRemoved,
    /// The configuration does not list the remote.
    NotConfigured,
    /// A server is on its way down or up.
    Restarting,
    /// More is sent than passes.
    Congested,
    /// None of these could be shown.
    Unknown,
}

impl CauseKind {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoteClusterDown => "remote_cluster_down",
            Self::PathCut => "path_cut",
            Self::AuthRejected => "auth_rejected",
            Self::TlsOrNameRejected => "tls_or_name_rejected",
            Self::Unreachable => "unreachable",
            Self::ConfigRemoved => "config_removed",
            Self::NotConfigured => "not_configured",
            Self::Restarting => "restarting",
            Self::Congested => "congested",
            Self::Unknown => "unknown",
        }
    }
}

/// How sure a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Confidence {
    /// Somebody said so.
    Certain,
    /// It fits all that was seen, and little else does.
    Likely,
    /// It fits; something else may too.
    Possible,
}

impl Confidence {
    /// The word in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// In words; a block of configuration may follow on lines of its own.
    #[serde(rename = "do")]
    pub action: String,
    /// The command, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Step {
    /// Something to do by hand.
    pub fn by_hand(action: impl Into<String>) -> Self {
        Self { action: action.into(), run: None }
    }

    /// Something that a command does.
    pub fn run(action: impl Into<String>, run: impl Into<String>) -> Self {
        Self { action: action.into(), run: Some(run.into()) }
    }
}

/// How many entries a list in evidence has at the most.
const LIST_MAX: usize = 32;

/// `names` as evidence: bounded, and ending in a count of what was left out.
pub(super) fn list<I>(names: I) -> Value
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let all: Vec<String> = names.into_iter().map(|n| short(n.as_ref())).collect();
    let over = all.len().saturating_sub(LIST_MAX);
    let mut out: Vec<Value> = all.into_iter().take(LIST_MAX).map(Value::String).collect();
    if over > 0 {
        out.push(Value::String(format!("and {over} more")));
    }
    Value::Array(out)
}

/// `names` in a sentence: `eu-0, eu-1 and 3 more`.
pub(super) fn words<I>(names: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let all: Vec<String> = names.into_iter().map(|n| short(n.as_ref())).collect();
    let over = all.len().saturating_sub(5);
    let shown = all.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if over > 0 { format!("{shown} and {over} more") } else { shown }
}

/// A name short enough for a sentence, whatever a server calls itself, and without characters that control.
pub(super) fn short(name: &str) -> String {
    const CHARS_MAX: usize = 80;
    let clean = name.chars().map(|c| if redact::hostile(c) { '\u{fffd}' } else { c });
    let mut out: String = clean.take(CHARS_MAX).collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// Whole milliseconds, for evidence.
pub(super) fn millis(d: Duration) -> Value {
    Value::from(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// What is said of how a server is set up after it said goodbye: a restart, which does so too, ends nothing.
pub(super) fn after_goodbye(snapshot: &Snapshot, server: &Server) -> Outcome {
    const BACK_WITHIN: Duration = Duration::from_secs(30);
    match server.left_at {
        Some(left_at) if snapshot.at.since(left_at) >= BACK_WITHIN => Outcome::Gone,
        _ => Outcome::Unknown,
    }
}

/// A server that no look shows any more: gone, where all who are left of its cluster answer.
pub(super) fn forgotten_server(snapshot: &Snapshot, entity: &Entity) -> Outcome {
    let cluster = entity.cluster.as_ref().and_then(|name| snapshot.clusters.get(name));
    let unseen = cluster.is_some_and(|c| c.servers.is_empty() || c.answered < c.servers.len());
    if unseen { Outcome::Unknown } else { Outcome::Gone }
}

/// The command that shows a server's gateways.
pub(super) fn ask_gateways(server: &str, server_id: &str) -> Option<Step> {
    server_id.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| {
        Step::run(
            format!("see the gateways of {} as it tells them itself", short(server)),
            format!("nats req '$SYS.REQ.SERVER.{server_id}.GATEWAYZ' ''"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_evidence_ends_in_a_count_of_what_was_left_out() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let Value::Array(list) = list(&names) else { panic!("a list") };
        assert_eq!((list.len(), list[32].as_str()), (33, Some("and 68 more")));
        assert_eq!(words(&names), "0, 1, 2, 3, 4 and 95 more");
        assert_eq!(words(&names[..2]), "0, 1");
    }

    #[test]
    fn a_name_in_a_sentence_is_short_and_controls_nothing() {
        assert_eq!(short("eu-1"), "eu-1");
        assert_eq!(short("a\nb\u{1b}[31m\u{202e}c").chars().filter(|c| *c == '\u{fffd}').count(), 3);
        assert_eq!(short(&"x".repeat(4096)).chars().count(), 81);
    }

    #[test]
    fn an_id_that_a_shell_would_read_makes_no_command() {
        assert!(ask_gateways("eu-1", "NABC").is_some());
        for id in ["N'; rm -rf /", "N A", "$(id)", "N.>"] {
            assert_eq!(ask_gateways("eu-1", id), None, "{id}");
        }
    }

    #[test]
    fn two_entities_are_the_same_whatever_their_ids() {
        let entity = |id: &str, remote: Option<&str>| Entity {
            server: Some("eu-1".into()),
            server_id: Some(id.into()),
            remote: remote.map(Name::from),
            ..Entity::default()
        };
        assert!(entity("N1", None).is(&entity("N2", None)));
        assert!(!entity("N1", None).is(&entity("N1", Some("us"))));
    }
}
