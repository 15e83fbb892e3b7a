//! `gatewatch sweep` and `judge`: a file shows the findings that the running agent has open.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::sweep::{Sweep, judge, judges_alike, open, output};
use crate::common::{WITHIN, Watch, binary, gatewatch};
use futures_util::StreamExt;
use gatewatch::lab::{Direction, RemoteSpec, Spec};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_file_shows_what_the_running_agent_found_on_the_newest() {
    each_fault("2.15.1").await;
}

#[tokio::test]
async fn a_file_shows_what_the_running_agent_found_on_the_oldest() {
    each_fault("2.10.26").await;
}

async fn each_fault(version: &str) {
    let mut watch = Watch::start(Spec { binary: Some(binary(version).await), ..Spec::default() }).await;
    let mark = watch.mark();

    let (healthy, log) = Sweep::start(&watch, "healthy.json", &[]).done().await;
    shows_what_is_open(&watch, &healthy, &log, 0).await;
    assert_eq!(open(&watch, 0), BTreeMap::new());
    holds_no_secret(&watch, &healthy);

    // A link.
    watch.lab.cut("eu-1", "us").await.unwrap();
    let finding = watch.wait_opened(watch.mark(), "gateway_disconnected eu/eu-1/us", WITHIN).await;
    let (file, log) = Sweep::start(&watch, "sweep.json", &[]).done().await;
    shows_what_is_open(&watch, &file, &log, 2).await;
    of_many_files_the_worst_counts(&healthy, &file).await;
    judged_by_other_settings(&watch, &file).await;
    what_is_cut_off_is_refused(&watch, &file).await;
    watch.lab.heal("eu-1", "us").await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;

    // A bigger one, which explains many small ones.
    let mark = watch.mark();
    watch.lab.cut("eu", "us").await.unwrap();
    watch.lab.cut("us", "eu").await.unwrap();
    let finding = watch.wait_opened(mark, "cluster_unreachable us/_/_", WITHIN).await;
    let (file, log) = Sweep::start(&watch, "sweep.json", &[]).done().await;
    shows_what_is_open(&watch, &file, &log, 2).await;
    watch.lab.heal("eu", "us").await.unwrap();
    watch.lab.heal("us", "eu").await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;

    // A link that is listed and lets nothing pass.
    let mark = watch.mark();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.lab.blackhole("us-1", "ap", Direction::FromDialer).await.unwrap();
    // Who looks within a second of it sees what arrived just before.
    let finding = watch.wait_opened(mark, "gateway_silent us/us-1/ap", WITHIN).await;
    let (file, log) = Sweep::start(&watch, "sweep.json", &[]).done().await;
    shows_what_is_open(&watch, &file, &log, 2).await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;

    // A warning.
    let mark = watch.mark();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    let remotes = Some(vec![RemoteSpec::new("ap")]);
    watch.lab.restart_with("eu-1", |gateway| gateway.remotes = remotes).await.unwrap();
    let finding = watch.wait_opened(mark, "gateway_config_mismatch eu/eu-1/_", WITHIN).await;
    let (file, log) = Sweep::start(&watch, "sweep.json", &[]).done().await;
    shows_what_is_open(&watch, &file, &log, 1).await;
    watch.lab.restart_with("eu-1", |gateway| gateway.remotes = None).await.unwrap();
    watch.wait_resolved(mark, &finding, WITHIN).await;

    // A server that is gone is missed by who saw it before.
    let mark = watch.mark();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    let sweep = Sweep::start(&watch, "sweep.json", &["--for", "10m"]);
    two_look(&watch).await;
    watch.lab.kill("us-1").await.unwrap();
    let finding = watch.wait_opened(mark, "server_missing us/us-1/_", WITHIN).await;
    // It looks as often as the agent, and not at the same time.
    watch.observe_until(Instant::now() + Duration::from_secs(3)).await;
    let (file, log) = sweep.end().await;
    shows_what_is_open(&watch, &file, &log, 1).await;
    watch.lab.start_server("us-1").await.unwrap();
    watch.resolves(mark, &finding).await;

    let agents: Vec<String> = watch
        .since(0)
        .iter()
        .map(|event| event.body["vantage"]["agent"].as_str().unwrap_or(event.text("/agent")).to_owned())
        .filter(|agent| agent != "watcher")
        .collect();
    assert!(agents.is_empty(), "a sweep publishes nothing: {agents:?}");
    watch.finish().await;
}

async fn shows_what_is_open(watch: &Watch, file: &Path, log: &str, exit: i32) {
    let (code, lines) = judges_alike(watch, 0, file, log).await;
    assert_eq!(code, exit, "{lines}");
    let file = file.to_str().unwrap();
    assert_eq!(judge(&["--json", file]).await.1, lines, "the same file, the same bytes");
    let (code, text, said) = judge(&[file]).await;
    let status = ["OK: ", "WARNING: ", "CRITICAL: "][usize::try_from(exit).unwrap()];
    assert!(code == exit && text.starts_with(status), "{text}\n{said}");
    for event in lines.lines() {
        let event: Value = serde_json::from_str(event).unwrap();
        assert!(text.contains(event["code"].as_str().unwrap()), "{text}");
        assert!(text.contains(event["summary"].as_str().unwrap()), "{text}");
    }
}

/// Waits until two look, each for some looks: the agent and the sweep.
async fn two_look(watch: &Watch) {
    let options = watch.lab.connect_options("sys").await.unwrap();
    let client = options.connect(watch.lab.url("eu-1").unwrap()).await.unwrap();
    let mut questions = client.subscribe("$SYS.REQ.SERVER.PING.GATEWAYZ").await.unwrap();
    let mut looks: BTreeMap<String, u32> = BTreeMap::new();
    let both = async {
        while looks.values().filter(|n| **n >= 4).count() < 2 {
            let question = questions.next().await.unwrap();
            let inbox = question.reply.unwrap();
            let who = inbox.split('.').take(2).collect::<Vec<_>>().join(".");
            *looks.entry(who).or_default() += 1;
        }
    };
    tokio::time::timeout(WITHIN, both).await.expect("the sweep looks");
}

fn holds_no_secret(watch: &Watch, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("127.0.0.1:"), "addresses are told");
    let creds = fs::read_to_string(watch.lab.creds().unwrap().user("gatewatch")).unwrap();
    let secrets = creds.lines().filter(|line| line.len() > 50);
    assert!(secrets.clone().count() >= 2 && secrets.into_iter().all(|secret| !text.contains(secret)));
    // The URLs of remotes are configured with a user and a password here.
    for word in ["@", "password", "passwd", "seed", "creds", "_INBOX"] {
        assert!(!text.contains(word), "{word} stands in the file");
    }
}

async fn of_many_files_the_worst_counts(healthy: &Path, critical: &Path) {
    let (healthy, critical) = (healthy.to_str().unwrap(), critical.to_str().unwrap());
    let (code, text, _) = judge(&[critical, healthy]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.starts_with(&format!("{critical}:\nCRITICAL: ")), "which file it is about: {text}");
    assert_eq!(judge(&[healthy, healthy]).await.0, 0);

    let mut command = gatewatch();
    command.args(["judge", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(critical).unwrap()).await.unwrap();
    let done = tokio::time::timeout(WITHIN, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(2), "standard input is a file too");
    assert!(!done.stdout.is_empty());
}

async fn judged_by_other_settings(watch: &Watch, file: &Path) {
    let config = watch.dir().join("judge.toml");
    let file = file.to_str().unwrap();
    fs::write(&config, "[checks.gateway_disconnected]\nseverity = \"warning\"\n").unwrap();
    let args = ["--config", config.to_str().unwrap(), file];
    assert_eq!(judge(&args).await.0, 1, "by the severity that is set");
    fs::write(&config, "[checks.gateway_disconnected]\nenabled = false\n").unwrap();
    let (code, text, _) = judge(&args).await;
    assert!(
        code == 0 && text.starts_with("OK: the supercluster is whole"),
        "what is off finds nothing: {text}"
    );
    fs::write(&config, "[checks.gateway_disconected]\n").unwrap();
    let (code, _, said) = judge(&args).await;
    assert!(code == 3 && said.contains("gateway_disconnected"), "{code} {said}");
}

async fn what_is_cut_off_is_refused(watch: &Watch, file: &Path) {
    let bytes = fs::read(file).unwrap();
    let part = watch.dir().join("part.json");
    for at in [1, 50, 200, bytes.len() / 2, bytes.len() - 2] {
        fs::write(&part, bytes.get(..at).unwrap()).unwrap();
        let (code, text, said) = judge(&[part.to_str().unwrap()]).await;
        assert_eq!((code, &*text), (3, ""), "{said}");
        assert!(said.contains("part.json: not whole JSON"), "{said}");
    }
}

#[tokio::test]
async fn what_is_no_snapshot_is_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let finding = r#"{"type":"io.nats.gatewatch.advisory.v1.finding","action":"opened"}"#;
    for (name, text) in [
        ("empty", ""),
        ("finding", finding),
        ("newer", r#"{"type":"io.nats.gatewatch.snapshot.v2","gatewatch":"9.1.0","snapshot":{}}"#),
        ("hollow", r#"{"type":"io.nats.gatewatch.snapshot.v1","gatewatch":"0.1.0","snapshot":{}}"#),
        ("steers", "{\"type\":\"\\u001b[2Jx\"}"),
    ] {
        fs::write(path(name), text).unwrap();
    }
    fs::write(path("binary"), [0x1f, 0x8b, 0x08, 0xff]).unwrap();
    // As large as it says, and nothing in it.
    File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
    for (name, wanted) in [
        ("empty", "empty: not whole JSON"),
        ("binary", "not whole JSON"),
        (
            "finding",
            "no snapshot that `gatewatch sweep` wrote: its type is `io.nats.gatewatch.advisory.v1.finding`",
        ),
        ("newer", "written as io.nats.gatewatch.snapshot.v2 by gatewatch 9.1.0"),
        ("hollow", "damaged"),
        ("steers", r"\u{1b}"),
        ("huge", "larger than 256 MiB"),
        ("absent", "cannot read"),
        ("", "cannot read"),
    ] {
        let (code, text, said) = judge(&[&path(name)]).await;
        assert_eq!((code, &*text), (3, ""), "{name}: {said}");
        assert!(said.contains(wanted) && !said.contains('\u{1b}'), "{name}: {said:?}");
    }
    let endless = judge(&["/dev/zero"]).await;
    assert!(endless.0 == 3 && endless.2.contains("larger than 256 MiB"), "{endless:?}");
    assert_eq!(judge(&[]).await.0, 3, "no file at all says nothing of the supercluster");
}

#[tokio::test]
async fn a_sweep_without_a_server_is_refused_and_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("sweep.json");
    let file = file.to_str().unwrap();
    let mut command = gatewatch();
    command.args(["sweep", "--server", "nats://nats.example:x", "--output", file]);
    let done = output(command, WITHIN).await;
    assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!Path::new(file).exists());
}
