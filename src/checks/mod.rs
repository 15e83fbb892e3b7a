//! One file a check: its manual, its thresholds, how it decides, its tests.
//!
//! A check reads one [`Snapshot`] and answers, for each entity it is about, *healthy*, *violated* or
//! *unknown*. It never awaits, logs or reads a clock, and it keeps nothing between two snapshots: what a
//! check needs to know of the past stands in the snapshot.

mod block;
mod cluster_unreachable;
mod cross_cluster_stream_access;
mod duplicate_server_name;
mod gateway_config_mismatch;
mod gateway_disconnected;
mod gateway_flapping;
mod gateway_implicit;
mod gateway_interest_mode;
mod gateway_one_way;
mod gateway_pending_pressure;
mod gateway_rtt_high;
mod gateway_silent;
mod gateway_stale_remote;
mod gateway_tls_expiring;
mod gateway_traffic_ratio;
mod observer_degraded;
mod route_mesh_incomplete;
mod route_pending_pressure;
mod server_missing;
mod settings;
mod topology_drift;
mod verdict;
mod version_skew;
mod watched;

#[cfg(test)]
pub(crate) mod example;

pub use settings::{Override, Settings, Severity, Threshold, Value};
pub use verdict::{Cause, CauseKind, Confidence, Entity, Outcome, Scope, Step, Verdict, Violation};
pub use watched::Watched;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Name, Snapshot};

/// What is printed about a check: by `gatewatch explain`, the API, the README and the docs. Plain prose.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// Its name: the file's name, the token in subjects, the key in the configuration.
    pub slug: &'static str,
    /// The code that Synadia Insights uses for the same check, or `GW_nnn` for one of our own.
    pub code: &'static str,
    /// The severity of its findings.
    pub severity: Severity,
    /// Violated epochs in a row before a finding opens.
    pub open_after: u32,
    /// Healthy epochs in a row before it resolves.
    pub resolve_after: u32,
    /// What it can be set to.
    pub thresholds: &'static [Threshold],
    /// What it detects: one sentence.
    pub detects: &'static str,
    /// Why that matters to whom messages are for.
    pub matters: &'static str,
    /// How it decides, with its sources.
    pub decides: &'static str,
    /// When it stays silent.
    pub silent: &'static str,
    /// What to do.
    pub todo: &'static str,
}

/// One check.
pub trait Check: Sync {
    /// Its manual.
    fn manual(&self) -> &'static Manual;
    /// What it says of each entity that `snapshot` shows. Of one that is not `watched` it may keep to itself that it
    /// is not violated.
    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings, watched: &Watched<'_>) -> Vec<Verdict>;
    /// Whether the answers of two clusters are enough to judge the links between them.
    fn is_seen_at_a_glance(&self) -> bool {
        false
    }
    /// What it says of an entity that has an open finding and that [`Self::evaluate`] did not speak of: gone
    /// where nothing is left that could be judged.
    fn forgotten(&self, _snapshot: &Snapshot, _entity: &Entity) -> Outcome {
        Outcome::Unknown
    }
}

/// Every check, in the order of the catalogue.
pub static REGISTRY: &[&dyn Check] = &[
    &gateway_disconnected::GatewayDisconnected,
    &cluster_unreachable::ClusterUnreachable,
    &gateway_config_mismatch::GatewayConfigMismatch,
    &gateway_pending_pressure::GatewayPendingPressure,
    &gateway_traffic_ratio::GatewayTrafficRatio,
    &gateway_interest_mode::GatewayInterestMode,
    &gateway_rtt_high::GatewayRttHigh,
    &gateway_one_way::GatewayOneWay,
    &gateway_silent::GatewaySilent,
    &gateway_flapping::GatewayFlapping,
    &gateway_implicit::GatewayImplicit,
    &gateway_stale_remote::GatewayStaleRemote,
    &gateway_tls_expiring::GatewayTlsExpiring,
    &route_mesh_incomplete::RouteMeshIncomplete,
    &route_pending_pressure::RoutePendingPressure,
    &server_missing::ServerMissing,
    &duplicate_server_name::DuplicateServerName,
    &topology_drift::TopologyDrift,
    &cross_cluster_stream_access::CrossClusterStreamAccess,
    &version_skew::VersionSkew,
    &observer_degraded::ObserverDegraded,
];

/// What all enabled checks say of `snapshot`: every violation, and what they say else of what is `watched`, also of
/// that which has an open finding and stands in it no more. Where nothing is said, nothing is known.
pub fn evaluate(
    snapshot: &Snapshot,
    settings: &BTreeMap<&'static str, Settings>,
    watched: &Watched<'_>,
) -> Vec<Verdict> {
    let enabled = |check: &dyn Check| settings.get(check.manual().slug).filter(|s| s.enabled);
    let counts = |v: &Verdict| matches!(v.outcome, Outcome::Violated(_)) || watched.has(v.check, &v.entity);
    let mut verdicts: Vec<Verdict> = Vec::new();
    for check in REGISTRY {
        let Some(settings) = enabled(*check) else { continue };
        verdicts.extend(check.evaluate(snapshot, settings, watched).into_iter().filter(counts));
    }
    let spoken: BTreeSet<(&str, [Option<&Name>; 5])> =
        verdicts.iter().map(|v| (v.check, v.entity.names())).collect();
    // Thousands may be open, in the order of their checks.
    let (mut of, mut check) = ("", None);
    let mut forgotten: Vec<Verdict> = Vec::new();
    for (slug, entity) in watched.open_findings() {
        if of != *slug {
            of = slug;
            check = REGISTRY.iter().find(|check| check.manual().slug == of && enabled(**check).is_some());
        }
        let Some(check) = check else { continue };
        if spoken.contains(&(*slug, entity.names())) {
            continue;
        }
        let gone = was_nameless(snapshot, entity);
        let outcome = if gone { Outcome::Gone } else { check.forgotten(snapshot, entity) };
        // Of what nothing is said nothing is known.
        if outcome != Outcome::Unknown {
            let (check, severity) = (check.manual().slug, check.manual().severity);
            forgotten.push(Verdict { check, severity, entity: (*entity).clone(), outcome });
        }
    }
    verdicts.extend(forgotten);
    verdicts
}

/// Whether the answers of two clusters are enough for this check.
pub fn is_seen_at_a_glance(slug: &str) -> bool {
    REGISTRY.iter().any(|check| check.manual().slug == slug && check.is_seen_at_a_glance())
}

/// What can be said when a few clusters were looked at again, of the links between them that stand in `snapshot`.
pub fn glance(
    snapshot: &Snapshot,
    settings: &BTreeMap<&'static str, Settings>,
    watched: &Watched<'_>,
) -> Vec<Verdict> {
    let seen: BTreeSet<(&Name, &Name)> = snapshot.links.iter().map(|l| (&l.cluster, &l.remote)).collect();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for check in REGISTRY.iter().filter(|check| check.is_seen_at_a_glance()) {
        let Some(settings) = settings.get(check.manual().slug).filter(|s| s.enabled) else { continue };
        verdicts.extend(check.evaluate(snapshot, settings, watched).into_iter().filter(|verdict| {
            let ends = verdict.entity.cluster.as_ref().zip(verdict.entity.remote.as_ref());
            ends.is_some_and(|ends| seen.contains(&ends)) && verdict.outcome != Outcome::Gone
        }));
    }
    verdicts.extend(server_missing::refuted(snapshot));
    verdicts
}

/// Whether the entity is a server that was known by its ID only, and has a name now or is over.
fn was_nameless(snapshot: &Snapshot, entity: &Entity) -> bool {
    let nameless = entity.server.as_ref().filter(|name| entity.server_id.as_ref() == Some(*name));
    nameless.is_some_and(|id| snapshot.servers.get(id).is_none_or(|s| s.info.name != *id))
}

/// The check with this slug or code, in any case.
pub fn find(name: &str) -> Option<&'static dyn Check> {
    REGISTRY
        .iter()
        .copied()
        .find(|c| name.eq_ignore_ascii_case(c.manual().slug) || name.eq_ignore_ascii_case(c.manual().code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn manuals() -> impl Iterator<Item = &'static Manual> {
        REGISTRY.iter().map(|check| check.manual())
    }

    #[test]
    fn a_check_is_named_as_its_file_and_each_file_of_a_check_is_in_the_registry() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checks");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
            .filter(|name| {
                !["mod", "block", "settings", "verdict", "watched", "example"].contains(&name.as_str())
            })
            .collect();
        let slugs: BTreeSet<String> = manuals().map(|m| m.slug.to_owned()).collect();
        assert_eq!(files, slugs, "name the slug as the file, and put the check into REGISTRY");
        assert_eq!(slugs.len(), REGISTRY.len(), "a slug is used twice");
    }

    #[test]
    fn a_code_is_used_once_and_finds_its_check() {
        let codes: BTreeSet<&str> = manuals().map(|m| m.code).collect();
        assert_eq!(codes.len(), REGISTRY.len(), "give each check a code of its own");
        for manual in manuals() {
            let (prefix, number) = manual.code.rsplit_once('_').expect("PREFIX_nnn");
            let good = prefix.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && number.len() == 3;
            assert!(good && number.bytes().all(|b| b.is_ascii_digit()), "{} is no code", manual.code);
            for name in [manual.slug, manual.code, &manual.slug.to_uppercase(), &manual.code.to_lowercase()] {
                assert_eq!(find(name).map(|c| c.manual().slug), Some(manual.slug), "{name}");
            }
        }
        assert!(find("no_such_check").is_none());
    }

    #[test]
    fn a_manual_is_plain_prose_that_ends_with_a_full_stop() {
        for m in manuals() {
            let texts = [
                ("detects", m.detects),
                ("matters", m.matters),
                ("decides", m.decides),
                ("silent", m.silent),
                ("todo", m.todo),
            ];
            for (part, text) in texts {
                let at = format!("{} of {}", part, m.slug);
                assert!(text.ends_with('.'), "end {at} with a full stop");
                assert!(
                    !text.contains("  ") && !text.contains('\n'),
                    "{at} has a double space or a line end"
                );
                assert_eq!(text.trim(), text, "{at} has a space at its end");
                assert!(text.len() > 30, "{at} says too little");
            }
            assert_eq!(m.detects.matches(". ").count(), 0, "detects of {} is one sentence", m.slug);
        }
    }

    #[test]
    fn a_default_lies_in_its_range_and_has_its_unit() {
        for m in manuals() {
            assert!(m.open_after >= 1 && m.resolve_after >= 1, "{} would open or resolve on nothing", m.slug);
            let keys: BTreeSet<&str> = m.thresholds.iter().map(|t| t.key).collect();
            assert_eq!(keys.len(), m.thresholds.len(), "{} has a key twice", m.slug);
            for t in m.thresholds {
                let unit = std::mem::discriminant(&t.default);
                let (low, high) = t.range;
                assert!(
                    unit == std::mem::discriminant(&low) && unit == std::mem::discriminant(&high),
                    "{} of {}: give the range the unit of the default",
                    t.key,
                    m.slug
                );
                assert!(low <= t.default && t.default <= high, "{} of {} lies outside", t.key, m.slug);
                assert!(!t.about.is_empty() && !t.about.ends_with('.'), "{} of {}: about", t.key, m.slug);
                assert!(!["enabled", "severity", "open_after", "resolve_after", "override"].contains(&t.key));
            }
        }
    }

    #[test]
    fn every_check_is_on_when_nobody_says_otherwise() {
        for check in REGISTRY {
            let settings = Settings::of(*check);
            assert!(settings.enabled, "{} is off", check.manual().slug);
            assert_eq!(settings.severity, None);
            assert_eq!(settings.values.len(), check.manual().thresholds.len());
        }
    }

    #[test]
    fn a_check_that_is_off_is_not_asked_and_not_about_what_it_forgot() {
        let world = example::World::seen_from("eu-0");
        let mut settings = example::defaults();
        settings.get_mut("gateway_disconnected").unwrap().enabled = false;
        let gone = Entity { cluster: Some("xx".into()), remote: Some("eu".into()), ..Entity::default() };
        let lost = Entity { cluster: Some("xx".into()), ..Entity::default() };
        let open = [("gateway_disconnected", &gone), ("cluster_unreachable", &lost), ("no_such", &gone)];
        let verdicts = evaluate(world.view(), &settings, &Watched::open(open));
        assert!(verdicts.iter().all(|v| v.check != "gateway_disconnected"));
        let verdict = verdicts.iter().find(|v| v.entity.is(&lost)).expect("it is asked about");
        assert_eq!(verdict.outcome, Outcome::Gone, "no cluster of that name is left");
        settings.get_mut("gateway_disconnected").unwrap().enabled = true;
        let verdicts = evaluate(world.view(), &settings, &Watched::open(open));
        assert!(!verdicts.iter().any(|v| v.entity.is(&gone)), "nobody of that cluster answers");
    }

    #[test]
    fn what_all_checks_say_of_one_snapshot_is_the_same_however_often_they_are_asked() {
        let mut world = example::World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(example::secs(4));
        let settings = example::defaults();
        let once = evaluate(world.view(), &settings, &Watched::everything());
        assert_eq!(once, evaluate(world.view(), &settings, &Watched::everything()));
        let file = serde_json::to_string(world.view()).expect("a snapshot is written");
        let read: Snapshot = serde_json::from_str(&file).expect("and read");
        assert_eq!(&read, world.view());
        assert_eq!(once, evaluate(&read, &settings, &Watched::everything()), "and it judges the same");
    }
}
