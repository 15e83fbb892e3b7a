//! What accounts send over gateways, measured on real servers against workloads whose bytes are known.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::common::{AgentSpec, Event, WITHIN, Watch, binary};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use gatewatch::lab::{Auth, Lab, Spec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Long enough for the workloads, which begin when the agent has looked for the first time.
const WINDOW: Duration = Duration::from_secs(15);
const MESSAGES: usize = 600;
const MESSAGE_BYTES: usize = 4096;
/// What the figures may differ by: two percentage points.
const RATIO_OFF_MAX: f64 = 0.02;

/// What each account's workload truly sends over gateways for each byte that its clients publish.
const TRUTH: &[(&str, f64)] = &[
    // Two of three messages have a subscriber in the other cluster, and the third one at home.
    ("ONE_WAY", 2.0 / 3.0),
    // Each message has a subscriber in both clusters; one cluster publishes twice as much as the other.
    ("BOTH_WAYS", 1.0),
    // Half is for a group with members in both clusters, which is served at home, half for one in the other.
    ("QUEUE_GROUPS", 0.5),
    // A quarter of the requests, and of the replies, which are three times as large, is served far away.
    ("REQUEST_REPLY", 0.25),
    // Each message is published once, and crosses once to the stream that sources it.
    ("SOURCING", 1.0),
];

fn config() -> String {
    format!(
        "[checks.gateway_traffic_ratio]\nwindow = \"{}s\"\nratio_min = 0.0\nbytes_min = 0\nprice_per_gb = 0.02\n",
        WINDOW.as_secs()
    )
}

async fn lab(version: &str) -> Watch {
    let spec = Spec {
        binary: Some(binary(version).await),
        auth: Auth::Users,
        jetstream: true,
        accounts: TRUTH.iter().map(|(account, _)| (*account).to_owned()).collect(),
        ..Spec::new(&["eu", "us"], 3)
    };
    let agent = AgentSpec { config: Some(config()), ..AgentSpec::default() };
    Watch::unwatched(spec, agent, true).await
}

async fn connect(lab: &Lab, account: &str, server: &str) -> Client {
    let options = lab.connect_options(account).await.unwrap();
    options.connect(lab.url(server).unwrap()).await.unwrap()
}

/// The clients of one account.
struct Clients {
    eu: Client,
    us: Client,
}

impl Clients {
    async fn of(lab: &Lab, account: &str) -> Self {
        Self { eu: connect(lab, account, "eu-0").await, us: connect(lab, account, "us-1").await }
    }
}

/// Publishes until the first message arrives: the interest of a subscriber takes a moment to cross.
async fn reaches(from: &Client, subject: &'static str, to: &mut Subscriber) {
    let deadline = Instant::now() + WITHIN;
    loop {
        from.publish(subject, "probe".into()).await.unwrap();
        from.flush().await.unwrap();
        if tokio::time::timeout(Duration::from_millis(100), to.next()).await.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "{subject} did not arrive within {WITHIN:?}");
    }
}

async fn publish(from: &Client, subject: &'static str, messages: usize) {
    for _ in 0..messages {
        from.publish(subject, vec![b'x'; MESSAGE_BYTES].into()).await.unwrap();
    }
    from.flush().await.unwrap();
}

/// Takes messages until `count` large ones came.
async fn arrive(what: &str, from: &mut Subscriber, count: usize) {
    for n in 0..count {
        loop {
            let message = tokio::time::timeout(WITHIN, from.next()).await;
            assert!(message.is_ok(), "{what}: {n} of {count} came");
            if message.unwrap().unwrap().payload.len() == MESSAGE_BYTES {
                break;
            }
        }
    }
}

/// What a workload has ready before it is measured.
enum Workload {
    OneWay(Clients, Subscriber, Subscriber),
    BothWays(Clients, Subscriber, Subscriber),
    QueueGroups(Clients, Vec<Subscriber>),
    RequestReply(Clients),
    Sourcing(Clients),
}

/// Answers each request with three times its size.
async fn serve(client: &Client, subject: &'static str) {
    let mut requests = client.subscribe(subject).await.unwrap();
    client.flush().await.unwrap();
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let body = vec![b'y'; request.payload.len() * 3];
            drop(client.publish(request.reply.unwrap(), body.into()).await);
        }
    });
}

async fn api(client: &Client, what: &str, body: Value) -> Value {
    let deadline = Instant::now() + WITHIN;
    loop {
        let reply = client.request(format!("$JS.API.{what}"), body.to_string().into()).await;
        let reply = reply.map(|r| serde_json::from_slice::<Value>(&r.payload).unwrap()).unwrap_or_default();
        if reply.get("error").is_none() && reply != Value::Null {
            return reply;
        }
        assert!(Instant::now() < deadline, "{what}: {reply}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn messages_in(client: &Client, stream: &str) -> u64 {
    let info = api(client, &format!("STREAM.INFO.{stream}"), json!({})).await;
    info["state"]["messages"].as_u64().unwrap()
}

async fn messages_come(client: &Client, stream: &str, count: u64) {
    let deadline = Instant::now() + WITHIN;
    while messages_in(client, stream).await < count {
        assert!(Instant::now() < deadline, "{stream} has not {count} messages within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Workload {
    async fn prepare(lab: &Lab, account: &str) -> Self {
        let clients = Clients::of(lab, account).await;
        let Clients { eu, us } = &clients;
        match account {
            "ONE_WAY" => {
                let mut far = us.subscribe("far").await.unwrap();
                let home = connect(lab, account, "eu-2").await;
                let mut near = home.subscribe("near").await.unwrap();
                reaches(eu, "far", &mut far).await;
                reaches(eu, "near", &mut near).await;
                Self::OneWay(clients, far, near)
            }
            "BOTH_WAYS" => {
                let mut in_eu = eu.subscribe("all").await.unwrap();
                let mut in_us = us.subscribe("all").await.unwrap();
                reaches(eu, "all", &mut in_us).await;
                reaches(us, "all", &mut in_eu).await;
                Self::BothWays(clients, in_eu, in_us)
            }
            "QUEUE_GROUPS" => {
                let mut members = Vec::new();
                for (client, subject) in [(eu, "spread"), (us, "spread"), (us, "far")] {
                    members.push(client.queue_subscribe(subject, "group".into()).await.unwrap());
                    client.flush().await.unwrap();
                }
                reaches(eu, "far", &mut members[2]).await;
                reaches(eu, "spread", &mut members[0]).await;
                Self::QueueGroups(clients, members)
            }
            "REQUEST_REPLY" => {
                serve(&connect(lab, account, "eu-2").await, "near").await;
                serve(&connect(lab, account, "us-2").await, "far").await;
                for subject in ["near", "far"] {
                    let deadline = Instant::now() + WITHIN;
                    while eu.request(subject, "probe".into()).await.is_err() {
                        assert!(Instant::now() < deadline, "nobody serves {subject}");
                    }
                }
                Self::RequestReply(clients)
            }
            _ => {
                let placed = |cluster: &str| json!({ "cluster": cluster });
                let origin = json!({
                    "name": "ORIGIN", "subjects": ["orders"], "num_replicas": 1, "storage": "memory",
                    "retention": "limits", "discard": "old", "placement": placed("eu"),
                });
                api(eu, "STREAM.CREATE.ORIGIN", origin).await;
                let copy = json!({
                    "name": "COPY", "sources": [{ "name": "ORIGIN" }], "num_replicas": 1, "storage": "memory",
                    "retention": "limits", "discard": "old", "placement": placed("us"),
                });
                api(us, "STREAM.CREATE.COPY", copy).await;
                eu.publish("orders", "probe".into()).await.unwrap();
                messages_come(us, "COPY", 1).await;
                Self::Sourcing(clients)
            }
        }
    }

    async fn run(&mut self) {
        match self {
            Self::OneWay(Clients { eu, .. }, far, near) => {
                publish(eu, "far", MESSAGES * 2).await;
                publish(eu, "near", MESSAGES).await;
                arrive("far", far, MESSAGES * 2).await;
                arrive("near", near, MESSAGES).await;
            }
            Self::BothWays(Clients { eu, us }, in_eu, in_us) => {
                publish(eu, "all", MESSAGES * 2).await;
                publish(us, "all", MESSAGES).await;
                arrive("all in eu", in_eu, MESSAGES * 3).await;
                arrive("all in us", in_us, MESSAGES * 3).await;
            }
            Self::QueueGroups(Clients { eu, .. }, members) => {
                publish(eu, "spread", MESSAGES).await;
                publish(eu, "far", MESSAGES).await;
                arrive("spread", &mut members[0], MESSAGES).await;
                arrive("far", &mut members[2], MESSAGES).await;
            }
            Self::RequestReply(Clients { eu, .. }) => {
                for n in 0..MESSAGES / 2 {
                    let subject = if n % 4 == 0 { "far" } else { "near" };
                    eu.request(subject, vec![b'x'; MESSAGE_BYTES].into()).await.unwrap();
                }
            }
            Self::Sourcing(Clients { eu, us }) => {
                publish(eu, "orders", MESSAGES).await;
                messages_come(us, "COPY", MESSAGES as u64 + 1).await;
            }
        }
    }

    /// What its clients publish, in bytes.
    fn published_bytes(&self) -> usize {
        let messages = match self {
            Self::OneWay(..) | Self::BothWays(..) => MESSAGES * 3,
            Self::QueueGroups(..) | Self::RequestReply(..) => MESSAGES * 2,
            Self::Sourcing(..) => MESSAGES,
        };
        messages * MESSAGE_BYTES
    }
}

fn is_of(event: &Event, account: &str) -> bool {
    event.text("/check") == "gateway_traffic_ratio" && event.text("/entity/account") == account
}

/// Runs the workloads beside the agent, and returns them with the moment when they began.
async fn measure(watch: &mut Watch) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (account, _) in TRUTH {
        workloads.push(Workload::prepare(&watch.lab, account).await);
    }
    watch.start_agent().await;
    let began = Instant::now();
    futures_util::future::join_all(workloads.iter_mut().map(Workload::run)).await;
    let took = began.elapsed();
    assert!(took < WINDOW / 2, "the workloads took {took:?}, and ought to lie in one window");
    workloads
}

async fn holds_on(version: &str) {
    let mut watch = lab(version).await;
    let workloads = measure(&mut watch).await;
    let mut table =
        format!("\n{version:10} {:15} {:>8} {:>8} {:>6}\n", "workload", "truth", "measured", "off");
    let mut worst = 0.0_f64;
    for ((account, truth), workload) in TRUTH.iter().zip(&workloads) {
        let opened =
            watch.wait(account, 0, WINDOW * 2 + WITHIN, |e| e.is("opened") && is_of(e, account)).await;
        let evidence = &opened.body["evidence"];
        let measured = evidence["ratio"].as_f64().unwrap();
        let off = (measured - truth).abs();
        worst = worst.max(off);
        writeln!(table, "{:10} {account:15} {truth:8.4} {measured:8.4} {off:6.4}", "").unwrap();
        let published = evidence["published_bytes"].as_f64().unwrap();
        let known = workload.published_bytes() as f64;
        assert!((published / known - 1.0).abs() < 0.01, "{account}: {published} of {known} bytes\n{table}");
        assert_eq!(evidence["window_s"], WINDOW.as_secs_f64(), "{account}");
        assert!(
            opened.subject.ends_with(&format!(".info.gateway_traffic_ratio._._.{account}")),
            "{opened:?}"
        );
        assert!(evidence["connections_by_cluster"]["eu"].as_u64().is_some(), "{evidence}");
        assert!(evidence["cost_per_day"].as_f64().is_some(), "{evidence}");
    }
    println!("{table}");
    assert!(worst <= RATIO_OFF_MAX, "{table}");
    let sourcing = watch.wait("the finding", 0, WITHIN, |e| is_of(e, "SOURCING")).await;
    assert_eq!(sourcing.body["evidence"]["streams_led_by_cluster"], json!({ "eu": 1, "us": 1 }));
    println!("{}", sourcing.line());
    the_command_for_connections_answers(&watch.lab, &sourcing).await;
    watch.sound();
    watch.end_agent(Signal::SIGTERM).await;
}

/// What is told to be asked names the account's connections, and no others.
async fn the_command_for_connections_answers(lab: &Lab, finding: &Event) {
    let steps = finding.body["remediation"].as_array().unwrap();
    let run = steps.iter().filter_map(|step| step["run"].as_str()).find(|run| run.contains("CONNZ")).unwrap();
    let parts: Vec<&str> = run.split('\'').collect();
    let client = lab.system_client("eu-0").await.unwrap();
    let mut replies = client.subscribe("probe.replies").await.unwrap();
    client
        .publish_with_reply(parts[1].to_owned(), "probe.replies", parts[3].to_owned().into())
        .await
        .unwrap();
    let (mut found, mut answers) = (0, 0);
    while answers < 6 {
        let reply = tokio::time::timeout(WITHIN, replies.next()).await.expect("six servers answer").unwrap();
        let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
        assert!(reply.get("error").is_none(), "{run}: {reply}");
        found += reply["data"]["connections"].as_array().unwrap().len();
        answers += 1;
    }
    assert_eq!(found, 2, "{run}");
}

#[tokio::test]
async fn the_ratio_of_five_known_workloads_is_true_within_two_points_on_2_15_1() {
    holds_on("2.15.1").await;
}

#[tokio::test]
async fn the_ratio_of_five_known_workloads_is_true_within_two_points_on_2_12_8() {
    holds_on("2.12.8").await;
}

#[tokio::test]
async fn a_version_that_does_not_count_gateways_apart_is_unknown_and_never_zero() {
    let mut watch = lab("2.10.26").await;
    measure(&mut watch).await;
    // Every account would be found, were it judged: each ratio from zero on is one.
    let until = Instant::now() + WINDOW + WINDOW / 2;
    watch.observe_until(until).await;
    let told: Vec<String> = watch.findings(0).iter().map(Event::line).collect();
    assert_eq!(told, [""; 0]);
    watch.finish().await;
}

#[tokio::test]
async fn clients_apart_from_their_stream_are_found_and_the_step_that_is_told_mends_it() {
    let spec = Spec { binary: Some(binary("2.15.1").await), jetstream: true, ..Spec::new(&["eu", "us"], 3) };
    let agent = AgentSpec { config: Some(config()), ..AgentSpec::default() };
    let mut watch = Watch::unwatched(spec, agent, true).await;
    let mut clients = Vec::new();
    for n in 0..6 {
        clients.push(connect(&watch.lab, "app", &format!("us-{}", n % 3)).await);
    }
    let stream = |cluster: &str| {
        json!({
            "name": "ORDERS", "subjects": ["orders"], "num_replicas": 1, "storage": "file",
            "retention": "limits", "discard": "old", "placement": { "cluster": cluster },
        })
    };
    api(&clients[0], "STREAM.CREATE.ORDERS", stream("eu")).await;
    watch.start_agent().await;
    let apart = |e: &Event| e.is("opened") && e.text("/check") == "cross_cluster_stream_access";
    let opened = watch.wait("the clients apart", 0, WINDOW * 2, apart).await;
    assert_eq!(opened.text("/entity/cluster"), "us");
    assert_eq!(
        opened.text("/summary"),
        "6 of the 6 connections of APP are in us, and its stream is led in eu",
        "{}",
        opened.line()
    );
    assert!(opened.text("/entity/account").starts_with('A'), "in operator mode its key: {opened:?}");
    assert_eq!(opened.text("/remediation/0/run"), "nats stream edit ORDERS --cluster us");
    // What that command sends.
    api(&clients[0], "STREAM.UPDATE.ORDERS", stream("us")).await;
    watch.wait_resolved(0, &opened, WINDOW * 4).await;
    watch.sound();
    watch.end_agent(Signal::SIGTERM).await;
}
