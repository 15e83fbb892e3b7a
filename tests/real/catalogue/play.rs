//! Playing the rows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gatewatch::checks::{Entity, Severity};
use gatewatch::findings::fingerprint;
use gatewatch::lab::{GatewaySpec, RemoteSpec, Spec, TlsSpec};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::fault::{Do, Fault, Held, Plays, Us};
use super::{MIXED, NEWEST, TABLE, Theme, fault, table};
use crate::common::sweep::{Sweep, judges_alike};
use crate::common::{Event, SETTLE, WITHIN, Watch, binary};

/// How long after the last finding its consequences may show.
const AFTER: Duration = Duration::from_secs(3);

/// Whether this fault is to be played on this version in this run.
fn wanted(fault: &Fault, version: &str) -> bool {
    let has = fault.only.is_none_or(|only| only.contains(&version));
    let part = std::env::var("GATEWATCH_FAULTS").unwrap_or_default();
    let plays = match std::env::var("GATEWATCH_VERSIONS").as_deref() {
        Ok("all") => TABLE.contains(&version) || fault.plays == Plays::Each,
        Ok(list) => list.split(',').any(|one| one == version),
        Err(_) => {
            let those = fault.only.unwrap_or(TABLE);
            match fault.plays {
                Plays::Each => true,
                Plays::Oldest => those.first() == Some(&version) || those.last() == Some(&version),
                Plays::Newest => those.last() == Some(&version),
            }
        }
    };
    has && plays && fault.name.contains(&part)
}

/// Whether a sweep looks beside the agent. It has servers send heartbeats too, so the times that are told of
/// the newest, and of the table, are the agent's alone.
fn swept(fault: &Fault, version: &str) -> bool {
    if fault.wavers {
        return false;
    }
    let newest = fault.only.unwrap_or(TABLE).last() == Some(&version);
    std::env::var_os("GATEWATCH_SWEEP").is_some()
        || (!newest && std::env::var_os("GATEWATCH_FAULT_TABLE").is_none())
}

async fn of_version(spec: Spec, version: &str) -> Spec {
    let mut spec = Spec { binary: Some(binary(NEWEST).await), ..spec };
    for path in spec.binaries.values_mut() {
        *path = binary(path.to_str().unwrap()).await;
    }
    if version != MIXED {
        spec.binary = Some(binary(version).await);
        return spec;
    }
    for (shift, (cluster, servers)) in spec.clusters.clone().into_iter().enumerate() {
        for number in 0..servers {
            let version = TABLE[(number + shift) % TABLE.len()];
            spec.binaries.insert(format!("{cluster}-{number}"), binary(version).await);
        }
    }
    spec
}

/// Every fault of a theme on one version; all that fail are named at the end.
pub(crate) async fn all(theme: &Theme, version: &str) {
    let faults: Vec<Fault> = (theme.faults)().into_iter().filter(|fault| wanted(fault, version)).collect();
    let spec = of_version((theme.spec)(), version).await;
    let mut lab = None;
    let mut failed = Vec::new();
    for fault in faults {
        let mut watch = if let Some(watch) = lab.take() {
            watch
        } else {
            Watch::unwatched(spec.clone(), fault.agent(), true).await
        };
        // A failed fault leaves the lab as it is: the next one gets another.
        let swept = swept(&fault, version);
        let played = AssertUnwindSafe(one(&mut watch, &fault, &spec, swept)).catch_unwind().await;
        if let Ok(took) = played {
            eprintln!("played on {version}: {}: {}", fault.name, table::cell(took));
            table::note(fault.name, version, took);
            lab = Some(watch);
        } else {
            eprintln!("failed on {version}: {}; the agent's log:\n{}", fault.name, watch.agent_log());
            failed.push(fault.name);
        }
    }
    table::write();
    assert!(failed.is_empty(), "failed on {version}: {failed:#?}");
}

/// One fault, from a healthy lab to a healthy lab. How long its last finding took, if there is one.
/// Where it is `swept`, a file of what was seen meanwhile is judged to the same.
async fn one(watch: &mut Watch, fault: &Fault, spec: &Spec, swept: bool) -> Option<Duration> {
    watch.move_to(fault.agent()).await;
    if let Some(text) = fault.topology {
        std::fs::write(watch.dir().join("topology.toml"), text).unwrap();
    }
    let us = Us::of(&watch.lab).await;
    let mut held = Held::default();
    for act in &fault.before {
        act.apply(watch, &us, &mut held).await;
    }
    let before = watch.mark();
    let sweep = swept.then(|| Sweep::start(watch, "sweep.json", &["--for", "1h"]));
    watch.start_agent().await;
    let name = |text: &str| us.in_text(text);
    let expected: Vec<String> =
        fault.finds.iter().map(|finds| format!("{} {}", finds.severity(), name(finds.about))).collect();
    let mark = if fault.before.is_empty() { watch.mark() } else { before };

    // A fault is there with the last thing done, and a load with its first byte.
    let mut start = Instant::now();
    for act in &fault.does {
        if !matches!(act, Do::Wait(_) | Do::Heal(..) | Do::Start(_)) {
            start = Instant::now();
        }
        act.apply(watch, &us, &mut held).await;
    }

    let mut took = None;
    for (finds, about) in fault.finds.iter().zip(&expected) {
        let left = fault.within.saturating_sub(start.elapsed());
        let found = watch.wait(about, mark, left, |event| event.is("opened") && said(event) == *about).await;
        took = Some(found.at.saturating_duration_since(start));
        let Some((kind, confidence)) = finds.cause else { continue };
        let cause = |event: &Event| {
            said(event) == *about
                && (event.text("/cause/kind"), event.text("/cause/confidence")) == (kind, confidence)
                && !event.text("/cause/detail").is_empty()
        };
        watch.wait(&format!("{about} because of {kind}, {confidence}"), mark, SETTLE, cause).await;
    }
    // What opened late is given time for its consequences too; of silence there is no sooner proof.
    let settle = if expected.is_empty() { fault.within } else { SETTLE };
    watch.observe_until((start + settle).max(Instant::now() + AFTER)).await;
    exactly(watch, mark, &expected);
    let last: BTreeMap<String, Event> =
        watch.last_of_each(mark).into_values().map(|event| (said(&event), event)).collect();
    for (finds, about) in fault.finds.iter().zip(&expected) {
        let event = &last[about];
        let passed = event.is("resolved") && event.text("/reason") == "reclassified";
        let as_wanted = if finds.reclassified { passed } else { !event.is("resolved") };
        let ended = !finds.reclassified && fault.does.iter().any(|act| matches!(act, Do::Heal(..)));
        assert!(as_wanted || ended, "{}\n{}", event.line(), watch.story(mark));
        if let Some((kind, confidence)) = finds.cause {
            let cause = (event.text("/cause/kind"), event.text("/cause/confidence"));
            assert_eq!(cause, (kind, confidence), "{}", event.line());
        }
    }

    if let Some(sweep) = sweep {
        let (file, log) = sweep.end().await;
        judges_alike(watch, mark, &file, &log).await;
    }

    let block = match (last.values().next(), fault.told) {
        (Some(event), true) => Some(expected_block(watch.dir(), event, fault.differs).await),
        _ => None,
    };
    if let Some(event) = last.values().next() {
        explains(event, fault);
    }
    drop(held);
    for act in fault.does.iter().rev() {
        match (act, &block) {
            (Do::Restart(of, _) | Do::Misspell(of, ..), Some(block)) => {
                let host = |server: &str| spec.gateways.get(server).and_then(|own| own.host);
                fault::restart(&watch.lab, of, |server, gateway| *gateway = as_told(block, host(server)))
                    .await;
            }
            _ => act.undo(watch, &us, spec).await,
        }
    }
    for act in fault.before.iter().rev() {
        act.undo(watch, &us, spec).await;
    }
    if !fault.lasts {
        for event in last.values() {
            watch.wait_resolved(mark, event, fault.resolves_in).await;
        }
    }
    watch.lab.wait_healthy(WITHIN).await.unwrap();
    exactly(watch, mark, &expected);
    if !fault.lasts {
        watch.all_closed_since(mark);
    }
    watch.end_agent(Signal::SIGTERM).await;
    took
}

/// `critical gateway_disconnected eu/eu-1/us`.
fn said(event: &Event) -> String {
    format!("{} {}", event.text("/severity"), event.about())
}

/// These have opened since `mark`, and no other.
fn exactly(watch: &Watch, mark: usize, expected: &[String]) {
    let mut opened: Vec<String> = watch.findings(mark).iter().filter(|e| e.is("opened")).map(said).collect();
    let mut expected = expected.to_vec();
    opened.sort();
    expected.sort();
    assert_eq!(opened, expected, "left is what opened\n{}", watch.story(mark));
}

/// What the finding says of others.
fn explains(finding: &Event, fault: &Fault) {
    let inhibits = finding.list("/inhibits");
    for link in fault.inhibits {
        let mut names = link.split('/').map(|name| Some(name.into()));
        let (cluster, server, remote) =
            (names.next().flatten(), names.next().flatten(), names.next().flatten());
        let entity = Entity { cluster, server, remote, ..Entity::default() };
        let link = fingerprint("gateway_disconnected", Severity::Critical, &entity);
        assert!(inhibits.contains(&link), "{entity:?} is explained, and {inhibits:?} lacks {link}");
    }
    if let Some(cluster) = fault.seen_by {
        let seen_by = finding.list("/evidence/still_seen_by");
        let of_it = |server: &String| server.starts_with(&format!("{cluster}/"));
        assert!(!seen_by.is_empty() && seen_by.iter().all(of_it), "{seen_by:?}");
    }
}

/// The block that the finding gives, which nats-server takes; and what differs is as it should be.
async fn expected_block(dir: &Path, finding: &Event, keys: &[&str]) -> String {
    let differs = finding.body["evidence"]["differs"].as_array().into_iter().flatten();
    let differs: Vec<&Value> = differs.collect();
    let found: Vec<&str> = differs.iter().filter_map(|difference| difference["key"].as_str()).collect();
    assert_eq!(found, keys, "{differs:#?}");
    for difference in &differs {
        assert!(difference.get("majority").is_some() && difference.get("server").is_some(), "{difference}");
    }
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
