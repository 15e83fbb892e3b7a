//! The catalogue of faults: each on real servers, with the finding that it must give, how long that took, and
//! that nothing else opened.
//!
//! A supercluster of servers of one version has its faults one after the other, each before an agent that has
//! just come: what it remembers of the last fault is no part of the next. Each fault is watched for longer than
//! it takes to be found, so that what it draws after it would be seen; then it is healed, and nothing is left.
//!
//! * `GATEWATCH_VERSIONS=all` plays each fault on every version that the table has, `=2.12.8,2.15.1` on those;
//!   else a fault is played on the newest only, where more might differ on the oldest too, and what the agent is
//!   for on each version that is supported.
//! * `GATEWATCH_FAULTS=black` plays those that have the word in their name.
//! * `GATEWATCH_FAULT_TABLE=docs/faults.md` writes what was measured into the table.
#![cfg(feature = "lab")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

#[path = "../common/mod.rs"]
mod common;
mod fault;
mod play;
mod rows;
mod table;

use gatewatch::lab::Spec;

/// The versions of the table, and what continuous integration plays besides.
const TABLE: &[&str] = &["2.10.26", "2.12.8", "2.15.1"];
const OLD: &str = "2.10.26";
const NEWEST: &str = "2.15.1";
/// Each cluster has a server of each of the table's versions.
const MIXED: &str = "mixed";

/// The faults of one kind of supercluster, and how it starts; `binaries` holds versions.
struct Theme {
    spec: fn() -> Spec,
    faults: fn() -> Vec<fault::Fault>,
}

macro_rules! themes {
    ($($theme:ident: $spec:expr, $faults:path;)*) => {
        const THEMES: &[Theme] = &[$(Theme { spec: $spec, faults: $faults }),*];
        $(mod $theme {
            use super::{Theme, play, MIXED};
            const THEME: Theme = Theme { spec: $spec, faults: $faults };
            #[tokio::test]
            async fn on_2_10_26() { play::all(&THEME, "2.10.26").await; }
            #[tokio::test]
            async fn on_2_11_11() { play::all(&THEME, "2.11.11").await; }
            #[tokio::test]
            async fn on_2_12_8() { play::all(&THEME, "2.12.8").await; }
            #[tokio::test]
            async fn on_2_14_6() { play::all(&THEME, "2.14.6").await; }
            #[tokio::test]
            async fn on_2_15_1() { play::all(&THEME, "2.15.1").await; }
            #[tokio::test]
            async fn on_versions_mixed() { play::all(&THEME, MIXED).await; }
        })*
    };
}

themes! {
    links: Default::default, crate::rows::links;
    silent_links: Default::default, crate::rows::silent_links;
    slow_links: Default::default, crate::rows::slow_links;
    servers: Default::default, crate::rows::servers;
    stopped: Default::default, crate::rows::stopped;
    partitions: Default::default, crate::rows::partitions;
    routes: Default::default, crate::rows::routes;
    configurations: Default::default, crate::rows::configurations;
    remotes: Default::default, crate::rows::remotes;
    certificates: crate::rows::with_tls, crate::rows::certificates;
    traffic: crate::rows::with_named_accounts, crate::rows::traffic;
    pairs: crate::rows::of_two, crate::rows::pairs;
    alone: crate::rows::with_one_alone, crate::rows::alone;
    ports: crate::rows::of_one_port, crate::rows::ports;
    skewed: crate::rows::with_an_older_one, crate::rows::skewed;
    expected: Default::default, crate::rows::expected;
    observer: Default::default, crate::rows::observer;
    streams: crate::rows::with_jetstream, crate::rows::streams;
    two: crate::rows::two_clusters, crate::rows::two;
}
