//! More is sent over a gateway than passes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{ask_gateways, list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, Name, PRESSED_BYTES, Pressure, Snapshot, Time};

const MIB: u64 = 1024 * 1024;
/// What drains by itself within this time is a burst.
const BURST: Duration = Duration::from_secs(5);
/// A burst that lasts longer than this is none.
const BURST_MAX: Duration = Duration::from_secs(10);
/// A write ends within the server's write deadline of 10 s, and only then less is pending.
const STUCK: Duration = Duration::from_secs(11);
/// So long after the server cut the connection it is told of.
const CUT_FOR: Duration = Duration::from_secs(30);

pub(super) struct GatewayPendingPressure;

static MANUAL: Manual = Manual {
    slug: "gateway_pending_pressure",
    code: "OPT_SYS_014",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 3,
    thresholds: &[
        Threshold {
            key: "pending_bytes_max",
            default: Value::Bytes(MIB),
            range: (Value::Bytes(PRESSED_BYTES), Value::Bytes(1024 * MIB)),
            about: "how much may wait to be written in two looks in a row; resolved below half of it",
        },
        Threshold {
            key: "critical_bytes_max",
            default: Value::Bytes(16 * MIB),
            range: (Value::Bytes(PRESSED_BYTES), Value::Bytes(4096 * MIB)),
            about: "more than this within the last 30 s is critical",
        },
    ],
    detects: "More is sent over a gateway than passes, and what waits to be written stays high.",
    matters: "What waits arrives late, and so does everything else on that gateway: requests, replies, heartbeats. \
              From three quarters of `max_pending` on the server holds publishers back, of all accounts. `max_pending` \
              does not bound a gateway: 150 MB were measured. A gateway on which something passes is never closed \
              for it; one on which nothing passes for 10 s is, and all that waits is lost.",
    decides: "GATEWAYZ tells what waits on the sender's outbound connection; the receiver shows nothing. What is sent \
              and what waits, look by look, give the rate of what passes. A finding when the last two answers are \
              above `pending_bytes_max`, for two epochs. Critical above `critical_bytes_max` in the last 30 s, or \
              when the connection ended under the load and the server's count of slow gateways (VARZ, STATSZ) rose. \
              A burst, which grows less and would be gone within 5 s, is given 10 s. Answers of \
              a server behind a jam come late: they count for the time when they were made. The accounts that send \
              most are those of the sender over all its gateways, as told since 2.11.10.",
    silent: "Below half of `pending_bytes_max`; for what waits in one look and not in the next. When the sender does \
             not tell for two minutes.",
    todo: "See which side is slow. Several gateways that end at one server wait for that server: its processor and \
           network. Several that end at different servers wait for the way between the clusters: bandwidth, loss, \
           the TCP window against the round trip. A server has one connection to each remote: publishers that are \
           spread over the servers of their cluster share several. Then look at the accounts that send most: whether \
           their subscribers need to sit in the other cluster.",
};

impl Check for GatewayPendingPressure {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    /// Speaks of links that are or were pressed lately only.
    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let pressed = snapshot.links.iter().filter_map(|link| Some((link, link.pressure.as_ref()?)));
        pressed
            .map(|(link, pressure)| {
                let bytes = |key| settings.count(key, Some(&link.cluster), Some(&link.remote));
                let limits = (bytes("pending_bytes_max"), bytes("critical_bytes_max"));
                let (severity, outcome) = match judge(pressure, snapshot.at, limits) {
                    Level::Low => (MANUAL.severity, Outcome::Healthy),
                    Level::Between => (MANUAL.severity, Outcome::Unknown),
                    Level::High(severity) => {
                        (severity, Outcome::Violated(Box::new(violation(snapshot, link, pressure))))
                    }
                };
                let entity = Entity::of_link(link);
                Verdict { check: MANUAL.slug, severity, entity, outcome }
            })
            .collect()
    }

    /// What was pressed is forgotten when it was well for a while, or nobody tells of it any more.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        let mut servers = snapshot
            .servers_of(cluster)
            .filter(|s| Some(&s.info.name) == entity.server.as_ref() && s.life != Life::Left);
        if servers.any(|s| s.gatewayz.is_some()) { Outcome::Healthy } else { Outcome::Gone }
    }
}

/// How much waits.
pub(super) enum Level {
    Low,
    Between,
    High(Severity),
}

/// Judges what waits against the two limits.
pub(super) fn judge(p: &Pressure, now: Time, (warning, critical): (u64, u64)) -> Level {
    if is_cut(p, now) {
        return Level::High(Severity::Critical);
    }
    if p.floor_bytes > warning {
        let critical = p.peak_bytes > critical;
        return Level::High(if critical { Severity::Critical } else { Severity::Warning });
    }
    if p.pending_bytes < warning / 2 { Level::Low } else { Level::Between }
}

/// The server closed the connection, for it missed its write deadline.
fn is_cut(p: &Pressure, now: Time) -> bool {
    p.cut_at.is_some_and(|at| now.since(at) <= CUT_FOR) && p.slow_consumers.is_some_and(|n| n > 0)
}

/// What kind of trouble the rates show, and how long what waits needs to pass.
pub(super) fn kind(p: &Pressure) -> (&'static str, Option<Duration>) {
    let late = |drain: u64| Duration::from_millis(p.pending_bytes.saturating_mul(1000) / drain);
    match p.drain_bytes_per_s {
        _ if p.empty_in.is_some_and(|d| d <= BURST) => ("burst", p.empty_in),
        None => ("not told yet", None),
        Some(0) if p.rates_over >= STUCK => ("stuck", None),
        Some(0) => ("bottleneck", None),
        Some(drain) => ("bottleneck", Some(late(drain))),
    }
}

/// When it is worth a finding: a burst is given its time.
pub(super) fn ripe_at(p: &Pressure, now: Time) -> Time {
    if kind(p).0 == "burst" { p.since.plus(BURST_MAX) } else { now }
}

/// What changes seldom: how often it grew to four times as much.
pub(super) fn size(p: &Pressure) -> u32 {
    (p.peak_bytes / MIB).checked_ilog(4).unwrap_or(0)
}

/// The evidence that gateways and routes share.
pub(super) fn evidence(p: &Pressure, now: Time, rtt: Option<Duration>) -> Map<String, Json> {
    let mut evidence = Map::new();
    evidence.insert("pending_bytes".into(), json!(p.pending_bytes));
    evidence.insert("peak_bytes".into(), json!(p.peak_bytes));
    evidence.insert("rtt_ms".into(), rtt.map_or(Json::Null, millis));
    evidence.insert("drain_bytes_per_s".into(), json!(p.drain_bytes_per_s));
    evidence.insert("inflow_bytes_per_s".into(), json!(p.inflow_bytes_per_s));
    evidence.insert("kind".into(), json!(kind(p).0));
    evidence.insert("pressed_ms".into(), millis(now.since(p.since)));
    evidence.insert("told_ms_ago".into(), millis(now.since(p.told_at)));
    evidence.insert("slow_consumers".into(), json!(p.slow_consumers));
    evidence
}

/// `12.5 MB`, as people say it.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// The rates in a sentence.
pub(super) fn rates(p: &Pressure) -> String {
    match (p.drain_bytes_per_s, p.inflow_bytes_per_s) {
        (Some(drain), Some(inflow)) => {
            format!("{} a second pass while {} a second are sent", megabytes(drain), megabytes(inflow))
        }
        _ => "the rates are not known yet".to_owned(),
    }
}

/// Which side is slow, as far as other gateways show.
fn side(snapshot: &Snapshot, link: &Link) -> (&'static str, Vec<String>) {
    let jammed = |l: &&Link| {
        let waits = l.pressure.as_ref().is_some_and(|p| p.floor_bytes >= PRESSED_BYTES);
        waits && (&l.server_id, &l.remote) != (&link.server_id, &link.remote)
    };
    let others: Vec<&Link> = snapshot
        .links
        .iter()
        .filter(|l| l.remote == link.remote && l.peer.is_some())
        .filter(jammed)
        .collect();
    let names = |links: &[&Link]| links.iter().map(|l| format!("{} of {}", l.server, l.cluster)).collect();
    let same: Vec<&Link> = others.iter().copied().filter(|l| l.peer == link.peer).collect();
    if others.iter().any(|l| l.cluster == link.cluster && l.peer != link.peer) {
        ("the way between the clusters", names(&others))
    } else if same.is_empty() {
        ("the way, or the server at its end", Vec::new())
    } else {
        ("the server at its end", names(&same))
    }
}

fn violation(snapshot: &Snapshot, link: &Link, p: &Pressure) -> Violation {
    let now = snapshot.at;
    let own = snapshot.servers.get(&link.server_id);
    let connection = own.and_then(|s| s.gatewayz.as_ref()).and_then(|g| g.outbound.get(&link.remote));
    let rtt = connection.and_then(|o| o.connection.rtt).or(link.rtt.last());
    let (server, cluster, remote) = (short(&link.server), short(&link.cluster), short(&link.remote));
    let peer = link.peer.as_deref().map(short);
    let to = peer.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
    let cut = is_cut(p, now);
    let (kind, delay) = kind(p);
    let (side, others) = side(snapshot, link);
    let summary = if cut {
        format!(
            "{server} ({cluster}) closed its gateway to {remote}{to}: slow consumer, and what waited is lost"
        )
    } else {
        let waits = megabytes(p.pending_bytes);
        format!("{waits} wait on the gateway of {server} ({cluster}) to {remote}{to}: {kind}")
    };
    let also = if others.is_empty() { String::new() } else { format!(": {} wait as well", words(&others)) };
    let detail = format!("{}; slow is {side}{also}", rates(p));
    let confidence = if p.drain_bytes_per_s.is_some() { Confidence::Certain } else { Confidence::Likely };
    let late = match delay {
        Some(delay) => format!("what is sent now arrives {} ms late", delay.as_millis()),
        None if kind == "stuck" => "nothing passes at present".to_owned(),
        None => "what is sent arrives late".to_owned(),
    };
    let impact = format!(
        "{late} in {remote}, for all accounts; so do the replies of {server} to requests from there; when nothing \
         passes for 10 s the server closes the connection and what waits is lost"
    );
    let mut evidence = evidence(p, now, rtt);
    evidence.insert("stalls".into(), json!(p.stalls));
    evidence.insert("cut_at".into(), json!(p.cut_at.filter(|_| cut)));
    evidence.insert("waits_on".into(), json!("the sender's outbound connection"));
    evidence.insert("slow_side".into(), json!(side));
    evidence.insert("peer".into(), json!(peer));
    evidence.insert("also_pressed".into(), list(&others));
    evidence.insert("top_accounts".into(), top_accounts(p, own.map(|s| &*s.info.ver)));
    Violation {
        since: p.since,
        ripe_at: ripe_at(p, now),
        summary,
        cause: Cause::new(CauseKind::Congested, confidence, detail),
        impact,
        essence: format!("{cut} {side} {}", size(p)),
        evidence,
        remediation: remediation(link, p, side),
        server: own.map(|s| s.info.clone()),
        scope: Scope::Entity,
    }
}

fn top_accounts(p: &Pressure, ver: Option<&str>) -> Json {
    match &p.top_accounts {
        Some(top) => top
            .iter()
            .map(|(name, rate)| json!({ "account": short(name), "bytes_per_s": rate }))
            .collect::<Vec<_>>()
            .into(),
        None if ver.is_none_or(tells_accounts) => Json::Null,
        None => json!("not told before 2.11.10"),
    }
}

fn tells_accounts(ver: &str) -> bool {
    crate::model::version(ver) >= (2, 11, 10)
}

fn remediation(link: &Link, p: &Pressure, side: &str) -> Vec<Step> {
    let (server, cluster, remote) = (short(&link.server), short(&link.cluster), short(&link.remote));
    let peer = link.peer.as_deref().map_or_else(|| remote.clone(), short);
    let mut steps = Vec::new();
    let accounts: BTreeSet<&Name> = p.top_accounts.iter().flatten().map(|(name, _)| name).collect();
    if !accounts.is_empty() {
        steps.push(Step::by_hand(format!(
            "look at what the accounts {} publish on {server}, and whether its subscribers need to be in {remote}",
            words(accounts)
        )));
    }
    if side != "the way between the clusters" {
        steps.push(Step::by_hand(format!(
            "look at the host of {peer}: processor, memory, network, and a client or route of it that is slow"
        )));
    }
    if side != "the server at its end" {
        steps.push(Step::by_hand(format!(
            "measure the way from the host of {server} to that of {peer}: bandwidth, loss, and the TCP window, which \
             divided by the round trip is the most that one connection carries"
        )));
    }
    steps.push(Step::by_hand(format!(
        "spread the publishers over the servers of {cluster}: each server has one connection of its own to {remote}"
    )));
    steps.extend(ask_gateways(&link.server, &link.server_id));
    steps
}

#[cfg(test)]
mod tests;
