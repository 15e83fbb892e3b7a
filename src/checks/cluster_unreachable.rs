//! No server of a cluster answers or is heard.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, json};

use super::verdict::{list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Cluster, Name, Server, Snapshot, Time};

pub(super) struct ClusterUnreachable;

static MANUAL: Manual = Manual {
    slug: "cluster_unreachable",
    code: "GW_001",
    severity: Severity::Critical,
    open_after: 1,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "dark_for",
            default: Value::Duration(Duration::from_millis(2500)),
            range: (Value::Duration(Duration::from_millis(1500)), Value::Duration(Duration::from_secs(3600))),
            about: "how long nothing can be asked of a cluster and nothing heard",
        },
        Threshold {
            key: "goodbye_grace",
            default: Value::Duration(Duration::from_secs(180)),
            range: (Value::Duration(Duration::ZERO), Value::Duration(Duration::from_secs(86_400))),
            about: "how long a cluster whose servers all said goodbye may take to come back",
        },
    ],
    detects: "No server of a known cluster answers or is heard from where the agent looks.",
    matters: "What is published here does not reach subscribers there, nor the other way round, and publishing \
              gives no error. JetStream streams and consumers whose leaders are there cannot be used from here.",
    decides: "A cluster is known when one of its servers was ever seen, when a server has a connection with it, \
              or when most configurations of each other cluster list it. It is dark when none of its servers \
              answers. With no gateway from the agent's own server to it, and none from it to any server of the \
              agent's cluster, nothing can be asked and nothing heard: a finding after `dark_for`. Where \
              connections are still listed, as with a stopped host or a black hole, its heartbeats (every 10 s, \
              on old versions every 30 s) must have stayed away for one and a half intervals. Then the servers \
              of third clusters are asked who has a connection with it: if any has, the path is cut; if none \
              has, it is down or cut off from everyone.",
    silent: "While one gateway is re-made: then the cluster's heartbeats still come, or another server of our \
             cluster still has a connection from it. For `goodbye_grace` after all of its servers said goodbye. In \
             the first seconds after the agent connected.",
    todo: "`path_cut`: the network between the two clusters; the clusters in `still_seen_by` can reach it. \
           `remote_cluster_down`: look after its servers first; then the network in front of all of them.",
};

impl Check for ClusterUnreachable {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        snapshot
            .clusters
            .iter()
            .filter(|(name, _)| snapshot.vantage.cluster.as_ref() != Some(*name))
            .filter(|(name, cluster)| is_known(snapshot, name, cluster))
            .map(|(name, cluster)| Verdict {
                check: MANUAL.slug,
                severity: MANUAL.severity,
                entity: Entity { cluster: Some(name.clone()), ..Entity::default() },
                outcome: judge(snapshot, name, cluster, settings),
            })
            .collect()
    }

    /// No server has it in its configuration or a connection with it, and none of its own is remembered; or the
    /// agent moved there.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        if entity.cluster.is_some() && entity.cluster == snapshot.vantage.cluster {
            return Outcome::Healthy;
        }
        let listed = entity.cluster.as_ref().is_some_and(|name| snapshot.clusters.contains_key(name));
        if listed { Outcome::Unknown } else { Outcome::Gone }
    }
}

/// Whether there is such a cluster, and not only a name in the configuration of one cluster or of few servers.
pub(super) fn is_known(snapshot: &Snapshot, name: &Name, cluster: &Cluster) -> bool {
    if cluster.existed
        || !cluster.servers.is_empty()
        || !cluster.seen_by.is_empty()
        || cluster.configured_by.is_empty()
    {
        return true;
    }
    snapshot.clusters.iter().filter(|(other, c)| *other != name && c.answered > 0).all(|(other, _)| {
        let lists = |s: &Server| {
            let config = s.varz.as_ref().and_then(|v| v.gateway.as_ref());
            config.is_some_and(|g| g.remotes.contains_key(name))
        };
        let votes: Vec<bool> = snapshot.servers_of(other).filter(|s| s.may_run()).map(lists).collect();
        votes.iter().filter(|listed| **listed).count() * 2 > votes.len()
    })
}

fn judge(snapshot: &Snapshot, name: &Name, cluster: &Cluster, settings: &Settings) -> Outcome {
    let at = snapshot.at;
    if cluster.answered > 0 {
        return Outcome::Healthy;
    }
    let dark_for = settings.duration("dark_for", Some(name), None);
    if let Some(left_at) = cluster.left_at {
        if cluster.configured_by.is_empty() {
            return Outcome::Gone;
        }
        let grace = settings.duration("goodbye_grace", Some(name), None);
        if at.since(left_at) < grace {
            return Outcome::Unknown;
        }
        return Outcome::Violated(Box::new(unreachable(
            snapshot,
            name,
            cluster,
            left_at,
            left_at.plus(grace),
        )));
    }
    let Some(dark_since) = cluster.dark_since else { return Outcome::Unknown };
    // A heartbeat may still have been on its way when the last connection went.
    let on_its_way = Duration::from_millis(500);
    if let Some(since) = cluster.severed_since {
        if cluster.heard_at.is_some_and(|heard_at| heard_at > since.plus(on_its_way)) {
            return Outcome::Unknown;
        }
        return Outcome::Violated(Box::new(unreachable(
            snapshot,
            name,
            cluster,
            since,
            since.plus(dark_for),
        )));
    }
    let interval = snapshot.servers_of(name).map(Server::heartbeat_interval).max().unwrap_or_default();
    let quiet_since = cluster.heard_at.unwrap_or(dark_since).max(dark_since);
    let due_at = quiet_since.plus(interval * 3 / 2);
    if cluster.hearable && !interval.is_zero() && at >= due_at {
        return Outcome::Violated(Box::new(unreachable(snapshot, name, cluster, quiet_since, due_at)));
    }
    Outcome::Unknown
}

fn unreachable(snapshot: &Snapshot, name: &Name, cluster: &Cluster, since: Time, ripe_at: Time) -> Violation {
    let vantage = snapshot.vantage.cluster.as_ref();
    let seen_by =
        cluster.seen_by.iter().map(|(by, names)| (by, &**names)).filter(|(other, _)| *other != name);
    let third: Vec<(&Name, &BTreeSet<Name>)> =
        seen_by.clone().filter(|(other, _)| Some(*other) != vantage).collect();
    let still_seen_by: Vec<String> = if cluster.severed_since.is_some() {
        third
            .iter()
            .flat_map(|(c, names)| names.iter().map(move |n| format!("{}/{}", short(c), short(n))))
            .collect()
    } else {
        Vec::new()
    };
    let others: Vec<&Name> = snapshot
        .clusters
        .iter()
        .filter(|(other, c)| *other != name && Some(*other) != vantage && c.answered > 0)
        .map(|(other, _)| other)
        .collect();
    let here = vantage.map_or_else(|| "here".to_owned(), |v| short(v));
    let remote = short(name);
    let cause = cause(cluster, since, &remote, &here, &still_seen_by, &others);
    let servers: Vec<&Name> = snapshot.servers_of(name).map(|s| &s.info.name).collect();
    let spared: BTreeSet<Name> = if still_seen_by.is_empty() {
        BTreeSet::new()
    } else {
        third.iter().map(|(c, _)| (*c).clone()).collect()
    };
    let mut evidence = Map::new();
    evidence.insert("servers".into(), list(&servers));
    evidence.insert("last_heard_at".into(), json!(cluster.heard_at));
    evidence.insert("still_seen_by".into(), list(&still_seen_by));
    evidence.insert("dark_since".into(), json!(cluster.dark_since));
    evidence.insert("severed_since".into(), json!(cluster.severed_since));
    evidence.insert("clusters_asked".into(), list(&others));
    let kind = cause.kind;
    let where_to = if kind == CauseKind::PathCut {
        format!("; it is still reached from {}", words(third.iter().map(|(c, _)| c)))
    } else {
        String::new()
    };
    Violation {
        since,
        ripe_at,
        summary: format!("no server of {remote} answers or is heard from {here}{where_to}"),
        impact: format!(
            "nothing published in {here} reaches subscribers in {remote}, nor the other way round, and publishing \
             gives no error"
        ),
        essence: format!("{} {:?} {still_seen_by:?}", kind.as_str(), cause.confidence),
        cause,
        evidence,
        remediation: remediation(kind, &here, &remote),
        server: None,
        scope: Scope::AllBut(spared),
    }
}

fn cause(
    cluster: &Cluster,
    since: Time,
    remote: &str,
    here: &str,
    still_seen_by: &[String],
    others: &[&Name],
) -> Cause {
    if cluster.left_at.is_some() {
        Cause::new(
            CauseKind::RemoteClusterDown,
            Confidence::Certain,
            format!(
                "every server of {remote} said goodbye, the last one at {}, and none came back",
                since.to_the_second()
            ),
        )
    } else if !still_seen_by.is_empty() {
        Cause::new(
            CauseKind::PathCut,
            Confidence::Likely,
            format!(
                "{remote} is still connected with {}; {here} has no connection with it in either direction",
                words(still_seen_by)
            ),
        )
    } else if cluster.severed_since.is_none() {
        Cause::new(
            CauseKind::Unknown,
            Confidence::Possible,
            format!("connections with {remote} are still listed, and nothing comes over them"),
        )
    } else if others.is_empty() {
        Cause::new(
            CauseKind::RemoteClusterDown,
            Confidence::Possible,
            format!(
                "{here} has no connection with {remote} in either direction; no third cluster can tell whether it is down or cut off"
            ),
        )
    } else {
        Cause::new(
            CauseKind::RemoteClusterDown,
            Confidence::Likely,
            format!("no server of {here} or of {} has a connection with {remote}", words(others)),
        )
    }
}

fn remediation(cause: CauseKind, here: &str, remote: &str) -> Vec<Step> {
    let first = if cause == CauseKind::PathCut {
        format!("test the network between {here} and {remote}: firewall, routing, VPN or peering")
    } else {
        format!("see whether the servers of {remote} run, then the network in front of them")
    };
    vec![
        Step::by_hand(first),
        Step::run("see who answers", "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING' ''"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::example::{THREE, Trial, World, ms, secs};
    use super::*;

    fn trial<'a>(from: &'a [&'a str], opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from, opens, within: ms(3000), lasts: secs(20) }
    }

    #[test]
    fn a_killed_cluster_is_one_finding_within_3_s() {
        trial(&["eu-0", "ap-0"], &["cluster_unreachable us remote_cluster_down"])
            .holds(|w| w.kill_cluster("us"), |w| w.start_cluster("us"));
        trial(&["us-1"], &["cluster_unreachable eu remote_cluster_down"])
            .holds(|w| w.kill_cluster("eu"), |w| w.start_cluster("eu"));
    }

    #[test]
    fn its_consequences_stand_in_inhibits_and_are_not_published() {
        let mut world = World::seen_from("eu-0");
        world.kill_cluster("us");
        world.run(secs(20));
        let finding = world.ledger.open().next().expect("one is open").clone();
        let link = |cluster: &str, server: Option<&str>, remote: &str| {
            let entity = Entity {
                cluster: Some(cluster.into()),
                server: server.map(Name::from),
                remote: Some(remote.into()),
                ..Entity::default()
            };
            crate::findings::fingerprint("gateway_disconnected", Severity::Critical, &entity)
        };
        for (cluster, server) in [("eu", None), ("eu", Some("eu-0")), ("ap", None), ("ap", Some("ap-2"))] {
            let print = link(cluster, server, "us");
            assert!(finding.inhibits.contains(&print), "{cluster} {server:?} lost us because of it");
        }
        let missing = Entity { cluster: Some("us".into()), server: Some("us-1".into()), ..Entity::default() };
        let print = crate::findings::fingerprint("server_missing", Severity::Warning, &missing);
        assert!(finding.inhibits.contains(&print), "us-1 is missing because of it");
    }

    #[test]
    fn a_cut_between_two_clusters_is_told_from_a_dead_one_by_a_third() {
        trial(&["eu-0"], &["cluster_unreachable us path_cut"])
            .holds(|w| w.partition("eu", "us"), World::heal);
        trial(&["us-0"], &["cluster_unreachable eu path_cut"])
            .holds(|w| w.partition("eu", "us"), World::heal);
        let mut world = World::seen_from("eu-0");
        world.partition("eu", "us");
        world.run(secs(5));
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.evidence["still_seen_by"], json!(["ap/ap-0", "ap/ap-1", "ap/ap-2"]));
        assert!(finding.summary.ends_with("it is still reached from ap"), "{}", finding.summary);
    }

    #[test]
    fn with_two_clusters_nobody_can_tell_a_cut_from_a_death() {
        let of = &[("eu", 3), ("us", 2)];
        Trial { of, ..trial(&["eu-0"], &["cluster_unreachable us remote_cluster_down"]) }
            .holds(|w| w.partition("eu", "us"), World::heal);
        let mut world = World::of(of, "eu-0", 1);
        world.kill_cluster("us");
        world.run(secs(5));
        let finding = world.ledger.open().next().expect("one is open").clone();
        assert_eq!(finding.cause.confidence, Confidence::Possible, "{}", finding.cause.detail);
    }

    #[test]
    fn a_cluster_of_one_that_hangs_is_found_by_its_heartbeats() {
        let of = &[("eu", 1), ("us", 1)];
        let trial = trial(&["eu-0"], &["cluster_unreachable us unknown"]);
        Trial { of, within: secs(30), lasts: secs(60), ..trial }
            .holds(|w| w.stop("us-0"), |w| w.resume("us-0"));
    }

    #[test]
    fn a_cluster_that_said_goodbye_has_a_grace_and_then_is_missed() {
        let mut world = World::seen_from("eu-0");
        for server in ["us-0", "us-1", "us-2"] {
            world.shut_down(server);
        }
        world.run(secs(170));
        assert_eq!(world.story(), [""; 0], "it may come back");
        world.run(secs(20));
        assert_eq!(world.take_story(), ["opened cluster_unreachable us remote_cluster_down"]);
        world.start_cluster("us");
        world.run(secs(10));
        assert_eq!(world.story(), ["resolved cluster_unreachable us"]);
    }

    #[test]
    fn a_cluster_taken_out_of_service_and_out_of_the_configurations_is_forgotten() {
        let mut world = World::seen_from("eu-0");
        for server in ["us-0", "us-1", "us-2"] {
            world.shut_down(server);
        }
        world.run(secs(200));
        assert_eq!(world.take_story(), ["opened cluster_unreachable us remote_cluster_down"]);
        for server in ["eu-1", "eu-2", "ap-0", "ap-1", "ap-2", "eu-0"] {
            world.reconfigure(server, |g| {
                g.as_mut().expect("a block").remotes.remove("us");
            });
            world.run(secs(2));
        }
        world.run(secs(10));
        assert_eq!(world.open(), [""; 0], "nobody expects it: {:?}", world.story());
        world.take_story();
        world.skip(secs(3700));
        world.run(secs(20));
        assert_eq!(world.story(), [""; 0], "nor when its servers are forgotten");
        assert!(!world.view().clusters.contains_key("us"));
    }

    #[test]
    fn a_name_in_one_configuration_is_no_cluster() {
        let mut world = World::seen_from("eu-0");
        world.reconfigure("us-1", |g| {
            g.as_mut().expect("a block").remotes.insert("zz".into(), crate::model::Urls::default());
        });
        world.run(secs(10));
        assert!(world.view().clusters.contains_key("zz"));
        assert_eq!(world.open(), ["gateway_config_mismatch us/us-1 unknown"]);
    }

    #[test]
    fn an_agent_that_moves_into_the_cluster_finds_it_reached_and_the_other_one_not() {
        let mut world = World::seen_from("eu-0");
        world.partition("eu", "us");
        world.run(secs(5));
        assert_eq!(world.open(), ["cluster_unreachable us path_cut"]);
        world.reconnect("us-0");
        world.run(secs(10));
        assert_eq!(world.open(), ["cluster_unreachable eu path_cut"]);
        world.assert_in_order();
    }

    #[test]
    fn a_cluster_that_comes_back_after_a_goodbye_gets_its_time_to_connect() {
        for seed in 1..8 {
            let mut world = World::of(&[("eu", 2), ("us", 2)], "eu-1", seed);
            world.shut_down("us-0");
            world.shut_down("us-1");
            world.run(secs(45));
            world.start_cluster("us");
            world.run(secs(20));
            assert_eq!(world.story(), [""; 0], "seed {seed}");
        }
    }

    #[test]
    fn a_misspelt_name_on_one_server_is_no_cluster_while_nobody_else_answers() {
        let mut world = World::of(&[("eu", 3), ("us", 2)], "eu-2", 1);
        world.kill_cluster("us");
        world.run(secs(10));
        world.reconfigure("eu-1", |g| {
            let g = g.as_mut().expect("a block");
            let urls = g.remotes.remove("us").expect("it is listed");
            g.remotes.insert("su".into(), urls);
        });
        world.run(secs(20));
        let open = world.open();
        assert!(open.iter().all(|line| !line.contains("cluster_unreachable su")), "{open:?}");
    }
}
