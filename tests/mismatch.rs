//! `gateway_config_mismatch`: the right server, and the block that puts it right.
//!
//! Each case restarts servers with what the finding's own `expected_block` says, and is over then.
#![cfg(feature = "lab")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here is a failed test"
)]

mod common;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{AgentSpec, Event, WITHIN, Watch, binary};
use gatewatch::lab::{GatewaySpec, RemoteSpec, Spec, TlsSpec};
use serde_json::{Value, json};

const NEWEST: &str = "2.15.1";
const OLDEST: &str = "2.10.26";

async fn three_by_three(version: &str) -> Watch {
    Watch::start(Spec { binary: Some(binary(version).await), ..Spec::default() }).await
}

#[tokio::test]
async fn a_difference_is_named_with_its_server_and_block_on_the_newest() {
    each_difference(NEWEST).await;
}

#[tokio::test]
async fn a_difference_is_named_with_its_server_and_block_on_the_oldest() {
    each_difference(OLDEST).await;
}

async fn each_difference(version: &str) {
    let mut watch = three_by_three(version).await;
    remotes_with_other_urls_are_no_difference(&mut watch).await;
    case(&mut watch, "eu-1", &["remotes"], |gateway| gateway.remotes = Some(vec![RemoteSpec::new("ap")]))
        .await;
    case(&mut watch, "eu-1", &["gateway"], |gateway| gateway.enabled = false).await;
    // It cannot be asked: neither a request nor a reply passes.
    case(&mut watch, "us-1", &["gateway"], |gateway| gateway.enabled = false).await;
    case(&mut watch, "eu-1", &["tls_required", "tls_verify"], |gateway| {
        gateway.tls = Some(TlsSpec::default());
    })
    .await;
    case(&mut watch, "eu-1", &["reject_unknown"], |gateway| gateway.reject_unknown = true).await;
    case(&mut watch, "eu-1", &["remotes"], |gateway| {
        let misspelt = RemoteSpec { leads_to: Some("us".to_owned()), ..RemoteSpec::new("uss") };
        gateway.remotes = Some(vec![misspelt, RemoteSpec::new("ap")]);
    })
    .await;
    watch.finish().await;
}

/// One server differs: found, named, told how to be, and well when it is so.
async fn case(watch: &mut Watch, server: &str, keys: &[&str], edit: impl FnOnce(&mut GatewaySpec)) {
    eprintln!("{server} differs in {keys:?}");
    let mark = watch.mark();
    watch.lab.restart_with(server, edit).await.unwrap();
    let cluster = server.split('-').next().unwrap();
    let finding = watch.exactly_one(mark, &format!("gateway_config_mismatch {cluster}/{server}/_")).await;
    differs_in(&finding, keys);
    let block = expected_block(watch.dir(), &finding).await;
    watch.lab.restart_with(server, |gateway| *gateway = as_told(&block, None)).await.unwrap();
    watch.resolves(mark, &finding).await;
}

async fn remotes_with_other_urls_are_no_difference(watch: &mut Watch) {
    let mark = watch.mark();
    let gateways = watch.lab.ask("eu-1", "VARZ").await.unwrap()["gateway"]["gateways"].clone();
    let us = gateways.as_array().unwrap().iter().find(|remote| remote["name"] == "us").unwrap();
    let one = us["urls"][0].as_str().unwrap();
    // Without a user, which the server then takes from its own authorization; and one that leads nowhere.
    let nowhere = format!("nats://127.0.0.1:{}", watch.lab.free_port().unwrap());
    let urls = Some(vec![format!("nats://{one}"), nowhere]);
    let remotes = vec![RemoteSpec { urls, ..RemoteSpec::new("us") }, RemoteSpec::new("ap")];
    watch.lab.restart_with("eu-1", |gateway| gateway.remotes = Some(remotes)).await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.observe_until(Instant::now() + Duration::from_secs(8)).await;
    watch.opened_are(mark, &[]);
    watch.lab.restart_with("eu-1", |gateway| *gateway = GatewaySpec::default()).await.unwrap();
    watch.lab.wait_healthy(WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_port_that_the_other_servers_share_is_the_right_one() {
    let mut spec = Spec { binary: Some(binary(NEWEST).await), ..Spec::default() };
    let host = |number: u8| Some(Ipv4Addr::new(127, 0, 0, 2 + number));
    let port = Some(free_on_all_loopback_addresses());
    for number in 0..3 {
        let gateway = GatewaySpec { host: host(number), port, ..GatewaySpec::default() };
        spec.gateways.insert(format!("eu-{number}"), gateway);
    }
    let mut watch = Watch::start(spec).await;
    let mark = watch.mark();
    let other = watch.lab.free_port().unwrap();
    watch.lab.restart_with("eu-1", |gateway| gateway.port = Some(other)).await.unwrap();
    let finding = watch.exactly_one(mark, "gateway_config_mismatch eu/eu-1/_").await;
    differs_in(&finding, &["port"]);
    assert_eq!(finding.body["evidence"]["differs"][0]["majority"], json!(port));
    let block = expected_block(watch.dir(), &finding).await;
    watch.lab.restart_with("eu-1", |gateway| *gateway = as_told(&block, host(1))).await.unwrap();
    watch.resolves(mark, &finding).await;
    watch.finish().await;
}

/// Not from the lab, whose ports are free on 127.0.0.1 only.
fn free_on_all_loopback_addresses() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn in_clusters_of_two_the_rest_of_the_supercluster_decides() {
    let spec = Spec { binary: Some(binary(OLDEST).await), ..Spec::new(&["eu", "us", "ap"], 2) };
    let mut watch = Watch::start(spec).await;
    case(&mut watch, "eu-1", &["remotes"], |gateway| gateway.remotes = Some(vec![RemoteSpec::new("ap")]))
        .await;
    case(&mut watch, "us-1", &["remotes"], |gateway| gateway.remotes = Some(vec![RemoteSpec::new("ap")]))
        .await;
    case(&mut watch, "eu-1", &["gateway"], |gateway| gateway.enabled = false).await;
    watch.finish().await;
}

#[tokio::test]
async fn a_whole_cluster_that_lacks_a_remote_is_named_as_one() {
    for cluster in ["eu", "us"] {
        let mut spec = Spec { binary: Some(binary(NEWEST).await), ..Spec::default() };
        let remote = if cluster == "eu" { "us" } else { "eu" };
        for number in 0..3 {
            let remotes = Some(vec![RemoteSpec::new("ap")]);
            let gateway = GatewaySpec { remotes, ..GatewaySpec::default() };
            spec.gateways.insert(format!("{cluster}-{number}"), gateway);
        }
        let mut watch = Watch::start_unsettled(spec, AgentSpec::default()).await;
        let finding = watch.exactly_one(0, &format!("gateway_config_mismatch {cluster}/_/_")).await;
        differs_in(&finding, &["remotes"]);
        assert!(finding.text("/summary").contains(&format!("lists {remote}")), "{}", finding.line());
        let block = expected_block(watch.dir(), &finding).await;
        for server in watch.lab.servers().iter().filter(|server| server.starts_with(cluster)) {
            watch.lab.restart_with(server, |gateway| *gateway = as_told(&block, None)).await.unwrap();
        }
        watch.resolves(0, &finding).await;
        watch.finish().await;
    }
}

fn differs_in(finding: &Event, keys: &[&str]) {
    let differs = finding.body["evidence"]["differs"].as_array().unwrap();
    let found: Vec<&str> = differs.iter().filter_map(|difference| difference["key"].as_str()).collect();
    assert_eq!(found, keys, "{differs:#?}");
    for difference in differs {
        assert!(difference.get("majority").is_some() && difference.get("server").is_some(), "{difference}");
    }
}

/// The block that the finding gives, which nats-server takes.
async fn expected_block(dir: &Path, finding: &Event) -> String {
    let block = finding.text("/evidence/expected_block").to_owned();
    let file = dir.join("expected.conf");
    std::fs::write(&file, format!("listen: \"127.0.0.1:-1\"\n{block}\n")).unwrap();
    let mut check = tokio::process::Command::new(binary(NEWEST).await);
    let output = check.arg("-t").arg("-c").arg(&file).output().await.unwrap();
    assert!(output.status.success(), "{}\n{block}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<&Value> =
        finding.body["remediation"].as_array().unwrap().iter().map(|step| &step["do"]).collect();
    assert!(told.iter().any(|step| step.as_str().unwrap().contains(&block)), "{told:#?}");
    block
}

/// What an operator would make of the block: all that it says, and our own ways to the remotes that it names.
/// A port that no peer shares is the lab's own choice again.
fn as_told(block: &str, host: Option<Ipv4Addr>) -> GatewaySpec {
    let value = |key: &str| {
        let line = block.lines().find_map(|line| line.trim().strip_prefix(key));
        line.map(|value| value.trim().trim_matches('"').to_owned())
    };
    let remotes = block.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("{ name: \"")?;
        Some(RemoteSpec::new(name.split('"').next()?))
    });
    let port = value("listen:").and_then(|listen| listen.rsplit(':').next()?.parse().ok());
    GatewaySpec {
        enabled: true,
        host,
        port: port.filter(|_| host.is_some()),
        remotes: Some(remotes.collect()),
        tls: block.contains("# tls:").then(TlsSpec::default),
        reject_unknown: value("reject_unknown_cluster:").is_some_and(|value| value == "true"),
        connect_retries: value("connect_retries:").and_then(|value| value.parse().ok()),
        advertise: value("advertise:"),
        ..GatewaySpec::default()
    }
}
