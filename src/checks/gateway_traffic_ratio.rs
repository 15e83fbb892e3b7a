//! An account sends much of what it publishes over gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::verdict::{short, words};
use super::{
    Cause, CauseKind, Check, Confidence, Entity, Manual, Outcome, Scope, Settings, Severity, Step, Threshold,
    Value, Verdict, Violation, Watched,
};
use crate::model::{AccountView, Moved, Movement, Name, Snapshot};

/// A sum over less than this, or than the window where that is shorter, is a moment and no habit.
const SEEN_MIN: Duration = Duration::from_secs(60);
/// What one end of the gateways sent and the other received may lie so far apart, as a part of the larger: a
/// server that restarts takes with it what it counted since it was asked last.
const APART_MAX: f64 = 0.10;
/// How many clusters stand in a map of the evidence.
const CLUSTERS_MAX: usize = 32;
/// How many streams get a command of their own.
const STREAMS_MAX: usize = 3;
/// What providers count as one GB.
const GB: f64 = 1e9;
const DAY_S: f64 = 86_400.0;
const HALF_A_SECOND: Duration = Duration::from_millis(500);

pub(super) struct GatewayTrafficRatio;

static MANUAL: Manual = Manual {
    slug: "gateway_traffic_ratio",
    code: "OPT_PLACE_003",
    severity: Severity::Info,
    open_after: 2,
    resolve_after: 2,
    thresholds: &[
        Threshold {
            key: "window",
            default: Value::Duration(Duration::from_secs(300)),
            range: (Value::Duration(Duration::from_secs(10)), Value::Duration(Duration::from_secs(86_400))),
            about: "over which the bytes are summed up; the servers are asked every 10 s, or five times in a \
                    shorter window",
        },
        Threshold {
            key: "ratio_min",
            default: Value::Ratio(0.30),
            range: (Value::Ratio(0.0), Value::Ratio(100.0)),
            about: "bytes sent over gateways for each byte published, from which on it is a finding; a message \
                    that goes to two remotes crosses twice",
        },
        Threshold {
            key: "bytes_min",
            default: Value::Bytes(1 << 20),
            range: (Value::Bytes(0), Value::Bytes(1 << 50)),
            about: "bytes that must have crossed gateways in the window; less is not worth a change",
        },
        Threshold {
            key: "price_per_gb",
            default: Value::Ratio(0.0),
            range: (Value::Ratio(0.0), Value::Ratio(1_000_000.0)),
            about: "what 1,000,000,000 bytes between clusters cost, in whatever currency; 0 where that is not \
                    to be told",
        },
    ],
    detects: "An account sends a large part of what its clients publish over gateways.",
    matters: "What crosses a gateway is slower by the way between the clusters, shares one connection with \
              everything else that server sends there, and is what providers charge for. Often it is not the \
              work that is spread over the clusters but its parts that ended up apart: a service here, its \
              callers there; a stream in one cluster and its consumers in the other.",
    decides: "Every server counts for each account what it sent and received, and since 2.11.10 how much of that \
              by gateways and by routes (ACCOUNT STATZ). Summed up over all servers in the window: what clients \
              and leaf nodes published is what was received less what came by gateways and routes; what crossed \
              is what was sent over gateways. Only one side is summed up, so nothing counts twice. It is a \
              finding when what crossed is `ratio_min` of what was published or more, and `bytes_min` or more. \
              Counters that begin anew, with a server or an account, count from zero; what an answer that got \
              lost would have told comes with the next. A sum is judged when a minute of the window was seen, \
              all of it where it is shorter, a thirtieth where that is longer. Accounts are ranked by what crossed; the 256 that send most are \
              judged.",
    silent: "Unknown, never zero: where a server of a version that does not count gateways apart moved bytes of \
             the account; where a server that may well live did not tell its counters, for what it published is \
             missing in the sum; where what was sent over gateways and what was received differ by more than a \
             tenth, for then an answer is missing or much waits on its way; after a server came back from a \
             silence of more than half a minute, until enough was seen again. For the system account.",
    todo: "Bring together what talks to each other. Move streams to the cluster where their clients are: a \
           stream's leader is always in the one cluster where its replicas are, and stepping down moves it \
           inside that cluster only, so it is the placement that has to change. Give clusters with many \
           consumers of one stream a mirror. Run members of each service's queue group in each cluster: the \
           servers prefer those of their own. Where the traffic is meant, as for replication to another \
           continent, raise `ratio_min` or `bytes_min`.",
};

impl Check for GatewayTrafficRatio {
    fn manual(&self) -> &'static Manual {
        &MANUAL
    }

    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, _watched: &Watched<'_>) -> Vec<Verdict> {
        let movement = &*snapshot.movement;
        let accounts = movement.accounts.iter().map(|(account, view)| Verdict {
            check: MANUAL.slug,
            severity: MANUAL.severity,
            entity: Entity { account: Some(account.clone()), ..Entity::default() },
            outcome: judge(snapshot, account, view, settings),
        });
        accounts.collect()
    }

    /// It moved nothing, as far as everybody told.
    fn forgotten(&self, snapshot: &Snapshot, entity: &Entity) -> Outcome {
        let movement = &*snapshot.movement;
        let (Some(account), None) = (&entity.account, &movement.doubt) else { return Outcome::Unknown };
        let all_shown = movement.accounts_total == movement.accounts.len();
        if !all_shown || movement.until.is_none() || movement.seen() < SEEN_MIN.min(movement.window) {
            return Outcome::Unknown;
        }
        let mut told = snapshot.expected().filter_map(|server| server.accountz.as_ref());
        if told.any(|a| a.accounts.contains_key(account)) { Outcome::Healthy } else { Outcome::Gone }
    }
}

fn judge(snapshot: &Snapshot, account: &Name, view: &AccountView, settings: &Settings) -> Outcome {
    let movement = &*snapshot.movement;
    let known = movement.doubt.is_none() && view.doubt.is_none() && movement.until.is_some();
    if !known || view.seen < SEEN_MIN.min(movement.window) {
        return Outcome::Unknown;
    }
    let total = view.total();
    let most = total.tx_bytes.max(total.rx_bytes);
    let bytes_min = settings.count("bytes_min", None, None);
    if most < bytes_min {
        return Outcome::Healthy;
    }
    if total.tx_bytes.abs_diff(total.rx_bytes) as f64 > most as f64 * APART_MAX {
        return Outcome::Unknown;
    }
    let enough = settings.ratio("ratio_min", None, None) * total.published_bytes as f64;
    if total.tx_bytes < bytes_min || (total.tx_bytes as f64) < enough {
        return Outcome::Healthy;
    }
    let price_per_gb = settings.ratio("price_per_gb", None, None);
    let finding = Crossing { snapshot, movement, account, view, total, price_per_gb };
    Outcome::Violated(Box::new(finding.violation()))
}

/// What is told of an account.
struct Crossing<'a> {
    snapshot: &'a Snapshot,
    movement: &'a Movement,
    account: &'a Name,
    view: &'a AccountView,
    total: Moved,
    price_per_gb: f64,
}

impl Crossing<'_> {
    fn violation(&self) -> Violation {
        let Moved { published_bytes, tx_bytes, rx_bytes } = self.total;
        let since = self.movement.until.unwrap_or(self.snapshot.at).minus(self.view.seen);
        let connections = self.snapshot.connections_of(self.account);
        let streams = self.snapshot.streams().remove(self.account).unwrap_or_default();
        let led: BTreeMap<Name, u64> =
            streams.iter().map(|(cluster, (total, _))| (Name::from(*cluster), *total)).collect();
        let (from, to) = self.direction();
        let name = short(self.view.name.as_ref().unwrap_or(self.account));
        let seen_s = self.view.seen.as_secs_f64();
        let per_day = tx_bytes as f64 / seen_s.max(1.0) * DAY_S;
        let cost = (self.price_per_gb > 0.0).then(|| round(per_day / GB * self.price_per_gb, 100.0));
        let ratio = (published_bytes > 0).then(|| tx_bytes as f64 / published_bytes as f64);
        let part = match ratio {
            Some(ratio) => format!("{:.0} % of what it published", ratio * 100.0),
            None => "and its clients published nothing".to_owned(),
        };
        let way = match (&from, &to) {
            (Some(from), Some(to)) => format!("; most of it from {} to {}", short(from), short(to)),
            _ => String::new(),
        };
        let sums = |of: fn(&Moved) -> u64| {
            by_cluster(self.view.clusters.iter().map(|(cluster, moved)| (cluster.clone(), of(moved))))
        };
        let mut evidence = Map::new();
        evidence.insert("ratio".into(), json!(ratio.map(|ratio| round(ratio, 10_000.0))));
        evidence.insert("gateway_bytes".into(), json!(tx_bytes));
        evidence.insert("published_bytes".into(), json!(published_bytes));
        evidence.insert("window_s".into(), json!(seen_s.round()));
        evidence.insert("gateway_received_bytes".into(), json!(rx_bytes));
        evidence.insert("connections_by_cluster".into(), by_cluster(connections.clone()));
        evidence.insert("streams_led_by_cluster".into(), by_cluster(led));
        evidence.insert("published_bytes_by_cluster".into(), sums(|moved| moved.published_bytes));
        evidence.insert("sent_bytes_by_cluster".into(), sums(|moved| moved.tx_bytes));
        evidence.insert("received_bytes_by_cluster".into(), sums(|moved| moved.rx_bytes));
        evidence.insert("account_name".into(), json!(self.view.name.as_ref().map(|name| short(name))));
        evidence.insert("rank".into(), json!(self.view.rank));
        evidence.insert("accounts".into(), json!(self.movement.accounts_total));
        evidence.insert("bytes_per_day".into(), json!(per_day.round()));
        evidence.insert("cost_per_day".into(), json!(cost));
        let pay = cost.map(|cost| format!(", which costs {cost} a day at the price set")).unwrap_or_default();
        Violation {
            since,
            ripe_at: since,
            summary: format!(
                "{name} sent {} over gateways in {}, {part}{way}",
                size(tx_bytes as f64),
                humantime::format_duration(Duration::from_secs((self.view.seen + HALF_A_SECOND).as_secs())),
            ),
            cause: Cause::new(CauseKind::Unknown, Confidence::Possible, whereabouts(&connections, &streams)),
            impact: format!(
                "about {} a day between clusters{pay}; each message waits for the way",
                size(per_day)
            ),
            evidence,
            remediation: self.steps(&connections, &streams, from.as_ref(), to.as_ref()),
            // Figures move all the time, and the last ones stand in each reminder.
            essence: String::new(),
            server: None,
            scope: Scope::Entity,
        }
    }

    /// The cluster that sends most, and of the others the one that receives most.
    fn direction(&self) -> (Option<Name>, Option<Name>) {
        let most = |of: fn(&Moved) -> u64, but: Option<&Name>| {
            let all =
                self.view.clusters.iter().filter(|(cluster, moved)| Some(*cluster) != but && of(moved) > 0);
            all.max_by_key(|(cluster, moved)| (of(moved), std::cmp::Reverse(*cluster)))
                .map(|(c, _)| c.clone())
        };
        let from = most(|moved| moved.tx_bytes, None);
        let to = most(|moved| moved.rx_bytes, from.as_ref());
        (from, to)
    }

    fn steps(
        &self,
        connections: &BTreeMap<Name, u64>,
        streams: &BTreeMap<&str, (u64, BTreeSet<&Name>)>,
        from: Option<&Name>,
        to: Option<&Name>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let all: u64 = connections.values().sum();
        let home = connections.iter().max_by_key(|(_, n)| **n).filter(|(_, n)| **n * 2 > all).map(|(c, _)| c);
        let can_lead = |cluster: &str| self.snapshot.servers_of(cluster).any(|server| server.info.jetstream);
        if let Some(home) = home.filter(|home| !streams.contains_key(&***home) && can_lead(home)) {
            for (cluster, (_, names)) in streams {
                let shown = names.iter().take(STREAMS_MAX);
                steps.extend(shown.map(|stream| move_stream(stream, cluster, home)));
            }
        }
        if let (Some(from), Some(to)) = (from, to) {
            let (from, to) = (short(from), short(to));
            if streams.contains_key(&*from) && self.total.tx_bytes > self.total.published_bytes {
                steps.push(Step::by_hand(format!(
                    "more crosses than is published: where several consumers in {to} read a stream that is led \
                     in {from}, a mirror of it in {to} gets each message over once"
                )));
            }
            steps.push(Step::by_hand(format!(
                "let what is published in {from} be consumed there, or publish it in {to}; of a queue group with \
                 members in both clusters the servers prefer those of their own, so a service that runs in each \
                 cluster answers without a gateway"
            )));
        }
        if self.account.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-$".contains(&b)) {
            steps.push(Step::run(
                "see which connections of the account carry most",
                format!(
                    "nats req --replies 0 --timeout 2s '$SYS.REQ.SERVER.PING.CONNZ' \
                     '{{\"acc\":\"{}\",\"sort\":\"bytes_to\",\"limit\":10}}'",
                    self.account
                ),
            ));
        }
        steps
    }
}

fn move_stream(stream: &str, cluster: &str, home: &str) -> Step {
    let action = format!(
        "move the stream {} from {} to {}, where most connections of the account are",
        short(stream),
        short(cluster),
        short(home)
    );
    let plain = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) && !name.starts_with('-')
    };
    if plain(stream) && plain(home) {
        Step::run(action, format!("nats stream edit {stream} --cluster {home}"))
    } else {
        Step::by_hand(action)
    }
}

/// Where the account's connections are, and where its streams are led.
fn whereabouts(
    connections: &BTreeMap<Name, u64>,
    streams: &BTreeMap<&str, (u64, BTreeSet<&Name>)>,
) -> String {
    let all: u64 = connections.values().sum();
    let mut most: Vec<(&Name, &u64)> = connections.iter().collect();
    most.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let connected = words(most.into_iter().map(|(cluster, n)| format!("{} ({n})", short(cluster))));
    let led = words(streams.iter().map(|(cluster, (n, _))| format!("{} ({n})", short(cluster))));
    let connected = if all == 0 {
        "no client is connected now".to_owned()
    } else {
        format!("its {all} connections are in {connected}")
    };
    if led.is_empty() { connected } else { format!("{connected}; its streams are led in {led}") }
}

/// A figure for each cluster, the largest ones where there are too many; the rest in one sum.
fn by_cluster(figures: impl IntoIterator<Item = (Name, u64)>) -> Json {
    let mut figures: Vec<(Name, u64)> = figures.into_iter().collect();
    figures.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let rest = figures.split_off(figures.len().min(CLUSTERS_MAX));
    let mut map: Map<String, Json> = figures.into_iter().map(|(name, n)| (short(&name), json!(n))).collect();
    if !rest.is_empty() {
        let sum = rest.iter().fold(0_u64, |sum, (_, n)| sum.saturating_add(*n));
        map.insert(format!("and {} more", rest.len()), json!(sum));
    }
    Json::Object(map)
}

fn round(figure: f64, parts: f64) -> f64 {
    (figure * parts).round() / parts
}

/// `1.2 GB`
fn size(bytes: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} bytes"),
    }
}

#[cfg(test)]
mod tests;
