//! What we say: the public events, as the contract has them. Fields are only ever added.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Message, token};
use crate::checks::{self, Cause, Entity, Severity, Step};
use crate::findings::{Action, Change, Reason, State};
use crate::model::{ServerInfo, Snapshot, Time, Vantage};

/// The largest event, in bytes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// How many missing servers an event names.
const MISSING_MAX: usize = 64;

const FINDING: &str = "io.nats.gatewatch.advisory.v1.finding";
const AGENT: &str = "io.nats.gatewatch.advisory.v1.agent";
const EPOCH: &str = "io.nats.gatewatch.metric.v1.epoch";

/// How events are addressed and dressed.
#[derive(Clone, Debug)]
pub struct Style {
    /// The first token of every subject.
    pub prefix: String,
    /// Whether the headers of `CloudEvents` 1.0 are added.
    pub cloudevents: bool,
}

/// From where a finding was seen, and how completely.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sight {
    agent: String,
    cluster: Option<String>,
    server: String,
    epoch: u64,
    expected: usize,
    answered: usize,
    missing: Vec<String>,
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
                missing.push(server.info.name.to_string());
            } else {
                over += 1;
            }
        }
        missing.sort();
        if over > 0 {
            missing.push(format!("and {over} more"));
        }
        let Vantage { agent, cluster, server, .. } = &snapshot.vantage;
        Self {
            agent: agent.to_string(),
            cluster: cluster.as_ref().map(ToString::to_string),
            server: server.to_string(),
            epoch: snapshot.epoch,
            expected,
            answered,
            missing,
        }
    }
}

#[derive(Serialize)]
struct FindingEvent<'a> {
    r#type: &'static str,
    id: &'a str,
    timestamp: Time,
    action: Action,
    state: State,
    reason: Reason,
    severity: Severity,
    check: &'a str,
    code: &'a str,
    summary: &'a str,
    fingerprint: &'a str,
    revision: u64,
    opened_at: Time,
    last_seen_at: Time,
    resolved_at: Option<Time>,
    entity: &'a Entity,
    cause: &'a Cause,
    impact: &'a str,
    evidence: &'a Map<String, Value>,
    remediation: &'a [Step],
    inhibits: Vec<&'a str>,
    server: Option<&'a ServerInfo>,
    vantage: &'a Sight,
}

/// The message that tells of `change`. `id` is unique.
pub fn finding(change: &Change, sight: &Sight, style: &Style, id: &str) -> Message {
    let f = &change.finding;
    let state = change.action.state();
    let code = checks::find(&f.check).map_or("", |c| c.manual().code);
    let mut event = FindingEvent {
        r#type: FINDING,
        id,
        timestamp: f.published_at,
        action: change.action,
        state,
        reason: change.reason,
        severity: f.severity,
        check: &f.check,
        code,
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
    };
    let mut payload = body(&event);
    if payload.len() > EVENT_BYTES_MAX {
        // Names of kilobytes, many of them: the finding itself is worth more than what it rests on.
        let cut = Map::from_iter([("left_out_bytes".to_owned(), json!(payload.len()))]);
        event.evidence = &cut;
        event.server = None;
        event.remediation = &[];
        payload = body(&event);
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
        ("Nats-Msg-Id".to_owned(), format!("{}:{}:{}", f.fingerprint, f.opened_at.as_millis(), f.revision)),
        ("Gatewatch-Action".to_owned(), change.action.as_str().to_owned()),
        ("Gatewatch-State".to_owned(), state.as_str().to_owned()),
        ("Gatewatch-Severity".to_owned(), f.severity.as_str().to_owned()),
    ];
    if style.cloudevents {
        headers.extend(cloudevents(FINDING, id, &sight.agent, &f.fingerprint, f.published_at));
    }
    Message { subject, headers, payload }
}

/// What happened to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// The message that tells of the agent itself.
pub fn agent(
    event: AgentEvent,
    reason: &str,
    vantage: &Vantage,
    style: &Style,
    id: &str,
    at: Time,
) -> Message {
    let body = json!({
        "type": AGENT,
        "id": id,
        "timestamp": at,
        "event": event,
        "agent": vantage.agent,
        "version": env!("CARGO_PKG_VERSION"),
        "vantage": { "cluster": vantage.cluster, "server": vantage.server, "server_id": vantage.server_id },
        "reason": reason,
    });
    let subject = format!("{}.agent.{}.{}", style.prefix, event.as_str(), token(Some(&vantage.agent)));
    let mut headers = Vec::new();
    if style.cloudevents {
        headers.extend(cloudevents(AGENT, id, &vantage.agent, event.as_str(), at));
    }
    Message { subject, headers, payload: body.to_string() }
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

/// The message of one epoch, which is the agent's heartbeat too. `open` counts critical, warning and info.
pub fn epoch(
    snapshot: &Snapshot,
    sight: &Sight,
    cost: EpochCost,
    open: [usize; 3],
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
    let clusters: Vec<&str> = snapshot.clusters.keys().map(|c| &**c).take(1000).collect();
    let connected = snapshot.links.iter().filter(|l| l.state == LinkState::Connected).count();
    let [critical, warning, info] = open;
    let body = json!({
        "type": EPOCH,
        "id": id,
        "timestamp": at,
        "agent": sight.agent,
        "version": env!("CARGO_PKG_VERSION"),
        "vantage": { "cluster": sight.cluster, "server": sight.server },
        "epoch": snapshot.epoch,
        "leader": true,
        "settled": snapshot.settled,
        "started_at": cost.started_at,
        "duration_ms": cost.duration_ms,
        "interval_ms": cost.interval_ms,
        "servers": {
            "expected": sight.expected,
            "answered": sight.answered,
            "heard": heard,
            "missing": sight.missing,
        },
        "clusters": clusters,
        "links": { "expected": snapshot.links.len(), "connected": connected },
        "open": { "critical": critical, "warning": warning, "info": info },
        "requests": cost.requests,
        "replies": cost.replies,
        "bytes_in": cost.bytes_in,
        "decode_errors": cost.decode_errors,
        "next_epoch_in_ms": cost.next_epoch_in_ms,
    });
    let subject = format!("{}.epoch.{}", style.prefix, token(Some(&sight.agent)));
    let mut headers = Vec::new();
    if style.cloudevents {
        headers.extend(cloudevents(EPOCH, id, &sight.agent, &sight.agent, at));
    }
    Message { subject, headers, payload: body.to_string() }
}

fn cloudevents(kind: &str, id: &str, agent: &str, subject: &str, at: Time) -> [(String, String); 6] {
    [
        ("ce-specversion".to_owned(), "1.0".to_owned()),
        ("ce-id".to_owned(), id.to_owned()),
        ("ce-type".to_owned(), kind.to_owned()),
        ("ce-source".to_owned(), format!("gatewatch/{}", token(Some(agent)))),
        ("ce-subject".to_owned(), subject.to_owned()),
        ("ce-time".to_owned(), at.to_string()),
    ]
}

fn body(event: &FindingEvent<'_>) -> String {
    // Every field is a string, a number, a list or a map with string keys: none of them can fail.
    serde_json::to_string(event).unwrap_or_default()
}
