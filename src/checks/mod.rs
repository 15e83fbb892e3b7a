//! One file a check: its manual, its thresholds, how it decides, its tests.
//!
//! A check reads one [`Snapshot`] and answers, for each entity it is about, *healthy*, *violated* or
//! *unknown*. It never awaits, logs or reads a clock, and it keeps nothing between two snapshots: what a
//! check needs to know of the past stands in the snapshot.

mod cluster_unreachable;
mod gateway_config_mismatch;
mod gateway_disconnected;
mod observer_degraded;
mod server_missing;
mod settings;
mod verdict;

#[cfg(test)]
pub(crate) mod example;

pub use settings::{Override, Settings, Severity, Threshold, Value};
pub use verdict::{Cause, CauseKind, Confidence, Entity, Outcome, Scope, Step, Verdict, Violation};

use std::collections::BTreeMap;

use crate::model::Snapshot;

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
    /// What it says of each entity that `snapshot` shows.
    fn evaluate(&self, snapshot: &Snapshot, settings: &Settings) -> Vec<Verdict>;
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
    &server_missing::ServerMissing,
    &observer_degraded::ObserverDegraded,
];

/// What all enabled checks say of `snapshot`, and of what is `open` and stands in it no more.
pub fn evaluate<'a>(
    snapshot: &Snapshot,
    settings: &BTreeMap<&'static str, Settings>,
    open: impl IntoIterator<Item = (&'a str, &'a Entity)>,
) -> Vec<Verdict> {
    let enabled = |check: &dyn Check| settings.get(check.manual().slug).filter(|s| s.enabled);
    let mut verdicts: Vec<Verdict> = REGISTRY
        .iter()
        .filter_map(|check| enabled(*check).map(|settings| check.evaluate(snapshot, settings)))
        .flatten()
        .collect();
    for (slug, entity) in open {
        let Some(check) = find(slug).filter(|check| enabled(*check).is_some()) else { continue };
        if !verdicts.iter().any(|v| v.check == slug && v.entity.is(entity)) {
            verdicts.push(Verdict {
                check: check.manual().slug,
                severity: check.manual().severity,
                entity: entity.clone(),
                outcome: check.forgotten(snapshot, entity),
            });
        }
    }
    verdicts
}

/// The check with this slug or code, in any case.
pub fn find(name: &str) -> Option<&'static dyn Check> {
    REGISTRY
        .iter()
        .copied()
        .find(|c| name.eq_ignore_ascii_case(c.manual().slug) || name.eq_ignore_ascii_case(c.manual().code))
}
