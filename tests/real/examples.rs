//! What stands in docs/examples, as far as it can be run here.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use gatewatch::lab::Spec;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::common::{AgentSpec, WITHIN, Watch};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name)
}

/// Where Python finds what the examples need; it is brought there once.
pub(crate) async fn libraries() -> &'static Path {
    static THERE: OnceCell<PathBuf> = OnceCell::const_new();
    let bring = async || {
        let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
        if !libraries.join("nkeys").exists() {
            let pip = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(&libraries)
                .arg("-r")
                .arg(example("requirements.txt"))
                .output();
            let pip = pip.await.expect("needs python3 with pip");
            assert!(pip.status.success(), "{}", String::from_utf8_lossy(&pip.stderr));
        }
        libraries
    };
    THERE.get_or_init(bring).await
}

/// The next request that somebody makes, answered by `status`.
async fn taken(listener: &TcpListener, status: &str) -> Value {
    let (mut socket, _) = timeout(WITHIN, listener.accept()).await.expect("somebody posts").unwrap();
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = timeout(WITHIN, socket.read(&mut part)).await.unwrap().unwrap();
        text.extend_from_slice(&part[..read]);
        let whole = String::from_utf8_lossy(&text);
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>())
            });
            if length == Some(Ok(body.len())) {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
                return serde_json::from_str(body).unwrap();
            }
        }
        assert!(read > 0, "it ended early: {whole}");
    }
}

#[tokio::test]
async fn a_critical_finding_is_kept_and_pages_someone() {
    let libraries = libraries().await;
    let spec = Spec { jetstream: true, ..Spec::default() };
    let mut watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    let url = watch.lab.url("eu-2").unwrap();
    let app = watch.lab.connect_options("app").await.unwrap().connect(&url).await.unwrap();
    let stream = std::fs::read_to_string(example("stream.json")).unwrap();
    let mut stream: Value = serde_json::from_str(&stream).unwrap();
    // A lab's servers have little room.
    stream["max_bytes"] = (1 << 20).into();
    let stream = stream.to_string();
    let until = Instant::now() + WITHIN;
    let leader = loop {
        // The servers first choose who leads.
        let reply = app.request("$JS.API.STREAM.CREATE.FINDINGS", stream.clone().into()).await;
        let reply = reply.map(|m| serde_json::from_slice::<Value>(&m.payload).unwrap());
        match &reply {
            Ok(reply) if reply.get("error").is_none() => {
                break reply["cluster"]["leader"].as_str().unwrap().to_owned();
            }
            _ => assert!(Instant::now() < until, "{reply:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let elsewhere = ["eu-0", "eu-1"].into_iter().find(|server| *server != leader).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut pager = Command::new(example("page.py"));
    pager.env("PYTHONPATH", libraries).kill_on_drop(true);
    pager.env("NATS_URL", watch.lab.url(elsewhere).unwrap());
    pager.env("NATS_CREDS", watch.lab.creds().unwrap().user("app"));
    pager.env("PAGE_URL", format!("http://{}/", listener.local_addr().unwrap()));
    let mut pager = pager.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(pager.stdout.take().unwrap()).lines();
    let line = timeout(WITHIN, lines.next_line()).await.expect("it starts").unwrap();
    assert_eq!(line.as_deref(), Some("paging"));
    // It outlives the server that keeps the stream.
    watch.lab.terminate(&leader).await.unwrap();
    let line = timeout(WITHIN, lines.next_line()).await.expect("it cannot read").unwrap();
    assert!(line.as_ref().is_some_and(|line| line.starts_with("not read, trying again")), "{line:?}");
    watch.lab.start_server(&leader).await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();

    watch.start_agent().await;
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let opened = watch.wait_opened(mark, "gateway_disconnected us/us-1/ap", WITHIN).await;
    // The pager is away for a moment.
    let refused = taken(&listener, "503 away").await;
    let page = taken(&listener, "202 taken").await;
    assert_eq!(refused, page, "it is tried again");
    assert_eq!((&page["key"], &page["event"]), (&opened.body["fingerprint"], &opened.body["action"]));
    watch.lab.heal("us-1", "ap").await.unwrap();
    let resolved = watch.wait_resolved(mark, &opened, WITHIN).await;
    let page = taken(&listener, "202 taken").await;
    assert_eq!((&page["key"], &page["event"]), (&opened.body["fingerprint"], &resolved.body["action"]));

    // The last of the subject is what the finding is now.
    let ask = format!("{{\"last_by_subj\":\"{}\"}}", opened.subject);
    let reply = app.request("$JS.API.STREAM.MSG.GET.FINDINGS", ask.into()).await.unwrap();
    let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
    let kept = data_encoding::BASE64.decode(reply["message"]["data"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), resolved.body);
    pager.kill().await.unwrap();
    for finding in [&opened.body, &resolved.body] {
        becomes_an_alert(finding).await;
    }
    watch.finish().await;
}

async fn becomes_an_alert(finding: &Value) {
    let mut jq = Command::new("jq");
    jq.args(["-c", "-f"]).arg(example("alertmanager.jq"));
    let Ok(mut jq) = jq.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        eprintln!("alertmanager.jq is not tried: there is no jq on this machine");
        return;
    };
    jq.stdin.take().unwrap().write_all(finding.to_string().as_bytes()).await.unwrap();
    let output = jq.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let alerts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let alert = &alerts[0];
    assert_eq!(alert["labels"]["alertname"], finding["check"]);
    assert_eq!(alert["labels"]["server"], finding["entity"]["server"]);
    assert!(alert["labels"].get("account").is_none(), "no label is null");
    assert!(alert["labels"].as_object().unwrap().values().all(Value::is_string));
    assert_eq!(alert["startsAt"], finding["opened_at"]);
    if finding["state"] == "resolved" {
        assert_eq!(alert["endsAt"], finding["resolved_at"]);
    } else {
        assert!(alert["endsAt"].as_str() > finding["timestamp"].as_str(), "it lasts until it is said again");
    }
}
