//! Two servers carry one name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Verdict,
    Violation, Watched,
};
use crate::model::{Life, Name, Server, Sight, Snapshot};

/// What others tell of a server may be three seconds old.
const TOLD_FOR: Duration = Duration::from_secs(5);
/// A restart takes two or three seconds.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Routes are asked for within ten seconds, and tell of those who cannot speak to us.
const NAMED_WITHIN: Duration = Duration::from_secs(15);
const SERVERS_LISTED_MAX: usize = 32;

pub(super) struct DuplicateServerName;

static MANUAL: Manual = Manual {
    slug: "duplicate_server_name",
    code: "GW_009",
    severity: Severity::Critical,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[],
    detects: "Two servers of the supercluster carry one name.",
    matters: "A server refuses a gateway or a route from one that has its own name or that of a peer. So each of \
              the two is locked out of the cluster of the other: what its clients publish does not reach \
              subscribers there, and publishing gives no error. What is up stays up until the next reconnect, so \
              the fault may sleep for weeks. With JetStream the name is also the server's identity among its \
              peers: two of one name take each other's place.",
    decides: "Two servers with different IDs and one name answered in the same look. In different clusters it is \
              enough that one answered and that peers of the other have a route to it in that same look: it may \
              be locked out of where the agent looks from.",
    silent: "During a restart: the old life does not answer when the new one does. For a server without a \
             configured name, which has its ID as its name. When the agent is connected to one of the two: it sees \
             nothing of the other, and tells of the gateway that is lost. Before 2.10 routes tell no names, so \
             that only two that answer are found. When all servers of a cluster have the names of another \
             cluster's, neither sees anything of the other, and it takes an agent in a third.",
    todo: "Give one of the two another `server_name` and restart it: a reload refuses the change. Names made of \
           cluster and number, as in `eu-1`, stay apart by themselves; a host name does not. A server that \
           holds streams or consumers becomes another peer: move its replicas away first.",
};

impl Check for DuplicateServerName {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, _settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut by_name: BTreeMap<&Name, Vec<&Server>> = BTreeMap::new();
        for server in snapshot.servers.values() {
            by_name.entry(&server.info.name).or_default().push(server);
        }
        by_name
            .into_iter()
            .filter(|(_, servers)| servers.len() > 1)
            .flat_map(|(name, servers)| judge(snapshot, name, &servers))
            .collect()
    }

    /// One of the two is not there any more, or is called otherwise now.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(name)) = (&entity.cluster, &entity.server) else { return Outcome::Unknown };
        if let Some(remote) = &entity.remote {
            let (here, there) = (count(snapshot, cluster, name), count(snapshot, remote, name));
            return match (here, there) {
                (Some(0), _) | (_, Some(0)) => Outcome::Healthy,
                _ => Outcome::Unknown,
            };
        }
        match count(snapshot, cluster, name) {
            Some(0 | 1) => Outcome::Healthy,
            _ => Outcome::Unknown,
        }
    }
}

/// How many servers of this name the cluster may have; none where that cannot be told.
fn count(snapshot: &Snapshot, cluster: &Name, name: &Name) -> Option<usize> {
    let Some(seen) = snapshot.clusters.get(cluster) else { return Some(0) };
    // What is not remembered is only known to be gone when all had the time to speak of it.
    if seen.answered == 0 || snapshot.at.since(snapshot.began_at) < NAMED_WITHIN {
        return None;
    }
    let mut there = 0;
    for server in snapshot.servers_of(cluster).filter(|s| s.info.name == *name) {
        match server.life {
            Life::Left if server.left_at.is_some_and(|at| snapshot.at.since(at) >= BACK_WITHIN) => {}
            Life::Gone if server.silent_since.is_some_and(|at| snapshot.at.since(at) >= NAMED_WITHIN) => {}
            _ => there += 1,
        }
    }
    Some(there)
}

/// Whether peers of its own that answered have a route to it now.
fn has_routes(snapshot: &Snapshot, server: &Server) -> bool {
    server.life == Life::Alive
        && snapshot.servers_of(server.cluster()).any(|peer| {
            peer.sight == Sight::Answered
                && server.named_by.contains(&peer.info.name)
                && peer.routez.as_ref().is_some_and(|r| r.peers.contains_key(&server.info.id))
        })
}

fn judge(snapshot: &Snapshot, name: &Name, servers: &[&Server]) -> Vec<Verdict> {
    let mut present: BTreeMap<&Name, Vec<&Server>> = BTreeMap::new();
    let answer = |server: &&&Server| server.sight == Sight::Answered;
    // The answer of one that ended may come late, and count beside the first of its next life.
    let newest = servers.iter().filter(answer).map(|s| s.first_seen_at).max();
    for server in servers.iter().filter(answer).filter(|s| s.answered_at >= newest) {
        let Some(cluster) = &server.info.cluster else { continue };
        present.entry(cluster).or_default().push(server);
    }
    // Two lives of one cluster may be told of side by side: such a one counts only where no other answers.
    for server in servers.iter().filter(|s| s.sight != Sight::Answered && has_routes(snapshot, s)) {
        let Some(cluster) = &server.info.cluster else { continue };
        present.entry(cluster).or_insert_with(|| vec![server]);
    }
    let mut verdicts = Vec::new();
    let mut found = |cluster: &Name, remote: Option<&Name>, peer: Option<&Name>, of: &[&Server]| {
        verdicts.push(Verdict {
            check: MANUAL.slug,
            severity: MANUAL.severity,
            entity: Entity {
                cluster: Some(cluster.clone()),
                server: Some(name.clone()),
                server_id: of.first().map(|s| s.info.id.clone()),
                remote: remote.cloned(),
                peer_server: peer.cloned(),
                ..Entity::default()
            },
            outcome: Outcome::Violated(Box::new(doubled(snapshot, name, of))),
        });
    };
    let mut clusters = present.keys();
    if let (Some(first), Some(second)) = (clusters.next(), clusters.next()) {
        let all: Vec<&Server> = present.values().flatten().copied().collect();
        if all.iter().any(|s| s.sight == Sight::Answered) {
            found(first, Some(second), None, &all);
        }
    }
    for (cluster, of) in &present {
        if of.iter().filter(|s| s.sight == Sight::Answered).count() > 1 {
            found(cluster, None, Some(name), of);
        }
    }
    verdicts
}

fn doubled(snapshot: &Snapshot, name: &Name, of: &[&Server]) -> Violation {
    let shown = short(name);
    let clusters: BTreeSet<Name> = of.iter().filter_map(|s| s.info.cluster.clone()).collect();
    let since = of.iter().map(|s| s.first_seen_at).max().unwrap_or(snapshot.at);
    let all_answered = of.iter().all(|s| s.sight == Sight::Answered);
    let ripe_at = if all_answered { since } else { since.plus(TOLD_FOR) };
    let each: Vec<String> =
        of.iter().map(|s| format!("{} {}", short(s.cluster()), short(&s.info.id))).collect();
    let newest = of.iter().max_by_key(|s| (s.first_seen_at, &s.info.id));
    let servers: Vec<Json> = of
        .iter()
        .take(SERVERS_LISTED_MAX)
        .map(|s| {
            json!({
                "cluster": short(s.cluster()),
                "id": short(&s.info.id),
                "host": short(&s.info.host),
                "answered": s.sight == Sight::Answered,
            })
        })
        .collect();
    let mut evidence = Map::new();
    evidence.insert("servers".into(), Json::Array(servers));
    evidence.insert("servers_total".into(), json!(of.len()));
    let place = if clusters.len() > 1 {
        format!("in {}", words(&clusters))
    } else {
        format!("twice in {}", words(&clusters))
    };
    Violation {
        since,
        ripe_at,
        summary: format!("{} servers are called {shown}, {place}", of.len()),
        cause: Cause::new(
            CauseKind::TlsOrNameRejected,
            Confidence::Certain,
            format!("one name, and an ID each: {}", words(&each)),
        ),
        impact: if clusters.len() > 1 {
            format!(
                "no server called {shown} can make a gateway to the cluster of another one of that name; one that is \
                 up ends with its next reconnect"
            )
        } else {
            format!(
                "the servers called {shown} have no route to each other: messages between their clients are lost"
            )
        },
        essence: format!("{clusters:?} {}", of.len()),
        evidence,
        remediation: remediation(&shown, newest.map_or("", |s| s.cluster())),
        server: newest.filter(|s| !s.info.ver.is_empty()).map(|s| s.info.clone()),
        scope: Scope::Remotes(clusters),
    }
}

fn remediation(name: &str, cluster: &str) -> Vec<Step> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let proposal = format!("{cluster}-{name}");
    let line = if proposal.chars().all(plain) {
        format!(", such as\nserver_name: \"{proposal}\"")
    } else {
        String::new()
    };
    vec![
        Step::by_hand(format!(
            "give one of them, best the one in {}, a name that no other server has{line}",
            short(cluster)
        )),
        Step::by_hand(
            "restart it, lame duck first: a reload refuses the change (`config reload not supported for ServerName`). \
             If it holds JetStream replicas, move them away first: under its new name it is another peer",
        ),
        Step::run("see the names of all", "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING' ''"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, World, secs};
    use super::*;

    const THREE: &[(&str, usize)] = &[("eu", 3), ("us", 3), ("ap", 3)];

    /// `us-1` comes back as `eu-1`.
    fn doubled_from(of: &[(&str, usize)], vantage: &str, seed: u64) -> World {
        let mut world = World::of(of, vantage, seed);
        world.rename("us-1", "eu-1");
        world.run(secs(20));
        world
    }

    #[test]
    fn one_name_in_two_clusters_is_one_finding_from_each_cluster() {
        for vantage in EVERYWHERE {
            for seed in 1..4 {
                let mut world = doubled_from(THREE, vantage, seed);
                let seen = format!("from {vantage} with seed {seed}: {:?}", world.story());
                assert_eq!(world.open(), ["duplicate_server_name eu/eu-1→us tls_or_name_rejected"], "{seen}");
                let opened = world.take_story().iter().filter(|line| line.starts_with("opened")).count();
                assert_eq!(opened, 1, "and nothing else opened, {seen}");
                world.rename("us-1", "us-1");
                world.run(secs(60));
                assert_eq!(world.open(), [""; 0], "from {vantage} with seed {seed}: {:?}", world.story());
                assert_eq!(world.story(), ["resolved duplicate_server_name eu/eu-1→us"]);
            }
        }
    }

    #[test]
    fn with_two_clusters_the_one_that_is_locked_out_is_known_by_its_routes() {
        for vantage in ["eu-0", "us-0"] {
            for seed in 1..4 {
                let mut world = doubled_from(&[("eu", 3), ("us", 3)], vantage, seed);
                world.run(secs(20));
                assert_eq!(
                    world.open(),
                    ["duplicate_server_name eu/eu-1→us tls_or_name_rejected"],
                    "from {vantage} with seed {seed}: {:?}",
                    world.story()
                );
            }
        }
    }

    #[test]
    fn a_link_that_the_name_does_not_explain_is_told_beside_it() {
        let mut world = doubled_from(THREE, "ap-0", 1);
        world.cut("us-2", "eu");
        world.run(secs(13));
        assert_eq!(
            world.open(),
            [
                "duplicate_server_name eu/eu-1→us tls_or_name_rejected",
                "gateway_disconnected us/us-2→eu path_cut"
            ]
        );
    }

    #[test]
    fn an_agent_at_one_of_the_two_sees_at_least_what_it_has_lost() {
        let mut world = World::of(THREE, "eu-1", 1);
        world.ways.alone = true;
        world.rename("us-1", "eu-1");
        world.run(secs(20));
        assert_eq!(
            world.open(),
            ["gateway_disconnected eu/eu-1→us tls_or_name_rejected"],
            "nothing passes between it and us: {:?}",
            world.story()
        );
        let world = doubled_from(THREE, "eu-1", 1);
        assert_eq!(
            world.open(),
            ["duplicate_server_name eu/eu-1→us tls_or_name_rejected"],
            "a neighbour sees it: {:?}",
            world.story()
        );
    }

    #[test]
    fn two_of_one_name_in_one_cluster_are_one_finding() {
        for vantage in ["eu-0", "us-0", "ap-0"] {
            let mut world = World::seen_from(vantage);
            world.rename("us-1", "us-2");
            world.run(secs(20));
            assert_eq!(
                world.open(),
                ["duplicate_server_name us/us-2~us-2 tls_or_name_rejected"],
                "from {vantage}: {:?}",
                world.story()
            );
            world.rename("us-1", "us-1");
            world.run(secs(60));
            assert_eq!(world.open(), [""; 0], "from {vantage}: {:?}", world.story());
        }
    }

    #[test]
    fn a_name_in_three_clusters_is_one_finding_that_explains_all_links_between_them() {
        let mut world = World::seen_from("eu-0");
        world.rename("us-1", "eu-1");
        world.run(secs(20));
        world.rename("ap-1", "eu-1");
        world.run(secs(60));
        assert_eq!(
            world.open(),
            ["duplicate_server_name ap/eu-1→eu tls_or_name_rejected"],
            "{:?}",
            world.story()
        );
        let finding = world.ledger.open().next().expect("one is open");
        assert_eq!(finding.summary, "3 servers are called eu-1, in ap, eu, us");
        world.rename("ap-1", "ap-1");
        world.run(secs(60));
        assert_eq!(world.open(), ["duplicate_server_name eu/eu-1→us tls_or_name_rejected"], "two are left");
        world.rename("us-1", "us-1");
        world.run(secs(60));
        assert_eq!(world.open(), [""; 0]);
        world.assert_in_order();
    }

    #[test]
    fn a_restart_is_no_double_however_it_ends() {
        for vantage in EVERYWHERE {
            let mut world = World::seen_from(vantage);
            for server in ["eu-1", "us-1", "ap-2"] {
                world.restart(server);
                world.run(secs(5));
                world.kill(server);
                world.start(server);
                world.run(secs(5));
            }
            assert_eq!(world.story(), [""; 0]);
        }
    }

    #[test]
    fn a_double_that_dies_is_missed_though_its_name_goes_on() {
        let mut world = doubled_from(THREE, "ap-0", 1);
        world.take_story();
        world.run(secs(20));
        world.kill("eu-1");
        world.run(secs(1));
        // The one that lives is the newer one then.
        world.restart("us-1");
        world.run(secs(20));
        assert!(
            world.open().contains(&"server_missing eu/eu-1 unreachable".to_owned()),
            "{:?}",
            world.story()
        );
    }

    #[test]
    fn the_late_answer_of_one_that_ended_is_no_second_server() {
        let world = World::seen_from("eu-0");
        let mut snapshot = world.view().clone();
        let settings = Settings::of(&DuplicateServerName);
        let newer = snapshot.servers.values().find(|s| &*s.info.name == "us-1").expect("it is there").clone();
        let judge = |snapshot: &Snapshot| {
            let verdicts = DuplicateServerName.evaluate(snapshot, &settings, &Watched::default());
            verdicts.iter().filter(|v| matches!(v.outcome, Outcome::Violated(_))).count()
        };
        let mut older = newer.clone();
        older.info.id = "NOLDER".into();
        older.answered_at = Some(newer.first_seen_at.minus(Duration::from_secs(1)));
        older.first_seen_at = newer.first_seen_at.minus(Duration::from_secs(60));
        snapshot.servers.insert(older.info.id.clone(), older.clone());
        assert_eq!(judge(&snapshot), 0);
        older.answered_at = newer.answered_at;
        snapshot.servers.insert(older.info.id.clone(), older);
        assert_eq!(judge(&snapshot), 1, "both are there");
    }

    #[test]
    fn the_advice_names_a_line_that_a_server_takes() {
        let steps = remediation("eu-1", "us");
        assert!(steps[0].action.ends_with("\nserver_name: \"us-eu-1\""), "{}", steps[0].action);
        assert!(
            !remediation("a\"b", "us")[0].action.contains("server_name:"),
            "not what a file could not hold"
        );
    }
}
