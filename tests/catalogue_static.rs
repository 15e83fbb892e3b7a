//! What the configurations alone tell: names, remotes, certificates. Each advice is followed, and is right.
#![cfg(feature = "lab")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here is a failed test"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Event, WITHIN, Watch, binary};
use gatewatch::lab::{GatewaySpec, RemoteSpec, Spec, TlsSpec};

const NEWEST: &str = "2.15.1";
const OLDEST: &str = "2.10.26";
/// The configuration is asked for twice a minute.
const ASKED_EVERY: Duration = Duration::from_secs(32);
/// A restart is told from a farewell after some seconds more.
const SEEN_WITHIN: Duration = Duration::from_secs(50);

async fn spec(version: &str, clusters: &[(&str, usize)]) -> Spec {
    let clusters = clusters.iter().map(|(name, servers)| ((*name).to_owned(), *servers)).collect();
    Spec { clusters, binary: Some(binary(version).await), ..Spec::default() }
}

#[tokio::test]
async fn a_remote_is_told_that_exists_nowhere_or_under_another_name_on_the_newest() {
    each_remote(NEWEST).await;
}

#[tokio::test]
async fn a_remote_is_told_that_exists_nowhere_or_under_another_name_on_the_oldest() {
    each_remote(OLDEST).await;
}

async fn each_remote(version: &str) {
    let mut watch = Watch::start(spec(version, &[("eu", 2), ("us", 1)]).await).await;
    let nowhere = format!("nats://127.0.0.1:{}", watch.lab.free_port().unwrap());
    let ghost = RemoteSpec { urls: Some(vec![nowhere]), ..RemoteSpec::new("dd") };
    case(&mut watch, "gateway_stale_remote us/_/dd", vec![RemoteSpec::new("eu"), ghost]).await;
    case(&mut watch, "gateway_implicit us/_/eu", Vec::new()).await;
    let mut urls = Vec::new();
    for server in ["eu-0", "eu-1"] {
        let gateway = watch.lab.ask(server, "GATEWAYZ").await.unwrap();
        urls.push(format!("nats://{}:{}", gateway["host"].as_str().unwrap(), gateway["port"]));
    }
    let misspelt = RemoteSpec { urls: Some(urls), ..RemoteSpec::new("ue") };
    case(&mut watch, "gateway_implicit us/_/ue", vec![misspelt]).await;
    watch.finish().await;
}

/// The only server of its cluster lists these remotes: found, told how to be, and well when it is so.
async fn case(watch: &mut Watch, about: &str, remotes: Vec<RemoteSpec>) {
    let mark = watch.mark();
    watch.lab.restart_with("us-0", |gateway| gateway.remotes = Some(remotes)).await.unwrap();
    let finding = watch.exactly_one(mark, about).await;
    let block = finding.text("/evidence/expected_block").to_owned();
    let told: Vec<RemoteSpec> = block
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ name: \"")?.split('"').next())
        .map(RemoteSpec::new)
        .collect();
    assert_eq!(told, [RemoteSpec::new("eu")], "{block}");
    a_server_takes(watch, &block).await;
    watch.lab.restart_with("us-0", |gateway| gateway.remotes = Some(told)).await.unwrap();
    resolves(watch, mark, &finding).await;
}

async fn a_server_takes(watch: &Watch, block: &str) {
    let file = watch.dir().join("expected.conf");
    std::fs::write(&file, format!("listen: \"127.0.0.1:-1\"\n{block}\n")).unwrap();
    let mut check = tokio::process::Command::new(binary(NEWEST).await);
    let output = check.arg("-t").arg("-c").arg(&file).output().await.unwrap();
    assert!(output.status.success(), "{}\n{block}", String::from_utf8_lossy(&output.stderr));
}

async fn resolves(watch: &mut Watch, mark: usize, finding: &Event) {
    watch.wait_resolved(mark, finding, SEEN_WITHIN).await;
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    watch.opened_are(mark, &[&finding.about()]);
    watch.all_closed();
}

#[tokio::test]
async fn two_servers_of_one_name_are_told_on_the_newest() {
    doubled_name(NEWEST).await;
}

#[tokio::test]
async fn two_servers_of_one_name_are_told_on_the_oldest() {
    doubled_name(OLDEST).await;
}

async fn doubled_name(version: &str) {
    let mut watch = Watch::start(spec(version, &[("eu", 3), ("us", 2), ("ap", 1)]).await).await;
    // In another cluster, which is locked out of ours; and in our own.
    for (server, about) in
        [("us-1", "duplicate_server_name eu/eu-2/us"), ("eu-1", "duplicate_server_name eu/eu-2/_")]
    {
        let mark = watch.mark();
        let name = Some("eu-2".to_owned());
        watch.lab.restart_with(server, |gateway| gateway.server_name = name).await.unwrap();
        let finding = watch.exactly_one(mark, about).await;
        let servers = finding.body["evidence"]["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 2, "{servers:#?}");
        watch.lab.restart_with(server, |gateway| gateway.server_name = None).await.unwrap();
        resolves(&mut watch, mark, &finding).await;
    }
    watch.finish().await;
}

#[tokio::test]
async fn a_certificate_is_told_before_it_ends_and_when_it_has_ended() {
    let mut spec = spec(NEWEST, &[("eu", 2), ("us", 1)]).await;
    for server in ["eu-0", "eu-1", "us-0"] {
        let gateway = GatewaySpec { tls: Some(TlsSpec::default()), ..GatewaySpec::default() };
        spec.gateways.insert(server.to_owned(), gateway);
    }
    let mut watch = Watch::start(spec).await;
    let about = "gateway_tls_expiring eu/eu-1/_";
    let mark = watch.mark();
    let hours = |hours: u64| TlsSpec::EndsIn(Duration::from_secs(hours * 3600));
    watch.lab.renew_certificate("eu-1", hours(30 * 24 + 1)).await.unwrap();
    watch.observe_until(Instant::now() + ASKED_EVERY).await;
    watch.opened_are(mark, &[]);
    watch.lab.renew_certificate("eu-1", hours(30 * 24 - 1)).await.unwrap();
    let warning = watch.wait_opened(mark, about, SEEN_WITHIN).await;
    assert_eq!(warning.text("/severity"), "warning");
    // It ended, and the server starts anew: all its gateways are lost, and one finding says so.
    let mark = watch.mark();
    let ended = TlsSpec::EndedBefore(Duration::from_secs(60));
    watch.lab.restart_with("eu-1", |gateway| gateway.tls = Some(ended)).await.unwrap();
    let finding = watch.exactly_one(mark, about).await;
    assert_eq!((finding.text("/severity"), &finding.body["evidence"]["ended"]), ("critical", &true.into()));
    watch.lab.renew_certificate("eu-1", TlsSpec::default()).await.unwrap();
    resolves(&mut watch, mark, &finding).await;
    watch.finish().await;
}
