//! Level, not edge: what is wrong when the agent comes is found, and an agent that comes back takes up what it
//! left.

use std::time::{Duration, Instant};

use crate::common::{AgentSpec, Event, WITHIN, Watch};
use gatewatch::lab::{RemoteSpec, Spec};
use nix::sys::signal::Signal;

/// A state file in a directory that outlives no test.
fn with_state(dir: &tempfile::TempDir) -> AgentSpec {
    let file = dir.path().join("state.json");
    let config = format!("[state]\nfile = \"{}\"\n", file.display());
    AgentSpec { config: Some(config), ..AgentSpec::default() }
}

#[tokio::test]
async fn a_link_that_was_down_before_the_agent_came_is_found() {
    let mut watch = Watch::unwatched(Spec::default(), AgentSpec::default(), true).await;
    watch.lab.cut("us-1", "ap").await.unwrap();
    watch
        .lab
        .wait_until("us-1", "no gateway to ap", WITHIN, |v| !v.outbound.contains_key("ap"))
        .await
        .unwrap();
    let mark = watch.mark();
    watch.start_agent().await;
    let finding = watch.exactly_one(mark, "gateway_disconnected us/us-1/ap").await;
    assert_eq!(finding.body["evidence"]["last_connected_at"], serde_json::Value::Null);
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

#[tokio::test]
async fn what_never_worked_since_the_servers_started_is_found() {
    let mut watch = Watch::unwatched(Spec::default(), AgentSpec::default(), true).await;
    let wrong = RemoteSpec { password: Some("wrong".into()), ..RemoteSpec::new("eu") };
    let remotes = vec![wrong, RemoteSpec::new("ap")];
    watch.lab.restart_with("us-1", |gateway| gateway.remotes = Some(remotes)).await.unwrap();
    watch
        .lab
        .wait_until("us-1", "no gateway to eu", WITHIN, |v| !v.outbound.contains_key("eu"))
        .await
        .unwrap();
    let mark = watch.mark();
    watch.start_agent().await;
    let finding = watch.exactly_one(mark, "gateway_disconnected us/us-1/eu").await;
    assert_eq!(finding.text("/cause/kind"), "auth_rejected", "{}", finding.line());
    watch.lab.restart_with("us-1", |gateway| gateway.remotes = None).await.unwrap();
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

#[tokio::test]
async fn a_cluster_that_was_down_before_the_agent_came_is_found() {
    let mut watch = Watch::unwatched(Spec::default(), AgentSpec::default(), true).await;
    watch.lab.kill_cluster("us").await.unwrap();
    watch
        .lab
        .wait_until("eu-0", "no gateway to us", WITHIN, |v| !v.outbound.contains_key("us"))
        .await
        .unwrap();
    let mark = watch.mark();
    watch.start_agent().await;
    let finding = watch.exactly_one(mark, "cluster_unreachable us/_/_").await;
    for server in ["us-0", "us-1", "us-2"] {
        watch.lab.start_server(server).await.unwrap();
    }
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

#[tokio::test]
async fn an_agent_that_restarts_during_a_fault_opens_it_once_and_resolves_it_once() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::unwatched(Spec::default(), with_state(&dir), true).await;
        watch.start_agent().await;
        let mark = watch.mark();
        watch.lab.cut("us-1", "ap").await.unwrap();
        let finding = watch.exactly_one(mark, "gateway_disconnected us/us-1/ap").await;

        // It is still there when the agent comes back.
        watch.end_agent(signal).await;
        let again = watch.mark();
        watch.start_agent().await;
        watch.observe_until(std::time::Instant::now() + crate::common::SETTLE).await;
        watch.opened_are(mark, &["gateway_disconnected us/us-1/ap"]);
        let resolved = watch.findings(again).iter().filter(|event| event.is("resolved")).count();
        assert_eq!(resolved, 0, "{}", watch.story(mark));

        // It is over when the agent comes back.
        watch.end_agent(signal).await;
        watch.lab.heal("us-1", "ap").await.unwrap();
        watch.lab.wait_healthy(WITHIN).await.unwrap();
        watch.start_agent().await;
        watch.resolves(mark, &finding).await;
        watch.finish().await;
    }
}

#[tokio::test]
async fn a_missing_server_stays_one_finding_when_the_agent_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::unwatched(Spec::default(), with_state(&dir), true).await;
    watch.start_agent().await;
    let mark = watch.mark();
    watch.lab.kill("us-1").await.unwrap();
    let finding = watch.exactly_one(mark, "server_missing us/us-1/_").await;
    watch.end_agent(Signal::SIGKILL).await;
    watch.start_agent().await;
    watch.observe_until(std::time::Instant::now() + crate::common::SETTLE).await;
    watch.opened_are(mark, &["server_missing us/us-1/_"]);
    watch.lab.start_server("us-1").await.unwrap();
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

#[tokio::test]
async fn the_time_in_which_the_agent_stood_still_is_no_absence() {
    // Too short for other agents to miss it. With what it saw before, the link would be absent for 2.5 s.
    const STOOD_STILL: Duration = Duration::from_millis(1800);
    const WAITS_ANEW: Duration = Duration::from_secs(2);
    let mut watch = Watch::start(Spec::default()).await;
    let mark = watch.mark();
    watch.lab.cut("us-1", "ap").await.unwrap();
    for _ in 0..2 {
        let next = watch.mark();
        watch.wait("an epoch", next, WITHIN, Event::is_epoch).await;
    }
    watch.signal_agent(Signal::SIGSTOP);
    tokio::time::sleep(STOOD_STILL).await;
    watch.signal_agent(Signal::SIGCONT);
    let woke = Instant::now();
    let finding = watch.wait_opened(mark, "gateway_disconnected us/us-1/ap", WITHIN).await;
    let waited = finding.at.saturating_duration_since(woke);
    assert!(waited >= WAITS_ANEW, "told of {waited:?} after it went on\n{}", watch.story(mark));
    watch.lab.heal("us-1", "ap").await.unwrap();
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}
