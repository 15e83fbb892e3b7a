//! What the agent costs when nothing happens.
//!
//! `cargo bench --bench rest` starts 3 clusters × 3 servers and the agent with defaults, waits a minute
//! (`GATEWATCH_BENCH_REST=60s`), and prints the agent's memory and processor time as the kernel counts them, its
//! requests, its start time and the size of its binary; and what the servers spend, with it and in as long a time
//! without it. It fails when a bound is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use gatewatch::lab::{Lab, Spec};
use serde_json::Value;

use common::Agent;
use process::{cpu, memory_mib};

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

    let (before, from) = (Spent::of(&lab, &sys).await, Instant::now());
    tokio::time::sleep(rest).await;
    let without = Spent::of(&lab, &sys).await.since(before, from);

    let started = Instant::now();
    let agent = Agent::start(&lab, binary, AGENT_AT, &[]);
    // Before it leads it has not looked.
    while next(&mut epochs).await["leader"] != true {}
    let first_epoch = started.elapsed();
    // Roster, configuration and routes are learned.
    tokio::time::sleep(Duration::from_secs(5)).await;
    while futures_util::FutureExt::now_or_never(epochs.next()).is_some() {}

    let (cpu_before, before, from) = (cpu(agent.0.id()), Spent::of(&lab, &sys).await, Instant::now());
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
    let with = Spent::of(&lab, &sys).await.since(before, from);
    let (rss, peak) = memory_mib(agent.0.id()).expect("it runs");
    let size = std::fs::metadata(binary).expect("the binary is there").len() as f64 / 1024.0 / 1024.0;
    drop(agent);
    lab.down().await.expect("the lab ends");

    let per_s = |n: u64| n as f64 / seconds;
    println!("3 clusters x 3 servers at rest, agent with defaults, {seconds:.0} s, {count} epochs");
    println!("memory (RSS, peak)              {rss:.1} MiB, {peak:.1} MiB");
    println!("processor time of the agent     {core:.2} % of a core");
    println!("requests, replies               {:.1}/s, {:.1}/s", per_s(requests), per_s(replies));
    println!("bytes received by the agent     {:.0} B/s", per_s(bytes_in));
    println!("start to first epoch            {} ms", first_epoch.as_millis());
    println!("binary                          {size:.1} MiB");
    println!("\n{:<32}{:>10}{:>10}{:>8}", "what the nine servers spend", "without", "with it", "ratio");
    let line = |what: &str, of: fn(&Spent) -> f64, decimals: usize| {
        let [without, with] = [&without, &with].map(of);
        println!("{what:<32}{without:>10.decimals$}{with:>10.decimals$}{:>8.2}", with / without);
    };
    line("processor time, % of a core", |s| s.cpu_s * 100.0, 2);
    line("bytes of messages received, B/s", |s| s.bytes_in, 0);
    line("bytes of messages sent, B/s", |s| s.bytes_out, 0);
    println!();
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

/// What all servers have spent; or in a second.
#[derive(Clone, Copy)]
struct Spent {
    cpu_s: f64,
    /// Of messages, to and from clients and other servers alike.
    bytes_in: f64,
    bytes_out: f64,
}

impl Spent {
    async fn of(lab: &Lab, sys: &async_nats::Client) -> Self {
        let mut spent = Self { cpu_s: 0.0, bytes_in: 0.0, bytes_out: 0.0 };
        let inbox = sys.new_inbox();
        let mut replies = sys.subscribe(inbox.clone()).await.expect("subscribes");
        sys.publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, "".into()).await.expect("asks");
        for server in lab.servers() {
            spent.cpu_s += cpu(lab.pid(&server).await.expect("a server of the lab").expect("it runs"));
            let data = &next(&mut replies).await["data"];
            spent.bytes_in += data["in_bytes"].as_f64().expect("a number");
            spent.bytes_out += data["out_bytes"].as_f64().expect("a number");
        }
        spent
    }

    /// In each second since it was `before`.
    fn since(self, before: Self, from: Instant) -> Self {
        let seconds = from.elapsed().as_secs_f64();
        Self {
            cpu_s: (self.cpu_s - before.cpu_s) / seconds,
            bytes_in: (self.bytes_in - before.bytes_in) / seconds,
            bytes_out: (self.bytes_out - before.bytes_out) / seconds,
        }
    }
}
