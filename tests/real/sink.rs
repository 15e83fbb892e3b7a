//! Where findings are kept: what is in the stream and in the bucket after the agent, the sink's server, or both
//! were killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gatewatch::lab::Spec;
use gatewatch::publish::Message;
use gatewatch::sink::{BYTES_MAX, Event, Sink};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::store::{ACCOUNT, STREAM, Store, TICK, ask, open_by};
use crate::common::{AgentSpec, WITHIN, Watch, binary};

/// The dice may cut one link thrice in a row, which is a finding of its own.
const NOT_FLAPPING: &str = "[checks.gateway_flapping]\nenabled = false\n";

#[tokio::test]
async fn any_death_leaves_stream_and_bucket_as_they_should_be_on_the_newest() {
    rounds("2.15.1", 4).await;
}

#[tokio::test]
async fn any_death_leaves_stream_and_bucket_as_they_should_be_on_the_oldest() {
    rounds("2.10.26", 2).await;
}

#[tokio::test]
async fn any_death_leaves_stream_and_bucket_as_they_should_be_in_between() {
    rounds("2.12.8", 2).await;
}

/// While a fault comes and goes, one or both are killed and started again.
async fn rounds(version: &str, rounds: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("GATEWATCH_ROUNDS").unwrap_or(rounds);
    let seed = number("GATEWATCH_SEED").unwrap_or(0x9e37_79b9_7f4a_7c15);
    let mut random = seed;
    let mut dice = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let nats_server = binary(version).await;
    let store = Store::start(nats_server.clone()).await;
    let agent = AgentSpec {
        config: Some(store.config() + NOT_FLAPPING),
        listen_at: "eu-0".into(),
        ..AgentSpec::default()
    };
    let spec = Spec { binary: Some(nats_server), ..Spec::new(&["eu", "us", "ap"], 1) };
    let mut watch = Watch::unwatched(spec, agent, true).await;
    watch.lawless();
    watch.start_agent().await;
    let (mut kills, mut deaths) = (0, 0);
    let began = Instant::now();
    for round in 1..=rounds {
        // Each of a kind that an agent finds which starts after it.
        let links = [("eu-0", "us"), ("us-0", "eu"), ("eu-0", "ap"), ("us-0", "ap")];
        let (from, to) = links[usize::try_from(dice(4)).unwrap()];
        watch.lab.cut(from, to).await.unwrap();
        tokio::time::sleep(Duration::from_millis(dice(6000))).await;
        let which = dice(3);
        if which != 0 {
            store.kill().await;
            deaths += 1;
        }
        if which != 1 {
            watch.end_agent(Signal::SIGKILL).await;
            kills += 1;
        }
        let heals_first = dice(2) == 0;
        if heals_first {
            watch.lab.heal(from, to).await.unwrap();
        }
        if which != 0 {
            tokio::time::sleep(Duration::from_millis(dice(3000))).await;
            store.revive().await;
        }
        if which != 1 {
            watch.start_agent().await;
        }
        // A fault that lives through it all, and one that came and went meanwhile.
        if !heals_first {
            calm(&store, &watch, round, true).await;
            watch.lab.heal(from, to).await.unwrap();
        }
        watch.lab.wait_healthy(WITHIN).await.unwrap();
        calm(&store, &watch, round, false).await;
    }
    let log = store.log().await.unwrap();
    let opened = log.iter().filter(|line| line.text("action") == "opened").count();
    let resolved = log.iter().filter(|line| line.text("action") == "resolved").count();
    eprintln!(
        "{version}: {rounds} rounds in {} s, seed {seed}: agent killed {kills} times, sink's server {deaths} times; \
         {} messages, {opened} opened, {resolved} resolved",
        began.elapsed().as_secs(),
        log.len()
    );
    assert!(opened > 0 && opened == resolved);
    watch.finish_anyhow().await;
}

/// Waits until something or nothing is open in the stream, and the bucket says the same.
async fn calm(store: &Store, watch: &Watch, round: u64, faulty: bool) {
    let deadline = Instant::now() + Duration::from_secs(45);
    loop {
        let (log, keys) = (store.log().await, store.keys().await);
        if let (Some(log), Some(keys)) = (&log, &keys) {
            let open = open_by(log);
            if open == *keys && open.is_empty() != faulty {
                return;
            }
        }
        assert!(
            Instant::now() < deadline,
            "round {round}: bucket {keys:?}, stream {:?}\n{}",
            log.map(|log| log.iter().map(|l| format!("{} {}", l.text("action"), l.id)).collect::<Vec<_>>()),
            watch.agent_log()
        );
        tokio::time::sleep(TICK * 4).await;
    }
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    crate::common::proc_status(std::process::id(), "VmRSS:").unwrap() * 1024
}

/// So many transitions while the sink is away: seconds here, minutes with `GATEWATCH_AWAY_S`.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_storm_while_the_sink_is_away_waits_in_order_and_is_all_delivered() {
    let away = std::env::var("GATEWATCH_AWAY_S").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let store = Store::start(binary("2.15.1").await).await;
    let (sink, mut events) = Sink::start(store.sink(ACCOUNT), "storm", "gatewatch");
    assert!(matches!(events.recv().await, Some(Event::Holds(_))));
    store.kill().await;
    let before = resident_bytes();
    let began = Instant::now();
    let mut most = 0;
    // A hundred findings that come and go, each transition of two kilobytes.
    for n in 0..5000_u64 {
        let (print, life) = (format!("{:016x}", n % 100), n / 200 + 1);
        let (action, state) = if n / 100 % 2 == 0 { ("opened", "open") } else { ("resolved", "resolved") };
        let revision = n / 100 % 2 + 1;
        sink.keep(&Message {
            subject: format!("gatewatch.finding.warning.test.eu.{print}._"),
            headers: vec![
                ("Nats-Msg-Id".into(), format!("{print}:{life}:{revision}")),
                ("Gatewatch-Action".into(), action.into()),
                ("Gatewatch-State".into(), state.into()),
            ],
            payload: json!({
                "action": action, "fingerprint": print, "revision": revision, "number": n, "text": "x".repeat(2000),
            })
            .to_string(),
        });
        most = most.max(sink.load().bytes);
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_secs(away) / 100).await;
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    let trouble = tokio::time::timeout(WITHIN, events.recv()).await.unwrap();
    assert!(matches!(trouble, Some(Event::Trouble { .. })), "{trouble:?}");
    assert_eq!((sink.load().waiting, sink.load().dropped), (5000, 0));
    let waited = began.elapsed();
    store.revive().await;
    let back = Instant::now();
    let events = tokio::spawn(async move {
        let mut well = false;
        while let Ok(Some(event)) = tokio::time::timeout(WITHIN, events.recv()).await {
            if matches!(event, Event::Well) {
                well = true;
                break;
            }
        }
        (well, events)
    });
    tokio::time::timeout(WITHIN * 3, sink.drained()).await.expect("all is delivered");
    let took = back.elapsed();
    let (well, _events) = events.await.unwrap();
    assert!(well, "it is told that the sink is back");
    let log = store.log().await.unwrap();
    assert_eq!(open_by(&log), BTreeSet::new());
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &log {
        let number = line.body["number"].as_u64().unwrap();
        assert!(
            last.insert(line.text("fingerprint"), number).is_none_or(|before| before < number),
            "in order"
        );
    }
    eprintln!(
        "away {} s, {} delivered in {} ms; queue {most} bytes of {BYTES_MAX}, memory grew by {grown}",
        waited.as_secs(),
        log.len(),
        took.as_millis()
    );
    assert_eq!(log.len(), 5000);
    assert!(most <= BYTES_MAX as u64 && grown <= 2 * BYTES_MAX as u64);
    assert_eq!(store.keys().await.unwrap(), BTreeSet::new());
}

/// What a server answers is what the exactly-once rests on.
#[tokio::test]
async fn a_double_and_a_stale_sequence_are_told_apart_by_each_version() {
    for version in ["2.10.26", "2.12.8", "2.15.1"] {
        let store = Store::start(binary(version).await).await;
        let client = store.client().await;
        let config =
            json!({ "name": STREAM, "subjects": ["gatewatch.finding.>"], "duplicate_window": 1_000_000_000 });
        ask(&client, &format!("STREAM.CREATE.{STREAM}"), config).await.unwrap();
        let write = async |id: &str, after: u64| -> Value {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", id);
            headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string().as_str());
            let subject = "gatewatch.finding.a".to_owned();
            let reply = client.request_with_headers(subject, headers, "{}".into()).await.unwrap();
            serde_json::from_slice(&reply.payload).unwrap()
        };
        let first = write("a:1:1", 0).await;
        assert_eq!(first["seq"], 1);
        let stale_double = write("a:1:1", 0).await;
        let double = write("a:1:1", 1).await;
        let stale = write("a:1:2", 0).await;
        eprintln!("{version}: double and stale {stale_double}, double {double}, stale {stale}");
        // Either is answered by a look at what is there.
        for answer in [&stale_double, &double, &stale] {
            let number = answer["error"]["err_code"].as_u64();
            assert!(answer["duplicate"] == true || number.is_some_and(|n| [10_071, 10_164].contains(&n)));
        }
        let deadline = Instant::now() + WITHIN;
        loop {
            // Beyond the window it is the sequence that holds.
            let late = write("a:1:1", 0).await;
            if late["error"]["err_code"] == 10_071 {
                break;
            }
            assert!(late["duplicate"] == true && Instant::now() < deadline, "{late}");
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Who may not, or meets a stream that is not fit, is told one sentence, and changes nothing.
#[tokio::test]
async fn a_stream_that_is_not_fit_is_told_of_and_left_alone() {
    let store = Store::start(binary("2.15.1").await).await;
    let client = store.client().await;
    let config = json!({ "name": STREAM, "subjects": ["elsewhere.>"], "storage": "memory" });
    ask(&client, &format!("STREAM.CREATE.{STREAM}"), config).await.unwrap();
    let (_sink, mut events) = Sink::start(store.sink(ACCOUNT), "unfit", "gatewatch");
    let told = tokio::time::timeout(WITHIN, events.recv()).await.unwrap();
    let Some(Event::Trouble { why, todo }) = told else { panic!("{told:?}") };
    assert_eq!(why, "stream GATEWATCH is not fit for findings: it does not keep gatewatch.finding.>");
    assert!(todo.contains("nats stream edit GATEWATCH"), "{todo}");
    let info = ask(&client, &format!("STREAM.INFO.{STREAM}"), Value::Null).await.unwrap();
    assert_eq!(info["config"]["subjects"], json!(["elsewhere.>"]));
    assert_eq!(info["config"]["storage"], "memory");
    // An account without JetStream.
    let (_sink, mut events) = Sink::start(store.sink("BARE"), "denied", "gatewatch");
    let told = tokio::time::timeout(WITHIN, events.recv()).await.unwrap();
    let Some(Event::Trouble { why, todo }) = told else { panic!("{told:?}") };
    assert!(why.contains("JetStream"), "{why}");
    assert!(todo.contains("enable JetStream"), "{todo}");
}
