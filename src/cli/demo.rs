//! `gatewatch lab demo`: one incident from start to end, beside a running agent, on real servers.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Failure, output, watch};
use crate::connect::permissions::INBOX_PREFIX;
use crate::lab::{Lab, LabError, Spec, nats_server};

/// The contract of the demo: a lost link is told of within this.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// The servers heal a link by themselves within about a second, and the agent looks twice.
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);
/// How many messages tell whether a path works.
const PROBES: usize = 10;
const PROBE_WAIT: Duration = Duration::from_millis(500);
/// The column after the time, where what happens is told.
const TOLD_AT: usize = 9;

const NEAR: &str = "eu-1";
const REMOTE: &str = "us";
const FAR: &str = "us-2";
const AGENT_AT: &str = "ap-0";

pub(super) async fn run(binary: Option<PathBuf>) -> Result<(), Failure> {
    let mut tale = Tale { began: Instant::now(), colour: output::colour(&io::stdout()) };
    tale.tell("starting eu, us and ap, three nats-servers each, every gateway behind a proxy")?;
    let binary = match binary {
        Some(path) => path,
        None => nats_server(None).await.map_err(lab_failed)?,
    };
    let lab = Lab::start(Spec { binary: Some(binary), ..Spec::default() }).await.map_err(lab_failed)?;
    let played = play(&lab, &mut tale).await;
    lab.down().await.map_err(lab_failed)?;
    played
}

async fn play(lab: &Lab, tale: &mut Tale) -> Result<(), Failure> {
    let version = lab.system_client(NEAR).await.map_err(lab_failed)?.server_info().version;
    tale.tell(&format!("nine servers of {version} are up, all 18 gateways connected"))?;

    let sys = client(lab, "sys", AGENT_AT).await?;
    let mut events = subscribe(&sys, "gatewatch.>").await?;
    let mut advisories = subscribe(&sys, "$SYS.SERVER.>").await?;
    let agent = Agent::start(lab)?;
    let publisher = client(lab, "app", NEAR).await?;
    let mut subscriber = subscribe(&client(lab, "app", FAR).await?, "orders.>").await?;
    wait_for(&mut events, RESOLVED_WITHIN, |subject, event| {
        subject.starts_with("gatewatch.epoch.") && event.get("settled") == Some(&Value::Bool(true))
    })
    .await
    .ok_or_else(|| failed("the agent published no settled epoch"))?;
    tale.tell(&format!("gatewatch watches, connected to {AGENT_AT}: nothing to say"))?;
    probe(tale, &publisher, &mut subscriber).await?;

    let cut = lab.cut(NEAR, REMOTE).await.map_err(lab_failed)?;
    tale.act(&format!("CUT {NEAR} -> {REMOTE}: its gateway connection is reset, new ones are refused"))?;
    // What the servers say of it by themselves, until we do.
    while advisories.next().now_or_never().flatten().is_some() {}
    probe(tale, &publisher, &mut subscriber).await?;
    let (subject, event) = wait_for(&mut events, FOUND_WITHIN, is("opened"))
        .await
        .ok_or_else(|| failed(format!("no finding within {} s of the cut", FOUND_WITHIN.as_secs())))?;
    let mut said: Vec<String> = Vec::new();
    while let Some(message) = advisories.next().now_or_never().flatten() {
        if !message.subject.ends_with(".STATSZ") {
            said.push(message.subject.to_string());
        }
    }
    let said = if said.is_empty() { "no advisory at all".to_owned() } else { said.join(", ") };
    tale.tell(&format!("the servers themselves told of it: {said}"))?;
    tale.tell(&format!(
        "gatewatch, {:.1} s after the cut, on {subject}",
        cut.instant.elapsed().as_secs_f64()
    ))?;
    tale.event(&event)?;
    let cause = event.pointer("/cause/kind").and_then(Value::as_str).unwrap_or_default();
    if !subject.ends_with(&format!(".gateway_disconnected.eu.{NEAR}.{REMOTE}")) || cause != "path_cut" {
        return Err(failed(format!(
            "that is not the finding that this fault makes: {subject}, cause {cause}"
        )));
    }

    lab.heal(NEAR, REMOTE).await.map_err(lab_failed)?;
    tale.act("HEAL: connections are accepted again")?;
    let (_, event) = wait_for(&mut events, RESOLVED_WITHIN, is("resolved"))
        .await
        .ok_or_else(|| failed(format!("not resolved within {} s", RESOLVED_WITHIN.as_secs())))?;
    tale.event(&event)?;
    probe(tale, &publisher, &mut subscriber).await?;

    agent.stop().await?;
    tale.tell("the end: one fault, one finding, opened and resolved")?;
    Ok(())
}

/// Publishes at one server and counts at another.
async fn probe(tale: &mut Tale, publisher: &Client, subscriber: &mut Subscriber) -> Result<(), Failure> {
    for n in 0..PROBES {
        publisher.publish(format!("orders.{n}"), "x".into()).await.map_err(nats_failed)?;
    }
    publisher.flush().await.map_err(nats_failed)?;
    let mut arrived = 0;
    while arrived < PROBES
        && let Ok(Some(_)) = tokio::time::timeout(PROBE_WAIT, subscriber.next()).await
    {
        arrived += 1;
    }
    tale.tell(&format!(
        "a client of {NEAR} publishes {PROBES} messages: no error; {arrived} of {PROBES} arrive at {FAR}"
    ))
}

/// The agent, as a user starts it.
struct Agent {
    child: Child,
}

impl Agent {
    fn start(lab: &Lab) -> Result<Self, Failure> {
        let creds = lab.creds().ok_or_else(|| failed("the lab has no creds"))?.user("gatewatch");
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--name", "demo", "--inbox-prefix", INBOX_PREFIX, "-s"])
            .arg(lab.url(AGENT_AT).map_err(lab_failed)?)
            .arg("--creds")
            .arg(creds)
            .env("RUST_LOG", "warn")
            // Neither a context nor a file of the user's has a part in this.
            .env_remove("NATS_CONTEXT")
            .env_remove("GATEWATCH_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM)
                .map_err(io::Error::from)?;
        }
        let ended = self.child.wait().await?;
        if ended.success() { Ok(()) } else { Err(failed(format!("the agent ended with {ended}"))) }
    }
}

/// What is printed: results, each with its time.
struct Tale {
    began: Instant,
    colour: bool,
}

impl Tale {
    fn tell(&mut self, what: &str) -> Result<(), Failure> {
        Ok(output::print(&format!("{:5.1} s  {what}\n", self.began.elapsed().as_secs_f64()))?)
    }

    fn act(&mut self, what: &str) -> Result<(), Failure> {
        let what = if self.colour { format!("\u{1b}[1m{what}\u{1b}[0m") } else { what.to_owned() };
        self.tell(&what)
    }

    fn event(&mut self, event: &Value) -> Result<(), Failure> {
        let width = io::stdout().is_terminal().then(|| output::width().saturating_sub(TOLD_AT));
        let text = watch::readable(event, self.colour, width).unwrap_or_default();
        for line in text.lines() {
            output::print(&format!(
                "{:TOLD_AT$}{line}
",
                ""
            ))?;
        }
        Ok(())
    }
}

fn is(action: &'static str) -> impl Fn(&str, &Value) -> bool {
    move |subject, event| {
        subject.starts_with("gatewatch.finding.")
            && event.get("action").and_then(Value::as_str) == Some(action)
    }
}

/// The first event that `wanted` likes.
async fn wait_for(
    events: &mut Subscriber,
    within: Duration,
    wanted: impl Fn(&str, &Value) -> bool,
) -> Option<(String, Value)> {
    let found = async {
        while let Some(message) = events.next().await {
            if let Ok(event) = serde_json::from_slice::<Value>(&message.payload)
                && wanted(&message.subject, &event)
            {
                return Some((message.subject.to_string(), event));
            }
        }
        None
    };
    tokio::time::timeout(within, found).await.ok().flatten()
}

async fn client(lab: &Lab, user: &str, server: &str) -> Result<Client, Failure> {
    let options = lab.connect_options(user).await.map_err(lab_failed)?;
    options.connect(lab.url(server).map_err(lab_failed)?).await.map_err(nats_failed)
}

async fn subscribe(client: &Client, subject: &str) -> Result<Subscriber, Failure> {
    let subscriber = client.subscribe(subject.to_owned()).await.map_err(nats_failed)?;
    client.flush().await.map_err(nats_failed)?;
    Ok(subscriber)
}

fn failed(what: impl Into<String>) -> Failure {
    Failure::new(1, what.into(), None)
}

fn lab_failed(error: LabError) -> Failure {
    Failure::new(2, error, None)
}

fn nats_failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(1, error, None)
}
