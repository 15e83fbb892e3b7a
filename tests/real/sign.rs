//! Proof of origin, from the agent's seed to who asks for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use gatewatch::lab::Spec;
use gatewatch::publish::sign::{KEY, Verifier};
use nkeys::KeyPair;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::timeout;

use crate::common::{AgentSpec, WITHIN, Watch};

fn seed_file(path: &std::path::Path) -> String {
    let pair = KeyPair::new_user();
    fs::write(path, pair.seed().unwrap()).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    pair.public_key()
}

#[tokio::test]
async fn who_asks_for_proof_sees_what_the_agent_says_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed.nk");
    let key = seed_file(&seed);
    let config = format!("[publish]\nsign = \"{}\"\ncloudevents = true\n", seed.display());
    let spec = AgentSpec { config: Some(config), ..AgentSpec::default() };
    let mut watch = Watch::unwatched(Spec::default(), spec, true).await;

    let client = watch.lab.connect_options("app").await.unwrap();
    let client = client.connect(watch.lab.url("us-0").unwrap()).await.unwrap();
    let mut said = client.subscribe("gatewatch.>").await.unwrap();
    client.flush().await.unwrap();
    watch.start_agent().await;

    let mut follow = Follow::start(&watch, &key, "gatewatch").await;
    // It hears what the agent never said, where nobody else does.
    let mut other = Follow::start(&watch, &key, "other").await;

    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let finding = watch.wait_opened(mark, "gateway_disconnected us/us-1/ap", WITHIN).await;
    assert_eq!(follow.shown().await["id"], finding.body["id"]);

    // Everything that was said so far, heard in another cluster, is signed.
    let mut verifier = Verifier::default();
    verifier.trust(&key).unwrap();
    let mut genuine = None;
    while let Ok(message) = timeout(Duration::from_millis(100), said.next()).await {
        let message = message.unwrap();
        let headers = message.headers.clone().unwrap_or_default();
        let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        verifier.verify(&message.subject, header, &message.payload).unwrap();
        assert_eq!(header("ce-specversion"), Some("1.0"));
        if message.subject.contains(".finding.") {
            genuine = Some((message, headers));
            break;
        }
    }
    let (genuine, headers) = genuine.expect("the finding is heard there too");

    // What somebody else says in its name is refused, with the reason; so is what it said somewhere else.
    let subject = genuine.subject.replacen("gatewatch", "other", 1);
    let say = async |headers: HeaderMap| {
        client.publish_with_headers(subject.clone(), headers, genuine.payload.clone()).await.unwrap();
    };
    say(HeaderMap::new()).await;
    other.logged("it is not signed").await;
    say(headers.clone()).await;
    other.logged("its signature does not fit").await;
    let mut strange = headers.clone();
    strange.insert(KEY, KeyPair::new_user().public_key().as_str());
    say(strange).await;
    other.logged("it is signed by another key than those given").await;
    other.child.kill().await.unwrap();
    assert_eq!(other.lines.next_line().await.unwrap(), None, "nothing of it was shown");

    watch.lab.heal("us-1", "ap").await.unwrap();
    let resolved = watch.wait_resolved(mark, &finding, WITHIN).await;
    assert_eq!(follow.shown().await["id"], resolved.body["id"]);
    follow.child.kill().await.unwrap();
    watch.finish().await;
}

/// `gatewatch watch --json --verify`.
struct Follow {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
}

impl Follow {
    async fn start(watch: &Watch, key: &str, prefix: &str) -> Self {
        let stranger = KeyPair::new_user().public_key();
        // A user of another account: the exports carry the headers too.
        let (url, creds) = (watch.lab.url("eu-1").unwrap(), watch.lab.creds().unwrap().user("app"));
        let mut command = crate::common::gatewatch();
        command.args(["watch", "--server", &url, "--creds"]).arg(creds);
        command.args(["--json", "--prefix", prefix, "--verify", &format!("{stranger},{key}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut follow = Self { child, lines, log };
        follow.logged("following").await;
        follow
    }

    async fn logged(&mut self, wanted: &str) {
        loop {
            let line = timeout(WITHIN, self.log.next_line()).await.expect(wanted).unwrap().expect(wanted);
            if line.contains(wanted) {
                return;
            }
        }
    }

    async fn shown(&mut self) -> Value {
        let line = timeout(WITHIN, self.lines.next_line()).await.unwrap().unwrap();
        let Some(line) = line else {
            let said = self.log.next_line().await.unwrap();
            panic!("it ended: {said:?}");
        };
        serde_json::from_str(&line).unwrap()
    }
}

#[tokio::test]
async fn an_agent_that_is_to_sign_and_cannot_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed.nk");
    seed_file(&seed);
    fs::set_permissions(&seed, Permissions::from_mode(0o604)).unwrap();
    let config = dir.path().join("gatewatch.toml");
    fs::write(&config, "[publish]\nsign = \"seed.nk\"\n").unwrap();
    let run = || async {
        let mut command = crate::common::gatewatch();
        let output = command.args(["run", "--config"]).arg(&config).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, told) = run().await;
    assert_eq!(exit, Some(2), "{told}");
    assert!(told.contains("can be read or written by everyone: its mode is 604"), "{told}");
    fs::remove_file(&seed).unwrap();
    let (exit, told) = run().await;
    assert_eq!(exit, Some(2), "{told}");
    assert!(told.contains("cannot read the seed file"), "{told}");
}
