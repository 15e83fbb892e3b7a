//! What it costs to read the answers of a large supercluster, and how much of that no decoder could save.
//!
//! `cargo bench --bench decode` makes the answers of one server of each of 100 clusters × 10 servers (GATEWAYZ and
//! VARZ compressed, as they are asked for; STATSZ plain, as it always comes) and reads them in turn in each of these
//! ways: inflate; inflate and step over every value, which is called the limit; `serde_json::Value`; a derive that
//! keeps everything; ours, as the agent reads them, with the last result of each server kept. Then it tells what ours
//! is spent on. Each figure is the mean of the best time of each answer in many rounds (`GATEWATCH_BENCH_DECODE=2s`
//! for each way): others use the machine too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_types,
    clippy::too_many_lines,
    reason = "a benchmark that cannot go on ends"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use gatewatch::collect::decode::{Decoder, Endpoint};
use gatewatch::model::{Fact, ServerInfo};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

const CLUSTERS: usize = 100;
const SERVERS_PER_CLUSTER: usize = 10;

fn main() {
    let each = std::env::var("GATEWATCH_BENCH_DECODE").unwrap_or_else(|_| "2s".into());
    let each = humantime::parse_duration(&each).expect("GATEWATCH_BENCH_DECODE is a duration");
    println!(
        "{:<9} {:>6} {:>6} | {:^14} | {:^14} | {:^14} | {:^14} | {:^14} |",
        "", "JSON", "wire", "inflate", "and step over", "into a Value", "plain derive", "ours"
    );
    let unit = format!("{:>7} {:>6} |", "µs", "MB/s");
    println!("{:<9} {:>6} {:>6} | {} times the limit", "", "B", "B", [&*unit; 5].join(" "));
    row::<WholeGatewayz>(Endpoint::Gatewayz, each);
    row::<WholeVarz>(Endpoint::Varz, each);
    row::<WholeStatsz>(Endpoint::Statsz, each);
    spent(each);
}

fn row<B: DeserializeOwned>(endpoint: Endpoint, each: Duration) {
    let answers = answers(endpoint);
    let mean = |len: fn(&Answer) -> usize| answers.iter().map(len).sum::<usize>() / answers.len();
    let json_bytes = mean(|a| a.json.len());
    let wire_bytes = mean(|a| a.as_sent().1.len());
    let inflate = |a: &Answer, out: &mut Vec<u8>| {
        out.clear();
        match a.as_sent() {
            (Some(_), payload) => {
                snap::read::FrameDecoder::new(payload).read_to_end(out).expect("it inflates");
            }
            (None, payload) => out.extend_from_slice(payload),
        }
    };
    let mut json = Vec::new();
    let mut inflate_only = timed(|i| inflate(&answers[i], &mut json));
    let mut json = Vec::new();
    let mut step_over = timed(|i| {
        inflate(&answers[i], &mut json);
        black_box(serde_json::from_slice::<IgnoredAny>(&json).expect("JSON"));
    });
    let mut json = Vec::new();
    let mut values: Vec<Option<Value>> = answers.iter().map(|_| None).collect();
    let mut value = timed(|i| {
        inflate(&answers[i], &mut json);
        values[i] = Some(serde_json::from_slice(&json).expect("JSON"));
    });
    let mut json = Vec::new();
    let mut wholes: Vec<Option<Whole<B>>> = answers.iter().map(|_| None).collect();
    let mut derive = timed(|i| {
        inflate(&answers[i], &mut json);
        wholes[i] = Some(serde_json::from_slice(&json).expect("as servers answer"));
    });
    let mut facts: Vec<Option<(ServerInfo, Fact)>> = answers.iter().map(|_| None).collect();
    let mut decoder = Decoder::default();
    let mut ours = timed(|i| {
        let (encoding, payload) = answers[i].as_sent();
        facts[i] = Some(decoder.reply(endpoint, encoding, payload).expect("as servers answer"));
    });
    let ways: [Way<'_>; 5] = [&mut inflate_only, &mut step_over, &mut value, &mut derive, &mut ours];
    let took_us = best_us(each, ways);
    let cells: Vec<String> =
        took_us.iter().map(|us| format!("{us:>7.1} {:>6.0} |", json_bytes as f64 / us)).collect();
    let of_limit = took_us[4] / took_us[1];
    println!("{:<9} {json_bytes:>6} {wire_bytes:>6} | {} {of_limit:.2}", endpoint.as_str(), cells.join(" "));
}

/// What is emptied one after the other, until only the keys and the brackets are left to read.
const EMPTIED: [(&str, &[&str]); 4] = [
    ("times and durations", &["start", "rtt", "idle"]),
    ("names and IDs, and finding them among those that are known", &["name"]),
    ("numbers", &["cid", "pending_bytes", "in_msgs", "out_msgs", "in_bytes", "out_bytes"]),
    ("stepping over what nobody reads", &["ip", "port", "last_activity", "uptime", "subscriptions"]),
];

/// What reading a GATEWAYZ is spent on: by what it takes less once that is empty, too.
fn spent(each: Duration) {
    let answers = answers(Endpoint::Gatewayz);
    let mut plain: Vec<Vec<u8>> = answers.iter().map(|answer| answer.json.clone()).collect();
    let mut stages = vec![plain.clone()];
    for (_, keys) in EMPTIED {
        plain = plain.iter().map(|json| emptied(json, keys)).collect();
        stages.push(plain.clone());
    }
    let read = |encoding: Option<&'static str>| {
        let mut decoder = Decoder::default();
        let mut kept: Vec<Option<(ServerInfo, Fact)>> = answers.iter().map(|_| None).collect();
        move |i: usize, payload: &[u8]| {
            let fact = decoder.reply(Endpoint::Gatewayz, encoding, payload).expect("as servers answer");
            kept[i] = Some(fact);
        }
    };
    let mut sent = read(Some("snappy"));
    let mut all = timed(|i| sent(i, answers[i].as_sent().1));
    let mut ways = [0, 1, 2, 3, 4].map(|n| {
        let (stages, mut read) = (&stages, read(None));
        timed(move |i| read(i, &stages[n][i]))
    });
    let [plain, no_times, no_names, no_numbers, skeleton] = &mut ways;
    let took = best_us(each, [&mut all, plain, no_times, no_names, no_numbers, skeleton]);
    println!("\nof the {:.1} µs that ours takes for a GATEWAYZ:", took[0]);
    let what = std::iter::once("inflating").chain(EMPTIED.iter().map(|(what, _)| *what));
    for (what, pair) in what.zip(took.windows(2)) {
        println!("{:>7.1}  {what}", pair[0] - pair[1]);
    }
    println!("{:>7.1}  the keys, and keeping the connections", took[5]);
}

/// `json` without what stands behind these keys: an empty text, or 0.
fn emptied(json: &[u8], keys: &[&str]) -> Vec<u8> {
    let mut json = String::from_utf8(json.to_vec()).expect("JSON");
    for key in keys {
        let key = format!("\"{key}\":");
        let mut parts = json.split(&key);
        let mut rest = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (empty, tail) = match part.strip_prefix('"') {
                Some(text) => ("\"\"", text.split_once('"').expect("a text ends").1),
                None => ("0", part.trim_start_matches(|c: char| c.is_ascii_digit())),
            };
            rest.extend([&key, empty, tail]);
        }
        json = rest;
    }
    json.into_bytes()
}

type Way<'a> = &'a mut dyn FnMut(usize) -> Duration;

fn timed(mut way: impl FnMut(usize)) -> impl FnMut(usize) -> Duration {
    move |i| {
        let from = Instant::now();
        way(i);
        from.elapsed()
    }
}

/// What each of `ways` takes for one answer: the best time for each answer in many rounds through all of them, on
/// average. They take turns, so that what disturbs one disturbs all.
fn best_us<const N: usize>(each: Duration, mut ways: [Way<'_>; N]) -> [f64; N] {
    let mut best = [[Duration::MAX; CLUSTERS]; N];
    let until = Instant::now() + each * u32::try_from(N).expect("few");
    while Instant::now() < until {
        for (way, best) in ways.iter_mut().zip(&mut best) {
            for (i, best) in best.iter_mut().enumerate() {
                *best = way(i).min(*best);
            }
        }
    }
    best.map(|best| best.iter().map(Duration::as_secs_f64).sum::<f64>() * 1e6 / CLUSTERS as f64)
}

fn answers(endpoint: Endpoint) -> Vec<Answer> {
    (0..CLUSTERS).map(|cluster| answer(endpoint, cluster)).collect()
}

struct Answer {
    json: Vec<u8>,
    /// None where servers do not compress.
    snappy: Option<Vec<u8>>,
}

impl Answer {
    fn as_sent(&self) -> (Option<&'static str>, &[u8]) {
        match &self.snappy {
            Some(snappy) => (Some("snappy"), snappy),
            None => (None, &self.json),
        }
    }
}

/// What the first server of `cluster` answers. Real ones write the fields in this order, and no blanks.
fn answer(endpoint: Endpoint, cluster: usize) -> Answer {
    let mut dice = Dice(cluster as u64);
    let own = id(cluster, 0);
    let name = format!("cluster-{cluster:03}");
    let server = format!(
        r#"{{"name":"{name}-0","host":"10.{cluster}.0.1","id":"{own}","cluster":"{name}","ver":"2.15.1","tags":["region:eu","zone:z1"],"metadata":{{"rack":"r1","zone":"z1"}},"feature_flags":{{"js_ack_fc_v2":false,"js_api_reply_v2":false,"js_raft_delete_range":true,"js_snapshot_sources":false}},"jetstream":true,"flags":7,"seq":{},"time":"2026-11-20T19:45:19.652034098Z"}}"#,
        dice.below(1_000_000)
    );
    let remotes: Vec<usize> = (0..CLUSTERS).filter(|remote| *remote != cluster).collect();
    let body = match endpoint {
        Endpoint::Gatewayz => gatewayz(&own, cluster, &remotes, &mut dice),
        Endpoint::Varz => varz(&own, cluster, &remotes, &mut dice),
        _ => statsz(&remotes, &mut dice),
    };
    let key = if endpoint == Endpoint::Statsz { "statsz" } else { "data" };
    let json = format!(r#"{{"server":{server},"{key}":{body}}}"#).into_bytes();
    let snappy = (endpoint != Endpoint::Statsz).then(|| {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(&json).expect("into memory");
        encoder.into_inner().expect("into memory")
    });
    Answer { json, snappy }
}

fn gatewayz(own: &str, cluster: usize, remotes: &[usize], dice: &mut Dice) -> String {
    let outbound: Vec<String> = remotes
        .iter()
        .map(|remote| {
            let connection = connection(*remote, dice, true);
            format!(r#""cluster-{remote:03}":{{"configured":true,"connection":{connection}}}"#)
        })
        .collect();
    // Each server of a remote dials one of ours.
    let mut inbound: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for remote in remotes {
        for _ in 0..SERVERS_PER_CLUSTER {
            if dice.below(SERVERS_PER_CLUSTER as u64) == 0 {
                let connection = connection(*remote, dice, false);
                let one = format!(r#"{{"configured":false,"connection":{connection}}}"#);
                inbound.entry(*remote).or_default().push(one);
            }
        }
    }
    let inbound: Vec<String> = inbound
        .iter()
        .map(|(remote, connections)| format!(r#""cluster-{remote:03}":[{}]"#, connections.join(",")))
        .collect();
    format!(
        r#"{{"server_id":"{own}","now":"2026-11-20T19:45:19.652001511Z","name":"cluster-{cluster:03}","host":"10.{cluster}.0.1","port":7222,"outbound_gateways":{{{}}},"inbound_gateways":{{{}}}}}"#,
        outbound.join(","),
        inbound.join(",")
    )
}

fn connection(remote: usize, dice: &mut Dice, outbound: bool) -> String {
    let peer = usize::try_from(dice.below(SERVERS_PER_CLUSTER as u64)).expect("small");
    let (msgs, bytes) = (dice.below(10_000_000), dice.below(10_000_000_000));
    let (in_msgs, out_msgs, in_bytes, out_bytes) =
        if outbound { (0, msgs, 0, bytes) } else { (msgs, 0, bytes, 0) };
    format!(
        r#"{{"cid":{},"kind":"Gateway","ip":"10.{remote}.0.{peer}","port":{},"start":"2026-11-18T{:02}:45:16.{:09}Z","last_activity":"2026-11-20T19:45:19.{:09}Z","rtt":"{}.{:03}ms","uptime":"2d{}h11m3s","idle":"{}s","pending_bytes":{},"in_msgs":{in_msgs},"out_msgs":{out_msgs},"in_bytes":{in_bytes},"out_bytes":{out_bytes},"subscriptions":{},"name":"{}"}}"#,
        dice.below(100_000),
        if outbound { 7222 } else { 32768 + dice.below(28_000) },
        dice.below(24),
        dice.below(1_000_000_000),
        dice.below(1_000_000_000),
        dice.below(200),
        dice.below(1000),
        dice.below(24),
        dice.below(3),
        dice.below(2) * 93,
        dice.below(100),
        id(remote, peer)
    )
}

fn varz(own: &str, cluster: usize, remotes: &[usize], dice: &mut Dice) -> String {
    let gateways: Vec<String> = remotes
        .iter()
        .map(|remote| {
            // In no order: a map of the server's.
            let first = usize::try_from(dice.below(SERVERS_PER_CLUSTER as u64)).expect("small");
            let urls: Vec<String> = (0..SERVERS_PER_CLUSTER)
                .map(|n| format!(r#""10.{remote}.0.{}:7222""#, (first + n) % SERVERS_PER_CLUSTER))
                .collect();
            format!(r#"{{"name":"cluster-{remote:03}","urls":[{}]}}"#, urls.join(","))
        })
        .collect();
    let counters: Vec<String> = [
        "mem",
        "cores",
        "gomaxprocs",
        "cpu",
        "connections",
        "total_connections",
        "routes",
        "remotes",
        "leafnodes",
        "in_msgs",
        "in_bytes",
        "in_client_msgs",
        "in_client_bytes",
        "out_msgs",
        "out_bytes",
        "out_client_msgs",
        "out_client_bytes",
        "slow_consumers",
        "stale_connections",
        "stalled_clients",
        "subscriptions",
    ]
    .iter()
    .map(|key| format!(r#""{key}":{}"#, dice.below(100_000_000)))
    .collect();
    let kinds = r#"{"clients":0,"routes":0,"gateways":0,"leafs":0}"#;
    format!(
        r#"{{"server_id":"{own}","server_name":"cluster-{cluster:03}-0","version":"2.15.1","proto":1,"go":"go1.27.2","host":"10.{cluster}.0.1","port":4222,"auth_required":true,"connect_urls":["10.{cluster}.0.1:4222","10.{cluster}.0.2:4222"],"max_connections":65536,"ping_interval":120000000000,"ping_max":2,"http_host":"","http_port":0,"http_base_path":"","https_port":0,"auth_timeout":2,"max_control_line":4096,"max_payload":1048576,"max_pending":67108864,"cluster":{{"name":"cluster-{cluster:03}","addr":"0.0.0.0","cluster_port":6222,"auth_timeout":2,"urls":["10.{cluster}.0.2:6222"],"tls_timeout":2,"pool_size":3}},"gateway":{{"name":"cluster-{cluster:03}","host":"0.0.0.0","port":7222,"auth_timeout":2,"tls_timeout":2,"gateways":[{}]}},"leaf":{{}},"mqtt":{{}},"websocket":{{}},"jetstream":{JETSTREAM},"tls_timeout":2,"write_deadline":10000000000,"start":"2026-11-18T19:45:15.055423181Z","now":"2026-11-20T19:45:20.45987151Z","uptime":"2d0h0m5s",{},"http_req_stats":{{}},"config_load_time":"2026-11-18T19:45:15.055423181Z","config_digest":"sha256:f85745657efb4379656610c90fc9c0e3e4654e66ada166fea9bd5bd08678dfa2","system_account":"SYS","slow_consumer_stats":{kinds},"stale_connection_stats":{kinds}}}"#,
        gateways.join(","),
        counters.join(",")
    )
}

fn statsz(remotes: &[usize], dice: &mut Dice) -> String {
    let mut traffic =
        || format!(r#"{{"msgs":{},"bytes":{}}}"#, dice.below(10_000_000), dice.below(10_000_000_000));
    let routes: Vec<String> = (0..(SERVERS_PER_CLUSTER - 1) * 4)
        .map(|n| {
            let (sent, received) = (traffic(), traffic());
            format!(
                r#"{{"rid":{n},"name":"cluster-{}","sent":{sent},"received":{received},"pending":0}}"#,
                n / 4
            )
        })
        .collect();
    let gateways: Vec<String> = remotes
        .iter()
        .map(|remote| {
            let (sent, received) = (traffic(), traffic());
            format!(
                r#"{{"gwid":{},"name":"cluster-{remote:03}","sent":{sent},"received":{received},"inbound_connections":1}}"#,
                remote + 40
            )
        })
        .collect();
    format!(
        r#"{{"start":"2026-11-18T19:45:15.055423181Z","mem":22417408,"cores":2,"cpu":2,"connections":3,"total_connections":4,"active_accounts":2,"subscriptions":156,"sent":{},"received":{},"slow_consumers":0,"routes":[{}],"gateways":[{}],"active_servers":1000,"jetstream":{JETSTREAM},"gomaxprocs":2}}"#,
        traffic(),
        traffic(),
        routes.join(","),
        gateways.join(",")
    )
}

const JETSTREAM: &str = r#"{"config":{"max_memory":64000000,"max_storage":256000000,"sync_interval":120000000000,"compress_ok":true,"strict":true},"stats":{"memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"accounts":1,"ha_assets":1,"api":{"level":5,"total":0,"errors":0}},"limits":{"default_max_consumers":1000}}"#;

/// As a server's ID looks.
fn id(cluster: usize, server: usize) -> String {
    let mut dice = Dice((cluster * 1000 + server) as u64);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |_| char::from(alphabet[usize::try_from(dice.below(32)).expect("small")]);
    std::iter::once('N').chain((0..55).map(letter)).collect()
}

/// The same numbers each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Everything that stands in an answer, each text a `String`: what one writes first.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct Whole<B> {
    server: WholeServer,
    #[serde(alias = "statsz")]
    data: B,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeServer {
    name: String,
    host: String,
    id: String,
    cluster: String,
    ver: String,
    tags: Vec<String>,
    metadata: BTreeMap<String, String>,
    feature_flags: BTreeMap<String, bool>,
    jetstream: bool,
    flags: u64,
    seq: u64,
    time: String,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeGatewayz {
    server_id: String,
    now: String,
    name: String,
    host: String,
    port: u16,
    outbound_gateways: BTreeMap<String, WholeRemote>,
    inbound_gateways: BTreeMap<String, Vec<WholeRemote>>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeRemote {
    configured: bool,
    connection: WholeConnection,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeConnection {
    cid: u64,
    kind: String,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u64,
    name: String,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeVarz {
    server_id: String,
    server_name: String,
    version: String,
    go: String,
    host: String,
    port: u16,
    connect_urls: Vec<String>,
    cluster: BTreeMap<String, Value>,
    gateway: WholeGateway,
    jetstream: Value,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    connections: u64,
    in_msgs: u64,
    in_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    slow_consumers: u64,
    subscriptions: u64,
    config_load_time: String,
    config_digest: String,
    system_account: String,
    slow_consumer_stats: BTreeMap<String, u64>,
    stale_connection_stats: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeGateway {
    name: String,
    host: String,
    port: u16,
    gateways: Vec<WholeRemoteUrls>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeRemoteUrls {
    name: String,
    urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeStatsz {
    start: String,
    mem: u64,
    connections: u64,
    sent: WholeTraffic,
    received: WholeTraffic,
    routes: Vec<WholeRoute>,
    gateways: Vec<WholeStat>,
    active_servers: u64,
    jetstream: Value,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeRoute {
    rid: u64,
    name: String,
    sent: WholeTraffic,
    received: WholeTraffic,
    pending: u64,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeStat {
    gwid: u64,
    name: String,
    sent: WholeTraffic,
    received: WholeTraffic,
    inbound_connections: u64,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "to keep what nobody reads is what is measured")]
struct WholeTraffic {
    msgs: u64,
    bytes: u64,
}
