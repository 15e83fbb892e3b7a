//! What we say: the public events, as the contract has them. Fields are only ever added.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sign::{MSG_ID, Signer};
use super::{Message, token};
use crate::checks::{self, Cause, Entity, Scope, Severity, Step};
use crate::findings::{Action, Change, Finding, Reason, State};
use crate::model::{Name, ServerInfo, Snapshot, Time, Vantage, Way};

/// The largest event, in bytes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// How many missing servers an event names.
const MISSING_MAX: usize = 64;
/// How many clusters an event names.
const CLUSTERS_MAX: usize = 256;
/// How much of a name stands in a list, and of a text where an event would be too large, in characters.
const NAME_CHARS_MAX: usize = 128;

pub(super) const FINDING: &str = "io.nats.gatewatch.advisory.v1.finding";
pub(super) const AGENT: &str = "io.nats.gatewatch.advisory.v1.agent";
pub(super) const EPOCH: &str = "io.nats.gatewatch.metric.v1.epoch";

/// How events are addressed and dressed.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// The first token of every subject.
    pub prefix: String,
    /// Whether the headers of `CloudEvents` 1.0 are added.
    pub cloudevents: bool,
    /// Who speaks, as it is now.
    pub speaker: Speaker,
    /// Who signs them, where somebody does.
    pub signer: Option<Arc<Signer>>,
}

impl Style {
    /// The message, signed. It keeps its signature wherever it goes, and however often it is sent.
    fn message(&self, subject: String, headers: Vec<(String, String)>, payload: String) -> Message {
        let mut message = Message { subject, headers, payload };
        if let Some(signer) = &self.signer {
            signer.sign(&mut message);
        }
        message
    }
}

/// From where a finding was seen, and how completely.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sight {
    /// The agent's name.
    agent: String,
    /// The cluster it is connected to.
    cluster: Option<String>,
    /// The server it is connected to.
    server: String,
    /// The epoch in which it saw this.
    epoch: u64,
    /// How many servers ought to answer.
    expected: usize,
    /// How many did.
    answered: usize,
    /// The names of those that did not; ends in a count where they are many.
    missing: Vec<String>,
    /// The other servers by which it looks, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ways: Vec<Place>,
}

/// Another server by which an agent looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Place {
    /// Its cluster.
    cluster: Option<String>,
    /// Its name.
    server: String,
}

impl Sight {
    /// The sight that `snapshot` gave.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut missing: Vec<String> = Vec::new();
        let (mut expected, mut answered, mut over) = (0, 0, 0);
        for server in snapshot.expected() {
            expected += 1;
            if server.gatewayz.is_some() {
                answered += 1;
            } else if missing.len() < MISSING_MAX {
                missing.push(clip(&server.info.name));
            } else {
                over += 1;
            }
        }
        missing.sort();
        if over > 0 {
            missing.push(format!("and {over} more"));
        }
        let Vantage { agent, cluster, server, ways, .. } = &snapshot.vantage;
        let way = |way: &Way| Place { cluster: way.cluster.as_deref().map(clip), server: clip(&way.server) };
        Self {
            agent: agent.to_string(),
            cluster: cluster.as_ref().map(|c| clip(c)),
            server: clip(server),
            epoch: snapshot.epoch,
            expected,
            answered,
            missing,
            ways: ways.iter().map(way).collect(),
        }
    }
}

/// Who speaks, as other agents know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speaker {
    /// A start of an agent; names may be shared.
    pub instance: Name,
    /// Whether it leads.
    pub leads: bool,
    /// How many changes of findings it has published since it leads.
    pub changes: u64,
}

/// What another agent needs to go on with a finding.
#[derive(Serialize)]
struct Memo<'a> {
    instance: &'a Name,
    change: u64,
    essence: Option<&'a str>,
    scope: &'a Scope,
}

/// What happened to a finding: one violated check for one entity, from opened to resolved.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FindingEvent<'a> {
    /// The type of this message.
    #[cfg_attr(test, schemars(extend("const" = FINDING)))]
    r#type: &'static str,
    /// Unique to this message.
    id: &'a str,
    /// When it was said.
    timestamp: Time,
    /// What happened.
    action: Action,
    /// Whether the finding stands.
    state: State,
    /// Why it happened.
    reason: Reason,
    /// How bad it is; a part of the finding's identity.
    severity: Severity,
    /// The check's name.
    check: &'a str,
    /// The check's code; empty for a check that the agent has no more.
    code: &'a str,
    /// One line: what, where.
    summary: &'a str,
    /// The finding's identity, equal for every agent and every start.
    #[cfg_attr(test, schemars(extend("pattern" = "^[0-9a-f]{16}$")))]
    fingerprint: &'a str,
    /// Counts what was published of this finding since it opened, from 1.
    #[cfg_attr(test, schemars(extend("minimum" = 1)))]
    revision: u64,
    /// When it opened.
    opened_at: Time,
    /// When its check was last seen violated.
    last_seen_at: Time,
    /// When it resolved.
    resolved_at: Option<Time>,
    /// What it is about.
    entity: &'a Entity,
    /// Why it is so.
    cause: &'a Cause,
    /// What it does to messages.
    impact: &'a str,
    /// What it rests on: keys of its check.
    evidence: &'a Map<String, Value>,
    /// What to do, in order.
    remediation: &'a [Step],
    /// The fingerprints of the findings that this one explains, which are not published by themselves.
    inhibits: Vec<&'a str>,
    /// The server concerned, as it introduced itself.
    server: Option<&'a ServerInfo>,
    /// From where it was seen, and how completely.
    vantage: &'a Sight,
    /// What another agent needs to go on with it: a matter of theirs.
    #[cfg_attr(test, schemars(with = "Map<String, Value>"))]
    ledger: Memo<'a>,
}

/// The message that tells of `change`. `id` is unique.
pub fn finding(change: &Change, sight: &Sight, style: &Style, id: &str) -> Message {
    let f = &change.finding;
    let state = change.action.state();
    let payload_of = |f: &Finding| {
        let (essence, scope) = f.memo();
        body(&FindingEvent {
            r#type: FINDING,
            id,
            timestamp: f.published_at,
            action: change.action,
            state,
            reason: change.reason,
            severity: f.severity,
            check: &f.check,
            code: checks::find(&f.check).map_or("", |c| c.manual().code),
            summary: &f.summary,
            fingerprint: &f.fingerprint,
            revision: f.revision,
            opened_at: f.opened_at,
            last_seen_at: f.last_seen_at,
            resolved_at: f.resolved_at,
            entity: &f.entity,
            cause: &f.cause,
            impact: &f.impact,
            evidence: &f.evidence,
            remediation: &f.remediation,
            inhibits: f.inhibits.iter().map(String::as_str).collect(),
            server: f.server.as_ref(),
            vantage: sight,
            ledger: Memo { instance: &style.speaker.instance, change: style.speaker.changes, essence, scope },
        })
    };
    let mut payload = payload_of(f);
    if payload.len() > EVENT_BYTES_MAX {
        payload = payload_of(&abridged(f, payload.len()));
    }
    let e = &f.entity;
    let peer = e.remote.as_deref().or(e.account.as_deref()).or(e.peer_server.as_deref());
    let subject = format!(
        "{}.finding.{}.{}.{}.{}.{}",
        style.prefix,
        f.severity,
        f.check,
        token(e.cluster.as_deref()),
        token(e.server.as_deref()),
        token(peer)
    );
    let mut headers = vec![
        (MSG_ID.to_owned(), format!("{}:{}:{}", f.fingerprint, f.opened_at.as_millis(), f.revision)),
        ("Gatewatch-Action".to_owned(), change.action.as_str().to_owned()),
        ("Gatewatch-State".to_owned(), state.as_str().to_owned()),
        ("Gatewatch-Severity".to_owned(), f.severity.as_str().to_owned()),
    ];
    if style.cloudevents {
        headers.extend(cloudevents(FINDING, id, &sight.agent, &f.fingerprint, f.published_at));
    }
    style.message(subject, headers, payload)
}

/// The finding without what made it so many `bytes` long, such as names of kilobytes: which one it is is worth more
/// than what it rests on.
pub fn abridged(f: &Finding, bytes: usize) -> Finding {
    let mut f = f.clone();
    for text in [&mut f.summary, &mut f.impact, &mut f.cause.detail] {
        *text = clip(text);
    }
    let e = &mut f.entity;
    let names =
        [&mut e.cluster, &mut e.server, &mut e.server_id, &mut e.remote, &mut e.account, &mut e.peer_server];
    for name in names.into_iter().flatten() {
        *name = clip(name).into();
    }
    f.evidence = Map::from_iter([("left_out_bytes".to_owned(), json!(bytes))]);
    f.remediation.clear();
    f.lighten();
    f.server = None;
    f
}

/// What one message told of a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What happened to it.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The finding after it.
    pub finding: Finding,
    /// By which start of an agent.
    pub instance: Name,
    /// Which of its changes that was.
    pub change: u64,
}

/// Reads what [`finding`] wrote; none where it is something else, or its names are not what it is named by.
pub fn read(payload: &[u8]) -> Option<Told> {
    let mut body: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    if body.get("type").and_then(Value::as_str) != Some(FINDING) {
        return None;
    }
    let action = Action::deserialize(body.get("action")?).ok()?;
    let reason = Reason::deserialize(body.get("reason")?).ok()?;
    let mut memo = body.remove("ledger").unwrap_or_default();
    let memo = memo.as_object_mut()?;
    for key in ["essence", "scope"] {
        body.extend(memo.remove(key).map(|value| (key.to_owned(), value)));
    }
    let instance = memo.get("instance").and_then(Value::as_str).unwrap_or_default().into();
    let change = memo.get("change").and_then(Value::as_u64).unwrap_or_default();
    let published_at = body.remove("timestamp")?;
    body.insert("published_at".to_owned(), published_at);
    let finding = Finding::deserialize(Value::Object(body)).ok().filter(Finding::is_named_right)?;
    Some(Told { action, reason, finding, instance, change })
}

/// Whether it is something that [`finding`] wrote.
pub fn is_finding(payload: &[u8]) -> bool {
    let is_abridged = || {
        let body: Value = serde_json::from_slice(payload).unwrap_or_default();
        body.get("type").and_then(Value::as_str) == Some(FINDING)
            && body.pointer("/evidence/left_out_bytes").is_some()
    };
    read(payload).is_some() || is_abridged()
}

/// What happened to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum AgentEvent {
    /// It began.
    Started,
    /// It ends.
    Stopping,
    /// It polls and publishes.
    Leading,
    /// Another one does.
    Standby,
    /// It does not see everything.
    Degraded,
    /// It does again.
    Restored,
}

impl AgentEvent {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Leading => "leading",
            Self::Standby => "standby",
            Self::Degraded => "degraded",
            Self::Restored => "restored",
        }
    }
}

// In the order of their names, as these two messages always had them.
/// What happened to an agent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct AgentMessage<'a> {
    /// The agent's name.
    agent: &'a str,
    /// What happened.
    event: AgentEvent,
    /// Unique to this message.
    id: &'a str,
    /// Why it happened, in words.
    reason: &'a str,
    /// When it was said.
    timestamp: Time,
    /// The type of this message.
    #[cfg_attr(test, schemars(extend("const" = AGENT)))]
    r#type: &'static str,
    /// Where the agent is connected.
    vantage: Post<'a>,
    /// The agent's version.
    version: &'static str,
}

/// Where an agent is connected.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Post<'a> {
    /// The server's cluster.
    cluster: Option<&'a str>,
    /// The server's name.
    server: &'a str,
    /// The server's ID in this life.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<&'a str>,
}

/// What one epoch cost and showed; also the agent's heartbeat.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct EpochMessage<'a> {
    /// The agent's name.
    agent: &'a str,
    /// The size of all that came since the last epoch message.
    bytes_in: u64,
    /// The names of the clusters.
    clusters: Vec<String>,
    /// Replies that could not be understood.
    decode_errors: u64,
    /// How long the look took.
    duration_ms: u64,
    /// Counts from 1 since the agent started.
    epoch: u64,
    /// Unique to this message.
    id: &'a str,
    /// Between the beginnings of this epoch and the one before.
    interval_ms: u64,
    /// Whether this agent polls and publishes.
    leader: bool,
    /// Outbound gateways.
    links: LinksSeen,
    /// Until the next epoch begins.
    next_epoch_in_ms: u64,
    /// Open findings.
    open: OpenFindings,
    /// Replies that came since the last epoch message.
    replies: u64,
    /// Requests sent since the last epoch message.
    requests: u64,
    /// Servers.
    servers: ServersSeen<'a>,
    /// Whether the agent has been connected for long enough to judge what it sees.
    settled: bool,
    /// Silences that stand.
    silences: usize,
    /// When the epoch began.
    started_at: Time,
    /// When this was said.
    timestamp: Time,
    /// The type of this message.
    #[cfg_attr(test, schemars(extend("const" = EPOCH)))]
    r#type: &'static str,
    /// Where the agent is connected.
    vantage: Post<'a>,
    /// The agent's version.
    version: &'static str,
}

/// How many outbound gateways there are.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LinksSeen {
    /// Those that are connected.
    connected: usize,
    /// Those that ought to be.
    expected: usize,
}

/// How many findings are open, by severity.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OpenFindings {
    /// Of severity critical.
    critical: usize,
    /// Of severity info.
    info: usize,
    /// Of severity warning.
    warning: usize,
}

/// How many servers were seen.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ServersSeen<'a> {
    /// Those that answered.
    answered: usize,
    /// Those that ought to.
    expected: usize,
    /// Those whose heartbeat came in time.
    heard: usize,
    /// The names of those that did not answer; ends in a count where they are many.
    missing: &'a [String],
}

/// The message that tells of the agent itself.
pub fn agent(
    event: AgentEvent,
    reason: &str,
    vantage: &Vantage,
    style: &Style,
    id: &str,
    at: Time,
) -> Message {
    let message = AgentMessage {
        agent: &vantage.agent,
        event,
        id,
        reason,
        timestamp: at,
        r#type: AGENT,
        vantage: Post {
            cluster: vantage.cluster.as_deref(),
            server: &vantage.server,
            server_id: Some(&vantage.server_id),
        },
        version: env!("CARGO_PKG_VERSION"),
    };
    let subject = format!("{}.agent.{}.{}", style.prefix, event.as_str(), token(Some(&vantage.agent)));
    let mut headers = Vec::new();
    if style.cloudevents {
        headers.extend(cloudevents(AGENT, id, &vantage.agent, event.as_str(), at));
    }
    style.message(subject, headers, body(&message))
}

/// What one epoch cost and showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochCost {
    /// When it began.
    pub started_at: Time,
    /// How long the look took.
    pub duration_ms: u64,
    /// Between the beginnings of this one and the one before.
    pub interval_ms: u64,
    /// Until the next begins.
    pub next_epoch_in_ms: u64,
    /// Requests sent since the last epoch message.
    pub requests: u64,
    /// Replies that came.
    pub replies: u64,
    /// Their size, and that of heartbeats and advisories.
    pub bytes_in: u64,
    /// Replies of no use.
    pub decode_errors: u64,
}

/// How many there are when an epoch ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Open findings: critical, warning and info.
    pub open: [usize; 3],
    /// Silences.
    pub silences: usize,
}

/// The message of one epoch, which is the agent's heartbeat too.
pub fn epoch(
    snapshot: &Snapshot,
    sight: &Sight,
    cost: EpochCost,
    standing: Standing,
    style: &Style,
    id: &str,
    at: Time,
) -> Message {
    use crate::model::{LinkState, Sight as S};
    let heard = snapshot
        .expected()
        .filter(|s| {
            s.sight != S::Named && s.heard_at.is_some_and(|h| at.since(h) < s.heartbeat_interval() * 3 / 2)
        })
        .count();
    let clusters: Vec<String> = snapshot.clusters.keys().take(CLUSTERS_MAX).map(|c| clip(c)).collect();
    let connected = snapshot.links.iter().filter(|l| l.state == LinkState::Connected).count();
    let [critical, warning, info] = standing.open;
    let message = EpochMessage {
        agent: &sight.agent,
        bytes_in: cost.bytes_in,
        clusters,
        decode_errors: cost.decode_errors,
        duration_ms: cost.duration_ms,
        epoch: snapshot.epoch,
        id,
        interval_ms: cost.interval_ms,
        leader: style.speaker.leads,
        links: LinksSeen { connected, expected: snapshot.links.len() },
        next_epoch_in_ms: cost.next_epoch_in_ms,
        open: OpenFindings { critical, info, warning },
        replies: cost.replies,
        requests: cost.requests,
        servers: ServersSeen {
            answered: sight.answered,
            expected: sight.expected,
            heard,
            missing: &sight.missing,
        },
        settled: snapshot.settled,
        silences: standing.silences,
        started_at: cost.started_at,
        timestamp: at,
        r#type: EPOCH,
        vantage: Post { cluster: sight.cluster.as_deref(), server: &sight.server, server_id: None },
        version: env!("CARGO_PKG_VERSION"),
    };
    let subject = format!("{}.epoch.{}", style.prefix, token(Some(&sight.agent)));
    let mut headers = Vec::new();
    if style.cloudevents {
        headers.extend(cloudevents(EPOCH, id, &sight.agent, &token(Some(&sight.agent)), at));
    }
    style.message(subject, headers, body(&message))
}

/// Binary mode of the NATS binding of `CloudEvents` 1.0: each attribute is a header after `ce-`, its type of content
/// too. Every value is plain ASCII without blanks, so that none needs the binding's percent-encoding.
fn cloudevents(kind: &str, id: &str, agent: &str, subject: &str, at: Time) -> [(String, String); 7] {
    [
        ("ce-specversion".to_owned(), "1.0".to_owned()),
        ("ce-id".to_owned(), id.to_owned()),
        ("ce-type".to_owned(), kind.to_owned()),
        ("ce-source".to_owned(), format!("gatewatch/{}", token(Some(agent)))),
        ("ce-subject".to_owned(), subject.to_owned()),
        ("ce-time".to_owned(), at.to_string()),
        ("ce-datacontenttype".to_owned(), "application/json".to_owned()),
    ]
}

fn clip(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

fn body(event: &impl Serialize) -> String {
    // Every field is a string, a number, a list or a map with string keys: none of them can fail.
    serde_json::to_string(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::checks::example::{World, defaults, secs};
    use crate::checks::{CauseKind, Confidence, Outcome, Scope, Verdict, Violation};
    use crate::findings::{Judgement, Ledger};
    use crate::publish::schema::tests::assert_valid;

    const AT: &str = "2026-11-20T19:36:22.123456789Z";

    fn style(cloudevents: bool) -> Style {
        Style {
            prefix: "gatewatch".into(),
            cloudevents,
            speaker: Speaker { instance: "I1".into(), leads: true, changes: 7 },
            signer: None,
        }
    }

    fn sight() -> Sight {
        Sight {
            agent: "watch-1".into(),
            cluster: Some("eu".into()),
            server: "eu-2".into(),
            epoch: 41,
            expected: 9,
            answered: 8,
            ways: Vec::new(),
            missing: vec!["us-0".into()],
        }
    }

    fn entity(server: &str) -> Entity {
        Entity {
            cluster: Some("eu".into()),
            server: Some(server.into()),
            server_id: Some("NEU1".into()),
            remote: Some("us".into()),
            ..Entity::default()
        }
    }

    fn opened(entity: Entity, evidence: Map<String, Value>) -> Change {
        let at = Time::parse(AT).unwrap();
        let violation = Violation {
            since: at,
            ripe_at: at,
            summary: "eu-1 (eu) has no gateway to us".into(),
            cause: Cause::new(CauseKind::AuthRejected, Confidence::Certain, "us-0 refused the login"),
            impact: "messages are lost".into(),
            evidence,
            remediation: vec![Step::by_hand("mend the password"), Step::run("look", "nats req x ''")],
            essence: String::new(),
            server: Some(ServerInfo {
                name: "eu-1".into(),
                host: "10.0.0.1".into(),
                id: "NEU1".into(),
                cluster: Some("eu".into()),
                ver: "2.15.1".into(),
                seq: 3,
                ..ServerInfo::default()
            }),
            scope: Scope::Entity,
        };
        let verdict = Verdict {
            check: "gateway_disconnected",
            severity: Severity::Critical,
            entity,
            outcome: Outcome::Violated(Box::new(violation)),
        };
        let settings = defaults();
        let judgement = Judgement {
            at,
            seen_at: at,
            is_glance: false,
            epoch: 41,
            verdicts: vec![verdict],
            settings: &settings,
            repeat_every: secs(3600),
        };
        Ledger::default().step(judgement).pop().expect("it opens at once")
    }

    fn headers(message: &Message) -> BTreeMap<&str, &str> {
        message.headers.iter().map(|(k, v)| (&**k, &**v)).collect()
    }

    #[test]
    fn a_finding_reads_as_the_contract_has_it() {
        let change = opened(entity("eu-1"), Map::from_iter([("absent_ms".to_owned(), json!(2500))]));
        let message = finding(&change, &sight(), &style(false), "NUID");
        assert_eq!(message.subject, "gatewatch.finding.critical.gateway_disconnected.eu.eu-1.us");
        let expected = concat!(
            r#"{"type":"io.nats.gatewatch.advisory.v1.finding","id":"NUID","#,
            r#""timestamp":"2026-11-20T19:36:22.123456789Z","action":"opened","state":"open","reason":"violated","#,
            r#""severity":"critical","check":"gateway_disconnected","code":"CLUSTER_007","#,
            r#""summary":"eu-1 (eu) has no gateway to us","fingerprint":"f1","revision":1,"#,
            r#""opened_at":"2026-11-20T19:36:22.123456789Z","last_seen_at":"2026-11-20T19:36:22.123456789Z","#,
            r#""resolved_at":null,"entity":{"cluster":"eu","server":"eu-1","server_id":"NEU1","remote":"us","#,
            r#""account":null,"peer_server":null},"cause":{"kind":"auth_rejected","confidence":"certain","#,
            r#""detail":"us-0 refused the login"},"impact":"messages are lost","evidence":{"absent_ms":2500},"#,
            r#""remediation":[{"do":"mend the password"},{"do":"look","run":"nats req x ''"}],"inhibits":[],"#,
            r#""server":{"name":"eu-1","host":"10.0.0.1","id":"NEU1","cluster":"eu","ver":"2.15.1","#,
            r#""jetstream":false,"seq":3},"vantage":{"agent":"watch-1","cluster":"eu","server":"eu-2","#,
            r#""epoch":41,"expected":9,"answered":8,"missing":["us-0"]},"ledger":{"instance":"I1","change":7,"#,
            r#""essence":"","scope":{"scope":"entity"}}}"#
        );
        let expected = expected.replace("\"f1\"", &format!("{:?}", change.finding.fingerprint));
        assert_eq!(message.payload, expected, "the contract says that fields are only ever added");
        assert_eq!(
            headers(&message),
            BTreeMap::from([
                ("Nats-Msg-Id", &*format!("{}:1795203382123:1", change.finding.fingerprint)),
                ("Gatewatch-Action", "opened"),
                ("Gatewatch-State", "open"),
                ("Gatewatch-Severity", "critical"),
            ])
        );
    }

    #[test]
    fn what_one_agent_wrote_another_reads() {
        let evidence = Map::from_iter([("absent_ms".to_owned(), json!(2500))]);
        let change = opened(entity("eu-1"), evidence);
        let message = finding(&change, &sight(), &style(true), "NUID");
        let told = read(message.payload.as_bytes()).expect("it is whole");
        assert_eq!((told.action, &*told.instance, told.change), (Action::Opened, "I1", 7));
        assert_eq!(told.finding, change.finding);
        let body: Value = serde_json::from_str(&message.payload).unwrap();
        for (key, value) in
            [("type", json!("x")), ("fingerprint", json!("0000000000000000")), ("action", json!(1))]
        {
            let mut body = body.clone();
            body[key] = value;
            assert_eq!(read(body.to_string().as_bytes()), None, "{key}");
        }
        for odd in [&b""[..], b"[]", b"{}", &message.payload.as_bytes()[..900]] {
            assert_eq!(read(odd), None);
        }
    }

    #[test]
    fn a_cloudevent_has_the_headers_of_binary_mode() {
        let change = opened(entity("eu-1"), Map::new());
        let message = finding(&change, &sight(), &style(true), "NUID");
        let headers = headers(&message);
        assert_eq!(headers["ce-specversion"], "1.0");
        assert_eq!(headers["ce-id"], "NUID");
        assert_eq!(headers["ce-type"], "io.nats.gatewatch.advisory.v1.finding");
        assert_eq!(headers["ce-source"], "gatewatch/watch-1");
        assert_eq!(headers["ce-subject"], change.finding.fingerprint);
        assert_eq!(headers["ce-time"], AT);
        assert_eq!(headers["ce-datacontenttype"], "application/json");
        assert_eq!(headers.len(), 11, "and those of every finding");
        let plain = |value: &&str| value.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b'"' && b != b'%');
        assert!(headers.iter().filter(|(name, _)| name.starts_with("ce-")).all(|(_, value)| plain(value)));
    }

    #[test]
    fn every_event_is_signed_where_somebody_signs() {
        let signer = Arc::new(Signer::new(nkeys::KeyPair::new_user()).unwrap());
        let mut verifier = crate::publish::sign::Verifier::default();
        verifier.trust(signer.public_key()).unwrap();
        let style = Style { signer: Some(signer), ..style(true) };
        let mut world = World::seen_from("eu-0");
        world.run(secs(1));
        let (snapshot, sight) = (world.view(), Sight::of(world.view()));
        let at = snapshot.at;
        let change = opened(entity("eu-1"), Map::new());
        for message in [
            finding(&change, &sight, &style, "ID"),
            agent(AgentEvent::Started, "why", &snapshot.vantage, &style, "ID", at),
            epoch(snapshot, &sight, EpochCost::default(), Standing::default(), &style, "ID", at),
        ] {
            let headers = headers(&message);
            verifier
                .verify(&message.subject, |name| headers.get(name).copied(), message.payload.as_bytes())
                .unwrap();
        }
    }

    #[test]
    fn every_word_of_the_contract_is_written_as_it_stands_there() {
        use crate::findings::State;
        let written = |value: Value| value.as_str().map(str::to_owned).unwrap();
        let reasons = [
            (Reason::Violated, "violated"),
            (Reason::EvidenceChanged, "evidence_changed"),
            (Reason::StillViolated, "still_violated"),
            (Reason::Recovered, "recovered"),
            (Reason::Gone, "gone"),
            (Reason::Explained, "explained"),
            (Reason::Reclassified, "reclassified"),
        ];
        for (reason, word) in reasons {
            assert_eq!(written(json!(reason)), word);
        }
        let actions = [
            (Action::Opened, "opened", State::Open),
            (Action::Updated, "updated", State::Open),
            (Action::Reminded, "reminded", State::Open),
            (Action::Resolved, "resolved", State::Resolved),
        ];
        for (action, word, state) in actions {
            assert_eq!(
                (written(json!(action)), action.as_str(), action.state()),
                (word.to_owned(), word, state)
            );
            assert_eq!(written(json!(state)), state.as_str());
        }
        for kind in [
            CauseKind::RemoteClusterDown,
            CauseKind::PathCut,
            CauseKind::AuthRejected,
            CauseKind::TlsOrNameRejected,
            CauseKind::Unreachable,
            CauseKind::ConfigRemoved,
            CauseKind::NotConfigured,
            CauseKind::Restarting,
            CauseKind::Congested,
            CauseKind::Unknown,
        ] {
            assert_eq!(written(json!(kind)), kind.as_str());
        }
        for confidence in [Confidence::Certain, Confidence::Likely, Confidence::Possible] {
            assert_eq!(written(json!(confidence)), confidence.as_str());
        }
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            assert_eq!(written(json!(severity)), severity.as_str());
        }
    }

    #[test]
    fn an_agent_event_has_what_the_contract_names() {
        let vantage = Vantage {
            ways: Vec::new(),
            agent: "watch-1".into(),
            cluster: Some("eu".into()),
            server: "eu-0".into(),
            server_id: "NEU0".into(),
        };
        let at = Time::parse(AT).unwrap();
        for (event, word) in [
            (AgentEvent::Started, "started"),
            (AgentEvent::Stopping, "stopping"),
            (AgentEvent::Leading, "leading"),
            (AgentEvent::Standby, "standby"),
            (AgentEvent::Degraded, "degraded"),
            (AgentEvent::Restored, "restored"),
        ] {
            let message = agent(event, "why", &vantage, &style(true), "NUID", at);
            assert_eq!(message.subject, format!("gatewatch.agent.{word}.watch-1"));
            assert_eq!(headers(&message)["ce-subject"], word);
            assert_valid(&message.payload);
            assert_eq!(
                message.payload,
                json!({
                    "type": "io.nats.gatewatch.advisory.v1.agent", "id": "NUID", "timestamp": AT, "event": word,
                    "agent": "watch-1", "version": env!("CARGO_PKG_VERSION"), "reason": "why",
                    "vantage": { "cluster": "eu", "server": "eu-0", "server_id": "NEU0" },
                })
                .to_string(),
                "the names are in order, as they always were"
            );
        }
    }

    #[test]
    fn an_epoch_event_has_what_the_contract_names() {
        let mut world = World::seen_from("eu-0");
        world.kill("us-1");
        world.run(secs(2));
        let snapshot = world.view();
        let cost = EpochCost {
            started_at: snapshot.at,
            duration_ms: 3,
            interval_ms: 1000,
            next_epoch_in_ms: 997,
            requests: 2,
            replies: 16,
            bytes_in: 20_000,
            decode_errors: 0,
        };
        let standing = Standing { open: [1, 2, 3], silences: 4 };
        let message =
            epoch(snapshot, &Sight::of(snapshot), cost, standing, &style(true), "NUID", snapshot.at);
        assert_eq!(message.subject, "gatewatch.epoch.watch-1");
        assert_eq!(headers(&message)["ce-type"], "io.nats.gatewatch.metric.v1.epoch");
        assert_valid(&message.payload);
        assert_eq!(
            message.payload,
            json!({
                "type": "io.nats.gatewatch.metric.v1.epoch", "id": "NUID", "timestamp": snapshot.at,
                "agent": "watch-1", "version": env!("CARGO_PKG_VERSION"),
                "vantage": { "cluster": "eu", "server": "eu-0" },
                "epoch": snapshot.epoch, "leader": true, "settled": true, "started_at": snapshot.at,
                "duration_ms": 3, "interval_ms": 1000, "next_epoch_in_ms": 997,
                "servers": { "expected": 9, "answered": 8, "heard": 9, "missing": ["us-1"] },
                "clusters": ["ap", "eu", "us"],
                "links": { "expected": 16, "connected": 16 },
                "open": { "critical": 1, "warning": 2, "info": 3 }, "silences": 4,
                "requests": 2, "replies": 16, "bytes_in": 20000, "decode_errors": 0,
            })
            .to_string(),
            "the names are in order, as they always were"
        );
    }

    #[test]
    fn an_event_is_one_line_of_256_kib_at_the_most_whatever_servers_call_themselves() {
        let huge = "\u{1}\n".repeat(100_000);
        let hostile = Entity {
            cluster: Some(huge.as_str().into()),
            server: Some(huge.as_str().into()),
            remote: Some(huge.as_str().into()),
            ..Entity::default()
        };
        let evidence = Map::from_iter([("x".to_owned(), json!("y".repeat(EVENT_BYTES_MAX)))]);
        for change in [opened(entity("eu-1"), evidence), opened(hostile, Map::new())] {
            let message = finding(&change, &sight(), &style(true), "NUID");
            let length = message.payload.len();
            assert!(length <= EVENT_BYTES_MAX, "{length} bytes are more than the contract allows");
            assert!(!message.payload.contains('\n'));
            let body: Value = serde_json::from_str(&message.payload).unwrap();
            assert!(body["evidence"]["left_out_bytes"].as_u64().unwrap() > EVENT_BYTES_MAX as u64);
            assert_valid(&message.payload);
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
            assert!(plain(&message.subject) && message.subject.len() < 512, "{}", message.subject);
            assert_eq!(message.subject.split('.').count(), 7, "a name adds no token");
            assert!(message.headers.iter().all(|(_, v)| plain(v)), "{:?}", message.headers);
        }
    }

    #[test]
    fn an_epoch_event_keeps_the_bound_too() {
        let mut world = World::seen_from("eu-0");
        world.run(Duration::from_millis(500));
        let mut snapshot = world.view().clone();
        let nasty = "\u{1}\r\n* >.".repeat(1000);
        let template = snapshot.servers.values().next().unwrap().clone();
        for n in 0..2000 {
            let name: Name = format!("{n}{nasty}").into();
            snapshot.clusters.insert(name.clone(), crate::model::Cluster::default());
            let mut server = template.clone();
            server.gatewayz = None;
            server.info.name = name.clone();
            snapshot.servers.insert(name, server);
        }
        snapshot.vantage.agent = nasty.as_str().into();
        let sight = Sight::of(&snapshot);
        let cost = EpochCost::default();
        let message = epoch(&snapshot, &sight, cost, Standing::default(), &style(true), "NUID", snapshot.at);
        assert!(message.payload.len() <= EVENT_BYTES_MAX, "{} bytes", message.payload.len());
        assert!(message.headers.iter().all(|(_, v)| v.bytes().all(|b| b.is_ascii_graphic())));
        assert_eq!(message.subject.split('.').count(), 3);
        let unique: BTreeSet<&String> = sight.missing.iter().collect();
        assert_eq!(unique.len(), MISSING_MAX + 1);
        assert!(sight.missing.iter().any(|m| m == "and 1936 more"));
    }
}
