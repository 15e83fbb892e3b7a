//! One fault, one finding: on every version of nats-server that is promised, and on three of them mixed.
//!
//! Three clusters of three servers and the built agent at `eu-0`. Each fault is watched for longer than it
//! takes to be found, so that what it draws after it would be seen; then it is healed, and nothing is left.
#![cfg(feature = "lab")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failure here is a failed test"
)]

mod common;

use std::collections::BTreeSet;

use common::{Event, Watch, binary};
use gatewatch::checks::{Entity, Severity};
use gatewatch::findings::fingerprint;
use gatewatch::lab::{RemoteSpec, Spec};

async fn of_version(version: &str) -> Spec {
    Spec { binary: Some(binary(version).await), ..Spec::default() }
}

#[tokio::test]
async fn one_fault_is_one_finding_on_2_10_26() {
    all_faults(of_version("2.10.26").await).await;
}

#[tokio::test]
async fn one_fault_is_one_finding_on_2_11_11() {
    all_faults(of_version("2.11.11").await).await;
}

#[tokio::test]
async fn one_fault_is_one_finding_on_2_12_8() {
    all_faults(of_version("2.12.8").await).await;
}

#[tokio::test]
async fn one_fault_is_one_finding_on_2_14_6() {
    all_faults(of_version("2.14.6").await).await;
}

#[tokio::test]
async fn one_fault_is_one_finding_on_2_15_1() {
    all_faults(of_version("2.15.1").await).await;
}

/// Each cluster has a server of each of three versions.
#[tokio::test]
async fn one_fault_is_one_finding_on_three_versions_mixed() {
    let mut spec = of_version("2.15.1").await;
    for (number, version) in ["2.15.1", "2.12.8", "2.10.26"].into_iter().enumerate() {
        for (shift, cluster) in ["eu", "us", "ap"].into_iter().enumerate() {
            let server = format!("{cluster}-{}", (number + shift) % 3);
            spec.binaries.insert(server, binary(version).await);
        }
    }
    all_faults(spec).await;
}

async fn all_faults(spec: Spec) {
    let mut watch = Watch::start(spec).await;
    cut_of_the_agents_own_link(&mut watch).await;
    cut_of_a_link_towards_the_agents_cluster(&mut watch).await;
    cut_between_two_foreign_clusters(&mut watch).await;
    partition_from_one_cluster(&mut watch).await;
    wrong_password_near(&mut watch).await;
    wrong_password_towards_the_agents_cluster(&mut watch).await;
    killed_server(&mut watch).await;
    killed_cluster(&mut watch).await;
    killed_own_server(&mut watch).await;
    watch.finish().await;
}

fn cause_is(finding: &Event, kind: &str, confidence: &str) {
    assert_eq!(
        (finding.text("/cause/kind"), finding.text("/cause/confidence")),
        (kind, confidence),
        "{}",
        finding.line()
    );
    assert_ne!(finding.text("/cause/detail"), "");
}

async fn cut(watch: &mut Watch, from: &str, to: &str, about: &str) {
    let mark = watch.mark();
    watch.lab.cut(from, to).await.unwrap();
    let finding = watch.exactly_one(mark, about).await;
    cause_is(&finding, "path_cut", "likely");
    watch.lab.heal(from, to).await.unwrap();
    watch.resolves(mark, &finding).await;
}

async fn cut_of_the_agents_own_link(watch: &mut Watch) {
    cut(watch, "eu-0", "us", "gateway_disconnected eu/eu-0/us").await;
}

async fn cut_of_a_link_towards_the_agents_cluster(watch: &mut Watch) {
    cut(watch, "us-1", "eu", "gateway_disconnected us/us-1/eu").await;
}

async fn cut_between_two_foreign_clusters(watch: &mut Watch) {
    cut(watch, "us-2", "ap", "gateway_disconnected us/us-2/ap").await;
}

async fn partition_from_one_cluster(watch: &mut Watch) {
    let mark = watch.mark();
    watch.lab.cut("eu", "us").await.unwrap();
    watch.lab.cut("us", "eu").await.unwrap();
    let finding = watch.exactly_one(mark, "cluster_unreachable us/_/_").await;
    cause_is(&finding, "path_cut", "likely");
    let seen_by: BTreeSet<String> = finding.list("/evidence/still_seen_by").into_iter().collect();
    assert!(!seen_by.is_empty() && seen_by.iter().all(|server| server.starts_with("ap/")), "{seen_by:?}");
    watch.lab.heal("eu", "us").await.unwrap();
    watch.lab.heal("us", "eu").await.unwrap();
    watch.resolves(mark, &finding).await;
}

async fn wrong_password(watch: &mut Watch, server: &str, remote: &str, other: &str, about: &str) {
    let mark = watch.mark();
    let wrong = RemoteSpec { password: Some("wrong".into()), ..RemoteSpec::new(remote) };
    let remotes = vec![wrong, RemoteSpec::new(other)];
    watch.lab.restart_with(server, |gateway| gateway.remotes = Some(remotes)).await.unwrap();
    let finding = watch.exactly_one(mark, about).await;
    cause_is(&finding, "auth_rejected", "certain");
    watch.lab.restart_with(server, |gateway| gateway.remotes = None).await.unwrap();
    watch.resolves(mark, &finding).await;
}

async fn wrong_password_near(watch: &mut Watch) {
    wrong_password(watch, "eu-2", "us", "ap", "gateway_disconnected eu/eu-2/us").await;
}

async fn wrong_password_towards_the_agents_cluster(watch: &mut Watch) {
    wrong_password(watch, "us-1", "eu", "ap", "gateway_disconnected us/us-1/eu").await;
}

/// The one that the agent's own server asks its cluster through.
async fn killed_server(watch: &mut Watch) {
    let through = watch.lab.view("eu-0").await.unwrap().outbound["us"].server_id.clone();
    let mut target = None;
    for server in watch.lab.members("us").unwrap() {
        if watch.lab.server_id(server).await.unwrap() == through {
            target = Some(server.to_owned());
        }
    }
    let target = target.unwrap();
    let mark = watch.mark();
    watch.lab.kill(&target).await.unwrap();
    let finding = watch.exactly_one(mark, &format!("server_missing us/{target}/_")).await;
    watch.lab.start_server(&target).await.unwrap();
    watch.resolves(mark, &finding).await;
}

async fn killed_cluster(watch: &mut Watch) {
    let mark = watch.mark();
    watch.lab.kill_cluster("us").await.unwrap();
    let finding = watch.exactly_one(mark, "cluster_unreachable us/_/_").await;
    cause_is(&finding, "remote_cluster_down", "likely");
    let inhibits: BTreeSet<String> = finding.list("/inhibits").into_iter().collect();
    for server in ["eu-0", "eu-1", "eu-2", "ap-0", "ap-1", "ap-2"] {
        let entity = Entity {
            cluster: server.split('-').next().map(Into::into),
            server: Some(server.into()),
            remote: Some("us".into()),
            ..Entity::default()
        };
        let link = fingerprint("gateway_disconnected", Severity::Critical, &entity);
        assert!(inhibits.contains(&link), "{server} lost us, and {inhibits:?} lacks {link}");
    }
    for server in watch.lab.members("us").unwrap() {
        watch.lab.start_server(server).await.unwrap();
    }
    watch.resolves(mark, &finding).await;
}

async fn killed_own_server(watch: &mut Watch) {
    let mark = watch.mark();
    watch.lab.kill("eu-0").await.unwrap();
    let finding = watch.exactly_one(mark, "server_missing eu/eu-0/_").await;
    assert_ne!(finding.text("/vantage/server"), "eu-0");
    watch.lab.start_server("eu-0").await.unwrap();
    watch.resolves(mark, &finding).await;
}
