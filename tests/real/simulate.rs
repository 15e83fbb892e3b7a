//! The agent beside synthetic servers: it cannot tell them from real ones.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::common::sweep::output;
use crate::common::{LABS, WITHIN, binary, gatewatch};

struct Simulation {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Simulation {
    async fn start(version: &str) -> Self {
        let mut command = gatewatch();
        command.args(["lab", "simulate", "--clusters", "3", "--servers", "3", "--version", version]);
        command.arg("--nats-server").arg(binary("2.15.1").await);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url = String::new();
        // `end` is the last of what it says at the start.
        loop {
            let line = timeout(WITHIN, lines.next_line()).await.unwrap().unwrap().expect("it starts");
            if let Some(found) = line.split_whitespace().find(|word| word.starts_with("nats://")) {
                found.clone_into(&mut url);
            }
            if line.starts_with("end ") {
                return Self { child, input, lines, url };
            }
        }
    }

    /// Says a line, and hands back the answer.
    async fn tell(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        timeout(WITHIN, self.lines.next_line()).await.unwrap().unwrap().expect("it answers")
    }

    async fn check(&self) -> (Option<i32>, String) {
        let mut command = gatewatch();
        command.args(["check", "--server", &self.url]);
        let said = output(command, WITHIN).await;
        (said.status.code(), String::from_utf8(said.stdout).unwrap())
    }
}

/// Killed, it would leave its nats-server behind.
impl Drop for Simulation {
    fn drop(&mut self) {
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        if kill(Pid::from_raw(pid), Signal::SIGTERM).is_err() {
            return;
        }
        let until = Instant::now() + WITHIN;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
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
    let mut simulation = Simulation::start(version).await;
    let (exit, text) = simulation.check().await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("3 of 3 clusters, 9 of 9 servers, 18 of 18 links"), "{text}");

    let client = async_nats::connect(&simulation.url).await.unwrap();
    let mut heard = client.subscribe("gatewatch.*.>").await.unwrap();
    client.flush().await.unwrap();
    let mut command = gatewatch();
    command.args(["run", "--server", &simulation.url]).stdout(Stdio::null()).stderr(Stdio::null());
    let _agent = command.spawn().unwrap();
    let mut next = async |wanted: &str| loop {
        let message = timeout(WITHIN, heard.next()).await.expect(wanted).unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if body["type"] == "io.nats.gatewatch.metric.v1.epoch"
            && wanted == "an epoch"
            && body["settled"] == true
        {
            return body;
        }
        if body["type"] == "io.nats.gatewatch.advisory.v1.finding" {
            return body;
        }
    };
    let epoch = next("an epoch").await;
    assert_eq!(epoch["links"]["connected"], 18, "{epoch}");

    let said = simulation.tell("cut c1-1 c2").await;
    assert!(said.ends_with("cut c1-1 c2: c1-1"), "{said}");
    let is = |event: &Value, action: &str| {
        let entity = &event["entity"];
        let names = [&event["action"], &event["check"], &entity["server"], &entity["remote"]];
        assert_eq!(names, [action, "gateway_disconnected", "c1-1", "c2"], "{event}");
    };
    is(&next("what is opened").await, "opened");
    let (exit, text) = simulation.check().await;
    assert_eq!(exit, Some(2), "{text}");
    simulation.tell("heal").await;
    is(&next("what is resolved").await, "resolved");
    assert!(simulation.tell("explode").await.contains("is not understood"));
}
