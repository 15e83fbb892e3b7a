//! What people meet when they connect wrongly, and what they are told: each snapshot is what the built program
//! prints, with a real server, or something that is none, at the other end.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::common::{self, binary, sweep::output};

/// A server of a test, alone, with every port that there is.
struct Server {
    directory: tempfile::TempDir,
    ports: Vec<(&'static str, u16)>,
    process: Option<Child>,
}

const PORTS: [&str; 6] = ["CLIENT", "MONITORING", "ROUTE", "GATEWAY", "LEAF", "WEBSOCKET"];

impl Server {
    /// In `configuration`, `$CLIENT` and so on are its ports and `$DIR` is its directory.
    async fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificates(directory.path());
        let listeners: Vec<TcpListener> =
            PORTS.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let ports: Vec<(&str, u16)> =
            PORTS.into_iter().zip(listeners.iter().map(|l| l.local_addr().unwrap().port())).collect();
        drop(listeners);
        let mut text = format!("server_name: s\nlisten: \"127.0.0.1:$CLIENT\"\n{configuration}");
        for (name, port) in &ports {
            text = text.replace(&format!("${name}"), &port.to_string());
        }
        let text = text.replace("$DIR", directory.path().to_str().unwrap());
        let file = directory.path().join("server.conf");
        fs::write(&file, text).unwrap();
        let mut process = std::process::Command::new(binary("2.15.1").await)
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = log.by_ref().any(|line| line.unwrap().contains("Server is ready"));
        assert!(ready, "the server ended; see what `nats-server -c {}` says", file.display());
        // A full pipe would stop the server.
        std::thread::spawn(move || log.for_each(drop));
        Self { directory, ports, process: Some(process) }
    }

    /// What a person sees who runs `line`, ports and paths by their names.
    async fn seen(&self, line: &str) -> String {
        seen(self.directory.path(), &self.ports, line).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What a person sees who runs `line` in `directory`: the command, what it says, and its exit code.
async fn seen(directory: &Path, ports: &[(&str, u16)], line: &str) -> String {
    let with_ports = ports
        .iter()
        .fold(line.to_owned(), |line, (name, port)| line.replace(&format!("${name}"), &port.to_string()));
    let mut command = common::gatewatch();
    command.args(with_ports.split(' ')).current_dir(directory).env("HOME", directory).env_remove("RUST_LOG");
    let out = output(command, common::WITHIN).await;
    assert!(out.stdout.is_empty(), "{line} printed a result");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!said.contains("hunter2"), "{line} shows a secret:\n{said}");
    let said =
        ports.iter().fold(said, |said, (name, port)| said.replace(&format!(":{port}"), &format!(":{name}")));
    let said: String = said.lines().map(|line| without_time(line) + "\n").collect();
    // An inbox has another name each time.
    let said = said.split_inclusive(['`', '"']).map(without_id).collect::<String>();
    format!("$ gatewatch {}\n{said}exit {}\n", line.replace('$', ""), out.status.code().unwrap())
}

/// A line of the log without its time.
fn without_time(line: &str) -> String {
    match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with("20") => format!("TIME {rest}"),
        _ => line.to_owned(),
    }
}

fn without_id(piece: &str) -> String {
    match piece.split_once("_INBOX.") {
        Some((before, rest)) => {
            let end = rest.find(['`', '"']).and_then(|i| rest.get(i..)).unwrap_or_default();
            format!("{before}_INBOX.ID{end}")
        }
        None => piece.to_owned(),
    }
}

/// Holds what is seen of `$lines` against the snapshot of that name.
macro_rules! assert_seen {
    ($server:expr, $name:literal, [$($line:expr),+ $(,)?]) => {{
        let mut seen = Vec::new();
        $(seen.push($server.seen($line).await);)+
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(concat!("mistakes__", $name), seen.join("\n"));
        });
    }};
}

const ACCOUNTS: &str = r#"
accounts {
  SYS: { users: [
    {user: sys, password: pw},
    {user: mute, password: pw, permissions: { publish: { deny: ["$SYS.REQ.SERVER.>"] } }},
    {user: deaf, password: pw, permissions: { subscribe: { allow: ["_INBOX_gatewatch.>", "gatewatch.>"] } }},
  ]}
  APP: { users: [{user: app, password: pw}] }
}
system_account: SYS
"#;

#[tokio::test]
async fn wrong_credentials() {
    let server = Server::start(ACCOUNTS).await;
    let user = nkeys::KeyPair::new_user();
    let claims = r#"{"name":"watcher","exp":1735689600,"sub":"U"}"#;
    let body = data_encoding::BASE64URL_NOPAD.encode(claims.as_bytes());
    let seed = user.seed().unwrap();
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\neyJ0.{body}.c2ln\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    fs::write(server.directory.path().join("old.creds"), creds).unwrap();
    assert_seen!(
        server,
        "wrong_credentials",
        [
            "topology -s nats://127.0.0.1:$CLIENT",
            "topology -s nats://127.0.0.1:$CLIENT --user sys --password hunter2",
            "topology -s nats://sys:hunter2@127.0.0.1:$CLIENT",
            "topology -s nats://127.0.0.1:$CLIENT --token hunter2",
            "topology -s nats://127.0.0.1:$CLIENT --creds old.creds",
            "topology -s nats://127.0.0.1:$CLIENT --nkey old.creds",
        ]
    );
}

#[tokio::test]
async fn an_account_that_may_not_ask() {
    let server = Server::start(ACCOUNTS).await;
    assert_seen!(
        server,
        "an_account_that_may_not_ask",
        ["topology -s nats://app:pw@127.0.0.1:$CLIENT", "run -s nats://app:pw@127.0.0.1:$CLIENT",]
    );
    let server = Server::start("").await;
    assert_seen!(server, "no_system_account", ["topology -s nats://127.0.0.1:$CLIENT"]);
}

#[tokio::test]
async fn a_permission_that_is_missing() {
    let server = Server::start(ACCOUNTS).await;
    assert_seen!(
        server,
        "a_permission_that_is_missing",
        ["topology -s nats://mute:pw@127.0.0.1:$CLIENT", "topology -s nats://deaf:pw@127.0.0.1:$CLIENT",]
    );
}

#[tokio::test]
async fn a_port_for_others() {
    let ports = r#"
        http: "127.0.0.1:$MONITORING"
        cluster { name: eu, listen: "127.0.0.1:$ROUTE" }
        gateway { name: eu, listen: "127.0.0.1:$GATEWAY" }
        leafnodes { listen: "127.0.0.1:$LEAF" }
        websocket { listen: "127.0.0.1:$WEBSOCKET", no_tls: true }
        "#;
    // Leaf nodes and gateways in one server ask for a system account.
    let server = Server::start(&format!("{ports}{ACCOUNTS}")).await;
    assert_seen!(
        server,
        "a_port_for_others",
        [
            "topology -s nats://127.0.0.1:$GATEWAY",
            "topology -s nats://127.0.0.1:$ROUTE",
            "topology -s nats://127.0.0.1:$LEAF",
            "topology -s nats://127.0.0.1:$MONITORING",
            "topology -s nats://127.0.0.1:$WEBSOCKET",
            "run -s nats://127.0.0.1:$GATEWAY,nats://127.0.0.1:$ROUTE",
        ]
    );
}

#[tokio::test]
async fn a_prefix_that_no_agent_has() {
    let server = Server::start(ACCOUNTS).await;
    let url = format!("nats://app:pw@127.0.0.1:{}", server.ports[0].1);
    let mut watch = common::gatewatch();
    watch.args(["watch", "--prefix", "gatewach", "-s", &url]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut log = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watch.stderr.take().unwrap()));
    let said = tokio::time::timeout(common::WITHIN, async {
        loop {
            let line = log.next_line().await.unwrap().expect("it ended");
            if line.contains("no agent was heard") {
                return without_time(&line);
            }
        }
    });
    let said = said.await.expect("it says nothing");
    watch.kill().await.unwrap();
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("mistakes__a_prefix_that_no_agent_has", said);
    });
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Elsewhere::at(port, "CLIENT");
    assert_seen!(
        server,
        "nobody_there",
        ["topology -s nats://127.0.0.1:$CLIENT", "sweep -s nats://no-such-host.invalid:4222",]
    );
}

#[tokio::test]
async fn something_else_there() {
    let ssh = Elsewhere::greeting("SSH-2.0-OpenSSH_9.6\r\n", "SSH");
    assert_seen!(ssh, "something_else_there", ["topology -s nats://127.0.0.1:$SSH"]);
    let mute = Elsewhere::greeting("", "MUTE");
    assert_seen!(mute, "something_silent_there", ["topology -s nats://127.0.0.1:$MUTE"]);
}

#[tokio::test]
async fn an_old_server() {
    let info = r#"INFO {"server_id":"NOLD","server_name":"eu-0","version":"2.2.0","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"client_id":5,"client_ip":"127.0.0.1"}"#;
    let old = Elsewhere::greeting(&format!("{info} \r\n"), "CLIENT");
    assert_seen!(old, "an_old_server", ["topology -s nats://127.0.0.1:$CLIENT"]);
}

#[tokio::test]
async fn tls_that_does_not_fit() {
    let plain = Server::start(ACCOUNTS).await;
    assert_seen!(
        plain,
        "tls_where_there_is_none",
        [
            "topology -s nats://localhost:$CLIENT --tlsca ca.pem",
            "topology -s tls://sys:pw@localhost:$CLIENT",
            "topology -s nats://localhost:$CLIENT --tlsca ca.pem --tlsfirst",
        ]
    );
    let tls = Server::start("tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\" }\n").await;
    assert_seen!(
        tls,
        "tls_and_whom_to_trust",
        [
            "topology -s nats://localhost:$CLIENT",
            "topology -s nats://localhost:$CLIENT --tlsca other.pem",
            "topology -s nats://127.0.0.1:$CLIENT --tlsca ca.pem",
        ]
    );
    let first =
        "tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\", handshake_first: true }\n";
    let first = Server::start(first).await;
    assert_seen!(first, "tls_first", ["topology -s nats://localhost:$CLIENT --tlsca ca.pem"]);
    let mutual = "tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\", ca_file: \"$DIR/ca.pem\", \
                  verify: true }\n";
    let mutual = Server::start(mutual).await;
    assert_seen!(
        mutual,
        "tls_with_a_certificate_of_ours",
        ["topology -s nats://localhost:$CLIENT --tlsca ca.pem",]
    );
}

/// Something that is no server, or nothing.
struct Elsewhere {
    directory: tempfile::TempDir,
    ports: Vec<(&'static str, u16)>,
}

impl Elsewhere {
    fn at(port: u16, name: &'static str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), ports: vec![(name, port)] }
    }

    /// It says `words` to whoever connects, and answers each line that is a ping. It ends with the test's program.
    fn greeting(words: &str, name: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = words.to_owned();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let words = words.clone();
                std::thread::spawn(move || {
                    let _ = stream.write_all(words.as_bytes());
                    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    for _ in lines.map_while(Result::ok).filter(|line| line == "PING") {
                        let _ = stream.write_all(b"PONG\r\n");
                    }
                });
            }
        });
        Self::at(port, name)
    }

    async fn seen(&self, line: &str) -> String {
        seen(self.directory.path(), &self.ports, line).await
    }
}

/// An authority and another, and a certificate for `localhost` that the first signed.
fn certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| fs::write(PathBuf::from(directory).join(name), text).unwrap();
    let authority = |file: &str| {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write(file, ca.self_signed(&key).unwrap().pem());
        Issuer::new(ca, key)
    };
    let issuer = authority("ca.pem");
    authority("other.pem");
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    write("server.pem", server.signed_by(&key, &issuer).unwrap().pem());
    write("server.key", key.serialize_pem());
}
