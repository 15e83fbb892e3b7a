//! The micro service: found and asked by clients of other accounts and clusters, and what silences mute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::common::{AgentSpec, SETTLE, WITHIN, Watch, binary};
use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use gatewatch::api::SWEEPS_MAX;
use gatewatch::lab::{Auth, Lab, Spec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const LINK: &str = "gateway_disconnected us/us-1/ap";
const ENDPOINTS: [&str; 10] = [
    "checks",
    "epoch",
    "explain",
    "findings",
    "metrics",
    "silence.add",
    "silence.list",
    "silence.remove",
    "sweep",
    "topology",
];

async fn client(lab: &Lab, user: &str, at: &str) -> Client {
    let options = lab.connect_options(user).await.unwrap();
    options.connect(lab.url(at).unwrap()).await.unwrap()
}

async fn ask_raw(client: &Client, endpoint: &str, body: &str) -> Message {
    let subject = format!("gatewatch.api.{endpoint}");
    let reply = tokio::time::timeout(WITHIN, client.request(subject, body.to_owned().into())).await;
    reply.expect("an answer in time").unwrap_or_else(|e| panic!("{endpoint} {body}: {e}"))
}

async fn ask(client: &Client, endpoint: &str, body: &Value) -> Value {
    let message = ask_raw(client, endpoint, &body.to_string()).await;
    assert!(message.headers.is_none(), "{endpoint} {body}: {:?}", message.headers);
    serde_json::from_slice(&message.payload).unwrap()
}

/// Code and words of an error.
async fn refused(client: &Client, endpoint: &str, body: &str) -> (String, String) {
    let message = ask_raw(client, endpoint, body).await;
    let headers = message.headers.unwrap_or_else(|| panic!("{endpoint} took {body:.100}"));
    let header = |name: &str| headers.get(name).map(|v| v.as_str().to_owned()).unwrap_or_default();
    assert!(message.payload.is_empty());
    (header("Nats-Service-Error-Code"), header("Nats-Service-Error"))
}

/// Every answer to one question that comes in half a second after the first.
async fn all(client: &Client, subject: &str) -> Vec<Value> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let mut found = Vec::new();
    let mut within = Duration::from_secs(5);
    while let Ok(Some(message)) = tokio::time::timeout(within, answers.next()).await {
        assert!(message.status.is_none(), "{subject}: {:?}", message.status);
        found.push(serde_json::from_slice(&message.payload).unwrap());
        within = Duration::from_millis(500);
    }
    found
}

/// A state file in a directory that outlives no test.
fn with_state(dir: &tempfile::TempDir) -> AgentSpec {
    let file = dir.path().join("state.json");
    let config = format!("[state]\nfile = \"{}\"\n", file.display());
    AgentSpec { config: Some(config), ..AgentSpec::default() }
}

async fn serves_on(version: &str, auth: Auth) {
    let spec = Spec { auth, binary: Some(binary(version).await), ..Spec::default() };
    let mut watch = Watch::start(spec).await;
    let (sys, app) = (client(&watch.lab, "sys", "us-0").await, client(&watch.lab, "app", "ap-1").await);

    // Who has no name for it finds it among all; another account by its name.
    for (client, suffix) in [(&sys, ""), (&sys, ".gatewatch"), (&app, ".gatewatch")] {
        let pongs = all(client, &format!("$SRV.PING{suffix}")).await;
        assert_eq!(pongs.len(), 1, "{pongs:?}");
        assert_eq!(pongs[0]["type"], "io.nats.micro.v1.ping_response");
        assert_eq!(pongs[0]["name"], "gatewatch");
        assert_eq!(pongs[0]["metadata"]["agent"], "watcher");
        let id = pongs[0]["id"].as_str().unwrap().to_owned();
        assert_eq!(all(client, &format!("$SRV.PING.gatewatch.{id}")).await.len(), 1);
        let infos = all(client, &format!("$SRV.INFO{suffix}")).await;
        let endpoints = infos[0]["endpoints"].as_array().unwrap();
        let subjects: BTreeSet<&str> = endpoints.iter().map(|e| e["subject"].as_str().unwrap()).collect();
        let expected: Vec<String> = ENDPOINTS.iter().map(|name| format!("gatewatch.api.{name}")).collect();
        assert_eq!(subjects, expected.iter().map(String::as_str).collect());
        assert!(endpoints.iter().all(|e| e["queue_group"] == "q" && e["metadata"]["request"].is_string()));
    }

    for client in [&app, &sys] {
        every_endpoint(client).await;
        errors(client).await;
    }
    let stats = all(&app, "$SRV.STATS.gatewatch").await;
    let of: BTreeMap<&str, &Value> =
        stats[0]["endpoints"].as_array().unwrap().iter().map(|e| (e["name"].as_str().unwrap(), e)).collect();
    assert!(of["findings"]["num_requests"].as_u64() > Some(5), "{stats:?}");
    assert!(of["findings"]["num_errors"].as_u64() > Some(2), "{stats:?}");
    assert!(of["explain"]["last_error"].as_str().unwrap().starts_with("404:"), "{stats:?}");

    // What is cut is found by its filters, and when it is over, among the resolved.
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let opened = watch.wait_opened(mark, LINK, WITHIN).await;
    let found = ask(&app, "findings", &json!({})).await;
    assert_eq!(found["total"], 1, "{found}");
    let finding = &found["findings"][0];
    for key in
        ["fingerprint", "summary", "entity", "evidence", "remediation", "opened_at", "severity", "code"]
    {
        assert_eq!(finding[key], opened.body[key], "{key}");
    }
    assert_eq!((&finding["state"], &finding["silenced"]), (&json!("open"), &json!(false)));
    for (filter, count) in [
        (json!({ "check": "CLUSTER_007", "severity": "critical", "cluster": "us", "state": "open" }), 1),
        (json!({ "check": "gateway_flapping" }), 0),
        (json!({ "severity": "warning" }), 0),
        (json!({ "cluster": "eu" }), 0),
        (json!({ "state": "resolved", "check": "gateway_disconnected" }), 0),
    ] {
        assert_eq!(ask(&app, "findings", &filter).await["total"], count, "{filter}");
    }
    let metrics = String::from_utf8(ask_raw(&app, "metrics", "").await.payload.to_vec()).unwrap();
    let line = r#"gatewatch_findings_open{check="gateway_disconnected",severity="critical"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.resolves(mark, &opened).await;
    assert_eq!(ask(&app, "findings", &json!({})).await["total"], 0);
    let resolved = ask(&app, "findings", &json!({ "state": "resolved", "cluster": "us" })).await;
    assert_eq!(resolved["findings"][0]["fingerprint"], opened.body["fingerprint"]);
    assert_eq!(resolved["findings"][0]["reason"], "recovered");

    // The service moves with the agent, and ends with it.
    watch.lab.kill("eu-0").await.unwrap();
    let mark = watch.mark();
    watch.wait("restored", mark, WITHIN, |event| event.subject == "gatewatch.agent.restored.watcher").await;
    watch.wait("a settled epoch", mark, WITHIN, |e| e.is_epoch() && e.body["settled"] == true).await;
    // That somebody answers there has to be told to the other cluster first.
    let deadline = Instant::now() + WITHIN;
    while app.request("gatewatch.api.epoch", "".into()).await.is_err() {
        assert!(Instant::now() < deadline, "nobody answers: {}", watch.agent_log());
    }
    assert_eq!(ask(&app, "epoch", &json!({})).await["agent"], "watcher");
    watch.lab.start_server("eu-0").await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    // A server that is missed takes a while to be so, and is found again by then.
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.end_agent(Signal::SIGTERM).await;
    let request = app.request("gatewatch.api.epoch", "".into());
    let gone = tokio::time::timeout(WITHIN, request).await.expect("an answer in time");
    assert!(gone.is_err(), "nobody answers: {gone:?}");
}

async fn every_endpoint(client: &Client) {
    let topology = ask(client, "topology", &json!({})).await;
    assert_eq!(topology["clusters"]["eu"]["servers"], json!(["eu-0", "eu-1", "eu-2"]));
    let again = ask_raw(client, "topology", "").await;
    assert_eq!(serde_json::from_slice::<Value>(&again.payload).unwrap(), topology, "from memory too");
    let epoch = ask(client, "epoch", &json!({})).await;
    assert_eq!(epoch["type"], "io.nats.gatewatch.metric.v1.epoch");
    assert_eq!(epoch["silences"], 0);
    let checks = ask(client, "checks", &json!({})).await;
    assert_eq!(checks["checks"].as_array().unwrap().len(), gatewatch::checks::REGISTRY.len());
    for name in ["gateway_disconnected", "cluster_007"] {
        let explained = ask(client, "explain", &json!({ "check": name })).await;
        assert_eq!(explained["code"], "CLUSTER_007");
        assert!(explained["text"].as_str().unwrap().contains("\nWhat to do\n"), "{explained}");
    }
    let asked_at = Instant::now();
    let swept = ask(client, "sweep", &json!({})).await;
    assert!(asked_at.elapsed() < Duration::from_secs(2), "{:?}", asked_at.elapsed());
    assert_eq!(swept["servers"]["answered"], 9, "{swept}");
    let many = (0..4 * SWEEPS_MAX).map(|_| ask_raw(client, "sweep", ""));
    let many = futures_util::future::join_all(many).await;
    let (refused, told): (Vec<&Message>, _) = many.iter().partition(|answer| answer.payload.is_empty());
    assert!(told.len() >= SWEEPS_MAX && !refused.is_empty(), "{} of {} told", told.len(), many.len());
    let code = |answer: &&Message| {
        answer
            .headers
            .as_ref()
            .is_some_and(|h| h.get("Nats-Service-Error-Code").is_some_and(|c| c.as_str() == "503"))
    };
    assert!(refused.iter().all(code), "{refused:?}");
    let page = ask(client, "findings", &json!({ "limit": 1 })).await;
    assert_eq!(page["next"], Value::Null);
    let metrics = String::from_utf8(ask_raw(client, "metrics", "").await.payload.to_vec()).unwrap();
    assert!(
        metrics.ends_with("\n# EOF\n") && metrics.contains("\ngatewatch_links_connected 18\n"),
        "{metrics}"
    );

    let silence =
        json!({ "match": { "check": "CLUSTER_005", "cluster": "xx" }, "for": "1h", "why": "w", "who": "jo" });
    let added = ask(client, "silence.add", &silence).await["silence"].clone();
    assert_eq!(added["match"], json!({ "check": "route_mesh_incomplete", "cluster": "xx" }));
    let listed = ask(client, "silence.list", &json!({})).await;
    assert_eq!(listed["silences"], json!([added]));
    let removed = ask(client, "silence.remove", &json!({ "id": added["id"] })).await;
    assert_eq!(removed["silence"], added);
    assert_eq!(ask(client, "silence.list", &json!({})).await["total"], 0);
}

async fn errors(client: &Client) {
    let huge = format!("{{\"cluster\":\"{}\"}}", "x".repeat(20_000));
    let silence = |what: Value| {
        let mut silence = json!({ "match": { "cluster": "eu" }, "for": "1h", "why": "w", "who": "jo" });
        silence.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        silence.to_string()
    };
    for (endpoint, body, code, words) in [
        ("findings", "go away".to_owned(), "400", "for example"),
        ("findings", "[1]".to_owned(), "400", "a JSON object"),
        ("findings", r#"{"chek":"x"}"#.to_owned(), "400", "unknown field `chek`"),
        ("findings", r#"{"check":7}"#.to_owned(), "400", "expected a string"),
        (
            "findings",
            r#"{"check":"gateway_disconected"}"#.to_owned(),
            "404",
            "did you mean `gateway_disconnected`",
        ),
        ("findings", r#"{"severity":"bad"}"#.to_owned(), "400", "`critical`"),
        ("findings", r#"{"limit":0}"#.to_owned(), "400", "1 to 1000"),
        ("findings", r#"{"after":"x"}"#.to_owned(), "400", "`next`"),
        ("findings", huge, "413", "at the most"),
        ("explain", String::new(), "400", "missing field `check`"),
        ("explain", r#"{"check":"a\nb\u001b"}"#.to_owned(), "404", "a\\nb\\u{1b}"),
        ("topology", r#"{"x":1}"#.to_owned(), "400", "unknown field"),
        ("silence.add", silence(json!({ "match": {} })), "400", "at least one"),
        ("silence.add", silence(json!({ "match": { "host": "x" } })), "400", "unknown field `host`"),
        ("silence.add", silence(json!({ "match": { "check": "x" } })), "404", "no check"),
        ("silence.add", silence(json!({ "for": "a while" })), "400", "a duration such as"),
        ("silence.add", silence(json!({ "for": "31d" })), "400", "30 days"),
        ("silence.add", silence(json!({ "why": " " })), "400", "`why`"),
        ("silence.remove", r#"{"id":"x"}"#.to_owned(), "404", "silence.list"),
    ] {
        let (its_code, its_words) = refused(client, endpoint, &body).await;
        assert_eq!(its_code, code, "{endpoint} {body:.100}: {its_words}");
        assert!(its_words.contains(words), "{endpoint} {body:.100}: {its_words}");
    }
}

#[tokio::test]
async fn another_account_in_another_cluster_finds_it_and_asks_all_on_2_10() {
    serves_on("2.10.26", Auth::Users).await;
}

#[tokio::test]
async fn another_account_in_another_cluster_finds_it_and_asks_all_on_2_12() {
    serves_on("2.12.8", Auth::Operator { dir: None }).await;
}

#[tokio::test]
async fn another_account_in_another_cluster_finds_it_and_asks_all_on_2_15() {
    serves_on("2.15.1", Auth::Users).await;
}

/// Adds a silence, and waits until the agent knows.
async fn silence(client: &Client, matches: Value, lasts: &str) -> String {
    let silence = json!({ "match": matches, "for": lasts, "why": "a test", "who": "tester" });
    let added = ask(client, "silence.add", &silence).await;
    added["silence"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_opens_in_a_silence_is_told_of_when_the_silence_ends_also_by_the_next_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::unwatched(Spec::default(), with_state(&dir), true).await;
    watch.start_agent().await;
    let app = client(&watch.lab, "app", "ap-0").await;
    let mark = watch.mark();
    let id = silence(&app, json!({ "cluster": "us", "server": "us-1" }), "10m").await;
    watch.wait("an epoch with a silence", mark, WITHIN, |e| e.is_epoch() && e.body["silences"] == 1).await;
    watch.lab.cut("us-1", "ap").await.unwrap();
    let silenced = |found: &Value| found["total"] == 1 && found["findings"][0]["silenced"] == true;
    let deadline = Instant::now() + WITHIN;
    while !silenced(&ask(&app, "findings", &json!({})).await) {
        assert!(Instant::now() < deadline, "it is not in the ledger");
        watch.observe_until(Instant::now() + Duration::from_millis(100)).await;
    }
    // What another silence does not cover is told of.
    watch.lab.cut("us-2", "eu").await.unwrap();
    let other = watch.wait_opened(mark, "gateway_disconnected us/us-2/eu", WITHIN).await;
    watch.opened_are(mark, &["gateway_disconnected us/us-2/eu"]);

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        watch.end_agent(signal).await;
        watch.start_agent().await;
        watch.observe_until(Instant::now() + Duration::from_secs(4)).await;
        watch.opened_are(mark, &["gateway_disconnected us/us-2/eu"]);
        let found = ask(&app, "findings", &json!({})).await;
        let findings = found["findings"].as_array().unwrap();
        let muted = findings.iter().filter(|finding| finding["silenced"] == true).count();
        assert_eq!((findings.len(), muted), (2, 1), "{found}");
    }
    assert_eq!(ask(&app, "silence.list", &json!({})).await["silences"][0]["id"], json!(id));

    ask(&app, "silence.remove", &json!({ "id": id })).await;
    let told = watch.wait_opened(mark, LINK, WITHIN).await;
    assert_eq!((&told.body["revision"], told.text("/reason")), (&json!(1), "violated"));
    watch.lab.heal_all().await.unwrap();
    watch.wait_resolved(mark, &told, WITHIN).await;
    watch.wait_resolved(mark, &other, WITHIN).await;
    watch.finish().await;
}

#[tokio::test]
async fn a_silence_ends_by_itself_and_what_was_open_before_it_still_closes_in_it() {
    let mut watch = Watch::start(Spec::default()).await;
    let app = client(&watch.lab, "app", "eu-2").await;
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let opened = watch.wait_opened(mark, LINK, WITHIN).await;
    silence(&app, json!({ "check": "gateway_disconnected" }), "5s").await;
    let quiet = watch.mark();
    let told =
        watch.wait("the end of the silence", quiet, WITHIN, |e| e.is_finding() && e.about() == LINK).await;
    assert!(told.is("reminded") || told.is("updated"), "{}", told.line());
    assert!(told.at.duration_since(opened.at) >= Duration::from_secs(5), "it waited for the end");

    let again = watch.mark();
    silence(&app, json!({ "remote": "ap" }), "1h").await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    let resolved = watch.wait_resolved(again, &opened, WITHIN).await;
    assert_eq!(resolved.text("/reason"), "recovered");

    // What opens and is over within one is never told of.
    let third = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let deadline = Instant::now() + WITHIN;
    while ask(&app, "findings", &json!({})).await["total"] != 1 {
        assert!(Instant::now() < deadline, "it is not in the ledger");
        watch.observe_until(Instant::now() + Duration::from_millis(100)).await;
    }
    watch.lab.heal("us-1", "ap").await.unwrap();
    while ask(&app, "findings", &json!({})).await["total"] != 0 {
        assert!(Instant::now() < deadline, "it is still in the ledger");
        watch.observe_until(Instant::now() + Duration::from_millis(100)).await;
    }
    watch.observe_until(Instant::now() + Duration::from_secs(2)).await;
    assert!(watch.findings(third).is_empty(), "{}", watch.story(third));
    watch.finish().await;
}
