//! Findings in another account, by what `gatewatch permissions --export` prints: each client of it hears each
//! message once, whatever server it is at, and the API answers it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::Peekable;
use gatewatch::lab::{Auth, Lab, Spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{AgentSpec, WITHIN, Watch, binary, gatewatch};

const VERSIONS: [&str; 3] = ["2.10.26", "2.12.8", "2.15.1"];
/// In how many parts an answer comes.
const PARTS: usize = 3;
const IN_PARTS: &str = "gatewatch.api.of_the_test";

async fn printed(args: &[&str]) -> String {
    let output = gatewatch().arg("permissions").args(args).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn client(lab: &Lab, server: &str, user: &str) -> Client {
    let options = match (user, lab.password()) {
        ("ops", Some(password)) => {
            async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        }
        _ => lab.connect_options(user).await.unwrap(),
    };
    options.connect(lab.url(server).unwrap()).await.unwrap()
}

/// The lab's accounts, and OPS by what is printed; told to the servers as a user would.
async fn reconfigure(lab: &Lab) {
    let password = lab.password().unwrap();
    let agent = printed(&[]).await.replace("replace-me", password);
    let (_, agent) = agent.split_once("    users: [\n").unwrap();
    let (agent, _) = agent.split_once("\n    ]\n").unwrap();
    let user = |name: &str| format!("{{ user: {name}, password: \"{password}\" }}");
    let block = printed(&["--export", "OPS"]).await;
    let block =
        block.replacen("\"SYS\" {\n", &format!("\"SYS\" {{\n users: [ {}\n{agent} ]\n", user("sys")), 1);
    let block = block.replacen("\"OPS\" {\n", &format!("\"OPS\" {{\n users: [ {} ]\n", user("ops")), 1);
    let block =
        block.replacen("accounts {\n", &format!("accounts {{\n APP {{ users: [ {} ] }}\n", user("app")), 1);
    std::fs::write(lab.dir().join("creds/auth.conf"), block).unwrap();
    let loaded = async |server: &str| lab.ask(server, "VARZ").await.ok()?.get("config_load_time").cloned();
    for server in lab.servers() {
        // After one reload a service of the system account has no responders, on every version.
        for _ in 0..2 {
            let until = Instant::now() + WITHIN;
            let before = loaded(&server).await.unwrap();
            let pid = lab.pid(&server).await.unwrap().unwrap();
            kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGHUP).unwrap();
            while loaded(&server).await.is_none_or(|at| at == before) {
                assert!(Instant::now() < until, "{server} did not take the printed exports");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        client(lab, &server, "ops").await;
    }
}

/// The answers to a question, which is asked until somebody answers.
async fn ask(client: &Client, subject: &'static str) -> Peekable<Subscriber> {
    let until = Instant::now() + WITHIN;
    loop {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.unwrap().peekable();
        client.publish_with_reply(subject, inbox, "".into()).await.unwrap();
        let first =
            tokio::time::timeout(WITHIN, Pin::new(&mut replies).peek()).await.expect(subject).unwrap();
        if first.status.is_none() {
            return replies;
        }
        assert!(Instant::now() < until, "nobody answers to {subject}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each client of `user` at each server hears the finding of a fault once, and gets its answers.
async fn holds(mut watch: Watch, user: &str) {
    let servers = watch.lab.servers();
    let mut heard = BTreeMap::new();
    for server in &servers {
        let client = client(&watch.lab, server, user).await;
        let findings = client.subscribe("gatewatch.finding.>").await.unwrap();
        let epochs = client.subscribe("gatewatch.epoch.>").await.unwrap();
        client.flush().await.unwrap();
        heard.insert(server.clone(), (client, findings, epochs));
    }
    // An endpoint that the agent does not have, whose answers come in parts.
    let answerer = client(&watch.lab, "eu-0", "sys").await;
    let mut asked = answerer.subscribe(IN_PARTS).await.unwrap();
    answerer.flush().await.unwrap();
    let answers = tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            let reply = request.reply.expect("it wants an answer");
            for part in 0..PARTS {
                answerer.publish(reply.clone(), part.to_string().into()).await.unwrap();
            }
        }
    });

    watch.start_agent().await;
    // The others' interest crosses the gateways within moments; a heartbeat that came shows that it did.
    for (server, (_, _, epochs)) in &mut heard {
        tokio::time::timeout(WITHIN, epochs.next()).await.expect(server).unwrap();
    }
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    let opened = watch.wait_opened(mark, "gateway_disconnected us/us-1/ap", WITHIN).await;
    watch.lab.heal("us-1", "ap").await.unwrap();
    let resolved = watch.wait_resolved(mark, &opened, WITHIN).await;
    let said: Vec<String> = watch.findings(mark).iter().map(|event| event.text("/id").to_owned()).collect();
    assert!(said.len() >= 2 && said.last().unwrap() == resolved.text("/id"));
    for (server, (client, findings, _)) in &mut heard {
        for id in &said {
            let message = tokio::time::timeout(WITHIN, findings.next()).await.expect(server).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(body["id"], **id, "{server} hears each once, in order");
            assert!(message.headers.is_some_and(|h| h.get("Nats-Msg-Id").is_some()), "and with its headers");
        }
        let mut replies = ask(client, IN_PARTS).await;
        for part in 0..PARTS {
            let what = format!("{server}: part {part}");
            let reply = tokio::time::timeout(WITHIN, replies.next()).await.expect(&what).unwrap();
            assert_eq!(reply.payload, part.to_string(), "{what}");
        }
        for (subject, key, value) in
            [("gatewatch.api.epoch", "agent", "watcher"), ("$SRV.PING.gatewatch", "name", "gatewatch")]
        {
            let mut replies = ask(client, subject).await;
            let what = format!("{server}: an answer to {subject}");
            let reply = tokio::time::timeout(WITHIN, replies.next()).await.expect(&what).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&reply.payload).expect(&what);
            assert_eq!(body[key], value, "{what}: {body}");
        }
    }
    // Nothing came twice: by now a second copy of the first would have come.
    for (server, (_, findings, _)) in &mut heard {
        let more = tokio::time::timeout(Duration::from_millis(20), findings.next()).await;
        assert!(more.is_err(), "{server} hears something twice: {more:?}");
    }
    answers.abort();
    watch.finish().await;
}

#[tokio::test]
async fn printed_exports_reach_each_client_of_another_account_once_across_gateways() {
    for version in VERSIONS {
        let spec = Spec { binary: Some(binary(version).await), auth: Auth::Users, ..Spec::default() };
        let watch = Watch::unwatched(spec, AgentSpec::default(), true).await;
        reconfigure(&watch.lab).await;
        holds(watch, "ops").await;
    }
}

#[tokio::test]
async fn the_same_exports_as_jwts_of_an_operator_do_so_too() {
    for version in VERSIONS {
        let spec = Spec { binary: Some(binary(version).await), ..Spec::default() };
        holds(Watch::unwatched(spec, AgentSpec::default(), true).await, "app").await;
    }
}

/// What nsc writes by these commands are the JWTs that the lab has: the same subjects, kinds and ways to answer.
#[tokio::test]
async fn the_printed_nsc_commands_name_what_the_operators_jwts_have() {
    let dir = tempfile::tempdir().unwrap();
    let (creds, _) = gatewatch::lab::creds::ensure(dir.path(), false).unwrap();
    let claims = |account: &str| -> serde_json::Value {
        let jwt = std::fs::read_to_string(creds.dir().join(format!("{account}.jwt"))).unwrap();
        let body = jwt.split('.').nth(1).unwrap();
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap()
    };
    let mut wanted = vec![];
    let [system, app] = [claims("SYS"), claims("APP")].map(|claims| claims["nats"].clone());
    let exports = system["exports"].as_array().unwrap();
    for (export, import) in exports.iter().zip(app["imports"].as_array().unwrap()) {
        let subject = export["subject"].as_str().unwrap();
        assert_eq!((&import["subject"], &import["type"]), (&export["subject"], &export["type"]));
        let service = export["type"] == "service";
        let (kind, more) = if service { (" --service", " --response-type Stream") } else { ("", "") };
        wanted.push(format!(
            "nsc add export --account SYS --name '{subject}' --subject '{subject}'{kind}{more}"
        ));
        wanted.push(format!(
            "nsc add import --account APP --name '{subject}' --src-account SYS --remote-subject '{subject}'{kind}"
        ));
    }
    wanted.push("nsc push --all".to_owned());
    let text = printed(&["--export", "APP", "--format", "nsc"]).await;
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, wanted);
}
