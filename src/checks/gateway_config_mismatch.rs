//! A server's gateway block differs from that of its cluster's majority.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::block::{block, told};
use super::verdict::{ask_gateways, list, short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{GatewayConfig, Life, Name, Server, Sight, Snapshot, Urls};

pub(super) struct GatewayConfigMismatch;

static MANUAL: Manual = Manual {
    slug: "gateway_config_mismatch",
    code: "CLUSTER_008",
    severity: Severity::Warning,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[Threshold {
        key: "unseen_for",
        default: Value::Duration(Duration::from_secs(4)),
        range: (Value::Duration(Duration::from_secs(2)), Value::Duration(Duration::from_secs(3600))),
        about: "how long a server that only its peers' routes name may take to show a gateway",
    }],
    detects: "A server's gateway block differs from that of its cluster's majority, or a cluster lacks a remote \
              that the other clusters have.",
    matters: "Gossip hides such a difference: a server learns a missing remote from its peers and connects to it \
              all the same, until those peers are gone, and then it stands alone. A server without a gateway block \
              cannot send to another cluster at all, and its clients get no error.",
    decides: "Compares what VARZ tells of the configuration, inside each cluster: whether there is a gateway block, \
              the names of the remotes, TLS, `reject_unknown`, `connect_retries`, `advertise`, and the port where \
              most servers share one. What more than half of the servers have is right. With no majority, as in a \
              cluster of two, the rest of the supercluster decides: a remote that exists ought to be listed. A \
              server that its peers have routes to, and that no other cluster has ever seen a gateway of, is found \
              from outside too. Not compared, since the servers do not tell: which URLs are configured (VARZ mixes \
              them with those discovered), passwords, the write deadline.",
    silent: "For different URLs of the same remote. For ports that differ on every server. For a server whose \
             configuration was not seen since its start.",
    todo: "Put the block under `expected_block` into that server's configuration, with the credentials and \
           certificates that its peers have, and restart it, lame duck first: a reload refuses every change of the \
           gateway block.",
};

impl Check for GatewayConfigMismatch {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let everywhere: BTreeMap<&'static str, Tally> =
            KEYS.iter().map(|(key, value)| (*key, Tally::of(*value, snapshot.servers.values()))).collect();
        for (name, cluster) in &snapshot.clusters {
            if cluster.servers.is_empty() {
                continue;
            }
            let group = Group::of(snapshot, name, &everywhere);
            let unseen_for = settings.duration("unseen_for", Some(name), None);
            for server in snapshot.servers_of(name) {
                let entity = Entity {
                    cluster: Some(name.clone()),
                    server: Some(server.info.name.clone()),
                    server_id: Some(server.info.id.clone()),
                    ..Entity::default()
                };
                verdicts.push(verdict(entity, group.judge(server, unseen_for)));
            }
            let entity = Entity { cluster: Some(name.clone()), ..Entity::default() };
            verdicts.push(verdict(entity, group.judge_whole()));
        }
        verdicts
    }
}

fn verdict(entity: Entity, outcome: Outcome) -> Verdict {
    Verdict { check: MANUAL.slug, severity: MANUAL.severity, entity, outcome }
}

/// One value that differs.
#[derive(Clone, Debug)]
struct Difference {
    key: &'static str,
    majority: Json,
    server: Json,
}

/// The servers of one cluster whose configuration was seen.
struct Group<'a> {
    snapshot: &'a Snapshot,
    name: &'a Name,
    members: Vec<&'a Server>,
    usual_remotes: Usual<'a>,
    /// What all servers have, by key.
    everywhere: &'a BTreeMap<&'static str, Tally>,
}

/// The remotes that each server of a cluster ought to list.
#[derive(Default)]
struct Usual<'a> {
    names: BTreeSet<&'a Name>,
    /// Whether a majority of the cluster decides each.
    voted: bool,
}

/// Reads one value of a gateway block.
type Read = fn(&GatewayConfig) -> Json;

/// The simple values that are compared.
const KEYS: &[(&str, Read)] = &[
    ("tls_required", |g| json!(g.tls_required)),
    ("tls_verify", |g| json!(g.tls_verify)),
    ("reject_unknown", |g| json!(g.reject_unknown)),
    ("connect_retries", |g| json!(g.connect_retries)),
    ("advertise", |g| json!(g.advertise.is_some())),
];

/// How many living servers have which value.
#[derive(Default)]
struct Tally(Vec<(Json, usize)>);

impl Tally {
    fn of<'a>(value: Read, servers: impl Iterator<Item = &'a Server>) -> Self {
        let mut tally = Self::default();
        for value in servers.filter(|s| s.life == Life::Alive).filter_map(gateway).map(value) {
            match tally.0.iter_mut().find(|(known, _)| *known == value) {
                Some((_, count)) => *count += 1,
                None => tally.0.push((value, 1)),
            }
        }
        tally
    }

    fn count(&self, value: &Json) -> usize {
        self.0.iter().find(|(known, _)| known == value).map_or(0, |(_, count)| *count)
    }

    /// What more than half have, those of `part` left out.
    fn majority_without(&self, part: &Self) -> Option<&Json> {
        let rest = |(value, count): &(Json, usize)| count.saturating_sub(part.count(value));
        let all: usize = self.0.iter().map(rest).sum();
        self.0.iter().find(|entry| rest(entry) * 2 > all).map(|(value, _)| value)
    }
}

/// What more than half of `values` are.
fn majority<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().find(|v| values.iter().filter(|w| w == v).count() * 2 > values.len())
}

fn gateway(server: &Server) -> Option<&GatewayConfig> {
    server.varz.as_ref()?.gateway.as_ref()
}

impl<'a> Group<'a> {
    fn of(snapshot: &'a Snapshot, name: &'a Name, everywhere: &'a BTreeMap<&'static str, Tally>) -> Self {
        let members = snapshot
            .servers_of(name)
            .filter(|s| matches!(s.life, Life::Alive | Life::Unknown) && s.varz.is_some())
            .collect();
        let mut group = Self { snapshot, name, members, usual_remotes: Usual::default(), everywhere };
        group.usual_remotes = group.vote_on_remotes();
        group
    }

    fn vote_on_remotes(&self) -> Usual<'a> {
        let lists: Vec<&GatewayConfig> = self.with_gateway().filter_map(gateway).collect();
        let Some((first, rest)) = lists.split_first() else { return Usual::default() };
        if rest.iter().all(|other| other.remotes.keys().eq(first.remotes.keys())) {
            return Usual { names: first.remotes.keys().collect(), voted: true };
        }
        let mut usual = Usual { names: BTreeSet::new(), voted: true };
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for remote in lists.iter().flat_map(|g| g.remotes.keys()) {
            *votes.entry(remote).or_default() += 1;
        }
        for (remote, votes) in votes {
            let ought = match (votes * 2).cmp(&lists.len()) {
                Ordering::Greater => true,
                Ordering::Less => false,
                Ordering::Equal => {
                    usual.voted = false;
                    self.exists(remote)
                }
            };
            if ought {
                usual.names.insert(remote);
            }
        }
        usual
    }

    fn with_gateway(&self) -> impl Iterator<Item = &'a Server> {
        self.members.iter().copied().filter(|s| gateway(s).is_some())
    }

    fn judge(&self, server: &Server, unseen_for: Duration) -> Outcome {
        match server.life {
            Life::Left => return Outcome::Gone,
            Life::Gone => return Outcome::Unknown,
            Life::Alive | Life::Unknown => {}
        }
        if server.varz.is_none() {
            return self.judge_unseen(server, unseen_for);
        }
        if self.members.len() < 2 {
            return Outcome::Healthy;
        }
        let mut differs = Vec::new();
        let mut remotes = BTreeSet::new();
        let mut all_links = false;
        match gateway(server) {
            None => {
                // Where no server has a block this is no supercluster, and nothing to put right.
                if self.with_gateway().next().is_some() {
                    let majority =
                        majority(&self.members.iter().map(|s| gateway(s).is_some()).collect::<Vec<_>>())
                            .map(|_| "present");
                    if self.with_gateway().count() * 2 >= self.members.len() {
                        differs.push(Difference {
                            key: "gateway",
                            majority: json!(majority),
                            server: json!("absent"),
                        });
                        all_links = true;
                    }
                }
            }
            Some(own) => {
                self.compare_remotes(own, &mut differs, &mut remotes);
                for (key, value) in KEYS {
                    if let Some(usual) = self.differs((key, *value), &value(own)) {
                        all_links |= key.starts_with("tls");
                        differs.push(Difference { key, majority: usual, server: value(own) });
                    }
                }
                self.compare_port(own, &mut differs);
                if self.with_gateway().count() * 2 < self.members.len() {
                    differs.push(Difference {
                        key: "gateway",
                        majority: json!("absent"),
                        server: json!("present"),
                    });
                }
            }
        }
        if differs.is_empty() {
            return Outcome::Healthy;
        }
        let scope = if all_links { Scope::AllLinks } else { Scope::Remotes(remotes) };
        Outcome::Violated(Box::new(self.mismatch(server, &differs, scope)))
    }

    /// The value that `own` differs from; null where the rest of the supercluster decided.
    fn differs(&self, (key, value): (&'static str, Read), own: &Json) -> Option<Json> {
        let values: Vec<Json> = self.with_gateway().filter_map(gateway).map(value).collect();
        if let Some(usual) = majority(&values) {
            return (usual != own).then(|| usual.clone());
        }
        let own_cluster = Tally::of(value, self.snapshot.servers_of(self.name));
        let elsewhere = self.everywhere.get(key).and_then(|all| all.majority_without(&own_cluster));
        // With no majority anywhere the cluster's own finding names both sides.
        elsewhere.filter(|usual| *usual != own).map(|_| Json::Null)
    }

    fn compare_remotes(&self, own: &GatewayConfig, differs: &mut Vec<Difference>, lost: &mut BTreeSet<Name>) {
        let usual = &self.usual_remotes;
        if own.remotes.keys().eq(usual.names.iter().copied()) {
            return;
        }
        let listed: BTreeSet<&Name> = own.remotes.keys().collect();
        lost.extend(usual.names.symmetric_difference(&listed).map(|name| (*name).clone()));
        differs.push(Difference {
            key: "remotes",
            majority: if usual.voted { list(usual.names.iter().copied()) } else { Json::Null },
            server: list(own.remotes.keys()),
        });
    }

    /// Softly: only where most servers share one port.
    fn compare_port(&self, own: &GatewayConfig, differs: &mut Vec<Difference>) {
        let ports: Vec<Option<u16>> = self.with_gateway().filter_map(gateway).map(|g| g.port).collect();
        if let (Some(Some(usual)), Some(port)) = (majority(&ports), own.port)
            && *usual != port
        {
            differs.push(Difference { key: "port", majority: json!(usual), server: json!(port) });
        }
    }

    fn exists(&self, cluster: &Name) -> bool {
        self.snapshot.clusters.get(cluster).is_some_and(|c| !c.servers.is_empty() || !c.seen_by.is_empty())
    }

    /// A server whose configuration cannot be asked for: peers have routes to it, and nobody saw a gateway of
    /// it since it started.
    fn judge_unseen(&self, server: &Server, unseen_for: Duration) -> Outcome {
        // A peer of our own answers over its routes, with a gateway or without: that one is silent for another
        // reason.
        let own = self.snapshot.vantage.cluster.as_ref() == Some(self.name);
        if own || server.sight != Sight::Named || server.life != Life::Alive {
            return Outcome::Unknown;
        }
        let id = &server.info.id;
        // Who did not answer may have one with it.
        let all_told = self
            .snapshot
            .servers
            .values()
            .filter(|s| s.cluster() != &**self.name && s.may_run())
            .all(|s| s.gatewayz.is_some());
        let rejected = self.snapshot.links_of(id).any(|l| l.rejected.is_some());
        let named_by_peers = self
            .snapshot
            .servers_of(self.name)
            .any(|peer| peer.routez.as_ref().is_some_and(|r| r.peers.contains_key(id)));
        // A cluster that has a server of that name refuses it whatever its block is.
        let doubled = self.snapshot.servers.values().any(|s| {
            s.info.name == server.info.name && s.info.cluster != server.info.cluster && s.life == Life::Alive
        });
        if !all_told || rejected || doubled || !named_by_peers || server.info.name == *id {
            return Outcome::Unknown;
        }
        let seen = self.snapshot.servers.values().filter_map(|s| s.gatewayz.as_ref()).any(|g| {
            g.outbound.peers().any(|(_, peer)| peer == id) || g.inbound.peers().any(|(_, peer)| peer == id)
        });
        if seen {
            return Outcome::Unknown;
        }
        let differs = [Difference {
            key: "gateway",
            majority: json!("present"),
            server: json!("absent, or accepted by nobody"),
        }];
        let mut violation = self.mismatch(server, &differs, Scope::AllLinks);
        violation.since = server.first_seen_at;
        violation.ripe_at = server.first_seen_at.plus(unseen_for);
        violation.summary = format!(
            "{} ({}) has no gateway that another cluster sees; its peers have routes to it",
            short(&server.info.name),
            short(self.name)
        );
        violation.cause = Cause::new(
            CauseKind::NotConfigured,
            Confidence::Possible,
            format!(
                "routes lead to it from {}, and since {} no server of any cluster has a gateway connection with it: no \
                 gateway block, one that nobody accepts, or a process that hangs",
                words(&server.named_by),
                server.first_seen_at.to_the_second()
            ),
        );
        Outcome::Violated(Box::new(violation))
    }

    /// The whole cluster lacks a remote that the others have, or is split in halves that nothing outside can
    /// decide between.
    fn judge_whole(&self) -> Outcome {
        let lists: Vec<&GatewayConfig> = self.with_gateway().filter_map(gateway).collect();
        // What only lives said that may be over tells nothing of the cluster now.
        if !self.with_gateway().any(|s| s.life == Life::Alive) {
            return Outcome::Unknown;
        }
        let lacks: BTreeSet<Name> = self
            .snapshot
            .clusters
            .keys()
            .filter(|remote| **remote != *self.name && self.exists(remote))
            .filter(|remote| lists.iter().all(|g| !g.remotes.contains_key(*remote)))
            .filter(|remote| self.others_list(remote))
            .cloned()
            .collect();
        let halves = self.halves(&lists);
        if lacks.is_empty() && halves.is_empty() {
            return Outcome::Healthy;
        }
        let mut differs = halves;
        if !lacks.is_empty() {
            let own: BTreeSet<&Name> = lists.iter().flat_map(|g| g.remotes.keys()).collect();
            let ought: BTreeSet<&Name> = own.iter().copied().chain(&lacks).collect();
            differs.push(Difference { key: "remotes", majority: list(ought), server: list(own) });
        }
        let Some(first) = self.with_gateway().next() else { return Outcome::Unknown };
        // A name that exists nowhere, in the place of one that is lacking, is that one misspelt.
        let ghosts =
            lists.iter().flat_map(|g| g.remotes.keys()).filter(|r| !lacks.is_empty() && !self.exists(r));
        let reach = lacks.iter().chain(ghosts).cloned().collect();
        let mut violation = self.mismatch(first, &differs, Scope::Remotes(reach));
        violation.server = None;
        let name = short(self.name);
        if lacks.is_empty() {
            violation.summary = format!(
                "the servers of {name} differ in {}, and nothing outside tells who is right",
                words(differs.iter().map(|d| d.key))
            );
        } else {
            violation.summary = format!(
                "no server of {name} lists {}, which the other clusters have and which lists {name}",
                words(&lacks)
            );
            violation.impact = if lists.iter().any(|g| g.reject_unknown) {
                format!("{name} rejects unknown clusters: nothing passes between it and {}", words(&lacks))
            } else {
                format!(
                    "{name} reaches {} by gossip only: it cannot start the connection by itself",
                    words(&lacks)
                )
            };
        }
        Outcome::Violated(Box::new(violation))
    }

    /// Whether `remote` lists this cluster, and every third cluster lists `remote`, of which there is one.
    fn others_list(&self, remote: &Name) -> bool {
        let lists = |cluster: &str, wanted: &Name| {
            let of: Vec<bool> = self
                .snapshot
                .servers_of(cluster)
                .filter(|s| s.life == Life::Alive)
                .filter_map(gateway)
                .map(|g| g.remotes.contains_key(wanted))
                .collect();
            majority(&of).copied()
        };
        let mut third = self
            .snapshot
            .clusters
            .keys()
            .filter(|c| *c != self.name && *c != remote)
            .filter_map(|c| lists(c, remote))
            .peekable();
        lists(remote, self.name) == Some(true) && third.peek().is_some() && third.all(|listed| listed)
    }

    /// What the cluster is split in halves by, where nothing outside decides either.
    fn halves(&self, lists: &[&GatewayConfig]) -> Vec<Difference> {
        KEYS.iter()
            .filter_map(|(key, value)| {
                let values: Vec<Json> = lists.iter().map(|g| value(g)).collect();
                let decided = majority(&values).is_some()
                    || values.iter().any(|own| self.differs((key, *value), own).is_some());
                let by_server: Map<String, Json> = self
                    .with_gateway()
                    .zip(&values)
                    .take(32)
                    .map(|(s, v)| (short(&s.info.name), v.clone()))
                    .collect();
                (!decided).then_some(Difference {
                    key,
                    majority: Json::Null,
                    server: Json::Object(by_server),
                })
            })
            .collect()
    }

    fn mismatch(&self, server: &Server, differs: &[Difference], scope: Scope) -> Violation {
        let at = self.snapshot.at;
        let (name, cluster) = (short(&server.info.name), short(self.name));
        let keys: Vec<&str> = differs.iter().map(|d| d.key).collect();
        let absent = differs.iter().any(|d| d.key == "gateway" && d.server != json!("present"));
        let block = self.expected_block(server);
        let mut evidence = Map::new();
        evidence.insert(
            "differs".into(),
            differs
                .iter()
                .map(|d| json!({ "key": d.key, "majority": d.majority, "server": d.server }))
                .collect(),
        );
        evidence.insert("compared_with".into(), list(self.members.iter().map(|s| &s.info.name)));
        evidence.insert("expected_block".into(), json!(block));
        let what: Vec<String> = differs.iter().map(Difference::sentence).collect();
        let detail = if what.is_empty() { keys.join(", ") } else { what.join("; ") };
        let impact = if absent {
            format!("clients of {name} reach no other cluster, and other clusters do not reach them by it")
        } else if matches!(&scope, Scope::AllLinks) {
            format!("the gateways of {name} and those of the other clusters may not accept each other")
        } else if matches!(&scope, Scope::Remotes(remotes) if remotes.is_empty()) {
            format!("messages pass; {name} does not act as its peers do when gateways are made anew")
        } else {
            format!("gossip hides the difference until the peers of {name} are gone; then it is cut off")
        };
        Violation {
            since: at,
            ripe_at: at,
            summary: if absent {
                format!("{name} ({cluster}) has no gateway block; its peers have one")
            } else {
                format!("the gateway block of {name} differs from that of {cluster} in {}", words(&keys))
            },
            cause: Cause::new(
                if absent { CauseKind::NotConfigured } else { CauseKind::Unknown },
                Confidence::Certain,
                detail,
            ),
            impact,
            essence: differs.iter().fold(String::new(), |mut text, d| {
                let _ = write!(text, "{} {} {};", d.key, d.majority, d.server);
                text
            }),
            evidence,
            remediation: Self::remediation(server, &block),
            server: (!server.info.ver.is_empty()).then(|| server.info.clone()),
            scope,
        }
    }

    fn remediation(server: &Server, block: &str) -> Vec<Step> {
        let name = short(&server.info.name);
        let mut steps = vec![
            Step::by_hand(format!("make the gateway block of {name} this:\n{block}")),
            Step::by_hand(format!(
                "restart {name} in lame duck mode: a reload refuses a change of the gateway block (`config reload not \
                 supported for Gateway`)"
            )),
        ];
        if server.answered_at.is_some() {
            steps.extend(ask_gateways(&server.info.name, &server.info.id));
        }
        steps
    }

    /// The block that this server ought to have: its own address, and what its peers have.
    fn expected_block(&self, server: &Server) -> String {
        let peers: Vec<&GatewayConfig> = self.with_gateway().filter_map(gateway).collect();
        let own = gateway(server);
        let usual = |value: Read| {
            let values: Vec<Json> = peers.iter().map(|g| value(g)).collect();
            majority(&values).cloned().unwrap_or_else(|| own.map_or(Json::Null, value))
        };
        let ports: Vec<Option<u16>> = peers.iter().map(|g| g.port).collect();
        let port = majority(&ports).copied().flatten().or_else(|| own.and_then(|g| g.port)).unwrap_or(7222);
        let mut urls: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
        for (remote, listed) in peers.iter().flat_map(|g| g.remotes.iter()) {
            let votes = peers.iter().filter(|g| g.remotes.contains_key(remote)).count();
            let ought = votes * 2 > peers.len() || votes * 2 == peers.len() && self.exists(remote);
            if ought {
                urls.entry(remote).or_default().extend(listed);
            }
        }
        let lacking: Vec<&Name> = self
            .snapshot
            .clusters
            .keys()
            .filter(|remote| !urls.contains_key(remote) && **remote != *self.name)
            .filter(|remote| self.exists(remote) && self.others_list(remote))
            .collect();
        let mut remotes: BTreeMap<Name, Urls> = urls
            .into_iter()
            .map(|(remote, listed)| (remote.clone(), listed.into_iter().cloned().collect()))
            .collect();
        let found = lacking.into_iter().map(|remote| (remote.clone(), told(self.snapshot, remote)));
        remotes
            .extend(found.filter(|(_, urls)| !urls.is_empty()).map(|(remote, urls)| (remote, urls.into())));
        let has = |value: Read| usual(value) == json!(true);
        block(&GatewayConfig {
            name: self.name.clone(),
            host: own.and_then(|g| g.host.clone()),
            port: Some(port),
            tls_required: has(|g| json!(g.tls_required)),
            advertise: own
                .and_then(|g| g.advertise.clone())
                .filter(|_| has(|g| json!(g.advertise.is_some()))),
            connect_retries: usual(|g| json!(g.connect_retries)).as_u64().unwrap_or(0),
            reject_unknown: has(|g| json!(g.reject_unknown)),
            remotes: remotes.into(),
            ..GatewayConfig::default()
        })
    }
}

impl Difference {
    fn sentence(&self) -> String {
        match &self.majority {
            Json::Null => format!("{} is {}, and there is no majority", self.key, self.server),
            majority => format!("{} is {} where the majority has {majority}", self.key, self.server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{EVERYWHERE, THREE, Trial, World, secs};
    use super::*;

    fn trial<'a>(opens: &'a [&'a str]) -> Trial<'a> {
        Trial { of: THREE, from: EVERYWHERE, opens, within: secs(7), lasts: secs(25) }
    }

    fn set(change: fn(&mut GatewayConfig)) -> impl Fn(&mut World) {
        move |world| world.reconfigure("us-1", |g| change(g.as_mut().expect("a block")))
    }

    /// The block that its peers have.
    fn mend(world: &mut World) {
        let good = GatewayConfig {
            name: "us".into(),
            host: Some("0.0.0.0".into()),
            port: Some(7222),
            remotes: ["eu", "ap"]
                .map(|r| (Name::from(r), [format!("{r}.example:7222").into()].into()))
                .into(),
            ..GatewayConfig::default()
        };
        world.reconfigure("us-1", |g| *g = Some(good));
    }

    fn found(change: fn(&mut GatewayConfig), of: &[(&str, usize)]) -> crate::findings::Finding {
        let mut world = World::of(of, "us-0", 1);
        set(change)(&mut world);
        world.run(secs(10));
        world.ledger.open().next().expect("one is open").clone()
    }

    const ONE: &[&str] = &["gateway_config_mismatch us/us-1 unknown"];

    #[test]
    fn each_difference_is_one_finding_from_each_cluster() {
        let changes: [fn(&mut GatewayConfig); 7] = [
            |g| drop(g.remotes.remove("eu")),
            |g| g.remotes.clear(),
            |g| g.reject_unknown = true,
            |g| g.port = Some(7333),
            |g| g.connect_retries = 5,
            |g| g.advertise = Some("gw.example:7222".into()),
            |g| {
                let urls = g.remotes.remove("eu").expect("it is listed");
                g.remotes.insert("ue".into(), urls);
            },
        ];
        for change in changes {
            trial(ONE).holds(set(change), mend);
        }
    }

    #[test]
    fn a_server_without_a_block_is_found_also_from_where_it_cannot_be_asked() {
        trial(&["gateway_config_mismatch us/us-1 not_configured"])
            .holds(|w| w.reconfigure("us-1", |g| *g = None), mend);
    }

    #[test]
    fn a_server_without_a_block_is_found_by_an_agent_that_starts_later() {
        for vantage in EVERYWHERE {
            let mut world = World::unwatched(THREE, 1);
            world.reconfigure("us-1", |g| *g = None);
            world.run(secs(10));
            world.watch(vantage);
            world.run(secs(15));
            assert_eq!(world.story(), ["opened gateway_config_mismatch us/us-1 not_configured"]);
        }
    }

    #[test]
    fn a_hung_peer_of_our_own_cluster_is_not_taken_for_one_without_a_block() {
        for seed in 1..6 {
            let mut world = World::unwatched(THREE, seed);
            world.stop("us-1");
            world.run(secs(50));
            world.watch("us-0");
            world.run(secs(20));
            assert_eq!(world.story(), [""; 0], "a server of our own would answer without a gateway too");
            world.run(secs(30));
            assert_eq!(world.story(), ["opened server_missing us/us-1 unknown"]);
        }
    }

    #[test]
    fn the_blocks_of_lives_that_may_be_over_make_no_finding_of_their_cluster() {
        let world = World::seen_from("eu-0");
        for (life, found) in [(Life::Alive, true), (Life::Unknown, false)] {
            let mut snapshot = world.snapshot.clone().expect("it was looked");
            for server in snapshot.servers.values_mut().filter(|s| s.cluster() == "us") {
                let mut varz = (**server.varz.as_ref().expect("it was asked")).clone();
                varz.gateway.as_mut().expect("it has a block").remotes.remove("ap");
                server.varz = Some(std::sync::Arc::new(varz));
                server.life = life;
            }
            let verdicts = GatewayConfigMismatch.evaluate(
                &snapshot,
                &world.settings[MANUAL.slug],
                &Watched::everything(),
            );
            let violated = |v: &Verdict| matches!(v.outcome, Outcome::Violated(_));
            assert_eq!(verdicts.iter().any(violated), found, "{life:?}");
        }
    }

    #[test]
    fn tls_on_one_server_is_one_finding() {
        let tls = set(|g| {
            g.tls_required = true;
            g.tls_verify = true;
        });
        Trial { from: &["us-0"], ..trial(ONE) }.holds(&tls, mend);
        Trial { from: &["eu-0", "ap-0"], ..trial(&["gateway_config_mismatch us/us-1 not_configured"]) }
            .holds(&tls, mend);
    }

    #[test]
    fn in_a_cluster_of_two_the_rest_of_the_supercluster_decides() {
        let of = &[("eu", 3), ("us", 2), ("ap", 3)];
        for change in [
            (|g| drop(g.remotes.remove("eu"))) as fn(&mut GatewayConfig),
            |g| g.reject_unknown = true,
            |g| {
                let urls = g.remotes.remove("eu").expect("it is listed");
                g.remotes.insert("ue".into(), urls);
            },
        ] {
            Trial { of, ..trial(ONE) }.holds(set(change), mend);
        }
        let finding = found(|g| drop(g.remotes.remove("eu")), of);
        assert_eq!(finding.evidence["differs"][0]["majority"], Json::Null, "there is none");
        Trial { of, ..trial(&["gateway_config_mismatch us/us-1 not_configured"]) }
            .holds(|w| w.reconfigure("us-1", |g| *g = None), mend);
    }

    #[test]
    fn two_halves_that_nothing_outside_decides_between_are_named_without_a_majority() {
        let mut world = World::of(&[("eu", 2), ("us", 2)], "us-0", 1);
        for (server, retries) in [("us-1", 9), ("eu-0", 4), ("eu-1", 5)] {
            world.reconfigure(server, |g| g.as_mut().expect("a block").connect_retries = retries);
            world.run(secs(1));
        }
        world.run(secs(10));
        let open: Vec<_> = world.ledger.open().map(|f| f.summary.as_str()).collect();
        assert_eq!(
            open,
            [
                "the servers of eu differ in connect_retries, and nothing outside tells who is right",
                "the servers of us differ in connect_retries, and nothing outside tells who is right"
            ]
        );
    }

    #[test]
    fn a_whole_cluster_that_lacks_a_remote_its_peers_have_is_one_finding() {
        fn all(world: &mut World, change: fn(&mut GatewayConfig)) {
            for server in ["us-1", "us-2", "us-0"] {
                world.reconfigure(server, |g| change(g.as_mut().expect("a block")));
                world.run(secs(3));
            }
            world.run(secs(10));
        }
        let changes: [fn(&mut GatewayConfig); 3] = [
            |g| drop(g.remotes.remove("eu")),
            |g| {
                g.remotes.remove("eu");
                g.reject_unknown = true;
            },
            |g| {
                let urls = g.remotes.remove("eu").expect("it is listed");
                g.remotes.insert("ue".into(), urls);
            },
        ];
        for vantage in EVERYWHERE {
            for change in changes {
                let mut world = World::seen_from(vantage);
                all(&mut world, change);
                assert_eq!(
                    world.open(),
                    ["gateway_config_mismatch us unknown"],
                    "seen from {vantage}: {:?}",
                    world.story()
                );
                let finding = world.ledger.open().next().expect("one is open");
                assert!(finding.summary.starts_with("no server of us lists eu"), "{}", finding.summary);
                assert!(
                    finding.evidence["expected_block"].as_str().expect("a block").contains("name: \"eu\"")
                );
                all(&mut world, |g| {
                    g.reject_unknown = false;
                    g.remotes.remove("ue");
                    g.remotes.insert("eu".into(), ["eu.example:7222".into()].into());
                });
                world.run(secs(10));
                assert_eq!(world.open(), [""; 0], "seen from {vantage}: {:?}", world.story());
                world.assert_in_order();
            }
        }
    }

    #[test]
    fn different_urls_and_different_ports_on_every_server_are_no_mismatch() {
        let mut world = World::unwatched(THREE, 1);
        for (server, port) in [("us-0", 1), ("us-1", 2), ("us-2", 3)] {
            world.reconfigure(server, |g| {
                let g = g.as_mut().expect("a block");
                g.port = Some(port);
                g.remotes.insert("eu".into(), [format!("eu-{port}.example:7222").into()].into());
            });
            world.run(secs(3));
        }
        world.watch("eu-0");
        world.run(secs(15));
        assert_eq!(world.story(), [""; 0]);
    }

    #[test]
    fn the_block_can_be_pasted() {
        let finding = found(
            |g| {
                g.remotes.remove("eu");
                g.host = Some("2001:db8::1".into());
            },
            THREE,
        );
        assert_eq!(
            finding.evidence["expected_block"],
            "gateway {\n  name: \"us\"\n  listen: \"[2001:db8::1]:7222\"\n  # authorization, and user and password in \
             the URLs: as its peers have them\n  gateways: [\n    { name: \"ap\", urls: [\"nats://ap.example:7222\"] \
             }\n    { name: \"eu\", urls: [\"nats://eu.example:7222\"] }\n  ]\n}"
        );
        assert_eq!(
            finding.evidence["differs"],
            json!([{ "key": "remotes", "majority": ["ap", "eu"], "server": ["ap"] }])
        );
        assert_eq!(finding.server.as_ref().map(|s| &*s.name), Some("us-1"));
    }

    #[test]
    fn the_block_carries_what_the_peers_have() {
        let mut world = World::seen_from("us-0");
        for server in ["us-1", "us-2", "us-0"] {
            world.reconfigure(server, |g| {
                let g = g.as_mut().expect("a block");
                g.reject_unknown = true;
                g.connect_retries = 7;
                g.advertise = Some("gw.example:7222".into());
            });
            world.run(secs(3));
        }
        world.reconfigure("us-1", |g| g.as_mut().expect("a block").reject_unknown = false);
        world.run(secs(10));
        let finding = world.ledger.open().find(|f| f.entity.server.is_some()).expect("us-1 differs");
        let block = finding.evidence["expected_block"].as_str().expect("a block");
        for line in ["reject_unknown_cluster: true", "connect_retries: 7", "advertise: \"gw.example:7222\""] {
            assert!(block.contains(line), "{block} lacks {line}");
        }
    }

    #[test]
    fn a_supercluster_that_is_none_needs_no_blocks() {
        let mut world = World::unwatched(&[("eu", 3)], 1);
        for server in ["eu-0", "eu-1", "eu-2"] {
            world.reconfigure(server, |g| *g = None);
        }
        world.run(secs(5));
        world.watch("eu-0");
        world.run(secs(15));
        assert_eq!(world.story(), [""; 0]);
    }

    #[test]
    fn a_half_is_no_majority() {
        assert_eq!(majority(&[1, 1, 2, 2]), None);
        assert_eq!(majority(&[1, 1, 1, 2]), Some(&1));
    }

    #[test]
    fn a_server_that_others_may_have_a_gateway_of_is_not_taken_for_one_without_a_block() {
        let mut world = World::of(&[("ap", 2), ("eu", 2), ("us", 2)], "ap-0", 1);
        for server in ["eu-0", "eu-1", "us-1"] {
            world.cut(server, "ap");
        }
        world.run(secs(5));
        world.restart("us-1");
        world.run(secs(20));
        let story = world.story();
        assert!(
            story.iter().all(|line| !line.contains("gateway_config_mismatch")),
            "eu was not asked: {story:?}"
        );
    }
}
