//! What a look says about the whole supercluster: the answer of `gatewatch check` and `gatewatch judge`.

mod render;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::checks::{REGISTRY, Settings, Severity};
use crate::config::redact;
use crate::findings::{self, Action, Change, Finding, Reason};
use crate::model::{Life, LinkState, Refusal, Snapshot, Time};
use crate::publish::event::{self, Sight, Style};

pub(super) use render::{Format, Look};

/// How many names a sentence has.
const NAMED_MAX: usize = 8;
const ASK_NEARER: &str = "see whether those servers run, and ask once more from where they are near: gateways are one \
                          hop, so a server sees no further than its own";
/// The check about our own sight: it says nothing of the supercluster.
const OWN_SIGHT: &str = "observer_degraded";

/// The answer in one word. What is unknown may hide something critical, and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Status {
    pub(super) const fn exit(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    there: usize,
    expected: usize,
}

/// What is asked of a look, besides what the settings of the checks say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Findings below this are told of, and change nothing.
    pub(super) fail_on: Severity,
    /// So many servers have to answer, where somebody said so.
    pub(super) servers: usize,
}

impl Default for Demand {
    fn default() -> Self {
        Self { fail_on: Severity::Warning, servers: 0 }
    }
}

/// What is known of the whole, for every format.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    fail_on: Severity,
    /// Why it cannot be told whether all is well; empty where it can.
    unseen: Vec<String>,
    /// What to do about that.
    help: Option<String>,
    /// The worst first.
    findings: Vec<Finding>,
    sight: Sight,
    /// From where it was seen: the server, and its cluster.
    from: Option<(String, Option<String>)>,
    clusters: Share,
    servers: Share,
    links: Share,
    at: Option<Time>,
    /// The checks that were made.
    checks: Vec<(&'static str, &'static str)>,
}

impl Answer {
    pub(super) fn of(
        snapshot: &Snapshot,
        settings: &BTreeMap<&'static str, Settings>,
        demand: Demand,
    ) -> Self {
        let mut findings = findings::judge(snapshot, settings);
        // What explains the most is the one to begin with.
        findings.sort_by_key(|f| Reverse((f.severity, f.inhibits.len())));
        let lasting = || snapshot.expected().filter(|s| s.life != Life::Gone);
        let connected = snapshot.links.iter().filter(|l| l.state == LinkState::Connected).count();
        let servers = Share {
            there: lasting().filter(|s| s.gatewayz.is_some()).count(),
            expected: lasting().count().max(demand.servers),
        };
        let vantage = &snapshot.vantage;
        let mut answer = Self {
            status: Status::Ok,
            fail_on: demand.fail_on,
            unseen: unseen(snapshot, demand.servers),
            help: snapshot.expected().any(|s| s.gatewayz.is_none()).then(|| ASK_NEARER.to_owned()),
            findings,
            sight: Sight::of(snapshot),
            from: Some((shown(&vantage.server), vantage.cluster.as_deref().map(shown))),
            clusters: Share {
                there: snapshot.clusters.values().filter(|c| c.answered > 0).count(),
                expected: snapshot.clusters.len(),
            },
            servers,
            links: Share { there: connected, expected: snapshot.links.len() },
            at: Some(snapshot.at),
            checks: made(settings),
        };
        answer.decide();
        answer
    }

    /// Nothing was seen at all, for this reason.
    pub(super) fn blind(
        why: String,
        help: Option<String>,
        settings: &BTreeMap<&'static str, Settings>,
    ) -> Self {
        Self {
            status: Status::Unknown,
            fail_on: Severity::Warning,
            unseen: vec![why],
            help,
            findings: Vec::new(),
            sight: Sight::default(),
            from: None,
            clusters: Share::default(),
            servers: Share::default(),
            links: Share::default(),
            at: None,
            checks: made(settings),
        }
    }

    /// The look ended while something was still about to show.
    pub(super) fn cut_short(&mut self, waits_for: &str) {
        if self.unseen.is_empty() {
            self.unseen.push(format!("it ended while it still waited {waits_for}"));
        }
        self.decide();
    }

    fn decide(&mut self) {
        let worst = self.findings.iter().filter(|f| &*f.check != OWN_SIGHT).map(|f| f.severity).max();
        self.status = match worst.filter(|severity| *severity >= self.fail_on) {
            Some(Severity::Critical) => Status::Critical,
            Some(Severity::Warning | Severity::Info) => Status::Warning,
            None if !self.unseen.is_empty() || self.findings.iter().any(|f| &*f.check == OWN_SIGHT) => {
                Status::Unknown
            }
            None => Status::Ok,
        };
    }

    /// The finding as the agent would publish it; the same look gives the same bytes every time.
    fn event(&self, finding: &Finding) -> String {
        let id = format!("{}:{}:{}", finding.fingerprint, finding.opened_at.as_millis(), finding.revision);
        let change = Change { action: Action::Opened, reason: Reason::Violated, finding: finding.clone() };
        let style = Style { prefix: "gatewatch".to_owned(), ..Style::default() };
        event::finding(&change, &self.sight, &style, &id).payload
    }
}

fn made(settings: &BTreeMap<&'static str, Settings>) -> Vec<(&'static str, &'static str)> {
    let manuals = REGISTRY.iter().map(|check| check.manual());
    manuals.filter(|m| settings.get(m.slug).is_some_and(|s| s.enabled)).map(|m| (m.slug, m.code)).collect()
}

/// Why a look without a finding is no proof that there is none.
pub(super) fn unknown(snapshot: &Snapshot) -> Option<String> {
    unseen(snapshot, 0).into_iter().next()
}

fn unseen(snapshot: &Snapshot, servers: usize) -> Vec<String> {
    if !snapshot.settled {
        return vec!["it was taken in the first seconds of a connection".to_owned()];
    }
    let mut out = Vec::new();
    if snapshot.links.is_empty() {
        out.push("no server that was seen has a gateway: this is no supercluster".to_owned());
    }
    let expected = || snapshot.expected().filter(|s| s.life != Life::Gone);
    let mut silent: Vec<_> =
        expected().filter(|s| s.gatewayz.is_none()).map(|s| called(&s.info.name)).collect();
    // Who is known by an ID only says little.
    silent.sort_by_key(|name| (name.ends_with('…'), name.clone()));
    let (known, answered) = (expected().count(), expected().count() - silent.len());
    if !silent.is_empty() {
        out.push(format!("{} of {known} servers did not answer: {}", silent.len(), named(&silent)));
    }
    if answered < servers {
        out.push(format!("{answered} servers answered, and {servers} are expected"));
    }
    let untold: Vec<_> = expected()
        .filter(|s| s.gatewayz.is_some() && (s.varz.is_none() || s.routez.is_none()))
        .map(|s| shown(&s.info.name))
        .collect();
    if !untold.is_empty() {
        out.push(format!("no configuration or routes of {}", named(&untold)));
    }
    let may_not = |r: &Refusal| format!("{} `{}`", r.operation, shown(&r.subject));
    let refused: Vec<_> = snapshot.observer.refused.iter().map(may_not).collect();
    if !refused.is_empty() {
        out.push(format!("the user may not {}", named(&refused)));
    }
    let garbled: Vec<_> = snapshot
        .observer
        .complaints
        .values()
        .filter(|c| c.recent > 1)
        .map(|c| {
            c.server.as_ref().map_or_else(|| "a server that gives no name".to_owned(), |s| shown(&s.name))
        })
        .collect();
    if !garbled.is_empty() {
        out.push(format!("replies of no use: {}", named(&garbled)));
    }
    if snapshot.observer.servers_over > 0 {
        out.push(format!("{} servers more than are remembered", snapshot.observer.servers_over));
    }
    out
}

fn shown(name: &str) -> String {
    redact::control(&name.chars().take(128).collect::<String>()).into_owned()
}

/// Its name, or the beginning of its ID where that is all that others tell of it.
pub(super) fn called(name: &str) -> String {
    let is_id = name.len() == 56 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    match name.get(..8).filter(|_| is_id) {
        Some(start) => format!("{start}…"),
        None => shown(name),
    }
}

fn named(names: &[String]) -> String {
    let over = names.len().saturating_sub(NAMED_MAX);
    let more = if over > 0 { format!(" and {over} others") } else { String::new() };
    names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}
