//! How fast the micro service answers when a lot is open.
//!
//! `cargo bench --bench service` starts 3 clusters × 3 servers and an agent that takes up 10,000 open findings
//! (`GATEWATCH_BENCH_OPEN=10000`) from its state file, sends 500 requests a second of all kinds for 20 s
//! (`GATEWATCH_BENCH_FOR=20s`) from another account in another cluster, and prints how long the answers took and
//! how the epochs kept their pace. It fails when a bound is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends"
)]

mod common;

use std::collections::BTreeMap;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::StreamExt as _;
use gatewatch::lab::{Lab, Spec};
use serde_json::{Value, json};

use common::Agent;

const PER_SECOND: u32 = 500;
const P99_MAX: Duration = Duration::from_millis(10);
/// Epochs are a second apart.
const EPOCH_GAP_MAX: Duration = Duration::from_secs(2);

const MIX: [(&str, &str); 10] = [
    ("findings", ""),
    ("findings", r#"{"limit":20}"#),
    ("findings", r#"{"severity":"critical","cluster":"x7"}"#),
    ("findings", r#"{"check":"CLUSTER_007","limit":10}"#),
    ("topology", ""),
    ("epoch", ""),
    ("checks", ""),
    ("explain", r#"{"check":"GW_003"}"#),
    ("metrics", ""),
    ("silence.list", ""),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let open: usize = env("GATEWATCH_BENCH_OPEN", "10000").parse().expect("a number");
    let lasts = humantime::parse_duration(&env("GATEWATCH_BENCH_FOR", "20s")).expect("a duration");
    let lab = Lab::start(Spec::default()).await.expect("the lab starts");
    let file = lab.dir().join("state.json");
    std::fs::write(&file, state(open).to_string()).expect("the state file is written");
    let sys = client(&lab, "sys").await;
    let mut epochs = sys.subscribe("gatewatch.epoch.>").await.expect("subscribes");
    sys.flush().await.expect("flushes");
    // Repeating all of it at once is not what is measured.
    let text = format!("[publish]\nrepeat_every = \"30d\"\n[state]\nfile = \"{}\"\n", file.display());
    let config = lab.dir().join("gatewatch.toml");
    std::fs::write(&config, text).expect("the configuration is written");
    let config = config.to_str().expect("a path of ours");
    let agent = Agent::start(&lab, env!("CARGO_BIN_EXE_gatewatch"), "eu-0", &["--config", config]);
    loop {
        let epoch = next(&mut epochs).await;
        let critical = epoch["open"]["critical"].as_u64().unwrap_or_default();
        assert_eq!(critical, open as u64, "they stay open: {epoch}");
        if epoch["settled"] == true && epoch["epoch"].as_u64() > Some(5) {
            break;
        }
    }

    let app = client(&lab, "app").await;
    let widest = tokio::spawn(async move {
        let (mut widest, mut count, mut slowest) = (Duration::ZERO, 0_u32, 0);
        let from = Instant::now();
        let mut last = from;
        while from.elapsed() < lasts {
            let epoch = next(&mut epochs).await;
            slowest = slowest.max(epoch["duration_ms"].as_u64().unwrap_or_default());
            widest = widest.max(last.elapsed());
            last = Instant::now();
            count += 1;
        }
        (widest, count, slowest)
    });
    let took: Arc<Mutex<BTreeMap<String, Vec<Duration>>>> = Arc::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let (from, mut sent, mut tasks) = (Instant::now(), 0_usize, Vec::new());
    while from.elapsed() < lasts {
        tick.tick().await;
        let (endpoint, body) = MIX[sent % MIX.len()];
        sent += 1;
        let (app, took) = (app.clone(), Arc::clone(&took));
        tasks.push(tokio::spawn(async move {
            let asked = Instant::now();
            let answer = app.request(format!("gatewatch.api.{endpoint}"), body.into()).await;
            let answer = answer.unwrap_or_else(|e| panic!("{endpoint} {body}: {e}"));
            assert!(answer.headers.is_none(), "{endpoint} {body}: {:?}", answer.headers);
            took.lock().unwrap().entry(format!("{endpoint} {body}")).or_default().push(asked.elapsed());
        }));
    }
    for task in tasks {
        task.await.expect("every request is answered");
    }
    let per_second = sent as f64 / from.elapsed().as_secs_f64();
    let (widest, count, slowest) = widest.await.expect("epochs came");
    drop(agent);
    lab.down().await.expect("the lab ends");

    let took = std::mem::take(&mut *took.lock().unwrap());
    println!("{open} open findings, {sent} requests, {per_second:.0} a second");
    let mut all: Vec<Duration> = took.values().flatten().copied().collect();
    for (what, mut took) in took {
        println!("{}  {what}", show(&mut took));
    }
    println!("{}  all", show(&mut all));
    println!("{count} epochs, the widest gap {} ms, the slowest look {slowest} ms", widest.as_millis());
    let p99 = all[all.len() * 99 / 100];
    assert!(p99 <= P99_MAX, "p99 is {p99:?}, and {P99_MAX:?} is the bound");
    assert!(widest <= EPOCH_GAP_MAX, "{widest:?} without an epoch, and {EPOCH_GAP_MAX:?} is the bound");
    println!("bounds: p99 <= {P99_MAX:?}, no epoch later than {EPOCH_GAP_MAX:?}: kept");
}

fn show(took: &mut [Duration]) -> String {
    took.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let at = |percent: usize| ms(took[(took.len() * percent / 100).min(took.len() - 1)]);
    format!("p50 {:6.2} ms  p99 {:6.2} ms  max {:6.2} ms", at(50), at(99), at(100))
}

/// A state file with so many open findings of clusters that nobody sees: they stay as they are.
fn state(open: usize) -> Value {
    let at = "2026-11-20T19:36:22.123456789Z";
    let list = |n: usize| (0..n).map(|i| format!("server-{i}")).collect::<Vec<_>>();
    let findings: Vec<Value> = (0..open)
        .map(|n| {
            let (cluster, server, remote) =
                (format!("x{}", n % 100), format!("x{}-{}", n % 100, n / 100), format!("y{}", n % 7));
            json!({
                "fingerprint": format!("{:016x}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                "check": "gateway_disconnected", "severity": "critical",
                "entity": { "cluster": cluster, "server": server, "server_id": null, "remote": remote,
                            "account": null, "peer_server": null },
                "opened_at": at, "last_seen_at": at, "resolved_at": null, "revision": 1, "published_at": at,
                "summary": format!("{server} ({cluster}) has no gateway to {remote}; 2 of 2 other servers still do"),
                "cause": { "kind": "path_cut", "confidence": "likely", "detail": "x".repeat(200) },
                "impact": "what its clients publish does not arrive there, and publishing gives no error",
                "evidence": { "absent_ms": 2501, "configured": true, "peers_connected": list(10),
                              "peers_total": 10, "remote_servers": { "answering": list(10), "not_answering": [] } },
                "remediation": [{ "do": "test the way", "run": "nc -vz 127.0.0.1 7222" },
                                { "do": "see its gateways", "run": "nats req '$SYS.REQ.SERVER.X.GATEWAYZ' ''" }],
                "inhibits": [], "server": null, "essence": "", "scope": { "scope": "entity" },
                "healthy_epochs": 0, "healthy_epoch": 0,
            })
        })
        .collect();
    json!({ "version": 1, "saved_at": at, "findings": findings, "unconfirmed": [] })
}

fn env(key: &str, default: &str) -> String {
    std::env::var(key).unwrap_or_else(|_| default.to_owned())
}

async fn client(lab: &Lab, user: &str) -> Client {
    let options = lab.connect_options(user).await.expect("options");
    options.connect(lab.url("us-0").expect("url")).await.expect("connects")
}

async fn next(epochs: &mut async_nats::Subscriber) -> Value {
    let message = tokio::time::timeout(Duration::from_secs(30), epochs.next()).await;
    let message = message.expect("an epoch comes").expect("the subscription lasts");
    serde_json::from_slice(&message.payload).expect("events are JSON")
}
