//! Where findings are kept: a server with a stream and a bucket, and what both must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use data_encoding::BASE64;
use gatewatch::config::{self, Connect};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::WITHIN;

pub(crate) const STREAM: &str = "GATEWATCH";
const BUCKET: &str = "gatewatch";
pub(crate) const ACCOUNT: &str = "KEEP";
const PASSWORD: &str = "of-the-sink";
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// The server of the sink: one alone, with `JetStream` in an account of its own.
pub(crate) struct Store {
    dir: tempfile::TempDir,
    binary: PathBuf,
    port: u16,
    process: tokio::sync::Mutex<Option<Child>>,
}

impl Store {
    pub(crate) async fn start(binary: PathBuf) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let user = |name: &str| json!({ "user": name, "password": PASSWORD });
        let config = json!({
            "listen": format!("127.0.0.1:{port}"), "jetstream": { "store_dir": dir.path().join("store") },
            "accounts": {
                ACCOUNT: { "jetstream": "enabled", "users": [user(ACCOUNT)] },
                "BARE": { "users": [user("BARE")] },
            },
        });
        std::fs::write(dir.path().join("server.conf"), config.to_string()).unwrap();
        let store = Self { dir, binary, port, process: tokio::sync::Mutex::default() };
        store.revive().await;
        store
    }

    /// Starts the server; done when `JetStream` answers.
    pub(crate) async fn revive(&self) {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.dir.path().join("server.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        *self.process.lock().await = Some(command.spawn().unwrap());
        let deadline = Instant::now() + WITHIN;
        while ask(&self.client().await, "INFO", Value::Null).await.is_none() {
            assert!(Instant::now() < deadline, "the sink's server does not start");
            tokio::time::sleep(TICK).await;
        }
    }

    pub(crate) async fn kill(&self) {
        let mut child = self.process.lock().await.take().expect("it runs");
        child.kill().await.unwrap();
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> String {
        format!(
            "[sink]\nserver = \"{}\"\nuser = \"{ACCOUNT}\"\npassword = \"{PASSWORD}\"\n\
             stream = \"{STREAM}\"\nbucket = \"{BUCKET}\"\n",
            self.url()
        )
    }

    pub(crate) fn sink(&self, user: &str) -> config::Sink {
        config::Sink {
            connect: Connect {
                server: Some(self.url()),
                user: Some(user.to_owned()),
                password: Some(PASSWORD.to_owned()),
                ..Connect::default()
            },
            stream: Some(STREAM.to_owned()),
            bucket: Some(BUCKET.to_owned()),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let deadline = Instant::now() + WITHIN;
        loop {
            let options = ConnectOptions::with_user_and_password(ACCOUNT.to_owned(), PASSWORD.to_owned());
            match options.connect(self.url()).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Every message of the stream, oldest first, as a server stores it; none where it cannot be read now.
    pub(crate) async fn log(&self) -> Option<Vec<Line>> {
        let client = self.client().await;
        let info = ask(&client, &format!("STREAM.INFO.{STREAM}"), Value::Null).await?;
        let last = info["state"]["last_seq"].as_u64()?;
        let mut out = Vec::new();
        for sequence in 1..=last {
            let got = ask(&client, &format!("STREAM.MSG.GET.{STREAM}"), json!({ "seq": sequence })).await?;
            let message = &got["message"];
            let bytes =
                |key: &str| BASE64.decode(message[key].as_str().unwrap_or_default().as_bytes()).unwrap();
            let headers = String::from_utf8(bytes("hdrs")).unwrap();
            let id = headers.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id: ")).unwrap().to_owned();
            out.push(Line { id, body: serde_json::from_slice(&bytes("data")).unwrap() });
        }
        Some(out)
    }

    /// The keys of the bucket that hold something.
    pub(crate) async fn keys(&self) -> Option<BTreeSet<String>> {
        let client = self.client().await;
        let info = ask(
            &client,
            &format!("STREAM.INFO.KV_{BUCKET}"),
            json!({ "subjects_filter": format!("$KV.{BUCKET}.>") }),
        )
        .await?;
        let mut out = BTreeSet::new();
        for subject in info["state"]["subjects"].as_object().into_iter().flat_map(|map| map.keys()) {
            let last =
                ask(&client, &format!("STREAM.MSG.GET.KV_{BUCKET}"), json!({ "last_by_subj": subject }))
                    .await?;
            if last["message"]["hdrs"].is_null() {
                out.insert(subject.rsplit('.').next().unwrap().to_owned());
            }
        }
        Some(out)
    }
}

pub(crate) async fn ask(client: &Client, what: &str, body: Value) -> Option<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = client.request(format!("$JS.API.{what}"), body.into()).await.ok()?;
    let reply: Value = serde_json::from_slice(&reply.payload).ok()?;
    reply.get("error").is_none().then_some(reply)
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) body: Value,
}

impl Line {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }
}

/// The open set, after the whole stream was held against the rule.
pub(crate) fn open_by(log: &[Line]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut open: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let story = || log.iter().map(|l| format!("{} {} {}", l.text("action"), l.id, l.text("summary")));
    let story = || story().collect::<Vec<_>>().join("\n");
    for line in log {
        assert!(ids.insert(&line.id), "{} is there twice\n{}", line.id, story());
        let print = line.text("fingerprint").to_owned();
        let part = |n: usize| line.id.split(':').nth(n).and_then(|n| n.parse::<u64>().ok()).unwrap();
        let (life, revision) = (part(1), part(2));
        assert_eq!(line.body["revision"], revision, "{}", line.id);
        match (line.text("action"), open.get(&print).copied()) {
            ("opened", None) => drop(open.insert(print, (life, revision))),
            ("opened", Some(_)) => panic!("{} opened while open\n{}", line.id, story()),
            (_, None) => panic!("{} {} while not open\n{}", line.id, line.text("action"), story()),
            (action, Some((was, before))) => {
                assert!(life == was && revision > before, "{} after {before}\n{}", line.id, story());
                if action == "resolved" {
                    open.remove(&print);
                } else {
                    open.insert(print, (life, revision));
                }
            }
        }
    }
    open.into_keys().collect()
}
