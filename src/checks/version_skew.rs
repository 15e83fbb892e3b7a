//! A server runs another version than most of its cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{after_goodbye, forgotten_server, list, short};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Name, Server, Snapshot, Time, version};

/// Who was first seen this soon after the agent began may be old.
const SETTLING: Duration = Duration::from_secs(3);

pub(super) struct VersionSkew;

static MANUAL: Manual = Manual {
    slug: "version_skew",
    code: "SERVER_002",
    severity: Severity::Info,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "skewed_for",
        default: Value::Duration(Duration::from_secs(600)),
        range: (
            Value::Duration(Duration::from_secs(1)),
            Value::Duration(Duration::from_secs(30 * 24 * 3600)),
        ),
        about: "how long ago the last start of a server in the cluster must be",
    }],
    detects: "A server's version differs from that of its cluster's majority.",
    matters: "Versions mix well enough for an upgrade, and a server that was left out of one works. It lacks the \
              fixes and the counters that its peers have, it may refuse a setting that they accept, and the next \
              one who looks for the cause of something else has one difference more to think of.",
    decides: "Each reply carries the version of its server. What more than half of the cluster's servers run is \
              right, whether it is the newer or the older one; with no majority there is no finding. A rolling \
              upgrade makes a difference on purpose: the clock of `skewed_for` begins anew each time a server of \
              the cluster starts, so the finding comes that long after the last one did, and stands for a server \
              that was forgotten.",
    silent: "During a rolling upgrade, as long as no two of its restarts are further apart than `skewed_for`; set \
             that longer where servers need more time to catch up. Between clusters: they may well be upgraded \
             one after the other. While a server of the cluster restarts nothing is judged healthy.",
    todo: "Upgrade the server to the version of the others, or them to its own, in lame duck mode, one at a time.",
};

impl Check for VersionSkew {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for name in snapshot.clusters.keys() {
            let group = Group::of(snapshot, name);
            let skewed_for = settings.duration("skewed_for", Some(name), None);
            verdicts.extend(snapshot.servers_of(name).map(|server| Verdict {
                check: MANUAL.slug,
                severity: MANUAL.severity,
                entity: Entity {
                    cluster: Some(name.clone()),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    ..Entity::default()
                },
                outcome: group.judge(server, skewed_for),
            }));
        }
        verdicts
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        forgotten_server(snapshot, entity)
    }
}

/// The servers of one cluster whose version is known.
struct Group<'a> {
    snapshot: &'a Snapshot,
    name: &'a Name,
    votes: BTreeMap<&'a Name, usize>,
    seen: usize,
    /// One of them restarts, or went silent just now: the count is not the whole.
    in_flux: bool,
    /// When the last of them started.
    started_at: Time,
}

impl<'a> Group<'a> {
    fn of(snapshot: &'a Snapshot, name: &'a Name) -> Self {
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        let (mut seen, mut in_flux, mut started_at) = (0, false, Time::default());
        for server in snapshot.servers_of(name) {
            match server.life {
                Life::Left => in_flux |= after_goodbye(snapshot, server) == Outcome::Unknown,
                Life::Gone => {
                    in_flux |= server.silent_since.is_some_and(|at| snapshot.at.since(at) < SETTLING * 10);
                }
                Life::Alive | Life::Unknown if server.info.ver.is_empty() => in_flux = true,
                Life::Alive | Life::Unknown => {
                    *votes.entry(&server.info.ver).or_default() += 1;
                    seen += 1;
                    started_at = started_at.max(started(snapshot, server));
                }
            }
        }
        Self { snapshot, name, votes, seen, in_flux, started_at }
    }

    fn judge(&self, server: &Server, skewed_for: Duration) -> Outcome {
        match server.life {
            Life::Left => return after_goodbye(self.snapshot, server),
            Life::Gone | Life::Unknown => return Outcome::Unknown,
            Life::Alive if server.info.ver.is_empty() => return Outcome::Unknown,
            Life::Alive => {}
        }
        let majority = self.votes.iter().find(|(_, votes)| **votes * 2 > self.seen);
        match majority {
            Some((usual, votes)) if **usual != server.info.ver => {
                Outcome::Violated(Box::new(self.skewed(server, usual, *votes, skewed_for)))
            }
            _ if self.in_flux => Outcome::Unknown,
            _ => Outcome::Healthy,
        }
    }

    fn skewed(&self, server: &Server, usual: &Name, votes: usize, skewed_for: Duration) -> Violation {
        let (name, cluster) = (short(&server.info.name), short(self.name));
        let (own, usual) = (short(&server.info.ver), short(usual));
        let mut evidence = Map::new();
        evidence.insert("version".into(), json!(own));
        evidence.insert("majority".into(), json!(usual));
        evidence.insert("majority_count".into(), json!(votes));
        evidence.insert("seen".into(), json!(self.seen));
        evidence.insert("versions".into(), list(self.votes.iter().map(|(ver, n)| format!("{ver}: {n}"))));
        evidence.insert("last_start_at".into(), json!(self.started_at));
        let older = version(&server.info.ver) < version(&usual);
        let advice = if older {
            format!("upgrade {name} to nats-server {usual}: lame duck mode first, then start the new binary")
        } else {
            format!(
                "either upgrade the other servers of {cluster} to nats-server {own}, one at a time and in lame duck \
                 mode, or take {name} back to {usual}"
            )
        };
        Violation {
            since: self.started_at,
            ripe_at: self.started_at.plus(skewed_for),
            summary: format!("{name} runs {own}; {votes} of {} servers in {cluster} run {usual}", self.seen),
            cause: Cause::new(
                CauseKind::Unknown,
                Confidence::Certain,
                format!(
                    "{name} says {own} of itself; no server of {cluster} started since {}",
                    self.started_at.to_the_second()
                ),
            ),
            impact: format!("messages pass; {name} may lack what its peers have, or have what they lack"),
            essence: format!("{own} {usual}"),
            evidence,
            remediation: vec![Step::by_hand(advice)],
            server: Some(server.info.clone()),
            scope: Scope::Entity,
        }
    }
}

/// When a server started: seen by ourselves, or by its own word where it is older than our memory.
fn started(snapshot: &Snapshot, server: &Server) -> Time {
    let seen_at = server.first_seen_at;
    if seen_at > snapshot.began_at.plus(SETTLING) {
        return seen_at;
    }
    server.varz.as_ref().and_then(|v| v.start).map_or(seen_at, |at| at.min(seen_at))
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, World, secs};
    use super::*;

    /// An agent that comes to a supercluster where `servers` run another version since an hour.
    fn watched(vantage: &str, of: &[(&str, usize)], servers: &[&str]) -> World {
        let mut world = World::unwatched(of, 1);
        for server in servers {
            world.upgrade(server, "2.14.6");
            world.run(secs(3));
        }
        world.skip(secs(3600));
        world.run(secs(20));
        world.watch(vantage);
        world.run(secs(15));
        world
    }

    const THREE: &[(&str, usize)] = &[("eu", 3), ("us", 3), ("ap", 3)];

    #[test]
    fn one_that_was_left_out_of_an_upgrade_is_told_by_an_agent_that_comes_later() {
        for vantage in EVERYWHERE {
            let mut world = watched(vantage, THREE, &["us-1"]);
            assert_eq!(world.take_story(), ["opened version_skew us/us-1 unknown"], "from {vantage}");
            world.restart("us-2");
            world.run(secs(60));
            assert_eq!(world.story(), [""; 0], "a restart beside it ends nothing, from {vantage}");
            world.upgrade("us-1", "2.15.1");
            world.run(secs(10));
            assert_eq!(world.story(), ["resolved version_skew us/us-1"], "from {vantage}");
        }
    }

    #[test]
    fn it_is_told_skewed_for_after_the_last_start_and_not_before() {
        let mut world = World::seen_from("eu-0");
        world.upgrade("us-1", "2.14.6");
        world.run(secs(300));
        world.restart("us-2");
        world.run(secs(599));
        assert_eq!(world.story(), [""; 0], "the clock began anew with us-2");
        world.run(secs(6));
        assert_eq!(world.story(), ["opened version_skew us/us-1 unknown"]);
    }

    #[test]
    fn a_rolling_upgrade_makes_no_finding() {
        for (vantage, pause) in [("eu-0", 4), ("us-0", 30), ("ap-0", 500)] {
            let mut world = World::seen_from(vantage);
            for server in world.names() {
                world.upgrade(&server, "2.16.0");
                world.run(secs(pause));
            }
            world.run(secs(700));
            assert_eq!(world.story(), [""; 0], "seen from {vantage}, {pause} s apart");
        }
    }

    #[test]
    fn a_half_is_no_majority_and_each_cluster_is_counted_for_itself() {
        let two = &[("eu", 3), ("us", 2)];
        assert_eq!(watched("eu-0", two, &["us-1"]).story(), [""; 0]);
        let four = &[("eu", 3), ("us", 4)];
        assert_eq!(watched("eu-0", four, &["us-1", "us-2"]).story(), [""; 0]);
        assert_eq!(watched("eu-0", four, &["us-2"]).story(), ["opened version_skew us/us-2 unknown"]);
        assert_eq!(watched("eu-0", THREE, &["us-0", "us-1", "us-2"]).story(), [""; 0], "a whole cluster");
    }

    #[test]
    fn the_finding_says_who_runs_what_and_what_to_do() {
        let world = watched("eu-0", THREE, &["us-0", "us-1"]);
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.summary, "us-2 runs 2.15.1; 2 of 3 servers in us run 2.14.6");
        assert_eq!(finding.evidence["versions"], json!(["2.14.6: 2", "2.15.1: 1"]));
        assert!(finding.remediation[0].action.starts_with("either upgrade"), "the newer one is left alone");
        let world = watched("eu-0", THREE, &["us-0"]);
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert!(finding.remediation[0].action.starts_with("upgrade us-0 to nats-server 2.15.1"));
    }

    #[test]
    fn a_server_that_leaves_takes_its_finding_along() {
        let mut world = watched("eu-0", THREE, &["us-1"]);
        world.take_story();
        world.shut_down("us-1");
        world.run(secs(40));
        assert_eq!(world.story(), ["resolved version_skew us/us-1 gone"]);
    }
}
