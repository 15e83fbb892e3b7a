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
//! * `GATEWATCH_SWEEP=1` has a sweep look beside the agent in each fault, whose file must judge to the same; else
//!   that is so where a fault is not played on the newest.
//! * `GATEWATCH_FAULT_TABLE=docs/faults.md` writes what was measured into the table.

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
    links: Default::default, crate::catalogue::rows::links;
    silent_links: Default::default, crate::catalogue::rows::silent_links;
    slow_links: Default::default, crate::catalogue::rows::slow_links;
    servers: Default::default, crate::catalogue::rows::servers;
    stopped: Default::default, crate::catalogue::rows::stopped;
    partitions: Default::default, crate::catalogue::rows::partitions;
    routes: Default::default, crate::catalogue::rows::routes;
    configurations: Default::default, crate::catalogue::rows::configurations;
    remotes: Default::default, crate::catalogue::rows::remotes;
    certificates: crate::catalogue::rows::with_tls, crate::catalogue::rows::certificates;
    traffic: crate::catalogue::rows::with_named_accounts, crate::catalogue::rows::traffic;
    pairs: crate::catalogue::rows::of_two, crate::catalogue::rows::pairs;
    alone: crate::catalogue::rows::with_one_alone, crate::catalogue::rows::alone;
    ports: crate::catalogue::rows::of_one_port, crate::catalogue::rows::ports;
    skewed: crate::catalogue::rows::with_an_older_one, crate::catalogue::rows::skewed;
    expected: Default::default, crate::catalogue::rows::expected;
    observer: Default::default, crate::catalogue::rows::observer;
    streams: crate::catalogue::rows::with_jetstream, crate::catalogue::rows::streams;
    two: crate::catalogue::rows::two_clusters, crate::catalogue::rows::two;
}
