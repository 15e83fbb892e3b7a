//! Least privilege: by the user that `gatewatch permissions` prints everything works, without any one of its
//! permissions the agent says which one, and nothing beyond them is let through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use gatewatch::lab::{Auth, Creds, Lab, Spec, creds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::common::{LABS, WITHIN, binary, gatewatch};

const PREFIX: &str = "_INBOX_gatewatch";

/// What `gatewatch permissions` prints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printed {
    /// The entry of `users` in a server's configuration.
    entry: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
    answers: bool,
}

async fn print(args: &[&str]) -> String {
    let output = gatewatch().arg("permissions").args(args).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Printed {
    pub(crate) async fn new(prefix: &str, user: &str) -> Self {
        let args = ["--prefix", prefix, "--user", user];
        let text = print(&args).await;
        let entry = text.split_once("    users: [\n").unwrap().1.split_once("\n    ]\n").unwrap().0;
        let nsc = print(&[&args[..], &["--format", "nsc"]].concat()).await;
        let list = |flag: &str| -> Vec<String> {
            let after = nsc.split_once(&format!("{flag} '")).unwrap().1;
            after.split_once('\'').unwrap().0.split(',').map(str::to_owned).collect()
        };
        let (publish, subscribe) = (list("--allow-pub"), list("--allow-sub"));
        let all = [&publish[..], &subscribe[..]].concat();
        let lines: Vec<&str> = entry.lines().filter_map(|line| line.trim().split('"').nth(1)).collect();
        assert!(
            lines.windows(all.len()).any(|lines| lines == all),
            "both forms list the same: {text}\n{nsc}"
        );
        assert!(nsc.contains("--allow-pub-response=1 --response-ttl 10s"), "{nsc}");
        Self { entry: entry.to_owned(), publish, subscribe, answers: true }
    }

    /// Verbs and subjects, as the agent names them.
    fn all(&self) -> Vec<(&'static str, String)> {
        let of = |verb: &'static str, subjects: &[String]| -> Vec<(&'static str, String)> {
            subjects.iter().map(|subject| (verb, subject.clone())).collect()
        };
        let answer = ["requests (allow_responses)".to_owned()];
        [of("publish", &self.publish), of("subscribe", &self.subscribe), of("answer", &answer)].concat()
    }

    fn without(&self, verb: &str, permission: &str) -> Self {
        let mut rest = self.clone();
        let what = if verb == "answer" { "allow_responses:" } else { &format!("\"{permission}\" #") };
        let mut inside = "";
        let kept = self.entry.lines().filter(|line| {
            for list in ["publish", "subscribe", "allow_responses"] {
                if line.trim().starts_with(&format!("{list}: {{")) {
                    inside = list;
                }
            }
            !line.contains(what) || !(verb == "answer" || inside == verb)
        });
        rest.entry = kept.map(|line| line.to_owned() + "\n").collect();
        assert_eq!(rest.entry.lines().count() + 1, self.entry.lines().count(), "{verb} {permission}");
        match verb {
            "publish" => rest.publish.retain(|subject| subject != permission),
            "subscribe" => rest.subscribe.retain(|subject| subject != permission),
            _ => rest.answers = false,
        }
        rest
    }

    /// What `nsc` makes of the printed command.
    pub(crate) fn claims(&self) -> Value {
        let mut claims = json!({
            "pub": { "allow": self.publish }, "sub": { "allow": self.subscribe },
            "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
        });
        if self.answers {
            claims["resp"] = json!({ "max": 1, "ttl": 10_000_000_000_u64 });
        }
        claims
    }
}

/// The lab's accounts with these users besides, as a server of theirs is told them.
fn users_conf(lab: &Lab, users: &[Printed]) -> String {
    let password = lab.password().unwrap();
    let entries: Vec<String> = users.iter().map(|user| user.entry.replace("replace-me", password)).collect();
    let entries = entries.join("\n");
    format!(
        "accounts {{ SYS: {{ users: [ {{ user: sys, password: \"{password}\" }}\n{entries}\n ] }} }}\n\
         system_account: SYS\n"
    )
}

async fn reload(lab: &Lab, server: &str) {
    let loaded = async || lab.ask(server, "VARZ").await.ok()?.get("config_load_time").cloned();
    let before = loaded().await.unwrap();
    let pid = lab.pid(server).await.unwrap().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGHUP).unwrap();
    let until = Instant::now() + WITHIN;
    while loaded().await.is_none_or(|at| at == before) {
        assert!(Instant::now() < until, "{server} does not take its configuration");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes these users known to `eu-0`; how each logs in.
fn introduce(lab: &Lab, users: &BTreeMap<String, Printed>) -> BTreeMap<String, Vec<String>> {
    let Some(creds) = lab.creds() else {
        let all: Vec<Printed> = users.values().cloned().collect();
        std::fs::write(lab.dir().join("creds/auth.conf"), users_conf(lab, &all)).unwrap();
        let password = lab.password().unwrap();
        let login = |name: &String| {
            let args = ["--user", name, "--password", password].map(str::to_owned).to_vec();
            (name.clone(), args)
        };
        return users.keys().map(login).collect();
    };
    let login = |(name, user): (&String, &Printed)| {
        let file = user_creds(creds, name, &user.claims(), None);
        (name.clone(), vec!["--creds".to_owned(), file.display().to_string()])
    };
    users.iter().map(login).collect()
}

/// A user of the system account, made as the lab makes its own.
pub(crate) fn user_creds(creds: &Creds, name: &str, claims: &Value, ends_in: Option<Duration>) -> PathBuf {
    let seed = std::fs::read_to_string(creds.dir().join("SYS.nk")).unwrap();
    let (account, key) = (KeyPair::from_seed(seed.trim()).unwrap(), KeyPair::new_user());
    let jwt = creds::sign(&account, &key.public_key(), name, claims, ends_in).unwrap();
    let file = creds.user(name);
    std::fs::write(&file, creds::creds_file(&jwt, &key).unwrap()).unwrap();
    file
}

struct Agent {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn start(lab: &Lab, prefix: &str, login: &[String], dir: &Path) -> Self {
        let config = dir.join(format!("{prefix}.toml"));
        std::fs::write(&config, format!("[publish]\nprefix = {prefix:?}\n[poll]\ninterval = \"2s\"\n"))
            .unwrap();
        let mut command: Command = gatewatch();
        command.args(["run", "--name", prefix, "--inbox-prefix", PREFIX, "--server"]);
        command.arg(lab.url("eu-0").unwrap()).args(login).arg("--config").arg(config);
        command.env("HOME", dir).env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                into.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    fn says(&self, what: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(what))
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// What it complains of.
    fn complaints(&self) -> Vec<String> {
        let logged = |line: &str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.starts_with("error: ") || logged(line)).cloned().collect()
    }

    async fn until(&mut self, what: &str, within: Duration) {
        let until = Instant::now() + within;
        while !self.says(what) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended and did not say {what:?}:\n{}", self.log());
            assert!(Instant::now() < until, "it does not say {what:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs an agent without each permission of the table, and one with all.
async fn without_each(version: &str, auth: Auth) {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary(version).await), auth, ..Spec::new(&["eu", "us"], 1) };
    let lab = Lab::start(spec).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let count = Printed::new("any", "any").await.all().len();
    let mut users = BTreeMap::new();
    let mut lacks = BTreeMap::new();
    for number in 0..=count {
        let prefix = format!("gw{number:02}");
        let all = Printed::new(&prefix, &prefix).await;
        let lack = all.all().get(number).cloned();
        users.insert(
            prefix.clone(),
            lack.as_ref().map_or(all.clone(), |(verb, lack)| all.without(verb, lack)),
        );
        lacks.insert(prefix, lack);
    }
    let logins = introduce(&lab, &users);
    if lab.creds().is_none() {
        reload(&lab, "eu-0").await;
    }
    let agents = logins.iter().map(|(prefix, login)| Agent::start(&lab, prefix, login, dir.path()));
    let mut agents: Vec<Agent> = agents.collect();
    let judged = agents.iter_mut().zip(lacks.values()).map(async |(agent, lack)| {
        let Some((verb, lack)) = lack else { return };
        let fatal = lack.ends_with(".GATEWAYZ") || lack.starts_with("_INBOX");
        if fatal {
            let status = tokio::time::timeout(WITHIN, agent.child.wait()).await.expect(lack).unwrap();
            assert_eq!(status.code(), Some(3), "{lack}:\n{}", agent.log());
            let help = format!("allow: [\"{lack}\"]");
            let until = Instant::now() + WITHIN;
            while !agent.says(&help) {
                assert!(Instant::now() < until, "{lack}:\n{}", agent.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            agent.until("does not see everything", WITHIN).await;
        }
        let complaints = agent.complaints();
        assert_eq!(complaints.len(), 1, "one word of {lack}:\n{}", agent.log());
        assert!(
            fatal || complaints[0].contains(&format!("may not {verb} `{lack}`: ")),
            "{lack}: {complaints:?}"
        );
        if !fatal {
            let log = agent.log();
            let findings: Vec<&str> = log.lines().filter(|line| line.contains("action=\"opened\"")).collect();
            assert_eq!(findings.len(), 1, "{lack}:\n{log}");
            assert!(findings[0].contains(&format!("everything: may not {verb} {lack} action=")), "{log}");
        }
    });
    join_all(judged).await;
    let whole = agents.last().unwrap();
    assert!(whole.says("leading") && whole.complaints().is_empty(), "{}", whole.log());
    lab.down().await.unwrap();
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named_once() {
    without_each("2.10.26", Auth::Users).await;
}

#[tokio::test]
async fn each_permission_that_is_missing_in_a_jwt_is_named_once() {
    without_each("2.15.1", Auth::Operator { dir: None }).await;
}

#[tokio::test]
async fn a_permission_that_is_given_later_is_used_from_then_on() {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { auth: Auth::Users, ..Spec::new(&["eu", "us"], 1) };
    let lab = Lab::start(spec).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let all = Printed::new("gw", "gw").await;
    let heard = "$SYS.SERVER.*.STATSZ";
    let less = all.without("publish", "$SYS.REQ.SERVER.*.VARZ").without("subscribe", heard);
    let less = less.without("subscribe", "gw.api.>");
    let logins = introduce(&lab, &[("gw".to_owned(), less)].into());
    reload(&lab, "eu-0").await;
    let mut agent = Agent::start(&lab, "gw", &logins["gw"], dir.path());
    agent.until("does not see everything", WITHIN).await;
    introduce(&lab, &[("gw".to_owned(), all)].into());
    reload(&lab, "eu-0").await;
    agent.until("action=\"resolved\"", WITHIN).await;
    // What it may hear it hears, and whoever asks it is answered.
    let sys = lab.connect_options("sys").await.unwrap().connect(lab.url("eu-0").unwrap()).await.unwrap();
    let until = Instant::now() + WITHIN;
    loop {
        let answer = sys.request("gw.api.epoch", "".into()).await;
        let epoch: Option<Value> = answer.ok().and_then(|m| serde_json::from_slice(&m.payload).ok());
        if epoch.as_ref().is_some_and(|epoch| epoch["servers"]["heard"] == 2) {
            break;
        }
        assert!(Instant::now() < until, "{epoch:?}\n{}", agent.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lab.down().await.unwrap();
}

/// What somebody who has read the agent's credentials would like to do, `id` being a server's and `cid` a client's.
fn forbidden(id: &str, cid: u64) -> (Vec<(String, String)>, Vec<&'static str>) {
    let server = |name: &str, body: &str| (format!("$SYS.REQ.SERVER.{id}.{name}"), body.to_owned());
    let mut publish = vec![
        // Act on servers and their clients, and read what the agent has no use for.
        server("KICK", &format!("{{\"cid\":{cid}}}")),
        server("LDM", &format!("{{\"cid\":{cid}}}")),
        server("RELOAD", ""),
        server("PROFILEZ", "{\"name\":\"heap\"}"),
    ];
    let endpoints = ["PROFILEZ", "CONNZ", "SUBSZ", "LEAFZ", "ACCOUNTZ", "HEALTHZ", "IDZ", "EXPVARZ", "RAFTZ"];
    let mut also: Vec<String> = endpoints.iter().map(|e| format!("$SYS.REQ.SERVER.PING.{e}")).collect();
    also.extend(
        [
            "$SYS.REQ.SERVER.PING",
            "$SYS.DEBUG.SUBSCRIBERS",
            // Rewrite accounts, or read them.
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.CLAIMS.DELETE",
            "$SYS.REQ.CLAIMS.LIST",
            "$SYS.REQ.CLAIMS.PACK",
            "$SYS.REQ.ACCOUNT.APP.CLAIMS.UPDATE",
            "$SYS.REQ.ACCOUNT.APP.CLAIMS.LOOKUP",
            "$SYS.ACCOUNT.APP.CLAIMS.UPDATE",
            "$SYS.REQ.ACCOUNT.APP.CONNZ",
            "$SYS.REQ.ACCOUNT.APP.JSZ",
            "$SYS.REQ.ACCOUNT.APP.SUBSZ",
            "$SYS.REQ.ACCOUNT.APP.INFO",
            "$SYS.REQ.ACCOUNT.APP.STATZ",
            "$SYS.REQ.ACCOUNT.NSUBS",
            // Speak in a server's name.
            "$SYS.SERVER.NFAKE.STATSZ",
            "$SYS.SERVER.NFAKE.SHUTDOWN",
            "$SYS.SERVER.NFAKE.LAMEDUCK",
            "$SYS.SERVER.NFAKE.CLIENT.AUTH.ERR",
            "$SYS.ACCOUNT.APP.CONNECT",
            "$SYS.ACCOUNT.APP.SERVER.CONNS",
            // Answer what was asked of others.
            "_INBOX.victim.1",
            "_INBOX_gatewatch.victim.1",
            "_R_.victim",
            "$SYS._INBOX_.victim",
            // Ask the agent to be silent, or another service anything.
            "gatewatch.api.silence.add",
            "gatewatch.api.findings",
            "$SRV.PING",
            "$JS.API.INFO",
            "orders.new",
        ]
        .map(str::to_owned),
    );
    publish.extend(also.into_iter().map(|subject| (subject, "{}".to_owned())));
    let subscribe = vec![
        ">",
        "*.>",
        "$SYS.>",
        // Answer in a server's place, or learn what is asked.
        "$SYS.REQ.>",
        "$SYS.REQ.SERVER.PING.GATEWAYZ",
        "$SYS.REQ.SERVER.*.VARZ",
        "$SYS.REQ.ACCOUNT.PING.STATZ",
        "$SYS.REQ.CLAIMS.>",
        // Overhear the answers to others, and who connects where.
        "_INBOX.>",
        "_R_.>",
        "$SYS._INBOX_.>",
        "$SYS.SERVER.>",
        "$SYS.ACCOUNT.>",
        "$SYS.ACCOUNT.*.CONNECT",
        "$SYS.SERVER.ACCOUNT.*.CONNS",
        "gatewatch.>",
        "$SRV.>",
        "$SRV.*.other",
        "$JS.>",
    ];
    (publish, subscribe)
}

/// A client, and what the server refused it.
async fn watched(options: ConnectOptions, url: &str) -> (Client, Arc<Mutex<BTreeSet<String>>>) {
    let refused = Arc::new(Mutex::new(BTreeSet::new()));
    let into = Arc::clone(&refused);
    let options = options.event_callback(move |event| {
        if let async_nats::Event::ServerError(error) = event {
            let text = error.to_string();
            let subject = text.split('"').nth(1).unwrap_or(&text).to_owned();
            let verb = if text.to_lowercase().contains("publish") { "publish" } else { "subscribe" };
            into.lock().unwrap().insert(format!("{verb} {subject}"));
        }
        async {}
    });
    (options.connect(url).await.unwrap(), refused)
}

/// All that the server had to say to what was sent before has come when it answered.
async fn round_trip(client: &Client) {
    let answer = client.request("$SYS.REQ.USER.INFO", "".into()).await.unwrap();
    assert!(answer.status.is_none());
}

async fn refuses_what_is_not_printed(version: &str, auth: Auth) {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary(version).await), auth, ..Spec::new(&["eu", "us"], 1) };
    let lab = Lab::start(spec).await.unwrap();
    let printed = Printed::new("gatewatch", "gatewatch").await;
    let url = lab.url("eu-0").unwrap();
    let (victim, _) = watched(lab.connect_options("app").await.unwrap(), &url).await;
    let sys = lab.connect_options("sys").await.unwrap().connect(&url).await.unwrap();
    let mut all = sys.subscribe(">").await.unwrap();
    sys.flush().await.unwrap();
    let (agent, refused) = watched(lab.connect_options("gatewatch").await.unwrap(), &url).await;
    let id = lab.server_id("eu-0").await.unwrap();
    let varz = async || {
        let varz = lab.ask("eu-0", "VARZ").await.unwrap();
        (varz["start"].clone(), varz["config_load_time"].clone())
    };
    let (before, cid) = (varz().await, victim.server_info().client_id);

    // Each thing that is printed is let through.
    for subject in &printed.publish {
        let subject = subject.replace('*', "x").replace('>', "x.y");
        agent.publish(subject, "printed".into()).await.unwrap();
    }
    let mut kept = Vec::new();
    for subject in &printed.subscribe {
        kept.push(agent.subscribe(subject.clone()).await.unwrap());
    }
    round_trip(&agent).await;
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
    let passed = async |all: &mut async_nats::Subscriber, payload: &str| {
        let mut passed = BTreeSet::new();
        sys.publish("end.of.it", "".into()).await.unwrap();
        while let Some(message) = tokio::time::timeout(WITHIN, all.next()).await.unwrap() {
            if message.subject.as_str() == "end.of.it" {
                break;
            }
            let ours = message.reply.as_ref().is_some_and(|reply| reply.contains(".forbidden."));
            if ours || message.payload == payload {
                passed.insert(message.subject.to_string());
            }
        }
        passed
    };
    let seen = passed(&mut all, "printed").await;
    assert!(seen.len() + 1 >= printed.publish.len(), "who hears all hears what is let through: {seen:?}");

    // Nothing else is, and nothing happens.
    let (publish, subscribe) = forbidden(&id, cid);
    let mut wanted = BTreeSet::new();
    for (number, (subject, body)) in publish.into_iter().enumerate() {
        let reply = format!("{PREFIX}.forbidden.{number}");
        wanted.insert(format!("publish {subject}"));
        agent.publish_with_reply(subject, reply, body.into()).await.unwrap();
    }
    for subject in subscribe {
        wanted.insert(format!("subscribe {subject}"));
        kept.push(agent.subscribe(subject).await.unwrap());
    }
    round_trip(&agent).await;
    let until = Instant::now() + WITHIN;
    while refused.lock().unwrap().len() < wanted.len() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let let_through: Vec<_> = wanted.difference(&refused.lock().unwrap()).cloned().collect();
    assert_eq!(let_through, [""; 0]);
    assert_eq!(passed(&mut all, "forbidden").await, BTreeSet::new());
    assert_eq!(varz().await, before);
    victim.flush().await.unwrap();
    assert_eq!(victim.server_info().client_id, cid);

    // To who may do it, it is done: the questions were right.
    let kick = format!("$SYS.REQ.SERVER.{id}.KICK");
    sys.request(kick, format!("{{\"cid\":{cid}}}").into()).await.unwrap();
    let until = Instant::now() + WITHIN;
    while victim.server_info().client_id == cid {
        assert!(Instant::now() < until, "it was not disconnected");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.down().await.unwrap();
}

#[tokio::test]
async fn what_is_not_printed_is_refused_by_every_version() {
    for version in ["2.10.26", "2.12.8", "2.15.1"] {
        refuses_what_is_not_printed(version, Auth::Users).await;
    }
}

#[tokio::test]
async fn what_is_not_in_the_jwt_is_refused_by_every_version() {
    for version in ["2.10.26", "2.12.8", "2.15.1"] {
        refuses_what_is_not_printed(version, Auth::Operator { dir: None }).await;
    }
}

/// The lab's agent, by which all other tests run, has the printed user and no other.
#[tokio::test]
async fn the_lab_logs_the_agent_in_with_the_printed_user() {
    let printed = Printed::new("gatewatch", "gatewatch").await;
    let dir = tempfile::tempdir().unwrap();
    let (creds, _) = creds::ensure(dir.path(), false).unwrap();
    let text = std::fs::read_to_string(creds.user("gatewatch")).unwrap();
    let body = text.lines().nth(1).unwrap().split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(body.as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["nats"], printed.claims());

    let _permit = LABS.acquire().await.unwrap();
    let lab = Lab::start(Spec { auth: Auth::Users, ..Spec::new(&["eu", "us"], 1) }).await.unwrap();
    let (agent, _) =
        watched(lab.connect_options("gatewatch").await.unwrap(), &lab.url("eu-0").unwrap()).await;
    let told = agent.request("$SYS.REQ.USER.INFO", "".into()).await.unwrap();
    let told: Value = serde_json::from_slice(&told.payload).unwrap();
    let may = &told["data"]["permissions"];
    for (list, wanted) in [("publish", &printed.publish), ("subscribe", &printed.subscribe)] {
        // The server tells them in no order.
        let told: BTreeSet<&str> =
            may[list]["allow"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(told, wanted.iter().map(String::as_str).collect(), "{list}");
        assert_eq!(may[list]["deny"], Value::Null);
    }
    assert_eq!(may["responses"], json!({ "max": 1, "ttl": 10_000_000_000_u64 }));
    lab.down().await.unwrap();
}
