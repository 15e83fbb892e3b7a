//! A configured remote exists nowhere.

use std::time::Duration;

use serde_json::{Map, json};

use super::block::block;
use super::cluster_unreachable::is_known;
use super::verdict::{list, millis, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{GatewayConfig, Life, LinkState, Name, Server, Sight, Snapshot};

/// For how many servers the block is written out.
const BLOCKS_MAX: usize = 8;

pub(super) struct GatewayStaleRemote;

static MANUAL: Manual = Manual {
    slug: "gateway_stale_remote",
    code: "GW_006",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "absent_for",
        default: Value::Duration(Duration::from_secs(5)),
        range: (Value::Duration(Duration::from_secs(2)), Value::Duration(Duration::from_secs(24 * 3600))),
        about: "how long the remote must be absent; longer where configurations list a cluster before it starts",
    }],
    detects: "A configured remote exists nowhere and is retried for ever.",
    matters: "Each server of the cluster dials it about once a second and writes a line to its log each time, and \
              each server of the other clusters tries it too when it hears of it. No message is lost by it; a \
              name that was meant to be another is.",
    decides: "The configuration of a server lists the remote (VARZ), no server has a gateway to or from it, none \
              of its servers and no connection with it was ever seen, and there is a cluster that answers and does \
              not list it. Gossip makes a cluster that exists known to all, so a name that stays unknown is only \
              a name. One finding for each cluster and remote.",
    silent: "When all clusters that answer list the remote: then it is taken for a cluster that is down, and \
             `cluster_unreachable` tells. With a single cluster in reach that is always so, and with two it takes \
             one that does not list it: the two cases cannot be told apart otherwise. When one server differs \
             from its peers in it, for `gateway_config_mismatch` tells that.",
    todo: "Take the remote out of the `gateways` list of each server of the cluster, or correct its name, and \
           restart them one at a time, lame duck first: a reload refuses every change of the gateway block. If the \
           cluster is to exist, look why nobody reaches it: it may not run, or refuse everyone.",
};

impl Check for GatewayStaleRemote {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (remote, cluster) in snapshot.clusters.iter().filter(|(name, c)| !is_known(snapshot, name, c)) {
            let is_there = is_there(snapshot, remote);
            for name in &cluster.configured_by {
                let absent_for = settings.duration("absent_for", Some(name), Some(remote));
                verdicts.push(Verdict {
                    check: MANUAL.slug,
                    severity: MANUAL.severity,
                    entity: Entity {
                        cluster: Some(name.clone()),
                        remote: Some(remote.clone()),
                        ..Entity::default()
                    },
                    outcome: if is_there {
                        Outcome::Healthy
                    } else {
                        judge(snapshot, name, remote, absent_for)
                    },
                });
            }
        }
        verdicts
    }

    /// It exists now, or those who listed it answer and list it no more.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(remote)) = (&entity.cluster, &entity.remote) else {
            return Outcome::Unknown;
        };
        let Some(own) = snapshot.clusters.get(cluster) else { return Outcome::Gone };
        let known = snapshot.clusters.get(remote).is_some_and(|c| is_known(snapshot, remote, c));
        let mut servers = snapshot.servers_of(cluster).filter(|s| s.life != Life::Left).peekable();
        let corrected = servers.peek().is_some()
            && own.answered > 0
            && servers.all(|s| s.varz.is_some() && !lists(s, remote));
        if known || corrected { Outcome::Healthy } else { Outcome::Unknown }
    }
}

fn gateway(server: &Server) -> Option<&GatewayConfig> {
    server.varz.as_ref()?.gateway.as_ref()
}

fn lists(server: &Server, remote: &Name) -> bool {
    gateway(server).is_some_and(|g| g.remotes.contains_key(remote))
}

/// A server had it once, as an earlier start of the agent knew, or it refuses logins.
fn is_there(snapshot: &Snapshot, remote: &Name) -> bool {
    let mut links = snapshot.links.iter().filter(|l| l.remote == *remote);
    links.any(|l| l.ever_connected_at.is_some() || l.rejected.is_some())
}

fn judge(snapshot: &Snapshot, cluster: &Name, remote: &Name, absent_for: Duration) -> Outcome {
    let servers: Vec<&Server> = snapshot
        .servers_of(cluster)
        .filter(|s| matches!(s.life, Life::Alive | Life::Unknown) && lists(s, remote))
        .collect();
    let absent = snapshot.links_from(cluster).filter(|l| l.remote == *remote && l.state == LinkState::Absent);
    let Some(since) = absent.filter_map(|l| l.absent_since).min() else { return Outcome::Unknown };
    if servers.is_empty() {
        return Outcome::Unknown;
    }
    let not_listed_by: Vec<&Name> = snapshot
        .clusters
        .iter()
        .filter(|(name, c)| *name != remote && c.answered > 0)
        .map(|(name, _)| name)
        .filter(|name| snapshot.clusters.get(remote).is_some_and(|c| !c.configured_by.contains(*name)))
        // Not where its configuration is still to be seen.
        .filter(|name| snapshot.servers_of(name).any(|s| s.sight == Sight::Answered && s.varz.is_some()))
        .collect();
    if not_listed_by.is_empty() {
        return Outcome::Unknown;
    }
    let (shown, here) = (short(remote), short(cluster));
    let names: Vec<&Name> = servers.iter().map(|s| &s.info.name).collect();
    let first = servers.first().and_then(|s| gateway(s));
    let mut evidence = Map::new();
    evidence.insert("configured_by".into(), list(&names));
    evidence.insert("urls".into(), list(first.and_then(|g| g.remotes.get(remote)).into_iter().flatten()));
    evidence.insert("not_configured_by".into(), list(&not_listed_by));
    evidence.insert("absent_ms".into(), millis(snapshot.at.since(since)));
    evidence.insert("expected_block".into(), json!(first.map(|g| without(g, remote))));
    Outcome::Violated(Box::new(Violation {
        since,
        ripe_at: since.plus(absent_for),
        summary: format!("{here} lists a remote {shown}, and there is no such cluster"),
        cause: Cause::new(
            CauseKind::Unreachable,
            Confidence::Likely,
            format!(
                "{} of {here} list {shown}; no server of it and no connection with it was ever seen, and {} answer and \
                 do not list it",
                words(&names),
                words(&not_listed_by)
            ),
        ),
        impact: format!(
            "the servers of {here} dial {shown} about once a second, each with a line in its log"
        ),
        essence: format!("{names:?}"),
        evidence,
        remediation: remediation(&servers, remote, &here),
        server: None,
        scope: Scope::Entity,
    }))
}

fn without(config: &GatewayConfig, remote: &Name) -> String {
    let mut config = config.clone();
    config.remotes.remove(remote);
    block(&config)
}

fn remediation(servers: &[&Server], remote: &Name, here: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = servers
        .iter()
        .take(BLOCKS_MAX)
        .filter_map(|s| Some((short(&s.info.name), without(gateway(s)?, remote))))
        .map(|(name, block)| Step::by_hand(format!("make the gateway block of {name} this:\n{block}")))
        .collect();
    if servers.len() > BLOCKS_MAX {
        steps.push(Step::by_hand(format!(
            "and so on the {} others of {here}: leave {} out of `gateways`",
            servers.len() - BLOCKS_MAX,
            short(remote)
        )));
    }
    steps.push(Step::by_hand(format!(
        "restart them one at a time in lame duck mode: a reload refuses a change of the gateway block (`config reload \
         not supported for Gateway`); if {} is to exist, see whether its servers run and whom they refuse",
        short(remote)
    )));
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::example::{EVERYWHERE, World, ms, secs};
    use super::*;

    fn list_ghost(world: &mut World, servers: &[&str]) {
        for server in servers {
            world.reconfigure(server, |g| {
                let urls = BTreeSet::from(["dd.example:7222".into()]);
                g.as_mut().expect("a block").remotes.insert("dd".into(), urls.into());
            });
            world.run(secs(3));
        }
    }

    fn mend(world: &mut World, servers: &[&str]) {
        for server in servers {
            world.reconfigure(server, |g| drop(g.as_mut().expect("a block").remotes.remove("dd")));
            world.run(secs(3));
        }
        world.run(secs(20));
    }

    const US: &[&str] = &["us-0", "us-1", "us-2"];

    #[test]
    fn a_remote_that_exists_nowhere_is_one_warning_from_each_cluster() {
        for vantage in EVERYWHERE {
            let mut world = World::seen_from(vantage);
            list_ghost(&mut world, US);
            world.run(secs(20));
            assert_eq!(world.open(), ["gateway_stale_remote us→dd unreachable"], "{:?}", world.story());
            let links = world.story().iter().any(|line| line.contains("gateway_disconnected"));
            assert!(!links, "the lost links are explained, seen from {vantage}: {:?}", world.story());
            mend(&mut world, US);
            assert_eq!(world.open(), [""; 0], "seen from {vantage}: {:?}", world.story());
            world.assert_in_order();
        }
    }

    #[test]
    fn one_server_that_lists_it_is_a_mismatch() {
        for vantage in EVERYWHERE {
            let mut world = World::seen_from(vantage);
            list_ghost(&mut world, &["us-1"]);
            world.run(secs(20));
            assert_eq!(world.story(), ["opened gateway_config_mismatch us/us-1 unknown"], "from {vantage}");
        }
    }

    #[test]
    fn a_cluster_of_one_can_have_it_too() {
        let mut world = World::of(&[("eu", 3), ("us", 1)], "eu-0", 1);
        list_ghost(&mut world, &["us-0"]);
        world.run(secs(20));
        assert_eq!(world.story(), ["opened gateway_stale_remote us→dd unreachable"]);
    }

    #[test]
    fn a_remote_that_all_list_is_a_cluster_that_is_down() {
        let mut world = World::of(&[("eu", 2), ("us", 2)], "eu-0", 1);
        list_ghost(&mut world, &["us-0", "us-1", "eu-1", "eu-0"]);
        world.run(secs(30));
        assert_eq!(world.open(), ["cluster_unreachable dd remote_cluster_down"], "{:?}", world.story());
    }

    #[test]
    fn a_cluster_that_was_ever_seen_is_no_ghost() {
        let mut world = World::seen_from("eu-0");
        for server in ["eu-1", "eu-2", "eu-0"] {
            world.reconfigure(server, |g| drop(g.as_mut().expect("a block").remotes.remove("us")));
            world.run(secs(3));
        }
        world.kill_cluster("us");
        world.run(secs(60));
        assert!(world.open().iter().all(|f| !f.starts_with("gateway_stale_remote")), "{:?}", world.story());
        let us = &world.view().clusters["us"];
        assert!(us.existed && is_known(world.view(), &"us".into(), us));
    }

    #[test]
    fn it_waits_as_long_as_it_is_told_to() {
        let mut world = World::seen_from("eu-0");
        let settings = world.settings.get_mut("gateway_stale_remote").expect("it has settings");
        settings.values.insert("absent_for", Value::Duration(secs(60)));
        list_ghost(&mut world, US);
        world.run(secs(45));
        assert!(!world.open().iter().any(|f| f.contains("stale")), "{:?}", world.story());
        world.run(secs(30));
        assert_eq!(world.open(), ["gateway_stale_remote us→dd unreachable"]);
    }

    #[test]
    fn the_cluster_comes_to_be() {
        let mut world = World::unwatched(&[("eu", 2), ("us", 2), ("dd", 1)], 1);
        world.kill("dd-0");
        for server in ["us-0", "us-1"] {
            world.reconfigure(server, |g| drop(g.as_mut().expect("a block").remotes.remove("dd")));
            world.run(secs(3));
        }
        world.watch("us-0");
        world.run(secs(20));
        assert_eq!(world.take_story(), ["opened gateway_stale_remote eu→dd unreachable"]);
        world.start("dd-0");
        world.run(secs(20));
        assert_eq!(
            world.story().first().map(String::as_str),
            Some("resolved gateway_stale_remote eu→dd"),
            "{:?}",
            world.story()
        );
        assert!(!world.open().iter().any(|f| f.contains("stale")), "{:?}", world.open());
    }

    #[test]
    fn each_server_gets_its_block_without_the_remote() {
        let mut world = World::seen_from("eu-0");
        list_ghost(&mut world, US);
        world.run(secs(20));
        let finding = world.ledger.open().next().expect("one is open");
        assert_eq!(finding.remediation.len(), 4, "three blocks and the restart");
        let block = finding.evidence["expected_block"].as_str().expect("a block");
        assert!(block.contains("name: \"eu\"") && !block.contains("\"dd\""), "{block}");
        assert_eq!(finding.evidence["not_configured_by"], json!(["ap", "eu"]));
        assert!(finding.opened_at.since(finding.last_seen_at) <= ms(0));
    }
}
