//! The agent beside synthetic servers: it cannot tell them from real ones.

use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::common::simulation::Simulation;
use crate::common::sweep::output;
use crate::common::{LABS, WITHIN, gatewatch};

async fn check(simulation: &Simulation) -> (Option<i32>, String) {
    let mut command = gatewatch();
    command.args(["check", "--server", &simulation.url]);
    let said = output(command, WITHIN).await;
    (said.status.code(), String::from_utf8(said.stdout).unwrap())
}

/// The agent beside a simulation, and what it says.
struct Agent {
    heard: Subscriber,
    _child: Child,
}

impl Agent {
    async fn start(simulation: &Simulation, args: &[&str]) -> Self {
        let client = async_nats::connect(&simulation.url).await.unwrap();
        let heard = client.subscribe("gatewatch.*.>").await.unwrap();
        client.flush().await.unwrap();
        let mut command = gatewatch();
        command.args(["run", "--server", &simulation.url]).args(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { heard, _child: child }
    }

    /// The next finding, or settled epoch where that is wanted.
    async fn next(&mut self, wanted: &str, within: Duration) -> Value {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = timeout(left, self.heard.next()).await.expect(wanted).unwrap();
            let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            let is_epoch = body["type"] == "io.nats.gatewatch.metric.v1.epoch" && body["settled"] == true;
            if body["type"] == "io.nats.gatewatch.advisory.v1.finding" || is_epoch && wanted == "an epoch" {
                return body;
            }
        }
    }

    /// The next finding is that of the link that is cut.
    async fn tells(&mut self, action: &str) {
        let event = self.next(action, WITHIN).await;
        let entity = &event["entity"];
        let names = [&event["action"], &event["check"], &entity["server"], &entity["remote"]];
        assert_eq!(names, [action, "gateway_disconnected", "c1-1", "c2"], "{event}");
    }
}

#[tokio::test]
async fn synthetic_servers_are_whole_and_a_cut_among_them_is_one_finding_on_the_newest() {
    a_cut_is_found_and_healed("2.15.1").await;
}

#[tokio::test]
async fn synthetic_servers_are_whole_and_a_cut_among_them_is_one_finding_on_the_oldest() {
    a_cut_is_found_and_healed("2.10.26").await;
}

async fn a_cut_is_found_and_healed(version: &str) {
    let _permit = LABS.acquire().await.unwrap();
    let mut simulation = Simulation::start(gatewatch(), 3, 3, version).await;
    let (exit, text) = check(&simulation).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("3 of 3 clusters, 9 of 9 servers, 18 of 18 links"), "{text}");

    let mut agent = Agent::start(&simulation, &[]).await;
    let epoch = agent.next("an epoch", WITHIN).await;
    assert_eq!(epoch["links"]["connected"], 18, "{epoch}");

    let said = simulation.tell("cut c1-1 c2").await;
    assert!(said.ends_with("cut c1-1 c2: c1-1"), "{said}");
    agent.tells("opened").await;
    let (exit, text) = check(&simulation).await;
    assert_eq!(exit, Some(2), "{text}");
    simulation.tell("heal").await;
    agent.tells("resolved").await;
    assert!(simulation.tell("explode").await.contains("is not understood"));
}

/// Where the budget makes a round long, what a heartbeat tells of does not wait for two of them.
#[tokio::test]
async fn a_cut_is_told_of_and_healed_within_less_than_two_slow_rounds() {
    let _permit = LABS.acquire().await.unwrap();
    let mut simulation = Simulation::start(gatewatch(), 8, 3, "2.15.1").await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gatewatch.toml");
    std::fs::write(&config, "[poll]\nbudget_bytes_per_s = 10_000\n").unwrap();
    let mut agent = Agent::start(&simulation, &["--config", config.to_str().unwrap()]).await;
    let mut ms = 0;
    while ms < 10_000 {
        let epoch = agent.next("an epoch", WITHIN * 6).await;
        assert_eq!(epoch["links"]["connected"], 24 * 7, "{epoch}");
        ms = epoch["duration_ms"].as_u64().unwrap();
    }
    simulation.tell("cut c1-1 c2").await;
    agent.tells("opened").await;
    simulation.tell("heal").await;
    agent.tells("resolved").await;
}
