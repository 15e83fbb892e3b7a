//! What answers in a server's place may say anything: the rest of the epoch is unharmed.
//!
//! A client in the system account answers the agent's broadcasts beside nine real servers, in every wrong way
//! at once. Meanwhile a real link is cut, and found.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{AgentSpec, Event, SETTLE, WITHIN, Watch, proc_status};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use gatewatch::lab::{Auth, Lab, Spec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const TEN_MB: usize = 10 * 1000 * 1000;

/// Names that would break a subject, a header, a line or a screen.
fn hostile_names() -> Vec<String> {
    let short =
        ["a.b", "a b", "a\nb\r\nMSG x", "*", ">", "a\u{0}\u{1b}[2J", "\"}{", "_", "ä\u{202e}ö", ".", ""];
    short.into_iter().map(str::to_owned).chain(["x".repeat(4096), ".*> ".repeat(1024)]).collect()
}

fn id(number: usize) -> String {
    format!("NFAKE{number:051}")
}

fn envelope(name: &str, cluster: &str, id: &str) -> Value {
    json!({ "name": name, "host": "127.0.0.1", "id": id, "cluster": cluster, "ver": "2.15.1", "seq": 1,
            "jetstream": false, "time": "2026-11-20T19:45:16.058882563Z" })
}

/// A server that is well: it has a gateway to each remote that its cluster ought to have.
fn gateways(id: &str, cluster: &str, peers: &[(String, String)]) -> Value {
    let outbound: serde_json::Map<String, Value> = peers
        .iter()
        .filter(|(remote, _)| remote != cluster)
        .map(|(remote, peer)| {
            let connection = json!({ "cid": 9, "name": peer, "kind": "Gateway", "rtt": "1ms" });
            (remote.clone(), json!({ "configured": true, "connection": connection }))
        })
        .collect();
    json!({ "server_id": id, "now": "2026-11-20T19:45:16Z", "name": cluster, "host": "127.0.0.1", "port": 7222,
            "outbound_gateways": outbound, "inbound_gateways": {} })
}

type Reply = (Option<&'static str>, Vec<u8>);

/// Every wrong answer there is, for one question.
fn replies(endpoint: &str, peers: &[(String, String)], victim: &Value, copy: &[u8]) -> Vec<Reply> {
    let plain = |value: Value| (None, value.to_string().into_bytes());
    let (eu, wrong) = ("eu", |n, name: &str| envelope(name, "eu", &id(n)));
    let mut replies = vec![
        // Truncated, and whose it is cannot be told.
        (None, copy[..copy.len() / 3].to_vec()),
        (None, copy[..copy.len() / 2].to_vec()),
        // Not JSON.
        (None, b"go away".to_vec()),
        (None, vec![0xff; 512]),
        (Some("snappy"), b"not snappy at all".to_vec()),
        (Some("snappy"), [&b"\xff\x06\x00\x00sNaPpY\x00\xff\xff\xff"[..], &[0x61; 64]].concat()),
        (Some("br"), copy.to_vec()),
        // Of wrong types.
        plain(json!([1, 2, 3])),
        plain(json!({ "server": "eu-0", "data": 7 })),
        plain(json!({ "server": wrong(1, "wrong-types"), "data": { "outbound_gateways": [1], "gateway": 3,
                      "routes": {}, "server_id": id(1) } })),
        plain(json!({ "server": wrong(2, "bodiless") })),
        // With an error.
        plain(json!({ "server": wrong(3, "refuser"), "error": { "code": 500, "description": "no\nno" } })),
        // Claims another's ID.
        plain(
            json!({ "server": { "name": "impostor", "id": victim["id"], "cluster": "eu", "ver": "2.15.1", "seq": 1 },
                      "data": { "server_id": victim["id"], "outbound_gateways": {}, "inbound_gateways": {},
                                "gateway": {}, "routes": [] } }),
        ),
        plain(json!({ "server": wrong(4, "two-servers"), "data": { "server_id": victim["id"] } })),
        // Doubled: a real one's, again and again.
        (None, copy.to_vec()),
        (None, copy.to_vec()),
    ];
    for (number, name) in hostile_names().iter().enumerate() {
        let server = envelope(name, if number % 2 == 0 { eu } else { name }, &id(100 + number));
        replies.push(plain(json!({ "server": server, "error": { "code": 400, "description": name } })));
        // IDs may be hostile too.
        let server = envelope("hostile-id", eu, name);
        replies.push(plain(json!({ "server": server, "error": { "code": 400, "description": name } })));
    }
    if endpoint == "GATEWAYZ" {
        let well = json!({ "server": wrong(5, "large"), "data": gateways(&id(5), eu, peers),
                           "pad": "x".repeat(TEN_MB) });
        replies.push(plain(well));
        let names = ["evil.cluster", "evil *> cluster\n"];
        for (number, name) in names.iter().enumerate() {
            let number = 200 + number;
            let server = envelope(&format!("{name}{number}"), name, &id(number));
            replies.push(plain(json!({ "server": server, "data": gateways(&id(number), name, peers) })));
        }
    }
    replies
}

/// Answers in all these ways until it is dropped.
struct Liar(Vec<JoinHandle<()>>);

impl Drop for Liar {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Liar {
    async fn start(lab: &Lab, at: &str) -> Self {
        let mut peers = Vec::new();
        for (cluster, servers) in lab.clusters() {
            peers.push((cluster, lab.server_id(&servers[0]).await.unwrap()));
        }
        let victim = json!({ "id": lab.server_id("us-1").await.unwrap() });
        let options = lab.connect_options("sys").await.unwrap();
        let client = options.connect(lab.url(at).unwrap()).await.unwrap();
        let mut tasks = Vec::new();
        for endpoint in ["GATEWAYZ", "VARZ", "ROUTEZ", "STATSZ"] {
            let mut questions = client.subscribe(format!("$SYS.REQ.SERVER.PING.{endpoint}")).await.unwrap();
            let copied = lab.server_id("us-2").await.unwrap();
            let (client, peers, victim) = (client.clone(), peers.clone(), victim.clone());
            tasks.push(tokio::spawn(async move {
                let copy = real_reply(&client, &copied, endpoint).await;
                let replies = replies(endpoint, &peers, &victim, &copy);
                while let Some(question) = questions.next().await {
                    let Some(reply) = question.reply else { continue };
                    for (encoding, payload) in &replies {
                        let mut headers = HeaderMap::new();
                        if let Some(encoding) = encoding {
                            headers.insert("Content-Encoding", *encoding);
                        }
                        let payload = payload.clone().into();
                        drop(client.publish_with_headers(reply.clone(), headers, payload).await);
                    }
                }
            }));
        }
        client.flush().await.unwrap();
        // Unasked, too. Nothing of it is a heartbeat that the servers themselves would take in.
        tasks.push(tokio::spawn(async move {
            loop {
                for subject in ["STATSZ", "SHUTDOWN", "LAMEDUCK", "CLIENT.AUTH.ERR"] {
                    for payload in ["", "{", "[]", "{\"server\":7}", "{\"id\":7}", "\u{0}"] {
                        drop(client.publish(format!("$SYS.SERVER.NFAKE.{subject}"), payload.into()).await);
                    }
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }));
        Self(tasks)
    }
}

async fn real_reply(client: &Client, id: &str, endpoint: &str) -> Vec<u8> {
    let reply = client.request(format!("$SYS.REQ.SERVER.{id}.{endpoint}"), "".into()).await.unwrap();
    reply.payload.to_vec()
}

#[tokio::test]
async fn whatever_else_answers_the_real_servers_are_judged_as_ever() {
    let spec = Spec { max_payload_bytes: Some(16 << 20), ..Spec::default() };
    let mut watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    watch.start_agent().await;
    // A lie that comes first must not take the place of the true answer.
    watch.lab.delay("us", "eu", Duration::from_millis(40)).await.unwrap();
    let liar = Liar::start(&watch.lab, "eu-2").await;

    for name in ["wrong-types", "bodiless", "refuser", "impostor", "two-servers", "a.b"] {
        let about = format!("observer_degraded eu/{name}/_");
        watch.wait_opened(0, &about, WITHIN).await;
    }
    watch.observe_until(Instant::now() + SETTLE).await;
    only_about_the_liar(&watch);

    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let cut = watch.wait_opened(mark, "gateway_disconnected us/us-1/ap", SETTLE).await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.wait_resolved(mark, &cut, WITHIN).await;

    let mark = watch.mark();
    watch.lab.cut("eu-0", "us").await.unwrap();
    let cut = watch.wait_opened(mark, "gateway_disconnected eu/eu-0/us", WITHIN).await;
    watch.lab.heal("eu-0", "us").await.unwrap();
    watch.wait_resolved(mark, &cut, WITHIN).await;

    // Epochs kept their pace through all of it.
    let epochs: Vec<Event> = watch.since(0).into_iter().filter(Event::is_epoch).collect();
    let widest = epochs.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    assert!(widest < Duration::from_secs(4), "{widest:?} without an epoch");
    let most = epochs.iter().filter_map(|epoch| epoch.body["bytes_in"].as_u64()).max().unwrap();
    assert!(most > TEN_MB as u64, "the large replies came: {most} bytes");
    assert!(epochs.iter().rev().take(3).all(|e| e.body["decode_errors"].as_u64() > Some(0)));

    // When nobody lies any more, the agent sees again.
    let degraded: Vec<Event> = watch
        .findings(0)
        .into_iter()
        .filter(|event| event.is("opened") && event.text("/check") == "observer_degraded")
        .collect();
    drop(liar);
    for finding in &degraded {
        watch.wait_resolved(0, finding, Duration::from_secs(30)).await;
    }
    let mark = watch.mark();
    watch.wait("an epoch", mark, WITHIN, |e| e.is_epoch() && e.body["decode_errors"] == 0).await;
    only_about_the_liar(&watch);
}

/// Except for the links that were cut, nothing was found of a real server.
fn only_about_the_liar(watch: &Watch) {
    let real = watch.lab.servers();
    for finding in watch.findings(0).iter().filter(|event| event.is("opened")) {
        let server = finding.text("/entity/server").to_owned();
        let cut = ["gateway_disconnected us/us-1/ap", "gateway_disconnected eu/eu-0/us"];
        let about = finding.about();
        assert!(!real.contains(&server) || cut.contains(&about.as_str()), "{}", watch.story(0));
        assert!(
            !["eu", "us", "ap"].iter().any(|c| about.ends_with(&format!(" {c}/_/_"))),
            "{}",
            watch.story(0)
        );
    }
}

#[tokio::test]
async fn a_complaint_of_before_a_restart_ends_when_the_lies_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = Some(format!("[state]\nfile = \"{}\"\n", dir.path().join("state.json").display()));
    let spec = Spec { max_payload_bytes: Some(16 << 20), ..Spec::new(&["eu", "us", "ap"], 3) };
    let mut watch = Watch::unwatched(spec, AgentSpec { config, ..AgentSpec::default() }, true).await;
    watch.start_agent().await;
    let liar = Liar::start(&watch.lab, "eu-2").await;
    let named = watch.wait_opened(0, "observer_degraded eu/refuser/_", WITHIN).await;
    let unnamed = watch.wait_opened(0, "observer_degraded _/_/unnamed", WITHIN).await;
    watch.end_agent(Signal::SIGTERM).await;
    drop(liar);
    let mark = watch.mark();
    watch.start_agent().await;
    watch.wait_resolved(mark, &named, WITHIN).await;
    watch.wait_resolved(mark, &unnamed, WITHIN).await;
    let again = watch.findings(mark).iter().filter(|event| event.is("opened")).count();
    assert_eq!(again, 0, "{}", watch.story(mark));
}

/// Publishes messages of one size to one subject as fast as the server takes them, until it is dropped.
struct Flood(Arc<AtomicBool>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flood {
    fn start(lab: &Lab, at: &str, subject: &str, bytes: usize) -> Self {
        let url = lab.url(at).unwrap();
        let mut stream = TcpStream::connect(url.trim_start_matches("nats://")).unwrap();
        let login = json!({ "user": "sys", "pass": lab.password().unwrap(), "verbose": false });
        stream.write_all(format!("CONNECT {login}\r\n").as_bytes()).unwrap();
        let one = format!("PUB {subject} {bytes}\r\n{}\r\n", "x".repeat(bytes));
        let many = one.repeat((1_usize << 20).div_ceil(bytes));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) && stream.write_all(many.as_bytes()).is_ok() {}
        });
        Self(stop)
    }
}

/// The most memory that a process took so far, in MiB.
fn peak_mib(pid: u32) -> u64 {
    proc_status(pid, "VmHWM:").unwrap() >> 10
}

/// Small messages keep the agent busy, and large ones wait meanwhile.
#[tokio::test]
async fn a_flood_fills_no_memory_and_holds_up_no_look() {
    let spec = Spec { auth: Auth::Users, ..Spec::new(&["eu", "us"], 2) };
    let mut watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    let sys = watch.lab.connect_options("sys").await.unwrap();
    let sys = sys.connect(watch.lab.url("eu-1").unwrap()).await.unwrap();
    let mut questions = sys.subscribe("$SYS.REQ.SERVER.PING.GATEWAYZ").await.unwrap();
    sys.flush().await.unwrap();
    let mut command = watch.gatewatch("run");
    command.args(["--name", "watcher"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut agent = command.spawn().unwrap();
    let pid = agent.id().unwrap();
    let question = tokio::time::timeout(WITHIN, questions.next()).await.unwrap().unwrap();
    let inbox = question.reply.unwrap();
    watch.wait("a settled epoch", 0, WITHIN, |e| e.is_epoch() && e.body["settled"] == true).await;

    let before = peak_mib(pid);
    let mark = watch.mark();
    let small = Flood::start(&watch.lab, "eu-0", &inbox, 100);
    let large = Flood::start(&watch.lab, "eu-0", "$SYS.SERVER.NFAKE.CLIENT.AUTH.ERR", 1_000_000);
    watch.observe_until(Instant::now() + SETTLE).await;
    let looks = watch.since(mark).iter().filter(|event| event.is_epoch()).count();
    let peak = peak_mib(pid);
    eprintln!("{before} MiB before, {peak} MiB at the most, {looks} epochs in {SETTLE:?}");
    drop((small, large));
    // That it is more than can be read, or what of it cannot: whichever it comes to.
    watch.wait("it is told", mark, WITHIN, |event| event.is_finding() && event.is("opened")).await;
    assert!(peak < 256, "{peak} MiB");
    assert!(looks >= 2, "{looks} epochs\n{}", watch.story(mark));
    for finding in watch.findings(mark) {
        assert_eq!(finding.text("/check"), "observer_degraded", "{}", watch.story(mark));
    }
    assert!(agent.try_wait().unwrap().is_none(), "it ended");
    agent.kill().await.unwrap();
}
