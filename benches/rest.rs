//! What the agent costs when nothing happens.
//!
//! `cargo bench --bench rest` starts 3 clusters × 3 servers and the agent with defaults, waits a minute
//! (`GATEWATCH_BENCH_REST=60s`), and prints the agent's memory and processor time as the kernel counts them, the
//! bytes and requests that it costs the servers, its start time and the size of its binary. It fails when a
//! bound is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends"
)]

mod common;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use gatewatch::lab::{Lab, Spec};
use serde_json::Value;

use common::Agent;

const AGENT_AT: &str = "eu-0";
const RSS_MAX_MIB: f64 = 20.0;
const CORE_MAX_PERCENT: f64 = 0.5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rest = std::env::var("GATEWATCH_BENCH_REST").unwrap_or_else(|_| "60s".into());
    let rest = humantime::parse_duration(&rest).expect("GATEWATCH_BENCH_REST is a duration");
    let binary = env!("CARGO_BIN_EXE_gatewatch");
    let lab = Lab::start(Spec::default()).await.expect("the lab starts");
    let options = lab.connect_options("sys").await.expect("options");
    let sys = options.connect(lab.url("us-0").expect("url")).await.expect("connects");
    let mut epochs = sys.subscribe("gatewatch.epoch.>").await.expect("subscribes");
    sys.flush().await.expect("flushes");

    let servers_before = servers_cpu(&lab).await;
    let quiet_from = Instant::now();
    tokio::time::sleep(rest / 2).await;
    let quiet = (servers_cpu(&lab).await - servers_before) / quiet_from.elapsed().as_secs_f64() * 100.0;

    let started = Instant::now();
    let agent = Agent::start(&lab, binary, AGENT_AT, &[]);
    drop(next(&mut epochs).await);
    let first_epoch = started.elapsed();
    // Roster, configuration and routes are learned.
    tokio::time::sleep(Duration::from_secs(5)).await;
    while futures_util::FutureExt::now_or_never(epochs.next()).is_some() {}

    let (cpu_before, servers_before, from) = (cpu(agent.0.id()), servers_cpu(&lab).await, Instant::now());
    let (mut count, mut requests, mut replies, mut bytes_in) = (0_u64, 0_u64, 0_u64, 0_u64);
    while from.elapsed() < rest {
        let epoch = next(&mut epochs).await;
        let number = |key: &str| epoch[key].as_u64().unwrap_or(0);
        assert_eq!(epoch["servers"]["answered"], 9, "{epoch}");
        count += 1;
        requests += number("requests");
        replies += number("replies");
        bytes_in += number("bytes_in");
    }
    let seconds = from.elapsed().as_secs_f64();
    let core = (cpu(agent.0.id()) - cpu_before) / seconds * 100.0;
    let watched = (servers_cpu(&lab).await - servers_before) / seconds * 100.0;
    let (rss, peak) = memory_mib(agent.0.id());
    let size = std::fs::metadata(binary).expect("the binary is there").len() as f64 / 1024.0 / 1024.0;
    drop(agent);
    lab.down().await.expect("the lab ends");

    let per_s = |n: u64| n as f64 / seconds;
    println!("3 clusters x 3 servers at rest, agent with defaults, {seconds:.0} s, {count} epochs");
    println!("memory (RSS, peak)              {rss:.1} MiB, {peak:.1} MiB");
    println!("processor time of the agent     {core:.2} % of a core");
    println!("requests, replies               {:.1}/s, {:.1}/s", per_s(requests), per_s(replies));
    println!("bytes received                  {:.0} B/s", per_s(bytes_in));
    println!(
        "processor time of nine servers  {quiet:.2} % of a core without the agent, {watched:.2} % with it"
    );
    println!("start to first epoch            {} ms", first_epoch.as_millis());
    println!("binary                          {size:.1} MiB");
    assert!(rss <= RSS_MAX_MIB, "RSS is {rss:.1} MiB, and {RSS_MAX_MIB} is the bound");
    assert!(
        core <= CORE_MAX_PERCENT,
        "the agent takes {core:.2} % of a core, and {CORE_MAX_PERCENT} is the bound"
    );
    println!("bounds: RSS <= {RSS_MAX_MIB} MiB, processor time <= {CORE_MAX_PERCENT} % of a core: kept");
}

async fn next(epochs: &mut async_nats::Subscriber) -> Value {
    let message = tokio::time::timeout(Duration::from_secs(15), epochs.next()).await;
    let message = message.expect("an epoch comes").expect("the subscription lasts");
    serde_json::from_slice(&message.payload).expect("events are JSON")
}

async fn servers_cpu(lab: &Lab) -> f64 {
    let mut sum = 0.0;
    for server in lab.servers() {
        sum += cpu(lab.pid(&server).await.expect("a server of the lab").expect("it runs"));
    }
    sum
}

/// User and system time of a process, in seconds (`man 5 proc`; a tick is 10 ms).
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name in parentheses may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

fn memory_mib(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let kib = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key)).expect("the line is there");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).expect("a number") / 1024.0
    };
    (kib("VmRSS:"), kib("VmHWM:"))
}
