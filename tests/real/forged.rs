//! Who may speak to agents, and what comes of it where somebody forges a word.

use std::time::Duration;

use futures_util::StreamExt as _;
use gatewatch::lab::Spec;
use serde_json::json;

use crate::common::{Event, WITHIN, Watch};

/// The beat of an agent that there is not, which says that it leads since ever, and speaks again when it likes.
fn beat(next_in: Duration) -> String {
    json!({
        "instance": "forged", "agent": "forged", "leading_since": "2020-01-01T00:00:00Z", "next_in": next_in,
        "changes": 0, "stops": false,
    })
    .to_string()
}

async fn leads(watch: &mut Watch, leads: bool, within: Duration) {
    let mark = watch.mark();
    let is = |event: &Event| event.is_epoch() && event.body["leader"] == leads;
    watch.wait(&format!("an epoch with leader {leads}"), mark, within, is).await;
}

#[tokio::test]
async fn another_account_asks_the_api_and_reaches_nothing_else_of_the_agent() {
    let mut watch = Watch::start(Spec::new(&["eu", "us"], 2)).await;
    let url = watch.lab.url("eu-0").unwrap();
    let connect =
        async |user: &str| watch.lab.connect_options(user).await.unwrap().connect(url.clone()).await.unwrap();
    let (sys, app) = (connect("sys").await, connect("app").await);
    let mut all = sys.subscribe(">").await.unwrap();
    sys.flush().await.unwrap();
    let forged = beat(Duration::from_secs(3600));
    for subject in [
        "gatewatch.peer.forged",
        "gatewatch.ledger.pull",
        "gatewatch.ledger.forged",
        "gatewatch.finding.critical.server_missing.eu.x._",
        "gatewatch.epoch.watcher",
        "gatewatch.agent.stopping.watcher",
        "$SYS.SERVER.NFAKE.STATSZ",
        "$SYS.REQ.SERVER.PING.GATEWAYZ",
    ] {
        app.publish(subject, forged.clone().into()).await.unwrap();
    }
    // It comes after all of these, and is let through.
    let answer = app.request("gatewatch.api.epoch", "".into()).await.unwrap();
    assert!(answer.status.is_none());
    sys.publish("end.of.it", "".into()).await.unwrap();
    loop {
        let message = tokio::time::timeout(WITHIN, all.next()).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&message.payload).contains("forged"), "{}", message.subject);
        if message.subject.as_str() == "end.of.it" {
            break;
        }
    }
    leads(&mut watch, true, WITHIN).await;
    watch.finish().await;
}

/// Nothing tells a forged beat from a true one: who may publish it takes the lead. It is told of, and one word does not
/// last long.
#[tokio::test]
async fn a_forged_beat_takes_the_lead_for_a_minute_at_the_most_and_is_told_of() {
    let mut watch = Watch::start(Spec::new(&["eu", "us"], 2)).await;
    watch.lawless();
    let sys = watch.lab.connect_options("sys").await.unwrap();
    let sys = sys.connect(watch.lab.url("us-0").unwrap()).await.unwrap();
    let mark = watch.mark();
    sys.publish("gatewatch.peer.forged", beat(Duration::from_secs(3600)).into()).await.unwrap();
    let standby =
        |event: &Event| event.text("/event") == "standby" && event.text("/reason") == "forged leads";
    watch.wait("word of who leads", mark, WITHIN, standby).await;
    leads(&mut watch, false, WITHIN).await;
    leads(&mut watch, true, Duration::from_secs(70)).await;
    watch.finish_anyhow().await;
}
