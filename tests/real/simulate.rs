//! The agent beside synthetic servers: it cannot tell them from real ones.

use std::process::Stdio;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::common::simulation::Simulation;
use crate::common::sweep::output;
use crate::common::{LABS, WITHIN, gatewatch};

async fn check(simulation: &Simulation) -> (Option<i32>, String) {
    let mut command = gatewatch();
    command.args(["check", "--server", &simulation.url]);
    let said = output(command, WITHIN).await;
    (said.status.code(), String::from_utf8(said.stdout).unwrap())
}

#[tokio::test]
async fn synthetic_servers_are_whole_and_a_cut_among_them_is_one_finding_on_the_newest() {
    a_cut_is_found_and_healed("2.15.1").await;
}

#[tokio::test]
async fn synthetic_servers_are_whole_and_a_cut_among_them_is_one_finding_on_the_oldest() {
    a_cut_is_found_and_healed("2.10.26").await;
}

async fn a_cut_is_found_and_healed(version: &str) {
    let _permit = LABS.acquire().await.unwrap();
    let mut simulation = Simulation::start(gatewatch(), 3, 3, version).await;
    let (exit, text) = check(&simulation).await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("3 of 3 clusters, 9 of 9 servers, 18 of 18 links"), "{text}");

    let client = async_nats::connect(&simulation.url).await.unwrap();
    let mut heard = client.subscribe("gatewatch.*.>").await.unwrap();
    client.flush().await.unwrap();
    let mut command = gatewatch();
    command.args(["run", "--server", &simulation.url]).stdout(Stdio::null()).stderr(Stdio::null());
    let _agent = command.spawn().unwrap();
    let mut next = async |wanted: &str| loop {
        let message = timeout(WITHIN, heard.next()).await.expect(wanted).unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if body["type"] == "io.nats.gatewatch.metric.v1.epoch"
            && wanted == "an epoch"
            && body["settled"] == true
        {
            return body;
        }
        if body["type"] == "io.nats.gatewatch.advisory.v1.finding" {
            return body;
        }
    };
    let epoch = next("an epoch").await;
    assert_eq!(epoch["links"]["connected"], 18, "{epoch}");

    let said = simulation.tell("cut c1-1 c2").await;
    assert!(said.ends_with("cut c1-1 c2: c1-1"), "{said}");
    let is = |event: &Value, action: &str| {
        let entity = &event["entity"];
        let names = [&event["action"], &event["check"], &entity["server"], &entity["remote"]];
        assert_eq!(names, [action, "gateway_disconnected", "c1-1", "c2"], "{event}");
    };
    is(&next("what is opened").await, "opened");
    let (exit, text) = check(&simulation).await;
    assert_eq!(exit, Some(2), "{text}");
    simulation.tell("heal").await;
    is(&next("what is resolved").await, "resolved");
    assert!(simulation.tell("explode").await.contains("is not understood"));
}
