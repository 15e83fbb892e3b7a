//! More is sent over a route than passes.

use std::time::Duration;

use super::gateway_pending_pressure::{Level, evidence, judge, kind, megabytes, rates, ripe_at, size};
use super::verdict::short;
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Name, PRESSED_BYTES, Pressure, Server, Snapshot};

const MIB: u64 = 1024 * 1024;

pub(super) struct RoutePendingPressure;

static MANUAL: Manual = Manual {
    slug: "route_pending_pressure",
    code: "OPT_SYS_005",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 3,
    thresholds: &[Threshold {
        key: "pending_bytes_max",
        default: Value::Bytes(MIB),
        range: (Value::Bytes(PRESSED_BYTES), Value::Bytes(1024 * MIB)),
        about: "how much may wait to be written in two answers in a row; resolved below half of it",
    }],
    detects: "More is sent over the routes to a peer than passes, and what waits to be written stays high.",
    matters: "What waits arrives late at the peer, for all accounts that share the route: messages, replies, the \
              heartbeats of JetStream's replicas, which elect new leaders when those are late. What comes by a \
              gateway to the one and is wanted by clients of the other waits too.",
    decides: "ROUTEZ tells what waits on each route; the routes of one pool are taken together. It is asked for every \
              ten seconds, and every epoch in a cluster where more than 256 KiB wait. A finding when the last two \
              answers are above `pending_bytes_max`, for two epochs. A burst, which grows less and would be gone \
              within 5 s, is given 10 s. What passes is known from what was sent and what waits, answer by answer.",
    silent: "Below half of `pending_bytes_max`; for what waits in one answer and not in the next. When the server \
             does not tell for two minutes.",
    todo: "Look at the host of the peer and at the network between the two hosts. Clients that are spread over the \
           servers of the cluster send less over routes. A larger `cluster.pool_size` and routes of their own for \
           busy accounts (`cluster.accounts`), both since 2.10, keep one account's load from the others.",
};

impl Check for RoutePendingPressure {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    /// Speaks of routes that are or were pressed lately only.
    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let living = snapshot.servers.values().filter(|s| !matches!(s.life, Life::Left | Life::Gone));
        living
            .flat_map(|server| server.route_pressure.iter().map(move |(peer, p)| (server, peer, p)))
            .map(|(server, peer, p)| {
                let limit = settings.count("pending_bytes_max", Some(server.cluster()), None);
                let name = snapshot.servers.get(peer).map_or(peer, |s| &s.info.name);
                let outcome = match judge(p, snapshot.at, (limit, u64::MAX)) {
                    Level::Low => Outcome::Healthy,
                    Level::Between => Outcome::Unknown,
                    Level::High(_) => Outcome::Violated(Box::new(violation(snapshot, server, peer, name, p))),
                };
                let entity = Entity {
                    cluster: server.info.cluster.clone(),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    peer_server: Some(name.clone()),
                    ..Entity::default()
                };
                Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome }
            })
            .collect()
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        let mut servers = snapshot
            .servers_of(cluster)
            .filter(|s| Some(&s.info.name) == entity.server.as_ref() && s.life != Life::Left);
        if servers.any(|s| s.gatewayz.is_some() && s.routez.is_some()) {
            Outcome::Healthy
        } else {
            Outcome::Gone
        }
    }
}

fn violation(snapshot: &Snapshot, server: &Server, peer_id: &Name, peer: &Name, p: &Pressure) -> Violation {
    let now = snapshot.at;
    let (name, cluster, to) = (short(&server.info.name), short(server.cluster()), short(peer));
    let route = server.routez.as_ref().and_then(|r| r.peers.get(peer_id));
    let rtt: Option<Duration> = route.as_ref().and_then(|r| r.rtt);
    let (kind, delay) = kind(p);
    let late = delay.map_or_else(
        || format!("what {name} sends to {to} arrives late"),
        |d| format!("what {name} sends to {to} now arrives {} ms late", d.as_millis()),
    );
    let mut evidence = evidence(p, now, rtt);
    evidence.insert("connections".into(), serde_json::json!(route.map(|r| r.connections)));
    let confidence = if p.drain_bytes_per_s.is_some() { Confidence::Certain } else { Confidence::Likely };
    let mut remediation = vec![
        Step::by_hand(format!(
            "look at the host of {to} (processor, network) and at the way from {name} to it"
        )),
        Step::by_hand(format!("spread the clients of {cluster} over its servers: less has to cross a route")),
    ];
    if server.info.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        remediation.push(Step::run(
            format!("see the routes of {name} as it tells them itself"),
            format!("nats req '$SYS.REQ.SERVER.{}.ROUTEZ' ''", server.info.id),
        ));
    }
    Violation {
        since: p.since,
        ripe_at: ripe_at(p, now),
        summary: format!(
            "{} wait on the routes of {name} ({cluster}) to {to}: {kind}",
            megabytes(p.pending_bytes)
        ),
        cause: Cause::new(CauseKind::Congested, confidence, rates(p)),
        impact: format!("{late}, for all accounts that share the route"),
        essence: size(p).to_string(),
        evidence,
        remediation,
        server: Some(server.info.clone()),
        scope: Scope::Entity,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{World, ms, secs};
    use super::*;
    use crate::model::{Fact, RoutePeer, Routez};

    const MB: u64 = 1_000_000;

    fn routez(world: &World, pending_bytes: u64, out_bytes: u64) -> Fact {
        let peer = |name: &str| RoutePeer { name: Some(name.into()), ..RoutePeer::default() };
        let jammed = RoutePeer { pending_bytes, out_bytes, connections: 4, ..peer("us-2") };
        Fact::Routez(Routez { peers: [(world.id("us-0"), peer("us-0")), (world.id("us-2"), jammed)].into() })
    }

    /// `us-1` tells this of its route to `us-2`, every half second.
    fn tell(world: &mut World, told: &[u64]) {
        for (n, pending_bytes) in told.iter().enumerate() {
            let out_bytes = 100 * MB + n as u64 * 10 * MB;
            let fact = routez(world, *pending_bytes, out_bytes);
            let info = world.info("us-1");
            let now = world.now.plus(ms(1));
            world.roster.answer(info, fact, now).expect("it is known");
            world.run(ms(500));
        }
    }

    #[test]
    fn what_waits_in_two_answers_is_a_finding_and_resolves_below_half() {
        let mut world = World::seen_from("eu-0");
        // The world's own answers, which come in between, tell of nothing that waits.
        world.mute_routes("us-1");
        tell(&mut world, &[300_000, 3 * MB, 4 * MB, 5 * MB, 6 * MB, 7 * MB]);
        assert_eq!(world.take_story(), ["opened route_pending_pressure us/us-1~us-2 congested"]);
        let finding = world.ledger.open().next().expect("one is open");
        assert!(finding.evidence["pending_bytes"].as_u64() > Some(MIB), "{:?}", finding.evidence);
        assert!(finding.evidence["drain_bytes_per_s"].as_u64() > Some(10 * MB), "{:?}", finding.evidence);
        tell(&mut world, &[800_000; 20]);
        assert_eq!(world.take_story(), [""; 0], "not below half");
        tell(&mut world, &[0; 8]);
        assert_eq!(world.take_story(), ["resolved route_pending_pressure us/us-1~us-2"]);
    }

    #[test]
    fn what_waits_once_and_what_is_below_is_none() {
        let mut world = World::seen_from("eu-0");
        world.mute_routes("us-1");
        tell(&mut world, &[0, 9 * MB, 0, 9 * MB, 0, 0]);
        tell(&mut world, &[MIB - 1; 10]);
        // A burst that drains.
        tell(&mut world, &[0, 9 * MB, 6 * MB, 3 * MB, 0, 0]);
        assert_eq!(world.take_story(), [""; 0]);
    }

    #[test]
    fn the_routes_of_the_cluster_are_asked_for_while_something_waits() {
        let mut world = World::seen_from("eu-0");
        assert_eq!(world.roster.clusters_with_route_trouble().len(), 0);
        tell(&mut world, &[3 * MB]);
        assert_eq!(world.roster.clusters_with_route_trouble(), ["us".into()].into());
        world.run(secs(40));
        assert_eq!(world.roster.clusters_with_route_trouble().len(), 0);
        assert_eq!(world.story(), [""; 0]);
    }
}
