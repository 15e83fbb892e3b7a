//! A whole cluster reaches a remote by gossip only, or lists it under a wrong name.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::block::{address, block, told};
use super::cluster_unreachable::is_known;
use super::verdict::{list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Verdict,
    Violation, Watched,
};
use crate::model::{GatewayConfig, Life, LinkState, Name, Server, Sight, Snapshot};

/// For how many servers the block is written out.
const BLOCKS_MAX: usize = 8;

pub(super) struct GatewayImplicit;

static MANUAL: Manual = Manual {
    slug: "gateway_implicit",
    code: "GW_005",
    severity: Severity::Info,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[],
    detects: "A whole cluster reaches a remote by gossip only, or lists it under a name that is not its own.",
    matters: "What gossip made works as long as somebody is there to gossip. A cluster that starts anew while \
              the remote cannot be reached does not know that it exists, tries it `connect_retries` times at the \
              most, and forgets it. A wrong name never connects: the server at those addresses has another one, \
              each attempt ends with an error in the log, and the servers there try the wrong name as well.",
    decides: "Gossip only: every server of the cluster that answers has a gateway to the remote that GATEWAYZ calls \
              not configured, and the configuration of none of them (VARZ) lists it. A wrong name: all servers of the \
              cluster list a remote that exists nowhere, and one of its URLs is the address of a gateway of another \
              cluster, by what that cluster's servers tell or what other servers list for it. Addresses are \
              compared as they are written.",
    silent: "When only some servers of a cluster lack the remote or misspell it, or when the other clusters list \
             each other and this one is alone in not doing so: `gateway_config_mismatch` tells those. When the \
             addresses are written in two ways (a name and an IP) a wrong name shows as `gateway_stale_remote`. \
             Some superclusters are meant to be like that, with one cluster as the seed of all: switch it off \
             there.",
    todo: "Put the remote into the `gateways` list of each server, under the name that its own `gateway.name` has, \
           and restart them one at a time, lame duck first: a reload refuses every change of the gateway block.",
};

impl Check for GatewayImplicit {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, _settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for name in snapshot.clusters.keys() {
            let group = Group::of(snapshot, name);
            for (remote, cluster) in snapshot.clusters.iter().filter(|(remote, _)| *remote != name) {
                let outcome = if !is_known(snapshot, remote, cluster) {
                    group.judge_name(remote)
                } else if cluster.seen_by.contains_key(name) {
                    group.judge_gossip(remote)
                } else {
                    continue;
                };
                let entity =
                    Entity { cluster: Some(name.clone()), remote: Some(remote.clone()), ..Entity::default() };
                verdicts.push(Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome });
            }
        }
        verdicts
    }

    /// Nobody lists the wrong name any more; or nobody has a connection, and gossip cannot be told from a list.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(remote)) = (&entity.cluster, &entity.remote) else {
            return Outcome::Unknown;
        };
        match (snapshot.clusters.contains_key(cluster), snapshot.clusters.contains_key(remote)) {
            (false, _) => Outcome::Gone,
            (true, false) => Outcome::Healthy,
            (true, true) => Outcome::Unknown,
        }
    }
}

fn gateway(server: &Server) -> Option<&GatewayConfig> {
    server.varz.as_ref()?.gateway.as_ref()
}

/// The servers of one cluster that answered.
struct Group<'a> {
    snapshot: &'a Snapshot,
    name: &'a Name,
    /// With their blocks; none where the configuration of one that answered was not seen yet.
    members: Option<Vec<(&'a Server, &'a GatewayConfig)>>,
}

impl<'a> Group<'a> {
    fn of(snapshot: &'a Snapshot, name: &'a Name) -> Self {
        let answered = snapshot.servers_of(name).filter(|s| s.sight == Sight::Answered);
        let members = answered.map(|s| Some((s, gateway(s)?))).collect::<Option<Vec<_>>>();
        Self { snapshot, name, members: members.filter(|all| !all.is_empty()) }
    }

    /// Whether all that live answered: what the rest has configured is not known.
    fn is_whole(&self) -> bool {
        self.snapshot.servers_of(self.name).all(|s| s.sight == Sight::Answered || s.life == Life::Left)
    }

    fn judge_gossip(&self, remote: &Name) -> Outcome {
        let Some(members) = &self.members else { return Outcome::Unknown };
        if members.iter().any(|(_, g)| g.remotes.contains_key(remote)) {
            return Outcome::Healthy;
        }
        let gossip = members.iter().all(|(s, _)| {
            s.gatewayz.as_ref().and_then(|g| g.outbound.get(remote)).is_some_and(|o| !o.configured)
        });
        if !gossip {
            return Outcome::Unknown;
        }
        let (here, there) = (short(self.name), short(remote));
        let urls = told(self.snapshot, remote);
        let mut violation = self.violation(members, |config| {
            config.remotes.insert(remote.clone(), urls.clone().into());
        });
        violation.summary = format!("{here} reaches {there} by gossip only: none of its servers lists it");
        violation.cause = Cause::new(
            CauseKind::NotConfigured,
            Confidence::Certain,
            format!(
                "{} have a gateway to {there} that is not configured; they list {}",
                words(members.iter().map(|(s, _)| &s.info.name)),
                listed(members)
            ),
        );
        violation.impact = format!(
            "messages pass; servers of {here} that start while {there} cannot be reached, or cannot reach them, do \
             not look for it"
        );
        Outcome::Violated(Box::new(violation))
    }

    fn judge_name(&self, wrong: &Name) -> Outcome {
        let Some(members) = self.members.as_ref().filter(|_| self.is_whole()) else {
            return Outcome::Unknown;
        };
        if !members.iter().all(|(_, g)| g.remotes.contains_key(wrong)) {
            return Outcome::Healthy;
        }
        let lost = |l: &&crate::model::Link| l.cluster == *self.name && l.remote == *wrong;
        if self.snapshot.links.iter().filter(lost).any(|l| l.state != LinkState::Absent) {
            return Outcome::Unknown;
        }
        let urls: BTreeSet<&Name> =
            members.iter().filter_map(|(_, g)| g.remotes.get(wrong)).flatten().collect();
        let mut at_urls =
            self.snapshot.clusters.keys().filter(|c| *c != wrong && *c != self.name).filter_map(|c| {
                self.addresses(c).into_iter().find(|url| urls.contains(url)).map(|url| (c, url))
            });
        let (Some((right, url)), None) = (at_urls.next(), at_urls.next()) else { return Outcome::Healthy };
        let (here, shown, there) = (short(self.name), short(wrong), short(right));
        let mut violation = self.violation(members, |config| {
            let urls = config.remotes.remove(wrong).unwrap_or_default();
            config.remotes.entry(right.clone()).or_insert(urls);
        });
        violation.summary =
            format!("{here} lists {there} as {shown}: the servers at those URLs call themselves {there}");
        violation.cause = Cause::new(
            CauseKind::TlsOrNameRejected,
            Confidence::Likely,
            format!("no cluster {shown} was ever seen, and its URL {} is that of {there}", short(&url)),
        );
        violation.impact = format!(
            "{here} never connects to {shown}; what it has with {there}, if anything, is by gossip only, and each \
             attempt writes an error to the logs of both"
        );
        violation.evidence.insert("right_name".into(), json!(there));
        violation.evidence.insert("urls".into(), list(&urls));
        violation.essence = format!("{there} {}", violation.essence);
        violation.scope = Scope::Remotes([wrong.clone(), right.clone()].into());
        Outcome::Violated(Box::new(violation))
    }

    /// Where gateways of `cluster` are known to be: by their own word, and as other clusters list them.
    fn addresses(&self, cluster: &Name) -> BTreeSet<Name> {
        let mut all = told(self.snapshot, cluster);
        for server in self.snapshot.servers.values().filter(|s| s.cluster() != &**self.name) {
            let Some(config) = gateway(server) else { continue };
            all.extend(config.remotes.get(cluster).into_iter().flatten().cloned());
            if server.cluster() == &**cluster {
                all.extend(config.advertise.clone());
                let host = config.host.as_deref().filter(|host| !matches!(*host, "0.0.0.0" | "::"));
                all.extend(host.zip(config.port).map(|(host, port)| Name::from(address(host, port))));
            }
        }
        all
    }

    /// What both have in common: the block of each server as `mend` makes it.
    fn violation(
        &self,
        members: &[(&Server, &GatewayConfig)],
        mend: impl Fn(&mut GatewayConfig),
    ) -> Violation {
        let at = self.snapshot.at;
        let blocks: Vec<(String, String)> = members
            .iter()
            .take(BLOCKS_MAX)
            .map(|(server, config)| {
                let mut config = (*config).clone();
                mend(&mut config);
                (short(&server.info.name), block(&config))
            })
            .collect();
        let mut evidence = Map::new();
        evidence.insert("servers".into(), list(members.iter().map(|(s, _)| &s.info.name)));
        evidence.insert("listed".into(), json!(listed(members)));
        evidence.insert("expected_block".into(), json!(blocks.first().map(|(_, block)| block)));
        let mut remediation: Vec<Step> = blocks
            .iter()
            .map(|(name, block)| Step::by_hand(format!("make the gateway block of {name} this:\n{block}")))
            .collect();
        if members.len() > BLOCKS_MAX {
            remediation.push(Step::by_hand(format!("and the {} others alike", members.len() - BLOCKS_MAX)));
        }
        remediation.push(Step::by_hand(
            "restart them one at a time in lame duck mode: a reload refuses a change of the gateway block (`config \
             reload not supported for Gateway`)",
        ));
        Violation {
            since: at,
            ripe_at: at,
            summary: String::new(),
            cause: Cause::new(CauseKind::NotConfigured, Confidence::Certain, ""),
            impact: String::new(),
            essence: listed(members),
            evidence,
            remediation,
            server: None,
            scope: Scope::Entity,
        }
    }
}

/// The remotes that the servers list, in words.
fn listed(members: &[(&Server, &GatewayConfig)]) -> String {
    let all: BTreeSet<&Name> = members.iter().flat_map(|(_, g)| g.remotes.keys()).collect();
    if all.is_empty() { "none".to_owned() } else { words(all) }
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, World, secs};
    use super::*;

    const US: &[&str] = &["us-1", "us-2", "us-0"];
    const TWO: &[(&str, usize)] = &[("eu", 3), ("us", 3)];

    fn all(world: &mut World, servers: &[&str], change: fn(&mut GatewayConfig)) {
        for server in servers {
            world.reconfigure(server, |g| change(g.as_mut().expect("a block")));
            world.run(secs(3));
        }
        world.run(secs(30));
    }

    fn misspell(g: &mut GatewayConfig) {
        let urls = g.remotes.remove("eu").expect("it is listed");
        g.remotes.insert("ue".into(), urls);
    }

    fn spell(g: &mut GatewayConfig) {
        g.remotes.remove("ue");
        g.remotes.insert("eu".into(), ["eu.example:7222".into()].into());
    }

    #[test]
    fn a_cluster_that_lists_nobody_and_is_found_by_gossip_is_one_finding() {
        for vantage in ["eu-0", "us-0"] {
            let mut world = World::of(TWO, vantage, 1);
            all(&mut world, US, |g| g.remotes.clear());
            assert_eq!(world.open(), ["gateway_implicit us→eu not_configured"], "{:?}", world.story());
            let finding = world.ledger.open().next().expect("one is open");
            let block = finding.evidence["expected_block"].as_str().expect("a block");
            assert!(block.contains("{ name: \"eu\", urls: [\"nats://10.0.0.1:7222\"] }"), "{block}");
            all(&mut world, US, spell);
            assert_eq!(world.open(), [""; 0], "seen from {vantage}: {:?}", world.story());
            world.assert_in_order();
        }
    }

    #[test]
    fn a_seed_for_all_others_is_told_for_each_pair_and_can_be_switched_off() {
        let mut world = World::unwatched(&[("eu", 2), ("us", 2), ("ap", 2)], 1);
        for server in ["us-0", "us-1", "ap-0", "ap-1"] {
            world.reconfigure(server, |g| g.as_mut().expect("a block").remotes.retain(|r, _| **r == *"eu"));
            world.run(secs(3));
        }
        world.watch("eu-0");
        world.run(secs(20));
        assert_eq!(
            world.open(),
            ["gateway_implicit ap→us not_configured", "gateway_implicit us→ap not_configured"]
        );
        world.settings.get_mut("gateway_implicit").expect("it has settings").enabled = false;
        world.run(secs(5));
        assert_eq!(world.open(), [""; 0]);
    }

    #[test]
    fn one_server_that_lacks_a_remote_or_misspells_it_is_a_mismatch() {
        for change in [(|g| drop(g.remotes.remove("eu"))) as fn(&mut GatewayConfig), misspell] {
            for vantage in EVERYWHERE {
                let mut world = World::seen_from(vantage);
                all(&mut world, &["us-1"], change);
                assert_eq!(
                    world.story(),
                    ["opened gateway_config_mismatch us/us-1 unknown"],
                    "from {vantage}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_name_is_one_finding_that_tells_the_right_one() {
        for vantage in ["eu-0", "us-0"] {
            let mut world = World::of(&[("eu", 3), ("us", 3)], vantage, 1);
            all(&mut world, &["eu-1", "eu-2", "eu-0"], |g| {
                g.advertise = Some("eu.example:7222".into());
            });
            assert_eq!(world.open(), [""; 0]);
            all(&mut world, US, misspell);
            assert_eq!(
                world.open(),
                ["gateway_implicit us→ue tls_or_name_rejected"],
                "seen from {vantage}: {:?}",
                world.story()
            );
            let lost = world.story().iter().any(|line| line.contains("gateway_disconnected"));
            assert!(!lost, "the lost links are explained: {:?}", world.story());
            let finding = world.ledger.open().next().expect("one is open").clone();
            assert_eq!(finding.summary, "us lists eu as ue: the servers at those URLs call themselves eu");
            assert_eq!(finding.evidence["right_name"], "eu");
            let block = finding.evidence["expected_block"].as_str().expect("a block");
            assert!(block.contains("name: \"eu\", urls: [\"nats://eu.example:7222\"]"), "{block}");
            assert!(!block.contains("\"ue\""), "{block}");
            all(&mut world, US, spell);
            assert_eq!(world.open(), [""; 0], "seen from {vantage}: {:?}", world.story());
            world.assert_in_order();
        }
    }

    #[test]
    fn a_rolling_restart_and_a_lost_link_of_what_is_configured_make_no_finding() {
        let mut world = World::seen_from("eu-0");
        for server in world.names() {
            world.restart(&server);
            world.run(secs(2));
        }
        world.run(secs(20));
        assert_eq!(world.story(), [""; 0]);
        world.cut("us-1", "eu");
        world.run(secs(20));
        assert_eq!(world.story(), ["opened gateway_disconnected us/us-1→eu path_cut"]);
    }

    #[test]
    fn gossip_does_not_explain_a_link_that_was_lost() {
        let mut world = World::of(TWO, "eu-0", 1);
        all(&mut world, US, |g| g.remotes.clear());
        world.take_story();
        world.cut("us-1", "eu");
        world.run(secs(20));
        assert!(
            world.open().contains(&"gateway_disconnected us/us-1→eu path_cut".to_owned()),
            "{:?}",
            world.story()
        );
    }
}
