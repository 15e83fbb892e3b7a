//! A server went silent without saying goodbye.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Cluster, Life, Name, Server, Sight, Snapshot, Time};

pub(super) struct ServerMissing;

static MANUAL: Manual = Manual {
    slug: "server_missing",
    code: "GW_008",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "silent_for",
        default: Value::Duration(Duration::from_secs(5)),
        range: (Value::Duration(Duration::from_secs(2)), Value::Duration(Duration::from_secs(3600))),
        about: "how long a server must be silent; one that restarts is back within two or three seconds",
    }],
    detects: "A known server went silent without saying goodbye.",
    matters: "Its clients have to reconnect, its cluster has one server less to carry them, and replicas that it \
              holds are behind. A server that is stopped in order says goodbye first; this one crashed, was \
              killed, hangs, or lost its host or its network.",
    decides: "A server that was seen before does not answer, and no server that answers has a gateway connection \
              or a route to it: its peers list their routes, and it is not among them. Where connections to it \
              are still listed, as with a stopped process or a lost host, its heartbeats must have stayed away \
              for one and a half intervals too. A restart brings a new ID under the same name; that is the same \
              server, and it is back.",
    silent: "After a SHUTDOWN or LAMEDUCK advisory: that is a goodbye, and a lame duck says nothing more. When the \
             whole cluster is unreachable, or when the server lives and only its gateway to our cluster is lost: \
             other findings say so.",
    todo: "Look at the process and its host. If it was taken out of service on purpose, stop servers with SIGTERM or \
           lame duck, so that they say goodbye.",
};

/// The lowest counts.
type Rank = (u8, Reverse<Option<Time>>);

impl Check for ServerMissing {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        // Two lives of one name may stand side by side for a look: the one that is well counts, or that has more time.
        let mut by_name: BTreeMap<(&Option<Name>, &Name), (Rank, Verdict)> = BTreeMap::new();
        for server in snapshot.servers.values() {
            let outcome = judge(snapshot, server, settings);
            let rank = match &outcome {
                Outcome::Healthy => (0, Reverse(None)),
                Outcome::Unknown => (1, Reverse(None)),
                Outcome::Violated(violation) => (2, Reverse(Some(violation.ripe_at))),
                Outcome::Gone => (3, Reverse(None)),
            };
            let verdict = Verdict {
                check: MANUAL.slug,
                severity: MANUAL.severity,
                entity: Entity::of_server(server),
                outcome,
            };
            let key = (&server.info.cluster, &server.info.name);
            if by_name.get(&key).is_none_or(|(held, _)| rank < *held) {
                by_name.insert(key, (rank, verdict));
            }
        }
        by_name.into_values().map(|(_, verdict)| verdict).collect()
    }
}

/// Who is known to live at the moment of `snapshot` explains nothing by being missing, also where a look at all that
/// knew less began to think so.
pub(super) fn refuted(snapshot: &Snapshot) -> impl Iterator<Item = Verdict> {
    let live = snapshot.servers.values().filter(|server| server.alive_at == Some(snapshot.at));
    live.map(|server| Verdict {
        check: MANUAL.slug,
        severity: MANUAL.severity,
        entity: Entity::of_server(server),
        outcome: Outcome::Unknown,
    })
}

fn judge(snapshot: &Snapshot, server: &Server, settings: &Settings) -> Outcome {
    match server.sight {
        Sight::Answered => return Outcome::Healthy,
        Sight::Left => return Outcome::Gone,
        // A peer of our own cluster answers over its routes; elsewhere it may just not reach us.
        Sight::Named
            if server.info.cluster != snapshot.vantage.cluster || server.info.name == server.info.id =>
        {
            return Outcome::Unknown;
        }
        Sight::Named | Sight::Silent | Sight::Unreachable => {}
    }
    let Some(silent_since) = server.silent_since else { return Outcome::Unknown };
    let silent_for = settings.duration("silent_for", Some(server.cluster()), None);
    let cluster = snapshot.clusters.get(server.cluster());
    let severed = cluster.is_some_and(|c: &Cluster| c.severed_since.is_some());
    match server.life {
        // Before 2.10 routes tell no names: a new one that cannot speak to us may be this one's next life.
        Life::Gone if snapshot.servers_of(server.cluster()).any(is_nameless) => Outcome::Unknown,
        // One that could not be heard may have restarted a moment ago.
        Life::Gone => {
            let since = server.alive_at.map_or(silent_since, |at| at.max(silent_since));
            violated(snapshot, server, since, since.plus(silent_for))
        }
        // Part of a cluster that nobody sees: told of by that finding.
        Life::Unknown if severed => violated(snapshot, server, silent_since, silent_since.plus(silent_for)),
        // Not ripe before heartbeats are due; until then it keeps back what it would explain.
        Life::Alive if server.sight != Sight::Unreachable && server.hearable => {
            // It can be heard since its gateway to our cluster is there.
            let ours = snapshot
                .links_of(&server.info.id)
                .find(|link| Some(&link.remote) == snapshot.vantage.cluster.as_ref());
            let hearable_since = ours.and_then(|link| link.connected_since).unwrap_or(silent_since);
            let quiet_since =
                server.last_sign_at().unwrap_or(silent_since).max(silent_since).max(hearable_since);
            let due_at = quiet_since.plus(server.heartbeat_interval() * 3 / 2);
            violated(snapshot, server, quiet_since, due_at)
        }
        _ => Outcome::Unknown,
    }
}

fn is_nameless(server: &Server) -> bool {
    server.sight == Sight::Named && server.life == Life::Alive && server.info.name == server.info.id
}

fn violated(snapshot: &Snapshot, server: &Server, since: Time, ripe_at: Time) -> Outcome {
    let (name, cluster) = (short(&server.info.name), short(server.cluster()));
    let cause = if server.named_by.is_empty() {
        let detail = if server.denied_by.is_empty() {
            format!("{name} does not answer, said no goodbye, and nobody has a connection to it")
        } else {
            format!("no route to {name} on {}, which answer; it said no goodbye", words(&server.denied_by))
        };
        Cause::new(CauseKind::Unreachable, Confidence::Likely, detail)
    } else {
        let detail = format!(
            "connections to {name} are still listed by {}, and it neither answers nor sends heartbeats: stopped, \
             overloaded, or nothing passes on the way from it",
            words(&server.named_by)
        );
        Cause::new(CauseKind::Unknown, Confidence::Possible, detail)
    };
    let last_at = server.last_sign_at().or(server.answered_at);
    let mut evidence = Map::new();
    evidence.insert("silent_ms".into(), millis(snapshot.at.since(since)));
    evidence.insert("last_answered_at".into(), json!(server.answered_at));
    evidence.insert("last_heard_at".into(), json!(last_at));
    evidence.insert("no_route_from".into(), list(&server.denied_by));
    evidence.insert("still_named_by".into(), list(&server.named_by));
    Outcome::Violated(Box::new(Violation {
        since,
        ripe_at,
        summary: format!("{name} ({cluster}) is silent and said no goodbye"),
        impact: format!("its clients reconnect elsewhere; {cluster} has one server less"),
        essence: format!("{} {}", cause.kind.as_str(), server.named_by.is_empty()),
        cause,
        evidence,
        remediation: vec![
            Step::by_hand(format!(
                "look at the nats-server process of {name} and its host: crash, out of memory, lost network"
            )),
            Step::run("see who answers", "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING' ''"),
        ],
        server: (!server.info.ver.is_empty()).then(|| server.info.clone()),
        scope: Scope::Entity,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, THREE, Trial, World, secs};
    use super::*;

    fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from: EVERYWHERE, opens, within: secs(7), lasts: secs(30) }
    }

    #[test]
    fn a_killed_server_is_one_finding_from_each_cluster() {
        for (cluster, server) in [("us", "us-1"), ("eu", "eu-2"), ("ap", "ap-1")] {
            let expected = format!("server_missing {cluster}/{server} unreachable");
            trial(&[&expected]).holds(|w| w.kill(server), |w| w.start(server));
        }
    }

    #[test]
    fn a_killed_server_that_the_agents_own_gateway_led_to_is_one_finding() {
        for seed in 1..6 {
            let mut world = World::with_seed("eu-0", seed);
            let target = world.peer("eu-0", "us").expect("eu-0 has a gateway to us");
            world.kill(&target);
            world.run(secs(15));
            assert_eq!(world.take_story(), [format!("opened server_missing us/{target} unreachable")]);
            world.start(&target);
            world.run(secs(10));
            assert_eq!(world.take_story(), [format!("resolved server_missing us/{target}")]);
        }
    }

    #[test]
    fn a_half_dead_cluster_is_one_finding_for_each_server() {
        trial(&["server_missing us/us-1 unreachable", "server_missing us/us-2 unreachable"]).holds(
            |w| ["us-1", "us-2"].iter().for_each(|s| w.kill(s)),
            |w| ["us-1", "us-2"].iter().for_each(|s| w.start(s)),
        );
    }

    #[test]
    fn a_stopped_process_is_found_when_its_heartbeats_stay_away() {
        Trial { within: secs(27), lasts: secs(90), ..trial(&["server_missing us/us-1 unknown"]) }
            .holds(|w| w.stop("us-1"), |w| w.resume("us-1"));
    }

    #[test]
    fn a_server_that_lives_and_only_lost_its_way_to_us_is_not_missing() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(60));
        assert_eq!(world.story(), ["opened gateway_disconnected us/us-1→eu path_cut"]);
    }

    #[test]
    fn the_finding_says_who_denies_it() {
        let mut world = World::seen_from("eu-0");
        world.kill("us-1");
        world.run(secs(10));
        let finding = world.ledger.open().next().expect("one is open");
        assert_eq!(finding.evidence["no_route_from"], json!(["us-0", "us-2"]));
        assert!(finding.cause.detail.contains("no route to us-1 on us-0, us-2"), "{}", finding.cause.detail);
    }

    #[test]
    fn a_server_that_was_not_heard_before_it_died_has_its_time_to_come_back() {
        for seed in 1..4 {
            let mut world = World::with_seed("eu-0", seed);
            world.cut("us-1", "eu");
            world.run(secs(20));
            world.kill("us-1");
            world.run(secs(3));
            world.start("us-1");
            world.run(secs(20));
            let story = world.story();
            assert!(story.iter().all(|line| !line.contains("server_missing")), "seed {seed}: {story:?}");
        }
    }

    #[test]
    fn a_server_whose_gateway_to_us_is_back_has_its_time_to_be_heard() {
        let mut world = World::of(&[("ap", 2), ("us", 2)], "ap-0", 1);
        world.reset("ap-0", "us", secs(60));
        world.reset("us-1", "ap", secs(40));
        world.run(secs(55));
        let story = world.story();
        assert!(story.iter().all(|line| !line.contains("server_missing")), "{story:?}");
    }
}
