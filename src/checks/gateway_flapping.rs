//! A link is made anew again and again.

use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{ask_gateways, list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Link, Name, Server, Snapshot, Time};

pub(super) struct GatewayFlapping;

static MANUAL: Manual = Manual {
    slug: "gateway_flapping",
    code: "GW_004",
    severity: Severity::Warning,
    open_after: 1,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "reconnects_min",
            default: Value::Count(3),
            range: (Value::Count(2), Value::Count(50)),
            about: "how often a link must have been made anew",
        },
        Threshold {
            key: "window",
            default: Value::Duration(Duration::from_secs(600)),
            range: (Value::Duration(Duration::from_secs(10)), Value::Duration(Duration::from_secs(86_400))),
            about: "within how long",
        },
    ],
    detects: "A gateway is lost and made anew again and again.",
    matters: "Each time, for 1.0 to 1.15 s, what the clients of that server send to the remote is lost without an \
              error. Between two polls of a monitoring system nothing is seen of it: the gateway is there each time.",
    decides: "A connection has an ID and a start time. When either changes in the life of a server, the link was made \
              anew, also between two looks. It counts unless the server at the other end ended: then nothing else \
              could happen. `reconnects_min` within `window` make a finding; it ends when the last of them are older \
              than that. When all servers of a cluster flap there is one finding, for the cluster.",
    silent: "In a rolling restart of the remote, for its servers end. When a bigger finding explains it, such as a \
             difference of configuration or a jam that makes the server cut the gateway.",
    todo: "Compare the times in the evidence with what happens on the path: a firewall or load balancer with an idle or \
           age limit, a saturated line, a link that goes up and down. The log of either server names the reason of \
           each close, such as `Stale Connection` or `Slow Consumer`.",
};

impl Check for GatewayFlapping {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let remade = |link: &Link| !link.flow.remade.is_empty();
        for ((cluster, remote), links) in watched.pairs(MANUAL.slug, &snapshot.links, remade) {
            let links: Vec<(&Link, Outcome)> =
                links.into_iter().map(|link| (link, judge(snapshot, link, settings))).collect();
            verdicts.push(verdict(cluster, None, remote, judge_all(cluster, remote, &links)));
            verdicts.extend(
                links.into_iter().map(|(link, outcome)| verdict(cluster, Some(link), remote, outcome)),
            );
        }
        verdicts
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let named = |s: &&Server| entity.server.as_ref().is_none_or(|name| s.info.name == *name);
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        let lives = snapshot.servers_of(cluster).filter(named).any(|s| s.life != Life::Left);
        if lives { Outcome::Unknown } else { Outcome::Gone }
    }
}

fn verdict(cluster: &Name, link: Option<&Link>, remote: &Name, outcome: Outcome) -> Verdict {
    let entity = Entity {
        cluster: Some(cluster.clone()),
        server: link.map(|l| l.server.clone()),
        server_id: link.map(|l| l.server_id.clone()),
        remote: Some(remote.clone()),
        ..Entity::default()
    };
    Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome }
}

fn judge(snapshot: &Snapshot, link: &Link, settings: &Settings) -> Outcome {
    let (cluster, remote) = (Some(&*link.cluster), Some(&*link.remote));
    let window = settings.duration("window", cluster, remote);
    let least = usize::try_from(settings.count("reconnects_min", cluster, remote)).unwrap_or(usize::MAX);
    let recent: Vec<Time> =
        link.flow.remade.iter().copied().filter(|at| snapshot.at.since(*at) <= window).collect();
    match recent.first() {
        Some(since) if recent.len() >= least => {
            Outcome::Violated(Box::new(flaps(snapshot, link, *since, &recent, window)))
        }
        // What it did while nobody could ask is not known.
        _ if link.near => Outcome::Healthy,
        _ => Outcome::Unknown,
    }
}

fn flaps(snapshot: &Snapshot, link: &Link, since: Time, recent: &[Time], window: Duration) -> Violation {
    let (server, cluster, remote) = (short(&link.server), short(&link.cluster), short(&link.remote));
    let times = recent.len();
    let last = recent.last().copied().unwrap_or(since);
    let mut evidence = Map::new();
    evidence.insert("reconnects".into(), json!(times));
    evidence.insert("window_s".into(), json!(window.as_secs()));
    evidence.insert("at".into(), list(recent.iter().rev().map(ToString::to_string)));
    let mut remediation = vec![Step::by_hand(format!(
        "compare the times in `at` with what happens between {server} and {remote}: idle or age limits of firewalls and \
         load balancers, a saturated or unsteady line; the log of {server} names the reason of each close"
    ))];
    remediation.extend(ask_gateways(&link.server, &link.server_id));
    Violation {
        since,
        ripe_at: since,
        summary: format!(
            "the gateway of {server} ({cluster}) to {remote} was made anew {times} times in {}",
            humantime::format_duration(Duration::from_secs(last.since(since).as_secs().max(1)))
        ),
        cause: Cause::new(
            CauseKind::Unknown,
            Confidence::Possible,
            "the connection's ID and start changed, and the servers it had led to live on",
        ),
        impact: format!(
            "each time, for about a second, what clients of {server} send to {remote} is lost without an error"
        ),
        // Each further one is worth an update only now and then.
        essence: format!("{}", times.ilog2()),
        evidence,
        remediation,
        server: snapshot.servers.get(&link.server_id).map(|s| s.info.clone()),
        scope: Scope::Entity,
    }
}

/// All servers of the cluster, of which there are several, flap.
fn judge_all(cluster: &Name, remote: &Name, links: &[(&Link, Outcome)]) -> Outcome {
    let each: Vec<&Violation> = links
        .iter()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Violated(violation) => Some(&**violation),
            _ => None,
        })
        .collect();
    if each.len() < links.len() || links.len() < 2 {
        let seen = links.iter().any(|(_, outcome)| *outcome == Outcome::Healthy);
        return if seen { Outcome::Healthy } else { Outcome::Unknown };
    }
    let Some(mut whole) = each.first().map(|v| (*v).clone()) else { return Outcome::Unknown };
    let servers: Vec<&Name> = links.iter().map(|(link, _)| &link.server).collect();
    let count = |v: &&Violation| v.evidence.get("reconnects").and_then(serde_json::Value::as_u64);
    let reconnects: u64 = each.iter().filter_map(count).sum();
    whole.since = each.iter().map(|v| v.since).min().unwrap_or(whole.since);
    whole.ripe_at = each.iter().map(|v| v.ripe_at).max().unwrap_or(whole.ripe_at);
    whole.summary = format!(
        "the gateways of all servers of {} ({}) to {} were made anew {reconnects} times",
        short(cluster),
        words(&servers),
        short(remote)
    );
    whole.impact = format!(
        "each time, for about a second, what clients of one server of {} send to {} is lost without an error",
        short(cluster),
        short(remote)
    );
    whole.evidence.insert("reconnects".into(), json!(reconnects));
    whole.evidence.insert("servers".into(), list(&servers));
    whole.server = None;
    Outcome::Violated(Box::new(whole))
}

#[cfg(test)]
mod tests {
    use super::super::example::{World, ms, secs};

    fn flap(world: &mut World, server: &str, remote: &str, times: usize) {
        for _ in 0..times {
            world.reset(server, remote, ms(1050));
            world.run(secs(6));
        }
    }

    #[test]
    fn three_in_ten_minutes_are_a_finding_from_everywhere_and_two_are_not() {
        for vantage in ["eu-0", "us-0", "ap-0"] {
            let mut world = World::seen_from(vantage);
            flap(&mut world, "us-1", "eu", 2);
            assert_eq!(world.story(), [""; 0], "two are no habit");
            flap(&mut world, "us-1", "eu", 1);
            assert_eq!(world.story(), ["opened gateway_flapping us/us-1→eu unknown"]);
            let evidence = &world.ledger.open().next().expect("it is open").evidence;
            assert_eq!((&evidence["reconnects"], &evidence["window_s"]), (&3.into(), &600.into()));
            world.run(secs(620));
            assert_eq!(world.open(), [""; 0]);
        }
    }

    #[test]
    fn a_reconnect_between_two_looks_counts() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..3 {
            world.reset("us-1", "ap", ms(50));
            world.run(secs(3));
        }
        assert_eq!(world.story(), ["opened gateway_flapping us/us-1→ap unknown"]);
    }

    #[test]
    fn rolling_restarts_are_no_flapping() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..4 {
            for server in ["us-0", "us-1", "us-2", "ap-0", "ap-1", "ap-2"] {
                world.restart(server);
                world.run(secs(4));
            }
        }
        assert_eq!(world.story(), [""; 0]);
    }

    #[test]
    fn a_cluster_that_flaps_as_a_whole_is_one_finding() {
        let mut world = World::seen_from("eu-0");
        for _ in 0..3 {
            for server in ["us-0", "us-1", "us-2"] {
                world.reset(server, "ap", ms(1050));
            }
            world.run(secs(6));
        }
        assert_eq!(world.story(), ["opened gateway_flapping us→ap unknown"]);
    }
}
