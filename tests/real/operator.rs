//! An operator's accounts, kept by the servers' own resolvers and changed while the agent runs: its user is of a
//! scoped signing key, its credentials end and are replaced, and nothing of what it does is missed.

use std::path::Path;
use std::time::{Duration, Instant};

use gatewatch::lab::{Auth, Spec, creds};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::common::sweep::output;
use crate::common::{AgentSpec, Event, WITHIN, Watch, binary, gatewatch};
use crate::least::Printed;

/// The operator, its system account, and the key that signs agents for it.
struct Operator {
    key: KeyPair,
    account: String,
    claims: Value,
    agents: KeyPair,
}

fn seed(file: &Path) -> KeyPair {
    KeyPair::from_seed(std::fs::read_to_string(file).unwrap().trim()).unwrap()
}

impl Operator {
    /// Makes the lab's credentials in `dir`, with a resolver that can be told of accounts.
    async fn new(dir: &Path) -> Self {
        let (creds, _) = creds::ensure(dir, false).unwrap();
        let jwt = std::fs::read_to_string(dir.join("SYS.jwt")).unwrap();
        let body = jwt.split('.').nth(1).unwrap();
        let body = data_encoding::BASE64URL_NOPAD.decode(body.as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let (key, agents) = (seed(&dir.join("operator.nk")), KeyPair::new_account());
        let mut claims = body["nats"].clone();
        // As `nsc edit signing-key --account SYS --role agent` with the flags of the printed command.
        let mut template = Printed::new("gatewatch", "gatewatch").await.claims();
        template.as_object_mut().unwrap().retain(|key, _| key != "type" && key != "version");
        claims["signing_keys"] = json!([
            { "kind": "user_scope", "key": agents.public_key(), "role": "agent", "template": template }
        ]);
        let operator = Self { key, account: body["sub"].as_str().unwrap().to_owned(), claims, agents };
        let conf = std::fs::read_to_string(creds.auth_conf()).unwrap();
        let conf = conf
            .replace("resolver: MEMORY", "resolver: { type: full, dir: $RESOLVER_DIR, interval: \"2m\" }");
        let conf = conf.replace(&jwt, &operator.account_jwt(&json!({})));
        std::fs::write(creds.auth_conf(), conf).unwrap();
        operator
    }

    /// The system account, without the users that are revoked.
    fn account_jwt(&self, revoked: &Value) -> String {
        let mut claims = self.claims.clone();
        claims["revocations"] = revoked.clone();
        creds::sign(&self.key, &self.account, "SYS", &claims, None).unwrap()
    }

    /// Credentials of a user who may what the signing key's role may; its public key.
    fn user(&self, name: &str, file: &Path, ends_in: Option<Duration>) -> String {
        let user = KeyPair::new_user();
        let claims = json!({ "issuer_account": self.account, "type": "user", "version": 2 });
        let jwt = creds::sign(&self.agents, &user.public_key(), name, &claims, ends_in).unwrap();
        let part = file.with_extension("new");
        std::fs::write(&part, creds::creds_file(&jwt, &user).unwrap()).unwrap();
        std::fs::rename(part, file).unwrap();
        user.public_key()
    }
}

/// Every epoch was said, one after the other, and could be judged by; how many, and the widest gap.
pub(crate) fn whole(watch: &Watch, mark: usize) -> (usize, Duration) {
    let mut epochs: Vec<Event> = watch.since(mark).into_iter().filter(Event::is_epoch).collect();
    // What may have been lost with a connection is said again, under the same ID.
    epochs.dedup_by(|next, last| next.body == last.body);
    let number = |epoch: &Event| epoch.body["epoch"].as_u64().unwrap();
    let numbers: Vec<u64> = epochs.iter().map(number).collect();
    let one_by_one = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    assert!(one_by_one, "{numbers:?}\n{}\n{}", watch.story(mark), watch.agent_log());
    // A machine that is busy with other tests may cost one look its answers; a connection that is new costs three.
    let is_whole = |e: &Event| e.body["settled"] == true && e.body["servers"]["missing"] == json!([]);
    for pair in epochs.windows(2) {
        let blind = pair.iter().all(|epoch| !is_whole(epoch));
        assert!(!blind, "{} {}\n{}", pair[0].body, pair[1].body, watch.agent_log());
    }
    let widest = epochs.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    (epochs.len(), widest)
}

async fn connected_again(watch: &mut Watch, mark: usize) {
    watch
        .wait("a connection by the new credentials", mark, WITHIN, |event| event.text("/event") == "restored")
        .await;
}

async fn changes_under_the_agent(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::new(dir.path()).await;
    let auth = Auth::Operator { dir: Some(dir.path().to_owned()) };
    let spec = Spec { binary: Some(binary(version).await), auth, ..Spec::new(&["eu", "us", "ap"], 2) };
    let mut watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    let file = watch.lab.creds().unwrap().user("gatewatch");
    let [expired, revoked] = ["expired", "revoked"].map(|name| dir.path().join(format!("{name}.creds")));
    operator.user("expired", &file, Some(Duration::from_secs(12)));
    std::fs::copy(&file, &expired).unwrap();
    watch.start_agent().await;

    // The file is replaced before the user in it ends.
    let mark = watch.mark();
    let second = operator.user("revoked", &file, None);
    std::fs::copy(&file, &revoked).unwrap();
    connected_again(&mut watch, mark).await;

    // The user is revoked by the account that is pushed, and the file was replaced before.
    let again = watch.mark();
    operator.user("third", &file, None);
    let sys = watch.lab.connect_options("sys").await.unwrap();
    let sys = sys.connect(watch.lab.url("us-1").unwrap()).await.unwrap();
    let now = gatewatch::clock::Clock::start().now().as_millis() / 1000;
    let jwt = operator.account_jwt(&json!({ second: now + 1 }));
    let answer = sys.request("$SYS.REQ.CLAIMS.UPDATE", jwt.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["data"]["code"], 200, "{answer}");
    connected_again(&mut watch, again).await;

    // It does what it is there for.
    let cut = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let lost = watch.wait_opened(cut, "gateway_disconnected us/us-1/ap", WITHIN).await;
    let app = watch.lab.connect_options("app").await.unwrap();
    let app = app.connect(watch.lab.url("ap-1").unwrap()).await.unwrap();
    let answer = app.request("gatewatch.api.findings", "{}".into()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains(lost.text("/fingerprint")));
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.wait_resolved(cut, &lost, WITHIN).await;
    watch.opened_are(0, &["gateway_disconnected us/us-1/ap"]);
    let (epochs, widest) = whole(&watch, mark);
    eprintln!("{version}: {epochs} epochs, none missed, at most {} ms apart", widest.as_millis());
    assert!(widest < Duration::from_secs(3), "{widest:?}");

    // Who comes with what is over is told so.
    for (file, wanted) in [(expired, "of `expired`, expired at "), (revoked, "may have been revoked")] {
        let mut command = gatewatch();
        command.args(["check", "--inbox-prefix", "_INBOX_gatewatch", "-s", &watch.lab.url("eu-0").unwrap()]);
        command.arg("--creds").arg(&file);
        let done = output(command, WITHIN).await;
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(said.contains("refused the login with the creds file") && said.contains(wanted), "{said}");
    }
    watch.finish().await;
}

#[tokio::test]
async fn accounts_change_under_the_agent_on_2_10_26() {
    changes_under_the_agent("2.10.26").await;
}

#[tokio::test]
async fn accounts_change_under_the_agent_on_2_12_8() {
    changes_under_the_agent("2.12.8").await;
}

#[tokio::test]
async fn accounts_change_under_the_agent_on_2_15_1() {
    changes_under_the_agent("2.15.1").await;
}

/// A user who was revoked, and whose file nobody replaces: the log says whose login it was, and what to do.
#[tokio::test]
async fn an_agent_whose_user_is_revoked_says_so_until_its_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let operator = Operator::new(dir.path()).await;
    let auth = Auth::Operator { dir: Some(dir.path().to_owned()) };
    let spec = Spec { auth, ..Spec::new(&["eu", "us"], 2) };
    let mut watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
    let file = watch.lab.creds().unwrap().user("gatewatch");
    let user = operator.user("watcher", &file, None);
    watch.start_agent().await;
    let mark = watch.mark();
    let sys = watch.lab.connect_options("sys").await.unwrap();
    let sys = sys.connect(watch.lab.url("us-1").unwrap()).await.unwrap();
    let now = gatewatch::clock::Clock::start().now().as_millis() / 1000;
    let jwt = operator.account_jwt(&json!({ user: now + 1 }));
    sys.request("$SYS.REQ.CLAIMS.UPDATE", jwt.into()).await.unwrap();
    let until = Instant::now() + WITHIN;
    let wanted = ["cannot connect, trying again", "gatewatch.creds: the user may have been revoked"];
    while !watch.agent_log().lines().any(|line| wanted.iter().all(|wanted| line.contains(wanted))) {
        assert!(Instant::now() < until, "{}", watch.agent_log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    operator.user("next", &file, None);
    connected_again(&mut watch, mark).await;
    watch.wait("an epoch", mark, WITHIN, |event| event.is_epoch() && event.body["settled"] == true).await;
    watch.finish().await;
}
