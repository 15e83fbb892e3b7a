//! Clients of an account sit in a cluster that leads none of its streams.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, json};

use super::verdict::{list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{Life, Name, Sight, Snapshot};

/// How many findings there can be at once: the accounts with most connections apart from their streams.
const FOUND_MAX: usize = 256;
/// How many streams get a command of their own.
const STREAMS_MAX: usize = 3;

pub(super) struct CrossClusterStreamAccess;

static MANUAL: Manual = Manual {
    slug: "cross_cluster_stream_access",
    code: "OPT_PLACE_001",
    severity: Severity::Info,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "connections_min",
            default: Value::Count(5),
            range: (Value::Count(1), Value::Count(1_000_000)),
            about: "connections of the account in the cluster from which on it is a finding",
        },
        Threshold {
            key: "share_min",
            default: Value::Ratio(0.10),
            range: (Value::Ratio(0.0), Value::Ratio(1.0)),
            about: "which part of all connections of the account they must be",
        },
    ],
    detects: "Clients of an account sit in a cluster that leads none of the account's streams.",
    matters: "A message is stored, and an acknowledgement given, by the leader of its stream, and consumers are \
              served from the cluster of the stream. From another cluster each publish and each fetch waits for \
              the way there and back, all of it crosses the gateways, and when these are lost the streams are out \
              of reach although the clients' own cluster is well.",
    decides: "Each server tells how many clients and leaf nodes of each account are connected to it (ACCOUNT \
              STATZ) and which streams it leads (JSZ). It is a finding when a cluster has `connections_min` \
              connections of an account with streams or more, these are `share_min` of all its connections or \
              more, and no stream of the account is led in that cluster, nor was when the servers told the time before, a \
              minute ago: while a leader is elected nobody leads. A mirror there is a stream that is led \
              there. Which of the clients use the streams the servers do not tell; `gateway_traffic_ratio` shows \
              what really crosses.",
    silent: "When a server that may well live did not answer, has not told its accounts yet, or has JetStream and \
             has not told its streams yet: the stream that is missed may be led there. For accounts without \
             streams.",
    todo: "Move the streams to the cluster where most of their clients are, by their placement: replicas are always \
           in one cluster, and stepping the leader down keeps it there. Where clients of both clusters only read, \
           give the other cluster a mirror. Where these clients do not use the streams, raise `connections_min` \
           for that cluster.",
};

impl Check for CrossClusterStreamAccess {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let complete = complete(snapshot);
        let mut verdicts: Vec<(u64, Verdict)> = Vec::new();
        for (account, streams) in &snapshot.streams() {
            let connections = snapshot.connections_of(account);
            for (cluster, apart) in connections.iter().filter(|(name, _)| !name.is_empty()) {
                let outcome = if complete {
                    judge(snapshot, settings, account, cluster, &connections, streams)
                } else {
                    Outcome::Unknown
                };
                let verdict = Verdict {
                    check: MANUAL.slug,
                    severity: MANUAL.severity,
                    entity: Entity {
                        cluster: Some(cluster.clone()),
                        account: Some((*account).clone()),
                        ..Entity::default()
                    },
                    outcome,
                };
                verdicts.push((*apart, verdict));
            }
        }
        let mut left = FOUND_MAX;
        verdicts.sort_by_key(|(apart, _)| std::cmp::Reverse(*apart));
        verdicts.retain(|(_, verdict)| {
            let found = matches!(verdict.outcome, Outcome::Violated(_));
            let kept = !found || left > 0;
            left -= usize::from(found && kept);
            kept
        });
        verdicts.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// The account has no streams any more, or no clients there.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let (Some(cluster), Some(account)) = (&entity.cluster, &entity.account) else {
            return Outcome::Unknown;
        };
        let left_out = snapshot.streams().contains_key(account)
            && snapshot.connections_of(account).contains_key(cluster);
        if left_out || !complete(snapshot) {
            return Outcome::Unknown;
        }
        if snapshot.clusters.contains_key(cluster) { Outcome::Healthy } else { Outcome::Gone }
    }
}

type Streams<'a> = BTreeMap<&'a str, (u64, BTreeSet<&'a Name>)>;

/// Whether every server that may live has told all.
fn complete(snapshot: &Snapshot) -> bool {
    let mut servers = snapshot.expected().filter(|server| server.life != Life::Gone);
    servers.all(|server| {
        server.sight == Sight::Answered
            && server.accountz.is_some()
            && (!server.info.jetstream || server.jsz.is_some())
    })
}

fn judge(
    snapshot: &Snapshot,
    settings: &Settings,
    account: &Name,
    cluster: &Name,
    connections: &BTreeMap<Name, u64>,
    streams: &Streams<'_>,
) -> Outcome {
    let apart = connections.get(cluster).copied().unwrap_or_default();
    let all: u64 = connections.values().fold(0, |sum, n| sum.saturating_add(*n));
    let share = apart as f64 / all.max(1) as f64;
    let few = apart < settings.count("connections_min", Some(cluster), None)
        || share < settings.ratio("share_min", Some(cluster), None);
    if few || streams.is_empty() || streams.contains_key(&**cluster) {
        return Outcome::Healthy;
    }
    let shown_name = snapshot.expected().find_map(|server| {
        server.accountz.as_ref()?.accounts.get(account)?.name.as_ref().map(|name| short(name))
    });
    let name = shown_name.clone().unwrap_or_else(|| short(account));
    let total: u64 = streams.values().map(|(total, _)| *total).fold(0, u64::saturating_add);
    let led = words(streams.keys());
    let (subject, verb) = if total == 1 { ("its stream", "is") } else { ("its streams", "are") };
    let place = short(cluster);
    let mut evidence = Map::new();
    evidence.insert("connections".into(), json!(apart));
    evidence.insert("connections_total".into(), json!(all));
    evidence.insert("share".into(), json!((share * 10_000.0).round() / 10_000.0));
    evidence.insert("streams_total".into(), json!(total));
    evidence.insert("streams".into(), list(streams.values().flat_map(|(_, names)| names)));
    evidence.insert("led_in".into(), list(streams.keys()));
    evidence.insert("account_name".into(), json!(shown_name));
    Outcome::Violated(Box::new(Violation {
        since: snapshot.at,
        ripe_at: snapshot.at,
        summary: format!(
            "{apart} of the {all} connections of {name} are in {place}, and {subject} {verb} led in {led}"
        ),
        cause: Cause::new(
            CauseKind::Unknown,
            Confidence::Possible,
            format!("{total} led in {led}, none in {place}, as all servers tell"),
        ),
        impact: format!(
            "what clients in {place} publish to and read from {subject} waits for the way to {led} and crosses \
             the gateways"
        ),
        evidence,
        remediation: steps(snapshot, cluster, share, streams),
        essence: led,
        server: None,
        scope: Scope::Entity,
    }))
}

fn steps(snapshot: &Snapshot, cluster: &Name, share: f64, streams: &Streams<'_>) -> Vec<Step> {
    let place = short(cluster);
    if !snapshot.servers_of(cluster).any(|server| server.info.jetstream) {
        return vec![Step::by_hand(format!(
            "connect these clients to a cluster with the streams: no server of {place} has JetStream, so none can \
             be moved there"
        ))];
    }
    let names = streams.values().flat_map(|(_, names)| names).take(STREAMS_MAX);
    if share > 0.5 {
        let moves = names.map(|stream| {
            let action =
                format!("move the stream {}, if most of its clients are in {place}, there", short(stream));
            edit(action, stream, cluster)
        });
        return moves.collect();
    }
    vec![Step::by_hand(format!(
        "where clients in {place} only read, give them a mirror of the stream that is placed there; where they \
         publish, a stream of their own there, which the other cluster sources; else connect them to {}",
        words(streams.keys())
    ))]
}

/// Changes a stream's placement, which moves it; where a shell takes the names as they are.
fn edit(action: String, stream: &str, cluster: &str) -> Step {
    let plain = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) && !name.starts_with('-')
    };
    if plain(stream) && plain(cluster) {
        Step::run(action, format!("nats stream edit {stream} --cluster {cluster}"))
    } else {
        Step::by_hand(action)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::super::Value as Setting;
    use super::super::example::{World, secs};
    use super::*;
    use crate::findings::Finding;
    use crate::model::{Jsz, Led};

    fn connect(world: &mut World, server: &str, connections: u64) {
        let accounts = &mut world.accountz.entry(server.into()).or_default().accounts;
        accounts.entry("APP".into()).or_default().connections = connections;
    }

    fn lead(world: &mut World, server: &str, streams: &[&str]) {
        let names: BTreeSet<Name> = streams.iter().map(|s| Name::from(*s)).collect();
        let led = Led { total: names.len() as u64, names };
        let leads = if streams.is_empty() { BTreeMap::new() } else { [("APP".into(), led)].into() };
        world.jsz.insert(server.into(), Jsz { leads });
    }

    /// Every server has `JetStream`; `ORDERS` is led by eu-1; so many clients are in eu and in us.
    fn world(eu: u64, us: u64) -> World {
        let mut world = World::seen_from("eu-0");
        for name in world.names() {
            lead(&mut world, &name, &[]);
        }
        lead(&mut world, "eu-1", &["ORDERS"]);
        connect(&mut world, "eu-2", eu);
        connect(&mut world, "us-0", us / 2);
        connect(&mut world, "us-2", us - us / 2);
        world.run(secs(15));
        world
    }

    fn found(world: &World) -> Finding {
        world.ledger.open().find(|f| &*f.check == MANUAL.slug).expect("it is open").clone()
    }

    const OPENED: &str = "opened cross_cluster_stream_access us@APP unknown";
    const RESOLVED: &str = "resolved cross_cluster_stream_access us@APP";

    #[test]
    fn clients_apart_from_all_streams_are_found_and_it_is_over_when_a_stream_comes_to_them() {
        let mut world = world(4, 6);
        assert_eq!(world.take_story(), [OPENED]);
        let finding = found(&world);
        assert_eq!(finding.summary, "6 of the 10 connections of APP are in us, and its stream is led in eu");
        assert_eq!((&finding.evidence["connections"], &finding.evidence["share"]), (&json!(6), &json!(0.6)));
        assert_eq!(finding.evidence["streams"], json!(["ORDERS"]));
        assert_eq!(finding.remediation[0].run.as_deref(), Some("nats stream edit ORDERS --cluster us"));
        // It is moved: now the clients in eu are apart, and there are four of them.
        lead(&mut world, "eu-1", &[]);
        lead(&mut world, "us-1", &["ORDERS"]);
        world.run(secs(15));
        assert_eq!(world.take_story(), [RESOLVED]);
    }

    #[test]
    fn just_below_each_threshold_it_is_silent_and_just_above_it_speaks() {
        for (eu, us, spoken) in [(10, 4, false), (10, 5, true), (46, 5, false), (45, 5, true)] {
            let story = world(eu, us).story();
            assert_eq!(story, if spoken { vec![OPENED] } else { vec![] }, "{us} beside {eu}");
        }
    }

    #[test]
    fn the_thresholds_can_be_set() {
        let mut world = world(10, 4);
        let settings = world.settings.get_mut(MANUAL.slug).expect("it is in the registry");
        settings.values.insert("connections_min", Setting::Count(4));
        settings.values.insert("share_min", Setting::Ratio(0.3));
        world.run(secs(15));
        assert_eq!(world.take_story(), [""; 0]);
        connect(&mut world, "eu-2", 5);
        world.run(secs(15));
        assert_eq!(world.take_story(), [OPENED]);
    }

    #[test]
    fn a_mirror_in_their_cluster_is_enough_and_leaf_nodes_count() {
        let mut world = world(4, 0);
        let accounts = &mut world.accountz.entry("us-1".into()).or_default().accounts;
        accounts.entry("APP".into()).or_default().leafnodes = 6;
        world.run(secs(15));
        assert_eq!(world.take_story(), [OPENED]);
        lead(&mut world, "us-2", &["ORDERS-us"]);
        world.run(secs(15));
        assert_eq!(world.take_story(), [RESOLVED]);
    }

    #[test]
    fn an_election_opens_and_resolves_nothing() {
        let mut world = world(6, 6);
        lead(&mut world, "us-1", &["BACKUP"]);
        world.run(secs(15));
        world.take_story();
        for server in ["us-1", "eu-1"] {
            let streams = world.jsz[server].clone();
            lead(&mut world, server, &[]);
            world.run(secs(10));
            world.jsz.insert(server.into(), streams);
            world.run(secs(30));
        }
        assert_eq!(world.story(), [""; 0]);
        lead(&mut world, "us-1", &[]);
        world.run(secs(25));
        assert_eq!(world.story(), [OPENED], "and what stays away does");
    }

    #[test]
    fn a_leader_that_ends_leaves_its_streams_where_they_are() {
        for end in [|w: &mut World| w.shut_down("eu-1"), |w: &mut World| w.kill("eu-1")] {
            let mut world = world(6, 6);
            lead(&mut world, "us-1", &["BACKUP"]);
            world.run(secs(15));
            world.take_story();
            end(&mut world);
            world.run(secs(60));
            lead(&mut world, "eu-0", &["ORDERS"]);
            world.run(secs(240));
            let story = world.take_story();
            assert!(!story.iter().any(|line| line.contains(MANUAL.slug)), "{story:?}");
        }
    }

    #[test]
    fn the_stream_may_be_led_by_who_has_not_told_or_cannot_be_asked() {
        for hide in [|w: &mut World| w.cut("us-1", "eu"), |w: &mut World| w.stop("us-1")] {
            let mut world = World::seen_from("eu-0");
            for name in world.names() {
                lead(&mut world, &name, &[]);
            }
            hide(&mut world);
            world.run(secs(20));
            lead(&mut world, "eu-1", &["ORDERS"]);
            connect(&mut world, "us-0", 50);
            world.run(secs(60));
            let story = world.take_story();
            assert!(!story.iter().any(|line| line.contains(MANUAL.slug)), "{story:?}");
        }
    }

    #[test]
    fn what_is_open_stays_open_while_somebody_cannot_be_asked() {
        let mut world = world(4, 6);
        assert_eq!(world.take_story(), [OPENED]);
        world.cut("ap-1", "eu");
        lead(&mut world, "eu-1", &[]);
        world.run(secs(30));
        let story = world.take_story();
        assert!(!story.iter().any(|line| line.contains(MANUAL.slug)), "{story:?}");
        world.heal();
        world.run(secs(30));
        assert!(world.take_story().contains(&RESOLVED.to_owned()), "its streams are no more");
    }

    #[test]
    fn an_account_without_streams_and_a_lone_server_without_jetstream_are_no_finding() {
        let mut world = World::seen_from("eu-0");
        connect(&mut world, "us-0", 50);
        world.run(secs(20));
        assert_eq!(world.take_story(), [""; 0]);
        lead(&mut world, "eu-1", &["ORDERS"]);
        world.run(secs(20));
        assert_eq!(world.take_story(), [OPENED]);
        let step = &found(&world).remediation[0];
        assert!(step.action.contains("no server of us has JetStream") && step.run.is_none(), "{step:?}");
    }

    #[test]
    fn a_name_that_a_shell_would_read_makes_no_command() {
        assert!(edit(String::new(), "ORDERS", "us-east").run.is_some());
        for name in ["$(x)", "a b", "a;b", "-f", "a'b", "a\nb"] {
            assert_eq!(edit(String::new(), name, "us").run, None, "{name:?}");
            assert_eq!(edit(String::new(), "ORDERS", name).run, None, "{name:?}");
        }
    }

    #[test]
    fn there_is_an_end_to_how_many_are_told_of() {
        let mut world = world(4, 6);
        let many = |n: u64| (Name::from(format!("A{n:04}")), n);
        let accounts = &mut world.accountz.entry("us-0".into()).or_default().accounts;
        for (name, n) in (0..400).map(many) {
            accounts.entry(name).or_default().connections = 10 + n;
        }
        let one = || Led { total: 1, names: BTreeSet::from(["S".into()]) };
        let leads = (0..400).map(|n| (many(n).0, one())).collect();
        world.jsz.insert("eu-2".into(), Jsz { leads });
        world.run(secs(15));
        let settings = &world.settings[MANUAL.slug];
        let verdicts = CrossClusterStreamAccess.evaluate(world.view(), settings, &Watched::everything());
        let found: Vec<Json> = verdicts
            .iter()
            .filter(|v| matches!(v.outcome, Outcome::Violated(_)))
            .map(|v| json!(v.entity.account))
            .collect();
        assert_eq!((found.len(), &found[0]), (FOUND_MAX, &json!("A0399")));
        let entity =
            Entity { cluster: Some("us".into()), account: Some("A0001".into()), ..Entity::default() };
        let left_out = CrossClusterStreamAccess.forgotten(world.view(), &entity);
        assert_eq!(left_out, Outcome::Unknown, "who is left out is not well");
    }
}
