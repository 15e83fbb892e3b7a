//! Two servers of one cluster have no route to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Name, Server, Sight, Snapshot, Time};

/// Who started this lately still makes its routes.
const STARTING: Duration = Duration::from_secs(5);
/// A lost gateway is dialled again after 1.0 to 2.2 s (measured).
const REDIALLED: Duration = Duration::from_secs(5);
/// Gateways of a lost host stay listed for 41 s: that long they are no sign of life.
const STALE_AFTER: Duration = Duration::from_secs(50);
/// Routes that are suspected are asked for each epoch: the word that confirms is that far away.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct RouteMeshIncomplete;

static MANUAL: Manual = Manual {
    slug: "route_mesh_incomplete",
    code: "CLUSTER_005",
    severity: Severity::Warning,
    open_after: 1,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "missing_for",
        default: Value::Duration(Duration::from_secs(3)),
        range: (Value::Duration(Duration::from_secs(1)), Value::Duration(Duration::from_secs(3600))),
        about: "how long a route must be missing; a server dials a lost one again every second",
    }],
    detects: "A server has no route to a living peer of its cluster, or only one of the two has it.",
    matters: "Routes are one hop: a server sends to a peer over its own route to it, and no third server passes a \
              message on. What is published on one of the two does not reach subscribers on the other, and \
              publishing gives no error. What comes by a gateway to one of them does not reach the other either, \
              and JetStream replicas on the two do not hear each other.",
    decides: "ROUTEZ of every server, every ten seconds and every epoch once a route is missed, is held against \
              the servers of its cluster that live: those that answer, that a peer has a route to, or whose \
              heartbeats come or are counted at the far end of a gateway; where only gateway connections still tell of a peer, those of a lost host must \
              have had their time to end, 50 s. A finding when a list that is `missing_for` younger lacks the peer still. The \
              routes of one pool, and those that accounts have for themselves, are one route. A pair is one \
              finding, named in the order of its names; who lacks the other stands in the evidence. A server \
              that lost several peers is one finding with all of them, so that a cluster in two halves makes \
              one for each server of the smaller half.",
    silent: "For a peer that is dead, hangs or said goodbye: the check `server_missing` is about it. For the first \
             five seconds of a server. For a server that others only know by its ID, as on versions before 2.10.",
    todo: "Test the way from each of the two hosts to the other's cluster port (firewall, security group). Compare \
           the `cluster` blocks: name, `authorization`, TLS, and an `advertise` or `no_advertise` that keeps peers \
           from learning an address. The log of either server names the reason of each failed dial.",
};

impl Check for RouteMeshIncomplete {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    /// Speaks of what is violated only: a cluster of a hundred has five thousand pairs.
    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for cluster in snapshot.clusters.keys() {
            let mesh = Mesh::of(snapshot, cluster);
            let holes = mesh.holes(settings.duration("missing_for", Some(cluster), None));
            let hubs = hubs(&holes);
            verdicts.extend(hubs.values().map(|(server, holes)| mesh.cut_off(server, holes)));
            verdicts.extend(holes.iter().map(|hole| mesh.pair(hole)));
        }
        verdicts
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(name)) = (&entity.cluster, &entity.server) else { return Outcome::Unknown };
        let mesh = Mesh::of(snapshot, cluster);
        let Some(server) = mesh.members.get(name) else { return Outcome::Gone };
        if let Some(peer) = &entity.peer_server {
            return mesh.members.get(peer).map_or(Outcome::Gone, |peer| match mesh.word(server, peer) {
                Word::Well => Outcome::Healthy,
                Word::Dead => Outcome::Gone,
                Word::Nothing | Word::Missing { .. } => Outcome::Unknown,
            });
        }
        let (mut missing, mut untold) = (0, 0);
        for peer in mesh.members.values().filter(|peer| peer.info.id != server.info.id) {
            match mesh.word(server, peer) {
                Word::Missing { .. } => missing += 1,
                Word::Nothing => untold += 1,
                Word::Well | Word::Dead => {}
            }
        }
        if missing + untold < 2 { Outcome::Healthy } else { Outcome::Unknown }
    }
}

/// What two servers say of the route between them.
enum Word {
    /// All who tell have it.
    Well,
    /// Nobody tells.
    Nothing,
    /// One of them is no more, or hangs.
    Dead,
    /// One of them lacks it, or both do.
    Missing {
        since: Time,
        confirmed_at: Time,
        doubt: Duration,
        lacking: BTreeSet<Name>,
        having: Option<Name>,
    },
}

/// A route that ought to be there.
struct Hole<'a> {
    /// The first by name.
    a: &'a Server,
    b: &'a Server,
    since: Time,
    ripe_at: Time,
    /// None of the two just started.
    grown: bool,
    lacking: BTreeSet<Name>,
    having: Option<Name>,
}

/// The servers of one cluster.
struct Mesh<'a> {
    snapshot: &'a Snapshot,
    cluster: &'a Name,
    /// By name: of two lives the newer one.
    members: BTreeMap<&'a Name, &'a Server>,
}

impl<'a> Mesh<'a> {
    fn of(snapshot: &'a Snapshot, cluster: &'a Name) -> Self {
        let mut members: BTreeMap<&Name, &Server> = BTreeMap::new();
        for server in snapshot.servers_of(cluster).filter(|s| s.life != Life::Left) {
            // Known by its ID only: its name is still to come, and a finding keeps its name for life.
            if server.sight == Sight::Named && server.info.name == server.info.id {
                continue;
            }
            let held = members.entry(&server.info.name).or_insert(server);
            let rank = |s: &Server| (s.gatewayz.is_some(), s.first_seen_at);
            if rank(server) > rank(held) {
                *held = server;
            }
        }
        Self { snapshot, cluster, members }
    }

    fn holes(&self, missing_for: Duration) -> Vec<Hole<'a>> {
        let by_id: BTreeMap<&Name, &Server> = self.members.values().map(|s| (&s.info.id, *s)).collect();
        let mut pairs: BTreeSet<(&Name, &Name)> = BTreeSet::new();
        for server in self.members.values() {
            let lacked = server.lacks.keys().filter_map(|id| by_id.get(id));
            pairs.extend(lacked.map(|peer| {
                let (one, other) = (&server.info.name, &peer.info.name);
                if one < other { (one, other) } else { (other, one) }
            }));
        }
        let mut holes = Vec::new();
        for (a, b) in pairs {
            let (Some(a), Some(b)) = (self.members.get(a), self.members.get(b)) else { continue };
            let Word::Missing { since, confirmed_at, doubt, lacking, having } = self.word(a, b) else {
                continue;
            };
            let patience = missing_for.max(doubt);
            let due_at = since.plus(patience);
            let mut ripe_at = due_at;
            if confirmed_at < due_at {
                ripe_at = ripe_at.max(self.snapshot.at.plus(ASKED_AGAIN));
            }
            let grown_at = a.first_seen_at.max(b.first_seen_at).plus(STARTING);
            ripe_at = ripe_at.max(grown_at);
            let grown = grown_at <= self.snapshot.at;
            holes.push(Hole { a, b, since, ripe_at, grown, lacking, having });
        }
        holes
    }

    fn word(&self, a: &Server, b: &Server) -> Word {
        if self.is_dead(a) || self.is_dead(b) {
            return Word::Dead;
        }
        let (mut lacking, mut having, mut untold) = (BTreeSet::new(), None, false);
        let (mut since, mut confirmed_at) = (None::<Time>, Time::default());
        for (one, other) in [(a, b), (b, a)] {
            let tells = one.gatewayz.is_some() && one.routez.is_some();
            match one.lacks.get(&other.info.id) {
                Some(at) if tells => {
                    lacking.insert(one.info.name.clone());
                    since = Some(since.map_or(*at, |s| s.min(*at)));
                    confirmed_at = confirmed_at.max(one.routez_at.unwrap_or_default());
                }
                // It lacked the route when it last told.
                Some(_) => untold = true,
                None if tells => {
                    let has = one.routez.as_ref().is_some_and(|r| r.peers.contains_key(&other.info.id));
                    // Else it tells nothing yet: its list is older than the other's life.
                    if has {
                        having = Some(one.info.name.clone());
                    }
                }
                None => {}
            }
        }
        match since {
            Some(since) => {
                let doubt = self.doubt(a, since).max(self.doubt(b, since));
                Word::Missing { since, confirmed_at, doubt, lacking, having }
            }
            None if having.is_some() && !untold => Word::Well,
            None => Word::Nothing,
        }
    }

    /// Gone, or hanging: it could be asked and heard, and does not even send its heartbeats.
    fn is_dead(&self, server: &Server) -> bool {
        if server.gatewayz.is_some() {
            return false;
        }
        let quiet_since = server.heard_at.max(server.silent_since);
        let overdue =
            quiet_since.is_some_and(|at| self.snapshot.at.since(at) >= server.heartbeat_interval() * 3 / 2);
        matches!(server.life, Life::Gone | Life::Left)
            || server.sight == Sight::Silent && server.hearable && overdue
    }

    /// How long it may be dead, for all that was seen since its route was lost.
    fn doubt(&self, server: &Server, lost_at: Time) -> Duration {
        let members = &self.members;
        let heard_at = server.heard_at.max(server.heard_by_others.last_at);
        if server.gatewayz.is_some()
            || heard_at.is_some_and(|at| at > lost_at)
            || server.named_by.iter().any(|by| members.contains_key(by))
        {
            return Duration::ZERO;
        }
        // Those who fell silent with it would have dialled another server by then.
        let behind = |s: &Server| s.gatewayz.is_none() && server.named_by.contains(&s.info.name);
        if self.snapshot.servers.values().any(behind) { REDIALLED } else { STALE_AFTER }
    }

    /// The peers that have a route to both.
    fn between(&self, a: &Server, b: &Server) -> Vec<&'a Name> {
        let has = |s: &Server, other: &Server| {
            let routez = s.gatewayz.as_ref().and(s.routez.as_ref());
            routez.is_some_and(|r| r.peers.contains_key(&other.info.id))
        };
        self.members.values().filter(|s| has(s, a) && has(s, b)).map(|s| &s.info.name).collect()
    }

    fn verdict(&self, server: &Server, peer: Option<&Server>, violation: Violation) -> Verdict {
        Verdict {
            check: MANUAL.slug,
            severity: MANUAL.severity,
            entity: Entity {
                cluster: Some(self.cluster.clone()),
                server: Some(server.info.name.clone()),
                server_id: Some(server.info.id.clone()),
                peer_server: peer.map(|p| p.info.name.clone()),
                ..Entity::default()
            },
            outcome: Outcome::Violated(Box::new(violation)),
        }
    }

    fn pair(&self, hole: &Hole<'_>) -> Verdict {
        let (a, b) = (short(&hole.a.info.name), short(&hole.b.info.name));
        let cluster = short(self.cluster);
        let between = self.between(hole.a, hole.b);
        let (summary, cause) = if let Some(having) = &hole.having {
            let (lacking, having) = (words(&hole.lacking), short(having));
            let detail = format!(
                "{having} lists a route to {lacking}, and {lacking} none to {having}: one end gave up a connection, and \
                 the other waits for it"
            );
            let cause = Cause::new(CauseKind::PathCut, Confidence::Possible, detail);
            (format!("{lacking} ({cluster}) has no route to {having}, which still lists one"), cause)
        } else {
            let (kind, confidence, detail) = if between.is_empty() {
                let detail = format!("{} lists no route to the other, which is alive", words(&hole.lacking));
                (CauseKind::Unreachable, Confidence::Possible, detail)
            } else {
                let detail = format!("routes to both of them at {}", words(&between));
                (CauseKind::PathCut, Confidence::Likely, detail)
            };
            let cause = Cause::new(kind, confidence, detail);
            (format!("no route between {a} and {b} ({cluster})"), cause)
        };
        let mut evidence = self.evidence(hole.a, &[hole]);
        evidence.insert("lacking".into(), list(&hole.lacking));
        evidence.insert("still_listed_by".into(), list(&hole.having));
        evidence.insert("peers_with_routes_to_both".into(), list(&between));
        let violation = Violation {
            since: hole.since,
            ripe_at: hole.ripe_at,
            summary,
            impact: format!(
                "what clients of {a} publish does not reach subscribers on {b}, nor the other way round, and \
                 publishing gives no error; JetStream replicas on the two do not hear each other"
            ),
            essence: format!("{} {:?} {:?}", cause.kind.as_str(), hole.lacking, hole.having),
            cause,
            evidence,
            remediation: remediation(&[hole.a, hole.b]),
            server: Some(hole.a.info.clone()),
            scope: Scope::Entity,
        };
        self.verdict(hole.a, Some(hole.b), violation)
    }

    /// One server that lost several peers.
    fn cut_off(&self, server: &Server, holes: &[&Hole<'_>]) -> Verdict {
        let name = &server.info.name;
        let peers: BTreeSet<&Name> = holes.iter().map(|h| other(h, name)).collect();
        let total = self.members.len().saturating_sub(1);
        let (shown, cluster) = (short(name), short(self.cluster));
        // It stands for several when the second is due.
        let mut ripe: Vec<Time> = holes.iter().map(|h| h.ripe_at).collect();
        ripe.sort_unstable();
        let cause = if peers.len() < total {
            let detail = format!("{shown} has routes to others of its {total} peers");
            Cause::new(CauseKind::PathCut, Confidence::Likely, detail)
        } else {
            let detail = format!("{shown} is alive and has a route to none of its {total} peers");
            Cause::new(CauseKind::Unreachable, Confidence::Likely, detail)
        };
        let lacking: BTreeSet<&Name> = holes.iter().flat_map(|h| &h.lacking).collect();
        let mut evidence = self.evidence(server, holes);
        evidence.insert("lacking".into(), list(lacking));
        evidence.insert("peers_total".into(), json!(total));
        let violation = Violation {
            since: holes.iter().map(|h| h.since).min().unwrap_or(self.snapshot.at),
            ripe_at: ripe.get(1).copied().unwrap_or(self.snapshot.at),
            summary: format!("{shown} ({cluster}) has no route to {} of {total} peers", peers.len()),
            impact: format!(
                "what clients of {shown} publish does not reach subscribers on {}, nor the other way round, and \
                 publishing gives no error",
                words(&peers)
            ),
            essence: format!("{} {peers:?}", cause.kind.as_str()),
            cause,
            evidence,
            remediation: remediation(&[server]),
            server: Some(server.info.clone()),
            scope: Scope::Entity,
        };
        self.verdict(server, None, violation)
    }

    fn evidence(&self, server: &Server, holes: &[&Hole<'_>]) -> Map<String, serde_json::Value> {
        let peers: BTreeSet<&Name> = holes.iter().map(|h| other(h, &server.info.name)).collect();
        let since = holes.iter().map(|h| h.since).min().unwrap_or(self.snapshot.at);
        let mut evidence = Map::new();
        evidence.insert("missing_peers".into(), list(peers));
        evidence.insert("missing_ms".into(), millis(self.snapshot.at.since(since)));
        evidence.insert("routes".into(), json!(server.routez.as_ref().map(|r| r.peers.len())));
        evidence
    }
}

fn other<'a>(hole: &'a Hole<'_>, name: &Name) -> &'a Name {
    if hole.a.info.name == *name { &hole.b.info.name } else { &hole.a.info.name }
}

/// A server, and the missing routes that it stands for.
type Hub<'h, 'a> = (&'a Server, Vec<&'h Hole<'a>>);

/// Servers that stand for all missing routes that two or more of them share, each with its own. A server that
/// just started comes last, so that it does not rename what is open.
fn hubs<'h, 'a>(holes: &'h [Hole<'a>]) -> BTreeMap<&'a Name, Hub<'h, 'a>> {
    let mut hubs: BTreeMap<&Name, Hub<'_, '_>> = BTreeMap::new();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for grown_only in [true, false] {
        loop {
            let mut of: BTreeMap<&Name, (&Server, Vec<usize>)> = BTreeMap::new();
            for (n, hole) in holes.iter().enumerate() {
                if !done.contains(&n) && (!grown_only || hole.grown) {
                    for end in [hole.a, hole.b] {
                        of.entry(&end.info.name).or_insert((end, Vec::new())).1.push(n);
                    }
                }
            }
            // The first by name of those with most.
            let most = of.into_iter().rev().max_by_key(|(_, (_, own))| own.len());
            let Some((name, (server, own))) = most.filter(|(_, (_, own))| own.len() > 1) else { break };
            let hub = hubs.entry(name).or_insert((server, Vec::new()));
            hub.1.extend(own.iter().filter_map(|n| holes.get(*n)));
            done.extend(own);
        }
    }
    hubs
}

fn remediation(servers: &[&Server]) -> Vec<Step> {
    let names = words(servers.iter().map(|s| &s.info.name));
    let mut steps = vec![
        Step::by_hand(format!(
            "test the way to and from the cluster port of {names}, from the hosts of the peers that are missing: \
             firewall, security group, routing"
        )),
        Step::by_hand(format!(
            "read the log of {names}: a dial that fails is told every second, with the reason; compare the `cluster` \
             blocks where it is refused (name, `authorization`, TLS)"
        )),
    ];
    let plain = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric());
    steps.extend(servers.iter().filter(|s| plain(&s.info.id)).map(|s| {
        Step::run(
            format!("see the routes of {} as it tells them itself", short(&s.info.name)),
            format!("nats req '$SYS.REQ.SERVER.{}.ROUTEZ' ''", s.info.id),
        )
    }));
    steps
}

#[cfg(test)]
mod tests;
