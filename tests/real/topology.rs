//! `gatewatch topology` and `topology_drift`: what is seen, saved, and held against reality.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::common::sweep::{judge, output};
use crate::common::{self, AgentSpec, SETTLE, WITHIN, Watch, binary};
use gatewatch::lab::{GatewaySpec, RemoteSpec, Spec};
use nix::sys::signal::Signal;

/// What a look at everything may take: it lasts 20 s at the most.
const LOOK_WITHIN: Duration = Duration::from_secs(40);
const CONFIG: &str = r#"
[expect]
topology = "topology.toml"
[state]
file = "state.json"
[checks.topology_drift]
absent_for = "3s"
differs_for = "2s"
"#;

async fn gatewatch(watch: &Watch, server: &str, args: &[&str]) -> Output {
    let mut command = common::gatewatch();
    command.args(args);
    command.args(["--server", &watch.lab.url(server).unwrap(), "--inbox-prefix", "_INBOX_gatewatch"]);
    command.arg("--creds").arg(watch.lab.creds().unwrap().user("gatewatch"));
    output(command, LOOK_WITHIN).await
}

/// What it prints, where all is seen.
async fn topology(watch: &Watch, server: &str, format: &str) -> String {
    let done = gatewatch(watch, server, &["topology", "--format", format]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The agent starts again with `text` as the expected topology.
async fn expect(watch: &mut Watch, text: &str) {
    watch.end_agent(Signal::SIGTERM).await;
    fs::write(file(watch.dir()), text).unwrap();
    watch.start_agent().await;
}

fn file(dir: &Path) -> PathBuf {
    dir.join("topology.toml")
}

#[tokio::test]
async fn what_is_saved_is_held_against_reality_on_the_newest() {
    saved_and_compared("2.15.1").await;
}

#[tokio::test]
async fn what_is_saved_is_held_against_reality_on_the_oldest() {
    saved_and_compared("2.10.26").await;
}

async fn saved_and_compared(version: &str) {
    let spec = Spec { binary: Some(binary(version).await), ..Spec::new(&["eu", "us"], 2) };
    let agent = AgentSpec { config: Some(CONFIG.to_owned()), ..AgentSpec::default() };
    let mut watch = Watch::unwatched(spec, agent, true).await;

    let saved = topology(&watch, "eu-0", "toml").await;
    assert!(
        saved.ends_with(
            "\n[[cluster]]\nname = \"eu\"\nservers = [\"eu-0\", \"eu-1\"]\nremotes = [\"us\"]\n\
         \n[[cluster]]\nname = \"us\"\nservers = [\"us-0\", \"us-1\"]\nremotes = [\"eu\"]\n"
        ),
        "{saved}"
    );
    watch.lab.restart_with("us-1", |_| {}).await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    assert_eq!(
        topology(&watch, "us-0", "toml").await,
        saved,
        "from elsewhere, after a restart: the same bytes"
    );
    let json: serde_json::Value = serde_json::from_str(&topology(&watch, "eu-0", "json").await).unwrap();
    assert_eq!(json["clusters"]["us"]["servers"], serde_json::json!(["us-0", "us-1"]));
    assert_eq!(json["matrix"]["links"]["eu"]["us"]["connected"], 2, "{json}");
    shown_in_each_format(&watch, &saved).await;

    fs::write(file(watch.dir()), &saved).unwrap();
    watch.start_agent().await;
    let mark = watch.mark();
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.opened_are(mark, &[]);

    let zz = "\n[[cluster]]\nname = \"zz\"\nservers = [\"zz-0\"]\nremotes = [\"eu\"]\n";
    for (edited, about, side, ends) in [
        (saved.replace("\"us-1\"]", "\"us-1\", \"us-9\"]"), "us/us-9/_", "expected file", "gone"),
        (saved.clone() + zz, "zz/_/_", "expected file", "gone"),
        (saved.replace("\"us-0\", \"us-1\"", "\"us-0\""), "us/us-1/_", "supercluster", "recovered"),
        (saved.replace("remotes = [\"us\"]", "implicit = [\"us\"]"), "eu/_/us", "supercluster", "recovered"),
    ] {
        assert_ne!(edited, saved);
        let mark = watch.mark();
        expect(&mut watch, &edited).await;
        let finding = watch.exactly_one(mark, &format!("topology_drift {about}")).await;
        assert_eq!(finding.text("/evidence/side"), side, "{}", finding.line());
        if ends == "gone" && about.starts_with("us") {
            assert_eq!(
                judged(&watch).await,
                finding.text("/summary"),
                "a file shows the same, without an agent"
            );
        }
        let mark = watch.mark();
        expect(&mut watch, &saved).await;
        let resolved = watch.wait_resolved(mark, &finding, WITHIN).await;
        assert_eq!(resolved.text("/reason"), ends);
        watch.opened_are(mark, &[]);
    }
    watch.finish().await;
}

/// Each format from a look and from a file: the file is what `--expect` takes too.
async fn shown_in_each_format(watch: &Watch, saved: &str) {
    let text = gatewatch(watch, "eu-0", &["topology", "--servers"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    for told in [
        "2 clusters, 4 servers, 4 links: all up\nseen from eu-0 (eu) at ",
        "\nfrom  servers  → eu",
        "\neu\n  servers: eu-0, eu-1\n  remotes: us\n",
    ] {
        assert!(text.contains(told), "{told:?} is not in\n{text}");
    }
    let file = watch.dir().join("topology-sweep.json");
    let file = file.to_str().unwrap();
    let done = gatewatch(watch, "eu-0", &["sweep", "--output", file]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let offline = async |format: &str| {
        let mut command = common::gatewatch();
        command.args(["topology", file, "--format", format]);
        let done = output(command, LOOK_WITHIN).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    for (format, begins, ends) in [
        ("text", "2 clusters, 4 servers, 4 links: all up\n", "\n"),
        ("json", "{\n", "}\n"),
        ("mermaid", "%% 2 clusters", "\n"),
        ("dot", "// 2 clusters", "}\n"),
        ("svg", "<svg xmlns=", "</svg>\n"),
    ] {
        for written in [topology(watch, "us-1", format).await, offline(format).await] {
            assert!(written.starts_with(begins) && written.ends_with(ends), "{format}: {written}");
        }
    }
    assert_eq!(offline("toml").await, saved);
}

/// As CI would ask: the summary of the one finding.
async fn judged(watch: &Watch) -> String {
    let [config, file] = ["gatewatch.toml", "sweep.json"].map(|name| watch.dir().join(name));
    let [config, file] = [config.to_str().unwrap(), file.to_str().unwrap()];
    let done = gatewatch(watch, "eu-0", &["sweep", "--config", config, "--output", file]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (code, line, said) = judge(&["--json", "--config", config, file]).await;
    assert_eq!(code, 1, "a warning: {said}");
    let event: serde_json::Value = serde_json::from_str(&line).expect("one line");
    event["summary"].as_str().unwrap().to_owned()
}

/// A whole cluster lacks a remote, which gossip hides; then its servers get the entry that the finding tells.
#[tokio::test]
async fn the_entry_that_is_told_puts_a_lost_remote_right() {
    let mut spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::new(&["eu", "us"], 2) };
    for server in ["eu-0", "eu-1"] {
        let lost = GatewaySpec { remotes: Some(Vec::new()), ..GatewaySpec::default() };
        spec.gateways.insert(server.to_owned(), lost);
    }
    let agent = AgentSpec { config: Some(CONFIG.to_owned()), ..AgentSpec::default() };
    let mut watch = Watch::unwatched(spec, agent, true).await;
    let seen = topology(&watch, "us-0", "toml").await;
    let right = seen.replace("remotes = []\nimplicit = [\"us\"]", "remotes = [\"us\"]");
    assert_ne!(right, seen, "it tells that gossip connects them");
    fs::write(file(watch.dir()), right).unwrap();
    let mark = watch.mark();
    watch.start_agent().await;
    let finding = watch.wait_opened(mark, "topology_drift eu/_/us", WITHIN).await;
    assert_eq!(finding.text("/evidence/side"), "expected file", "{}", finding.line());
    assert_eq!(finding.text("/evidence/seen"), "by gossip only", "{}", finding.line());

    let entry = finding.text("/remediation/0/do").lines().last().unwrap().to_owned();
    let urls = entry.strip_prefix("{ name: \"us\", urls: ").and_then(|rest| rest.strip_suffix(" }"));
    let urls: Vec<String> = serde_json::from_str(urls.expect(&entry)).unwrap();
    for server in ["eu-0", "eu-1"] {
        let remote = RemoteSpec { urls: Some(urls.clone()), ..RemoteSpec::new("us") };
        watch.lab.restart_with(server, |gateway| gateway.remotes = Some(vec![remote])).await.unwrap();
        watch.lab.wait_healthy(WITHIN).await.unwrap();
    }
    let resolved = watch.wait_resolved(mark, &finding, WITHIN).await;
    assert_eq!(resolved.text("/reason"), "recovered");
    watch.end_agent(Signal::SIGTERM).await;
}

#[tokio::test]
async fn what_cannot_be_seen_is_not_saved_and_a_bad_file_is_refused_at_the_start() {
    let spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::new(&["eu", "us"], 2) };
    let watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    let said = |done: &Output| String::from_utf8_lossy(&done.stderr).into_owned();

    let path = file(watch.dir());
    fs::write(&path, "[[cluster]]\nname = \"eu\"\nserver = [\"eu-0\"]\n").unwrap();
    let done = gatewatch(&watch, "eu-0", &["run", "--expect", path.to_str().unwrap()]).await;
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    for words in ["unknown key `server` in [[cluster]]", "did you mean `servers`?"] {
        assert!(said(&done).contains(words), "{}", said(&done));
    }
    let done = gatewatch(&watch, "eu-0", &["run", "--expect", "/nowhere/topology.toml"]).await;
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(
        said(&done).contains("cannot read the expected topology /nowhere/topology.toml"),
        "{}",
        said(&done)
    );
    let done = gatewatch(&watch, "eu-0", &["topology", "--format", "png"]).await;
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("text, json, mermaid, dot, svg, toml"), "{}", said(&done));

    // The one that what eu-0 asks does not go through: the other one answers.
    let through = watch.lab.view("eu-0").await.unwrap().outbound["us"].server_id.clone();
    let is_other = watch.lab.server_id("us-1").await.unwrap() != through;
    let stopped = if is_other { "us-1" } else { "us-0" };
    watch.lab.stop(stopped).await.unwrap();
    let done = gatewatch(&watch, "eu-0", &["topology", "--format", "toml"]).await;
    assert_eq!(done.status.code(), Some(3), "{}", said(&done));
    assert!(done.stdout.is_empty(), "a file that lacks a server would call it unexpected");
    assert!(said(&done).contains("not all is seen"), "{}", said(&done));
    let done = gatewatch(&watch, "eu-0", &["topology"]).await;
    assert_eq!(done.status.code(), Some(3), "{}", said(&done));
    let shown = String::from_utf8_lossy(&done.stdout);
    let told = format!("us: 1 of 2 servers answered; {stopped} did not");
    assert!(shown.contains(&told), "what is seen is shown: {shown}");
    watch.lab.cont(stopped).await.unwrap();
}
