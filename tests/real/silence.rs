//! Silence: what is healthy, and what operators do on purpose, opens nothing.
//!
//! `GATEWATCH_SILENCE=10m` watches the healthy supercluster for ten minutes instead of twenty seconds.

use std::time::{Duration, Instant};

use crate::common::{SETTLE, WITHIN, Watch};
use gatewatch::lab::Spec;

/// Until the next server is restarted: as long as an operator's script waits at the least.
const BETWEEN_RESTARTS: Duration = Duration::from_secs(3);
const RECONNECTS: usize = 10;

fn healthy_for() -> Duration {
    let text = std::env::var("GATEWATCH_SILENCE").unwrap_or_else(|_| "20s".to_owned());
    humantime::parse_duration(&text).expect("GATEWATCH_SILENCE is a duration such as 10m")
}

#[tokio::test]
async fn health_and_a_rolling_restart_of_all_and_a_lame_duck_open_nothing() {
    let mut watch = Watch::start(Spec::default()).await;
    watch.observe_until(Instant::now() + healthy_for()).await;
    watch.opened_are(0, &[]);
    eprintln!("silent in health");

    // The listener's server goes last, and what it misses meanwhile the agent's own log has.
    for server in watch.lab.servers() {
        watch.lab.restart(&server).await.unwrap();
        watch.lab.wait_healthy(WITHIN).await.unwrap();
        watch.observe_until(Instant::now() + BETWEEN_RESTARTS).await;
        watch.opened_are(0, &[]);
    }
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.opened_are(0, &[]);
    eprintln!("silent in a rolling restart");

    watch.lab.lame_duck("us-1").await.unwrap();
    while watch.lab.pid("us-1").await.unwrap().is_some() {
        watch.observe_until(Instant::now() + Duration::from_millis(200)).await;
    }
    watch.observe_until(Instant::now() + BETWEEN_RESTARTS).await;
    watch.lab.start_server("us-1").await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.opened_are(0, &[]);
    assert!(!watch.agent_log().contains("action=\"opened\""), "{}", watch.agent_log());
    watch.finish().await;
}

#[tokio::test]
async fn restarts_without_waiting_for_each_other_open_nothing() {
    let mut watch = Watch::start(Spec::default()).await;
    for server in ["us-0", "us-1", "us-2", "ap-0", "eu-2"] {
        watch.lab.restart(server).await.unwrap();
    }
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.opened_are(0, &[]);
    watch.finish().await;
}

#[tokio::test]
async fn reconnects_of_the_agent_open_nothing() {
    let mut watch = Watch::start(Spec::default()).await;
    for number in 0..RECONNECTS {
        let mark = watch.mark();
        kick(&watch).await;
        // Every other time the next one comes before anything is judged again.
        let is_back = |event: &crate::common::Event| event.text("/event") == "restored";
        watch.wait("another connection", mark, WITHIN, is_back).await;
        if number % 2 == 0 {
            let mark = watch.mark();
            watch.wait("a settled epoch", mark, WITHIN, |e| e.is_epoch() && e.body["settled"] == true).await;
        }
    }
    let mark = watch.mark();
    watch.wait("a settled epoch", mark, WITHIN, |e| e.is_epoch() && e.body["settled"] == true).await;
    watch.observe_until(Instant::now() + SETTLE).await;
    watch.opened_are(0, &[]);
    watch.finish().await;
}

/// Has the agent's server close its connection; it takes any server of the cluster then.
async fn kick(watch: &Watch) {
    let tells = |event: &crate::common::Event| !event.text("/vantage/server").is_empty();
    let last = watch.since(0).into_iter().rfind(tells).unwrap();
    let server = last.text("/vantage/server");
    let connections = watch.lab.ask(server, "CONNZ").await.unwrap();
    let connections = connections["connections"].as_array().unwrap();
    let agent = connections.iter().find(|c| c["name"].as_str().unwrap_or_default().contains("watcher"));
    let cid = &agent.expect("the agent is connected where it says")["cid"];
    let client = watch.lab.system_client(server).await.unwrap();
    let subject = format!("$SYS.REQ.SERVER.{}.KICK", client.server_info().server_id);
    client.request(subject, serde_json::json!({ "cid": cid }).to_string().into()).await.unwrap();
}
