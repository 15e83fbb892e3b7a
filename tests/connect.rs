//! The connection against real servers: every way to log in, TLS, refusals, a restart.
//!
//! The server's path comes from `NATS_SERVER`, else the newest of `target/nats-server/`, else `PATH`.

// Helpers of tests; clippy excuses only functions that are tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use gatewatch::config::Connect;
use gatewatch::connect::{Account, ConnectError, LinkEvent, Operation, PreflightError, connect, preflight};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing here takes longer, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

fn nats_server() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        return path.into();
    }
    let mut built: Vec<PathBuf> = fs::read_dir("target/nats-server")
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|e| [e.path().join("nats-server"), e.path()])
        .filter(|p| p.is_file())
        .collect();
    built.sort();
    built.pop().unwrap_or_else(|| "nats-server".into())
}

/// One server of a test, ended with it.
struct Server {
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    fn start(configuration: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), configuration)
    }

    fn start_in(directory: tempfile::TempDir, configuration: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "server_name: s\nlisten: \"127.0.0.1:{port}\"\n{}",
            configuration.replace("$DIR", directory.path().to_str().unwrap())
        );
        fs::write(directory.path().join("server.conf"), text).unwrap();
        let mut server = Self { directory, port, process: None };
        server.again();
        server
    }

    /// Starts the process and waits until it says that it is ready.
    fn again(&mut self) {
        let binary = nats_server();
        let mut process = Command::new(&binary)
            .arg("-c")
            .arg(self.directory.path().join("server.conf"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("no nats-server at {}: {e}; set NATS_SERVER", binary.display()));
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        loop {
            let line = log.next().unwrap_or_else(|| panic!("the server ended:\n{seen}")).unwrap();
            if line.contains("Server is ready") {
                break;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn at(&self) -> Connect {
        Connect { server: Some(format!("nats://localhost:{}", self.port)), ..Connect::default() }
    }

    fn as_user(&self, user: &str, password: &str) -> Connect {
        Connect { user: Some(user.into()), password: Some(password.into()), ..self.at() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const ACCOUNTS: &str = r#"
accounts {
  SYS: { users: [
    {user: sys, password: pw},
    {user: bounded, password: pw, permissions: {
      publish: { allow: ["$SYS.REQ.SERVER.*.GATEWAYZ", "$SYS.REQ.USER.INFO", "gatewatch.>"] }
      subscribe: { allow: ["_INBOX_gatewatch.>", "$SYS.SERVER.>", "gatewatch.>", "$SRV.>"] }
    }},
    {user: mute, password: pw, permissions: { publish: { deny: ["$SYS.REQ.SERVER.>"] } }},
  ]}
  APP: { users: [{user: app, password: pw}] }
}
system_account: SYS
"#;

type Linked = (async_nats::Client, mpsc::Receiver<LinkEvent>);

async fn link(c: &Connect) -> Result<Linked, ConnectError> {
    timeout(PATIENCE, connect(c, "test")).await.expect("connecting takes for ever")
}

async fn linked(c: &Connect) -> Linked {
    link(c).await.unwrap()
}

async fn refused(c: &Connect) -> ConnectError {
    link(c).await.map(|_| ()).expect_err("connected")
}

async fn check(c: &Connect) -> Result<Account, PreflightError> {
    let (client, mut events) = linked(c).await;
    let inbox = c.inbox_prefix.as_deref().unwrap_or("_INBOX");
    preflight(&client, &mut events, "gatewatch", inbox, Duration::from_secs(5)).await
}

async fn until(events: &mut mpsc::Receiver<LinkEvent>, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.expect("the link is closed");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event does not come")
}

#[tokio::test]
async fn a_user_of_the_system_account_is_recognised() {
    let server = Server::start(ACCOUNTS);
    let account = check(&server.as_user("sys", "pw")).await.unwrap();
    let wanted = Account { account: Some("SYS".into()), user: Some("sys".into()), missing: vec![] };
    assert_eq!(account, wanted);
}

#[tokio::test]
async fn the_connection_carries_our_name_and_a_url_may_carry_the_user() {
    let server = Server::start(ACCOUNTS);
    let c =
        Connect { server: Some(format!("nats://sys:pw@127.0.0.1:{}", server.port)), ..Connect::default() };
    let (client, _events) = linked(&c).await;
    let mut replies = client.subscribe("reply").await.unwrap();
    client.publish_with_reply("$SYS.REQ.SERVER.PING.CONNZ", "reply", "{}".into()).await.unwrap();
    let reply = timeout(PATIENCE, replies.next()).await.unwrap().unwrap();
    let reply: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap();
    let name = format!("gatewatch/{} test", env!("CARGO_PKG_VERSION"));
    assert_eq!(reply.pointer("/data/connections/0/name").unwrap(), &serde_json::Value::from(name));
}

#[tokio::test]
async fn a_token_and_an_nkey_log_in() {
    let server = Server::start("authorization { token: s3cr3t }\n");
    linked(&Connect { token: Some("s3cr3t".into()), ..server.at() }).await;

    let key = nkeys::KeyPair::new_user();
    let server = Server::start(&format!("authorization {{ users: [{{nkey: {}}}] }}\n", key.public_key()));
    let seed = server.file("user.nk");
    fs::write(&seed, key.seed().unwrap()).unwrap();
    linked(&Connect { nkey: Some(seed), ..server.at() }).await;
}

#[tokio::test]
async fn a_refused_login_ends_and_says_who_and_what_to_do() {
    let server = Server::start(ACCOUNTS);
    let e = refused(&server.as_user("sys", "hunter2")).await;
    let wanted = format!(
        "nats://localhost:{} refused the login with user `sys`: authorization violation",
        server.port
    );
    assert_eq!(e.to_string(), wanted);
    assert!(e.help().unwrap().contains("--password"), "{:?}", e.help());
    assert!(!format!("{e:?}").contains("hunter2"));

    let e = refused(&server.at()).await;
    assert!(e.to_string().contains("no credentials"), "{e}");
    assert!(e.help().unwrap().contains("--creds FILE"), "{:?}", e.help());
}

#[tokio::test]
async fn a_credentials_file_that_is_not_there_is_named() {
    let c = Connect { creds: Some("/nonexistent/a.creds".into()), ..Connect::default() };
    let e = refused(&c).await;
    assert_eq!(e.to_string(), "cannot use the creds file /nonexistent/a.creds");
}

#[tokio::test]
async fn a_user_of_another_account_is_told_so() {
    let server = Server::start(ACCOUNTS);
    let e = check(&server.as_user("app", "pw")).await.unwrap_err();
    assert_eq!(e.to_string(), "user `app` is not a user of the system account: it is in account `APP`");
    assert!(e.help().unwrap().contains("gatewatch permissions"));
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let server = Server::start(ACCOUNTS);
    let e = check(&server.as_user("mute", "pw")).await.unwrap_err();
    assert_eq!(e.to_string(), "user `mute` has no permission to publish `$SYS.REQ.SERVER.PING.GATEWAYZ`");

    // The replies cannot be heard: that hides who we are, and the inbox is what to say.
    let e = check(&server.as_user("bounded", "pw")).await.unwrap_err();
    assert!(e.to_string().starts_with("this user has no permission to subscribe `_INBOX."), "{e}");
    assert!(e.help().unwrap().contains("--inbox-prefix _INBOX_gatewatch"), "{:?}", e.help());
}

#[tokio::test]
async fn permissions_that_are_missing_and_not_fatal_are_listed() {
    let server = Server::start(ACCOUNTS);
    let c = Connect { inbox_prefix: Some("_INBOX_gatewatch".into()), ..server.as_user("bounded", "pw") };
    let missing: Vec<String> =
        check(&c).await.unwrap().missing.iter().map(|p| format!("{} {}", p.operation, p.subject)).collect();
    assert!(missing.contains(&"publish $SYS.REQ.SERVER.*.VARZ".to_owned()), "{missing:?}");
    assert!(!missing.iter().any(|m| m.starts_with("subscribe")), "{missing:?}");

    let (client, mut events) = linked(&c).await;
    client.publish("$SYS.REQ.SERVER.PING.VARZ", "".into()).await.unwrap();
    let denied = until(&mut events, |e| matches!(e, LinkEvent::Denied(_))).await;
    let LinkEvent::Denied(denied) = denied else { unreachable!() };
    assert_eq!(
        (denied.operation, denied.subject.as_str()),
        (Operation::Publish, "$SYS.REQ.SERVER.PING.VARZ")
    );
}

#[tokio::test]
async fn the_printed_user_has_every_permission() {
    let printed = gatewatch(&["permissions"]);
    let server = Server::start(&printed);
    let c = Connect {
        inbox_prefix: Some("_INBOX_gatewatch".into()),
        ..server.as_user("gatewatch", "replace-me")
    };
    let account = check(&c).await.unwrap();
    assert_eq!((account.user.as_deref(), account.missing), (Some("gatewatch"), vec![]));
}

#[test]
fn printed_blocks_are_valid_configurations() {
    for args in [
        &["permissions"][..],
        &["permissions", "--prefix", "acme.gatewatch", "--account", "ADMIN", "--user", "gw-1"],
        &["permissions", "--export", "APP"],
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("server.conf");
        fs::write(&file, gatewatch(args)).unwrap();
        let out = Command::new(nats_server()).arg("-t").arg("-c").arg(&file).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

fn gatewatch(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_gatewatch")).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_credentials_read_anew() {
    let first = nkeys::KeyPair::new_user();
    let second = nkeys::KeyPair::new_user();
    let users =
        |key: &nkeys::KeyPair| format!("authorization {{ users: [{{nkey: {}}}] }}\n", key.public_key());
    let mut server = Server::start(&users(&first));
    let seed = server.file("user.nk");
    fs::write(&seed, first.seed().unwrap()).unwrap();
    let (client, mut events) = linked(&Connect { nkey: Some(seed.clone()), ..server.at() }).await;
    let mut inbox = client.subscribe("a").await.unwrap();

    server.kill();
    until(&mut events, |e| *e == LinkEvent::Disconnected).await;
    let LinkEvent::Retrying { reason } =
        until(&mut events, |e| matches!(e, LinkEvent::Retrying { .. })).await
    else {
        unreachable!()
    };
    assert!(reason.contains("refused"), "{reason}");

    // The user's key is another now; the link must not give up while the file is still the old one.
    let path = server.file("server.conf");
    let text = fs::read_to_string(&path).unwrap().replace(&first.public_key(), &second.public_key());
    fs::write(&path, text).unwrap();
    server.again();
    until(&mut events, |e| matches!(e, LinkEvent::Retrying { reason } if reason.contains("authorization")))
        .await;
    fs::write(&seed, second.seed().unwrap()).unwrap();
    until(&mut events, |e| *e == LinkEvent::Connected).await;
    client.publish("a", "again".into()).await.unwrap();
    let message = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, "again");
}

/// Our own program, ended with its test.
struct Program {
    process: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        // No variable and no context of whoever runs the tests.
        let nowhere = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_gatewatch"))
            .args(args)
            .env_clear()
            .env("HOME", nowhere.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, log }
    }

    fn wait_for(&mut self, wanted: &str) {
        let mut seen = String::new();
        for line in &mut self.log {
            let line = line.unwrap();
            if line.contains(wanted) {
                return;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("it ended without saying {wanted:?}:\n{seen}");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The exit code and the rest of the log.
    fn end(mut self) -> (Option<i32>, String) {
        let rest = self.log.by_ref().map(|l| l.unwrap() + "\n").collect();
        (self.process.wait().unwrap().code(), rest)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn run_waits_for_a_server_that_is_down_and_ends_on_sigterm() {
    let mut server = Server::start(ACCOUNTS);
    server.kill();
    let url = format!("nats://sys:pw@localhost:{}", server.port);
    let mut agent = Program::start(&["run", "-s", &url, "--name", "test"]);
    agent.wait_for("cannot connect, trying again");
    server.again();
    agent.wait_for("connected");
    agent.signal("-TERM");
    assert_eq!(agent.end().0, Some(0));
}

#[test]
fn run_ends_with_3_where_it_may_not_see_and_2_where_it_is_told_wrongly() {
    let server = Server::start(ACCOUNTS);
    let url = format!("nats://localhost:{}", server.port);
    let cases: [(&[&str], i32, &[&str]); 4] = [
        (
            &["--user", "app", "--password", "pw"],
            3,
            &["error: user `app` is not a user of the system", "help: connect as"],
        ),
        (
            &["--user", "sys", "--password", "hunter2"],
            3,
            &["refused the login with user `sys`", "help: check"],
        ),
        (
            &["--creds", "/nonexistent.creds"],
            2,
            &["error: cannot use the creds file", "  caused by: No such file"],
        ),
        (
            &["--config", "tests/configs/bad/unknown_key.toml"],
            2,
            &["error: unknown key `intervall`", "2 | intervall"],
        ),
    ];
    for (args, code, wanted) in cases {
        let (exit, log) = Program::start(&[&["run", "-s", &url], args].concat()).end();
        assert_eq!(exit, Some(code), "{args:?}: {log}");
        assert!(wanted.iter().all(|w| log.contains(w)), "{args:?}: wanted {wanted:?}\n{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn watch_prints_what_it_is_asked_for_and_skips_what_is_no_event() {
    let server = Server::start(ACCOUNTS);
    let (client, _events) = linked(&server.as_user("app", "pw")).await;
    // Again and again: only the server knows when the subscription is there.
    let publisher = tokio::spawn(async move {
        let event = |summary: &str| {
            format!(r#"{{"action":"opened","severity":"critical","code":"C_1","summary":"{summary}"}}"#)
        };
        loop {
            for (subject, body) in [
                ("gatewatch.finding.info.c.eu.s._", event("not critical")),
                ("gatewatch.finding.critical.c.eu.s._", "{broken".to_owned()),
                ("gatewatch.finding.critical.c.eu.s._", event("link\\u001b[2J lost")),
            ] {
                client.publish(subject, body.into()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let url = format!("nats://app:pw@localhost:{}", server.port);
    let mut watch = Program::start(&["watch", "-s", &url, "--severity", "critical"]);
    let out = watch.process.stdout.take().unwrap();
    let line = tokio::task::spawn_blocking(move || BufReader::new(out).lines().next().unwrap().unwrap());
    let line = timeout(PATIENCE, line).await.unwrap().unwrap();
    assert_eq!(line, r" opened   critical C_1 link\u{1b}[2J lost");
    // Its reader is gone now: that ends it, and is no failure.
    let (exit, log) = tokio::task::spawn_blocking(move || watch.end()).await.unwrap();
    publisher.abort();
    assert_eq!(exit, Some(0), "{log}");
    assert!(log.contains("that is no event"), "{log}");
}

#[tokio::test]
async fn the_link_moves_to_another_server_of_the_list_and_hears_of_lame_duck() {
    let mut servers = [Server::start(ACCOUNTS), Server::start(ACCOUNTS)];
    let urls: Vec<String> = servers.iter().map(|s| format!("localhost:{}", s.port)).collect();
    let c = Connect { server: Some(urls.join(",")), ..servers[0].as_user("sys", "pw") };
    let (client, mut events) = linked(&c).await;
    let port = client.server_info().port;
    let server = servers.iter_mut().find(|s| s.port == port).unwrap();
    let pid = server.process.as_ref().unwrap().id().to_string();
    assert!(Command::new("kill").args(["-USR2", &pid]).status().unwrap().success());
    until(&mut events, |e| *e == LinkEvent::LameDuck).await;
    server.kill();
    until(&mut events, |e| *e == LinkEvent::Connected).await;
    // The client learns of its new server a moment after the event.
    timeout(PATIENCE, async {
        while client.server_info().port == port {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_server_that_stops_without_a_word_is_noticed() {
    let server = Server::start(ACCOUNTS);
    let (_client, mut events) = linked(&server.as_user("sys", "pw")).await;
    let pid = server.process.as_ref().unwrap().id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    let began = std::time::Instant::now();
    until(&mut events, |e| *e == LinkEvent::Disconnected).await;
    assert!(began.elapsed() < Duration::from_secs(9), "noticed after {:?}", began.elapsed());
}

#[tokio::test]
async fn printed_exports_make_findings_visible_and_the_api_answerable() {
    let block = gatewatch(&["permissions", "--export", "APP"]);
    let with_user =
        |account: &str| format!("\"{account}\" {{\n users: [{{user: {account}, password: pw}}]\n");
    let block =
        ["SYS", "APP"].iter().fold(block, |b, a| b.replacen(&format!("\"{a}\" {{\n"), &with_user(a), 1));
    let server = Server::start(&block);
    let (sys, _sys_events) = linked(&server.as_user("SYS", "pw")).await;
    let (app, _app_events) = linked(&server.as_user("APP", "pw")).await;
    let mut findings = app.subscribe("gatewatch.finding.>").await.unwrap();
    let mut api = sys.subscribe("gatewatch.api.>").await.unwrap();
    // A round trip on each connection, so that both subscriptions are there.
    for client in [&sys, &app] {
        let _ = client.request("nobody", "".into()).await;
    }
    sys.publish("gatewatch.finding.info.c.eu.s._", "f".into()).await.unwrap();
    assert_eq!(timeout(PATIENCE, findings.next()).await.unwrap().unwrap().payload, "f");
    let answer = async {
        let request = api.next().await.unwrap();
        sys.publish(request.reply.unwrap(), "a".into()).await.unwrap();
    };
    let (reply, ()) =
        timeout(PATIENCE, async { tokio::join!(app.request("gatewatch.api.epoch", "".into()), answer) })
            .await
            .unwrap();
    assert_eq!(reply.unwrap().payload, "a");
}

/// An authority, and a certificate for `localhost` (as server) and for a client, signed by it.
fn certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    fs::write(directory.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The authorities, certificates and keys of `from` in the place of those of `to`, each whole.
fn replace(to: &Path, files: &[(&str, String)]) {
    for (name, text) in files {
        fs::write(to.join("new"), text).unwrap();
        fs::rename(to.join("new"), to.join(name)).unwrap();
    }
}

/// What an agent says of its epochs, of findings, and of having connected again.
struct Heard {
    client: async_nats::Client,
    said: async_nats::Subscriber,
    epochs: Vec<(u64, bool, std::time::Instant)>,
    last: serde_json::Value,
}

impl Heard {
    /// Until it says this event, or so many epochs.
    async fn until(&mut self, event: &str, epochs: usize) {
        let enough = self.epochs.len() + epochs;
        while self.epochs.len() < enough {
            let message = timeout(PATIENCE, self.said.next()).await.expect(event).unwrap();
            let subject = message.subject.as_str();
            assert!(!subject.starts_with("gatewatch.finding."), "{subject} {:?}", message.payload);
            if subject.starts_with("gatewatch.epoch.") {
                let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                // What may have been lost with a connection is said again, under the same ID.
                if std::mem::replace(&mut self.last, body["id"].clone()) == body["id"] {
                    continue;
                }
                let (number, settled) = (body["epoch"].as_u64().unwrap(), body["settled"] == true);
                self.epochs.push((number, settled, std::time::Instant::now()));
            } else if subject.starts_with(event) {
                return;
            }
        }
    }

    /// The server ends the connection of `name`, which has to log in again.
    async fn kick(&self, name: &str) {
        let ask = async |endpoint: &str, body: String| -> serde_json::Value {
            let subject = format!("$SYS.REQ.SERVER.{}.{endpoint}", self.client.server_info().server_id);
            let reply = timeout(PATIENCE, self.client.request(subject, body.into())).await.unwrap().unwrap();
            serde_json::from_slice(&reply.payload).unwrap()
        };
        let all = ask("CONNZ", String::new()).await;
        let all = all["data"]["connections"].as_array().unwrap().clone();
        let one = all.iter().find(|c| c["name"].as_str().is_some_and(|n| n.ends_with(name))).unwrap();
        ask("KICK", format!("{{\"cid\":{}}}", one["cid"])).await;
    }
}

/// All of it is replaced while the agent runs, as one does it: what is new is trusted first, then used, and then what
/// is old is not trusted any more.
#[tokio::test]
async fn nkeys_and_certificates_are_replaced_and_no_epoch_is_missed() {
    const AGAIN: &str = "gatewatch.agent.restored.";
    let (old, new, dir) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(old.path());
    certificates(new.path());
    let of = |from: &tempfile::TempDir, names: &[&'static str]| -> Vec<(&'static str, String)> {
        names.iter().map(|name| (*name, fs::read_to_string(from.path().join(name)).unwrap())).collect()
    };
    let all = ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"];
    replace(dir.path(), &of(&old, &all));
    let (first, second) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let seed = dir.path().join("user.nk");
    fs::write(&seed, first.seed().unwrap()).unwrap();
    // The printed user, who logs in with an nkey.
    let printed = gatewatch(&["permissions"]);
    let entry = printed.split_once("    users: [\n").unwrap().1.split_once("\n    ]\n").unwrap().0;
    let entry: String =
        entry.lines().filter(|line| !line.contains("password:")).map(|l| l.to_owned() + "\n").collect();
    let user = |key: &nkeys::KeyPair| {
        entry.replace("user: \"gatewatch\"", &format!("nkey: {}", key.public_key())).replace("{{", "{")
    };
    let accounts = |users: &str| {
        format!(
            "tls {{ cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\", ca_file: \"$DIR/ca.pem\", verify: true, timeout: 5 }}\n\
             accounts {{ SYS: {{ users: [ {{user: sys, password: pw}}\n{users} ] }} }}\nsystem_account: SYS\n"
        )
    };
    let both = user(&first) + &user(&second);
    let server = Server::start_in(dir, &accounts(&both));
    let (ca, cert, key) = (server.file("ca.pem"), server.file("client.pem"), server.file("client.key"));
    let c = Connect {
        tls_ca: Some(ca.clone()),
        tls_cert: Some(cert.clone()),
        tls_key: Some(key.clone()),
        ..server.as_user("sys", "pw")
    };
    let (client, _events) = linked(&c).await;
    let said = client.subscribe("gatewatch.>").await.unwrap();
    let mut heard = Heard { client, said, epochs: Vec::new(), last: serde_json::Value::Null };
    let config = server.file("gatewatch.toml");
    fs::write(&config, "[poll]\ninterval = \"500ms\"\n").unwrap();
    let url = format!("nats://localhost:{}", server.port);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (config, ca, cert, key, seed) = (path(&config), path(&ca), path(&cert), path(&key), path(&seed));
    let flags = ["--nkey", &seed, "--tlsca", &ca, "--tlscert", &cert, "--tlskey", &key, "--config", &config];
    let run = ["run", "-s", &url, "--name", "rotating", "--inbox-prefix", "_INBOX_gatewatch"];
    let agent = Program::start(&[&run[..], &flags[..]].concat());
    while !heard.epochs.last().is_some_and(|(_, settled, _)| *settled) {
        heard.until("nothing", 1).await;
    }
    heard.epochs.clear();

    let dir = server.directory.path();
    let reload = || {
        let pid = server.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    let trusted = |from: &[&tempfile::TempDir]| {
        let text: String = from.iter().map(|from| of(from, &["ca.pem"])[0].1.clone()).collect();
        vec![("ca.pem", text)]
    };
    // Both authorities, a client's certificate of the new one, then the server's, then only the new one.
    let steps = [
        trusted(&[&old, &new]),
        of(&new, &["client.pem", "client.key"]),
        of(&new, &["server.pem", "server.key"]),
        trusted(&[&new]),
    ];
    for files in steps {
        replace(dir, &files);
        reload();
        // The server's log is not ours to read; its next epochs are long enough for a reload.
        heard.until("nothing", 2).await;
        heard.kick("rotating").await;
        heard.until(AGAIN, usize::MAX >> 1).await;
        heard.until("nothing", 4).await;
    }
    // Who still has the old certificate is not let in any more.
    let stale = |name: &str| Some(old.path().join(name));
    let e = refused(&Connect { tls_cert: stale("client.pem"), tls_key: stale("client.key"), ..c }).await;
    assert!(matches!(e, ConnectError::Tls { .. }), "{e}");

    // The new nkey's user is there already, and the old one's ends.
    fs::write(server.file("user.nk"), second.seed().unwrap()).unwrap();
    let conf = fs::read_to_string(server.file("server.conf")).unwrap();
    fs::write(server.file("server.conf"), conf.replace(&user(&first), "")).unwrap();
    reload();
    heard.until(AGAIN, usize::MAX >> 1).await;
    heard.until("nothing", 8).await;

    let epochs = &heard.epochs;
    for pair in epochs.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "an epoch is missing: {epochs:?}");
    }
    // A machine that is busy with other tests may cost one its answer; a connection that is new costs three seconds.
    assert!(epochs.windows(2).all(|pair| pair[0].1 || pair[1].1), "{epochs:?}");
    let widest = epochs.windows(2).map(|pair| pair[1].2 - pair[0].2).max().unwrap();
    eprintln!("{} epochs, none missed, at most {} ms apart", epochs.len(), widest.as_millis());
    assert!(widest < Duration::from_secs(2), "{widest:?}");
    agent.signal("-TERM");
    assert_eq!(agent.end().0, Some(0));
}

fn tls_server(more: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let tls = "tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\", ca_file: \"$DIR/ca.pem\"";
    Server::start_in(directory, &format!("{tls}, {more} }}\n"))
}

#[tokio::test]
async fn tls_needs_the_authority_and_says_so() {
    let server = tls_server("timeout: 5");
    let ca = Some(server.file("ca.pem"));
    linked(&Connect { tls_ca: ca.clone(), ..server.at() }).await;

    let e = refused(&server.at()).await;
    assert!(matches!(e, ConnectError::Tls { .. }), "{e}");
    assert!(e.help().unwrap().contains("--tlsca FILE"), "{e}: {:?}", e.help());

    let by_address = Some(format!("nats://127.0.0.1:{}", server.port));
    let e = refused(&Connect { tls_ca: ca, server: by_address, ..server.at() }).await;
    assert!(e.help().unwrap().contains("-s tls://localhost:"), "{e}: {:?}", e.help());
}

#[tokio::test]
async fn mutual_tls_needs_a_certificate_and_says_so() {
    let server = tls_server("verify: true, timeout: 5");
    let c = Connect { tls_ca: Some(server.file("ca.pem")), ..server.at() };
    let e = refused(&c).await;
    assert!(e.help().unwrap().contains("--tlscert FILE"), "{e}: {:?}", e.help());
    let c =
        Connect { tls_cert: Some(server.file("client.pem")), tls_key: Some(server.file("client.key")), ..c };
    linked(&c).await;
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_one_that_is_down() {
    let server = Server::start(ACCOUNTS);
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let c = Connect { tls_ca: Some(directory.path().join("ca.pem")), ..server.as_user("sys", "pw") };
    let e = refused(&c).await;
    assert!(e.help().unwrap().contains("no TLS on this port"), "{e}: {:?}", e.help());
    let e = refused(&Connect { tls_first: true, ..c }).await;
    assert!(e.help().unwrap().contains("--tlsfirst"), "{e}: {:?}", e.help());
}

#[tokio::test]
async fn a_tls_file_that_is_not_there_is_named() {
    let c = Connect { tls_ca: Some("/nonexistent/ca.pem".into()), ..Connect::default() };
    assert_eq!(refused(&c).await.to_string(), "cannot read the TLS authority /nonexistent/ca.pem");
}
