//! `gatewatch check` as a gate: the exit code of every format, in every situation.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gatewatch::lab::{Auth, Lab, RemoteSpec, Spec};
use serde_json::Value;
use tokio::process::Command;

use crate::common::sweep::output;
use crate::common::{LABS, WITHIN, binary, gatewatch};

const FORMATS: [&str; 5] = ["text", "json", "nagios", "prometheus", "junit"];
/// A look at something healthy takes no longer.
const HEALTHY_WITHIN: Duration = Duration::from_secs(1);

/// What it said and its exit code.
struct Said {
    exit: i32,
    text: String,
    took: Duration,
}

fn check(lab: &Lab, server: &str, args: &[&str]) -> Command {
    let mut command = gatewatch();
    command.args(["check", "--server", &lab.url(server).unwrap()]);
    command.args(["--user", "gatewatch", "--password", lab.password().unwrap()]);
    command.args(["--inbox-prefix", "_INBOX_gatewatch"]).args(args);
    command
}

async fn said(command: Command) -> Said {
    let began = Instant::now();
    let done = output(command, WITHIN).await;
    let took = began.elapsed();
    let log = String::from_utf8(done.stderr).unwrap();
    assert!(!log.contains("panicked") && !log.contains('\u{1b}'), "{log}");
    let exit = done.status.code().expect("it ends by itself");
    Said { exit, text: String::from_utf8(done.stdout).unwrap(), took }
}

/// Every format says the same and ends alike; the words of the text are handed back.
async fn all_say(exit: i32, command: impl Fn(&str) -> Command) -> String {
    let all = join_all(FORMATS.map(|format| said(command(format)))).await;
    let status = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(exit).unwrap()];
    for (format, said) in FORMATS.iter().zip(&all) {
        let text = &said.text;
        assert_eq!(said.exit, exit, "{format}: {text}");
        let fits = match *format {
            "text" => text.starts_with(&format!("{status}: ")),
            "nagios" => text.starts_with(&format!("{status} gatewatch ")) && text.lines().count() == 1,
            "json" => {
                serde_json::from_str::<Value>(text).is_ok_and(|v| v["status"] == status && v["exit"] == exit)
            }
            "prometheus" => text.contains(&format!(
                "gatewatch_check_status_code{{item=\"supercluster\",status=\"{status}\"}} {exit}\n"
            )),
            _ => {
                text.ends_with("</testsuites>\n")
                    && text.contains("<failure ") == (exit == 1 || exit == 2)
                    && text.contains("<error ") == (exit == 3)
            }
        };
        assert!(fits, "{format} says {status}: {text}");
    }
    all.into_iter().next().unwrap().text
}

#[tokio::test]
async fn it_is_a_gate_in_every_situation_on_the_newest() {
    each_situation("2.15.1").await;
}

#[tokio::test]
async fn it_is_a_gate_in_every_situation_on_the_oldest() {
    each_situation("2.10.26").await;
}

async fn each_situation(version: &str) {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary(version).await), auth: Auth::Users, ..Spec::default() };
    let lab = Lab::start(spec).await.unwrap();
    let all = |exit, server: &'static str, args: &'static [&str]| {
        let lab = &lab;
        all_say(exit, move |format| {
            let mut command = check(lab, server, args);
            command.args(["--format", format]);
            command
        })
    };

    // Healthy, from wherever.
    for server in ["eu-0", "us-1", "ap-2"] {
        let text = all(0, server, &[]).await;
        assert!(text.contains("is whole - 3 of 3 clusters, 9 of 9 servers, 18 of 18 links"), "{text}");
    }
    healthy_is_fast(&lab).await;
    all(0, "eu-0", &["--expect-servers", "9", "--epochs", "4"]).await;
    let text = all(3, "eu-0", &["--expect-servers", "10"]).await;
    assert!(text.contains("9 servers answered, and 10 are expected"), "{text}");

    // A link.
    lab.cut("us-1", "ap").await.unwrap();
    let text = all(2, "eu-0", &[]).await;
    assert!(text.contains("us-1 (us) has no gateway to ap") && text.contains("17 of 18 links"), "{text}");
    all(0, "eu-0", &["--only", "gateway_rtt_high", "--only", "GW_005"]).await;
    all(2, "eu-0", &["--only", "CLUSTER_007"]).await;
    lab.heal("us-1", "ap").await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();

    // What is only a warning.
    let remotes = vec![RemoteSpec::new("ap")];
    lab.restart_with("eu-1", |gateway| gateway.remotes = Some(remotes)).await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();
    let text = all(1, "eu-0", &[]).await;
    assert!(text.contains("is whole, but the gateway block of eu-1 differs"), "{text}");
    all(0, "eu-0", &["--fail-on", "critical"]).await;
    lab.restart_with("eu-1", |gateway| gateway.remotes = None).await.unwrap();
    lab.wait_healthy(WITHIN).await.unwrap();

    // Half of the servers say nothing, and nobody says that they died.
    let stopped = ["eu-1", "us-0", "us-1", "ap-0", "ap-2"];
    for server in stopped {
        lab.stop(server).await.unwrap();
    }
    let text = all(3, "eu-0", &[]).await;
    assert!(text.contains("servers did not answer"), "{text}");
    for server in stopped {
        lab.cont(server).await.unwrap();
    }
    lab.wait_healthy(WITHIN).await.unwrap();

    // A cluster.
    lab.kill_cluster("us").await.unwrap();
    let text = all(2, "eu-0", &[]).await;
    assert!(text.contains("no server of us answers") && text.contains("2 of 3 clusters"), "{text}");
    lab.down().await.unwrap();
}

/// The quickest of some, for the machine that tests has more to do; whoever waited for the first seconds of a
/// connection, or for the end of a look, would never be so quick.
async fn healthy_is_fast(lab: &Lab) {
    let mut took = Vec::new();
    for _ in 0..5 {
        let said = said(check(lab, "eu-0", &[])).await;
        assert_eq!(said.exit, 0, "{}", said.text);
        took.push(said.took);
    }
    let quickest = took.iter().min().unwrap();
    assert!(*quickest <= HEALTHY_WITHIN, "{took:?}");
}

#[tokio::test]
async fn who_may_not_ask_or_reaches_nobody_gets_no_all_clear() {
    let _permit = LABS.acquire().await.unwrap();
    let spec =
        Spec { binary: Some(binary("2.15.1").await), auth: Auth::Users, ..Spec::new(&["eu", "us"], 1) };
    let lab = Lab::start(spec).await.unwrap();
    let (url, password) = (lab.url("eu-0").unwrap(), lab.password().unwrap().to_owned());
    let as_user = |user: &'static str, password: &str, more: &[&str]| {
        let mut args: Vec<String> =
            ["check", "--server", &url, "--user", user, "--password", password].map(str::to_owned).to_vec();
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        move |format: &str| {
            let mut command = gatewatch();
            command.args(&args).args(["--format", format]);
            command
        }
    };
    let text = all_say(3, as_user("app", &password, &[])).await;
    assert!(text.contains("is not a user of the system account") && text.contains("help: "), "{text}");
    let text = all_say(3, as_user("gatewatch", &password, &[])).await;
    assert!(text.contains("no permission to subscribe") && text.contains("--inbox-prefix"), "{text}");
    let wrong = all_say(3, as_user("gatewatch", "wrong", &[])).await;
    assert!(wrong.contains("refused the login") && !wrong.contains(&password), "{wrong}");
    let odd = all_say(3, as_user("gatewatch", &password, &["--only", "gateway_disconected"])).await;
    assert!(odd.contains("did you mean `gateway_disconnected`?"), "{odd}");
    let absent = all_say(3, as_user("gatewatch", &password, &["--expect", "/nowhere.toml"])).await;
    assert!(absent.contains("cannot read the expected topology"), "{absent}");
    lab.down().await.unwrap();

    // Nobody is there any more.
    all_say(3, as_user("gatewatch", &password, &[])).await;
}

#[tokio::test]
async fn a_server_that_just_started_is_waited_for() {
    let _permit = LABS.acquire().await.unwrap();
    let spec =
        Spec { binary: Some(binary("2.15.1").await), auth: Auth::Users, ..Spec::new(&["eu", "us"], 2) };
    let lab = Lab::start(spec).await.unwrap();
    lab.restart("eu-0").await.unwrap();
    let said = said(check(&lab, "eu-0", &[])).await;
    assert_eq!(said.exit, 0, "{}", said.text);
    assert!(said.text.contains("2 of 2 clusters, 4 of 4 servers, 4 of 4 links"), "{}", said.text);
    assert!(said.took > Duration::from_secs(1), "it saw only its own cluster: {:?}", said.took);
    lab.down().await.unwrap();
}
