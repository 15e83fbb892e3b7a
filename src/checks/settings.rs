//! What a user can set for each check in `[checks.<slug>]`, and for one cluster or remote in
//! `[[checks.<slug>.override]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Check;

/// How bad a finding is. A part of the finding's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Info,
    /// Will hurt, or hurts a little.
    Warning,
    /// Messages are being lost, or may be at any moment.
    Critical,
}

impl Severity {
    /// The word in subjects and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of a threshold, by its unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Value {
    /// Written as `"2s"`, `"500ms"`, `"1h 30m"`.
    Duration(Duration),
    /// A plain number.
    Ratio(f64),
    /// A whole number of bytes.
    Bytes(u64),
    /// A whole number.
    Count(u64),
}

/// One number that a check compares with, its default and what it may be set to.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// Its key in `[checks.<slug>]`.
    pub key: &'static str,
    /// What it is when nobody sets it.
    pub default: Value,
    /// The smallest and largest accepted value, both of the same unit as the default.
    pub range: (Value, Value),
    /// What it means, one sentence.
    pub about: &'static str,
}

/// The settings of one check: its defaults with the user's changes laid over them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A check that is not enabled answers nothing; what it had open resolves.
    pub enabled: bool,
    /// The user's severity, instead of the check's own.
    pub severity: Option<Severity>,
    /// Violated epochs in a row before a finding opens.
    pub open_after: u32,
    /// Healthy epochs in a row before it resolves.
    pub resolve_after: u32,
    /// Every threshold of the check, by key.
    pub values: BTreeMap<&'static str, Value>,
    /// Looked through in order; the first that matches and has the key wins.
    pub overrides: Vec<Override>,
}

/// Thresholds for a part of the supercluster. A selector that is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// The cluster of the finding's entity.
    pub cluster: Option<String>,
    /// The remote of the finding's entity.
    pub remote: Option<String>,
    /// The thresholds set here, by key.
    pub values: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// What holds for `check` when the user says nothing.
    pub fn of(check: &dyn Check) -> Self {
        let manual = check.manual();
        Self {
            enabled: true,
            severity: None,
            open_after: manual.open_after,
            resolve_after: manual.resolve_after,
            values: manual.thresholds.iter().map(|t| (t.key, t.default)).collect(),
            overrides: Vec::new(),
        }
    }

    fn value(&self, key: &str, cluster: Option<&str>, remote: Option<&str>) -> Option<Value> {
        let matches = |selector: &Option<String>, name: Option<&str>| {
            selector.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        self.overrides
            .iter()
            .filter(|o| matches(&o.cluster, cluster) && matches(&o.remote, remote))
            .find_map(|o| o.values.get(key))
            .or_else(|| self.values.get(key))
            .copied()
    }

    /// The duration that `key` is set to for this cluster and remote; zero when the check declares no such key.
    pub fn duration(&self, key: &str, cluster: Option<&str>, remote: Option<&str>) -> Duration {
        match self.value(key, cluster, remote) {
            Some(Value::Duration(d)) => d,
            _ => Duration::ZERO,
        }
    }

    /// The shortest duration that `key` is set to for any cluster and remote.
    pub fn least_duration(&self, key: &str) -> Duration {
        let all = self.overrides.iter().map(|o| &o.values).chain([&self.values]);
        let durations = all.filter_map(|values| match values.get(key) {
            Some(Value::Duration(d)) => Some(*d),
            _ => None,
        });
        durations.min().unwrap_or_default()
    }

    /// The number that `key` is set to, as [`Self::duration`].
    pub fn ratio(&self, key: &str, cluster: Option<&str>, remote: Option<&str>) -> f64 {
        match self.value(key, cluster, remote) {
            Some(Value::Ratio(r)) => r,
            _ => 0.0,
        }
    }

    /// The whole number that `key` is set to for this cluster and remote; zero when the check declares no such
    /// key.
    pub fn count(&self, key: &str, cluster: Option<&str>, remote: Option<&str>) -> u64 {
        match self.value(key, cluster, remote) {
            Some(Value::Count(n) | Value::Bytes(n)) => n,
            _ => 0,
        }
    }
}
