//! Accounts in optimistic mode towards a remote.

use serde_json::{Map, json};

use super::verdict::{list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Verdict,
    Violation, Watched,
};
use crate::model::{InterestModes, Life, Name, Server, Snapshot};

pub(super) struct GatewayInterestMode;

static MANUAL: Manual = Manual {
    slug: "gateway_interest_mode",
    code: "OPT_PLACE_004",
    severity: Severity::Info,
    open_after: 1,
    resolve_after: 1,
    thresholds: &[],
    detects: "Accounts are in optimistic mode towards a remote cluster.",
    matters: "In this mode a server sends every message of the account to the remote cluster until it is told, \
              subject by subject, that nobody there wants it: traffic that crosses for nothing. Every version since \
              2.9 ends the mode within 50 ms of a connection, for all accounts.",
    decides: "GATEWAYZ with accounts, of every server, at the agent's start and every five minutes, for the answer \
              is long where accounts are many. One finding for each gateway: with the account where it is one, \
              with their number and the first names where they are more.",
    silent: "For accounts in `Transitioning` and `Interest-Only` mode. When a server has not answered this question.",
    todo: "Look at the version of the servers in the remote cluster: one of before 2.9 answers without interest-only \
           mode. Upgrade it. Where all are newer, the gateway's connection is stuck in its start: a restart of the \
           server makes it anew.",
};

impl Check for GatewayInterestMode {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, _settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for server in snapshot.servers.values().filter(|s| !matches!(s.life, Life::Left | Life::Gone)) {
            let remotes = server.interest.iter().flat_map(|interest| &interest.remotes);
            // A gateway that is gone has no mode; the next one is asked in its turn.
            let listed =
                |remote: &Name| server.gatewayz.as_ref().is_none_or(|g| g.outbound.contains_key(remote));
            verdicts.extend(
                remotes
                    .filter(|(remote, modes)| modes.optimistic_total > 0 && listed(remote))
                    .map(|(remote, modes)| verdict(snapshot, server, remote, modes)),
            );
        }
        verdicts
    }

    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let cluster = entity.cluster.as_deref().unwrap_or_default();
        let mut servers = snapshot
            .servers_of(cluster)
            .filter(|s| Some(&s.info.name) == entity.server.as_ref() && s.life != Life::Left)
            .peekable();
        if servers.peek().is_none() {
            return Outcome::Gone;
        }
        if servers.any(|s| s.interest.is_some()) { Outcome::Healthy } else { Outcome::Unknown }
    }
}

fn verdict(snapshot: &Snapshot, server: &Server, remote: &Name, modes: &InterestModes) -> Verdict {
    let (name, cluster, to) = (short(&server.info.name), short(server.cluster()), short(remote));
    let only = modes.optimistic.first().filter(|_| modes.optimistic_total == 1);
    let who = only.map_or_else(
        || format!("{} of {} accounts are", modes.optimistic_total, modes.accounts),
        |account| format!("account {} is", short(account)),
    );
    let old: Vec<String> = snapshot
        .servers_of(remote)
        .filter(|s| !s.info.ver.is_empty() && crate::model::version(&s.info.ver) < (2, 9, 0))
        .map(|s| format!("{} {}", s.info.name, s.info.ver))
        .collect();
    let (confidence, detail) = if old.is_empty() {
        (
            Confidence::Possible,
            format!("GATEWAYZ of {name} tells it; no server older than 2.9 is seen in {to}"),
        )
    } else {
        (Confidence::Likely, format!("older than 2.9: {}", words(&old)))
    };
    let mut evidence = Map::new();
    evidence.insert("accounts_optimistic".into(), json!(modes.optimistic_total));
    evidence.insert("accounts_total".into(), json!(modes.accounts));
    evidence.insert("accounts".into(), list(&modes.optimistic));
    evidence.insert("remote_servers_before_2_9".into(), list(&old));
    let violation = Violation {
        since: snapshot.at,
        ripe_at: snapshot.at,
        summary: format!("{who} in optimistic mode from {name} ({cluster}) to {to}"),
        cause: Cause::new(CauseKind::Unknown, confidence, detail),
        impact: format!("messages that nobody in {to} wants cross the gateway"),
        essence: format!("{} {:?}", modes.optimistic_total, modes.optimistic.first()),
        evidence,
        remediation: vec![
            Step::by_hand(format!(
                "see whether the servers of {to} are all of 2.9 or newer, and upgrade those that are not"
            )),
            Step::by_hand(format!(
                "where they are, restart {name} (lame duck first): its gateway to {to} is made anew"
            )),
        ],
        server: Some(server.info.clone()),
        scope: Scope::Entity,
    };
    Verdict {
        check: MANUAL.slug,
        severity: MANUAL.severity,
        entity: Entity {
            cluster: server.info.cluster.clone(),
            server: Some(server.info.name.clone()),
            server_id: Some(server.info.id.clone()),
            remote: Some(remote.clone()),
            ..Entity::default()
        },
        outcome: Outcome::Violated(Box::new(violation)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::example::World;
    use super::*;
    use crate::model::Interest;

    /// `us-1` tells this of its accounts towards `eu`.
    fn verdicts(world: &World, optimistic: &[&str], total: u64) -> Vec<Verdict> {
        let mut snapshot = world.view().clone();
        let modes = InterestModes {
            accounts: 500,
            optimistic: optimistic.iter().map(|name| Name::from(*name)).collect(),
            optimistic_total: total,
        };
        let server = snapshot.servers.get_mut(&world.id("us-1")).unwrap();
        server.interest = Some(Arc::new(Interest { remotes: [("eu".into(), modes)].into() }));
        GatewayInterestMode.evaluate(&snapshot, &world.settings[MANUAL.slug], &Watched::everything())
    }

    fn violation(verdicts: &[Verdict]) -> &Violation {
        match verdicts {
            [Verdict { outcome: Outcome::Violated(violation), .. }] => violation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_account_is_named_and_many_are_counted_in_one_finding() {
        let world = World::seen_from("eu-0");
        let one = verdicts(&world, &["APP"], 1);
        assert_eq!(violation(&one).summary, "account APP is in optimistic mode from us-1 (us) to eu");
        let names: Vec<String> = (0..256).map(|n| format!("A{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = verdicts(&world, &names, 400);
        assert!(one[0].entity.is(&many[0].entity), "the same gateway is the same finding");
        let many = violation(&many);
        assert_eq!(many.summary, "400 of 500 accounts are in optimistic mode from us-1 (us) to eu");
        assert_eq!(many.evidence["accounts"].as_array().map(Vec::len), Some(33), "bounded");
        assert_eq!(many.evidence["accounts_optimistic"], 400);
    }

    #[test]
    fn interest_only_mode_is_well_and_resolves_and_what_is_not_told_does_not() {
        let mut world = World::seen_from("eu-0");
        assert_eq!(verdicts(&world, &[], 0), []);
        let entity = verdicts(&world, &["APP"], 1).remove(0).entity;
        let mut snapshot = world.view().clone();
        assert_eq!(GatewayInterestMode.forgotten(&snapshot, &entity), Outcome::Unknown, "nobody told");
        let id = world.id("us-1");
        snapshot.servers.get_mut(&id).unwrap().interest = Some(Arc::default());
        assert_eq!(GatewayInterestMode.forgotten(&snapshot, &entity), Outcome::Healthy);
        world.shut_down("us-1");
        world.run(super::super::example::secs(3));
        assert_eq!(GatewayInterestMode.forgotten(world.view(), &entity), Outcome::Gone);
    }

    #[test]
    fn a_remote_of_before_2_9_is_the_likely_cause() {
        let world = World::seen_from("eu-0");
        let mut snapshot = world.view().clone();
        snapshot.servers.get_mut(&world.id("eu-2")).unwrap().info.ver = "2.8.4".into();
        let modes = InterestModes { accounts: 1, optimistic: ["APP".into()].into(), optimistic_total: 1 };
        let server = snapshot.servers.get_mut(&world.id("us-1")).unwrap();
        server.interest = Some(Arc::new(Interest { remotes: [("eu".into(), modes)].into() }));
        let found =
            GatewayInterestMode.evaluate(&snapshot, &world.settings[MANUAL.slug], &Watched::everything());
        let cause = &violation(&found).cause;
        assert_eq!((cause.confidence, &*cause.detail), (Confidence::Likely, "older than 2.9: eu-2 2.8.4"));
    }
}
