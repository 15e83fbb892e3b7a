//! `gatewatch lab simulate` beside whoever needs synthetic servers. A benchmark uses it too.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
}

impl Simulation {
    /// Runs `command`, the built program, with what makes it a simulation.
    pub(crate) async fn start(mut command: Command, clusters: usize, servers: usize, version: &str) -> Self {
        let (clusters, servers) = (clusters.to_string(), servers.to_string());
        command.args(["lab", "simulate", "--clusters", &clusters, "--servers", &servers]);
        command.args(["--version", version, "--nats-server"]);
        command.arg(gatewatch::lab::nats_server(Some("2.15.1")).await.unwrap());
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
    pub(crate) async fn tell(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        timeout(WITHIN, self.lines.next_line()).await.unwrap().unwrap().expect("it answers")
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
