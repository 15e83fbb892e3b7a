//! `gatewatch sweep` and `judge`, run beside the agent and held against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Event, WITHIN, Watch, gatewatch};

/// What a sweep may take: it looks for 20 s at the most.
const SWEEP_WITHIN: Duration = Duration::from_secs(40);

pub(crate) async fn output(mut command: Command, within: Duration) -> Output {
    let ran = tokio::time::timeout(within, command.output()).await;
    ran.expect("it ends").unwrap()
}

/// A sweep from where the agent looks.
#[derive(Debug)]
pub(crate) struct Sweep {
    child: Child,
    pub(crate) file: PathBuf,
}

impl Sweep {
    pub(crate) fn start(watch: &Watch, name: &str, more: &[&str]) -> Self {
        let file = watch.dir().join(name);
        let mut command = watch.gatewatch("sweep");
        command.arg("--output").arg(&file).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), file }
    }

    /// It writes what it has seen until now.
    pub(crate) async fn end(self) -> (PathBuf, String) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs until it is ended");
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        self.done().await
    }

    /// The file, and what was said beside.
    pub(crate) async fn done(self) -> (PathBuf, String) {
        let done = tokio::time::timeout(SWEEP_WITHIN, self.child.wait_with_output()).await;
        let done = done.expect("it ends").unwrap();
        let log = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{:?}\n{log}", done.status);
        assert!(done.stdout.is_empty(), "it stands in the file");
        (self.file, log)
    }
}

/// The exit code, what was printed, and what was said beside.
pub(crate) async fn judge(args: &[&str]) -> (i32, String, String) {
    let mut command = gatewatch();
    command.arg("judge").args(args);
    let done = output(command, WITHIN).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let stderr = text(done.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    (done.status.code().expect("it ends by itself"), text(done.stdout), stderr)
}

/// What is the same in an event and in what a file is judged to: by fingerprint. Causes and what is
/// explained are not: who came after the fault does not know what stood before.
fn told<'a>(events: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Vec<Value>> {
    let keys = ["type", "check", "code", "severity", "state", "entity"];
    let told = |event: &Value| {
        let told = keys.iter().map(|key| event[*key].clone()).collect();
        (event["fingerprint"].as_str().unwrap().to_owned(), told)
    };
    events.map(told).collect()
}

/// What the agent has opened since `mark` and not resolved.
pub(crate) fn open(watch: &Watch, mark: usize) -> BTreeMap<String, Vec<Value>> {
    let mut last: BTreeMap<String, Event> = BTreeMap::new();
    for event in watch.findings(mark) {
        last.insert(event.text("/fingerprint").to_owned(), event);
    }
    told(last.values().filter(|event| !event.is("resolved")).map(|event| &event.body))
}

/// The file is judged to exactly what is open, by the agent's own thresholds.
pub(crate) async fn judges_alike(watch: &Watch, mark: usize, file: &Path, log: &str) -> (i32, String) {
    let file = file.to_str().unwrap();
    let config = watch.config().map(|file| file.to_str().unwrap().to_owned());
    let mut args = vec!["--json", file];
    args.extend(config.iter().flat_map(|config| ["--config", config]));
    let (code, lines, said) = judge(&args).await;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told(events.iter()), open(watch, mark), "the file, and what is open\n{log}\n{said}");
    (code, lines)
}
