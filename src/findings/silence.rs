//! Silences: what somebody asked not to be told of for a while.
//!
//! A silence mutes what is said of a finding and nothing else: the finding is judged, kept and answered for as
//! ever. What is said when a silence begins or ends stands in [`Ledger::step`](super::Ledger::step).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::model::{Name, Time};

/// How many silences stand at once.
pub const SILENCES_MAX: usize = 1000;
/// The shortest silence.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// The longest silence: what is to be mute for longer is a setting of its check.
pub const SILENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest reason, in bytes.
const WHY_BYTES_MAX: usize = 512;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Which findings: those that have every name that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The slug of the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Name>,
    /// The cluster that the finding is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Name>,
    /// The remote cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Name>,
}

impl Match {
    /// Whether it says anything: one that does not would mute everything.
    pub fn is_empty(&self) -> bool {
        self.names().iter().all(Option::is_none)
    }

    /// The names that are given.
    pub fn names(&self) -> [Option<&Name>; 4] {
        [self.check.as_ref(), self.cluster.as_ref(), self.server.as_ref(), self.remote.as_ref()]
    }

    /// Whether `finding` has all of them.
    pub fn covers(&self, finding: &Finding) -> bool {
        let entity = &finding.entity;
        let has =
            [Some(&finding.check), entity.cluster.as_ref(), entity.server.as_ref(), entity.remote.as_ref()];
        !self.is_empty() && self.names().into_iter().zip(has).all(|(want, has)| want.is_none() || want == has)
    }
}

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// By which it is removed.
    pub id: String,
    /// Of what.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Since when.
    pub added_at: Time,
    /// Until when.
    pub ends_at: Time,
    /// What for.
    pub why: String,
    /// Who asked for it.
    pub who: String,
}

impl Silence {
    /// One that begins at `at`; `id` is unique.
    ///
    /// # Errors
    /// It would mute everything, or is too short or too long.
    pub fn new(
        id: String,
        matches: Match,
        lasts: Duration,
        [why, who]: [&str; 2],
        at: Time,
    ) -> Result<Self, SilenceError> {
        let fits = |text: &str, most| !text.trim().is_empty() && text.len() <= most;
        if matches.is_empty() {
            return Err(SilenceError::MatchesAll);
        }
        if lasts < SILENCE_MIN || lasts > SILENCE_MAX {
            return Err(SilenceError::Duration);
        }
        let named = matches.names().into_iter().flatten().all(|name| fits(name, NAME_BYTES_MAX));
        if !named || !fits(who, NAME_BYTES_MAX) || !fits(why, WHY_BYTES_MAX) {
            return Err(SilenceError::Text);
        }
        let (why, who) = (why.to_owned(), who.to_owned());
        Ok(Self { id, matches, added_at: at, ends_at: at.plus(lasts), why, who })
    }
}

/// Why a silence is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// It names nothing.
    #[error("`match` needs at least one of check, cluster, server and remote")]
    MatchesAll,
    /// It is over before it begins, or lasts too long.
    #[error("a silence lasts from one second to 30 days")]
    Duration,
    /// Reason or name is empty or too long.
    #[error("`why` takes 1 to {WHY_BYTES_MAX} bytes, `who` and each name 1 to {NAME_BYTES_MAX}")]
    Text,
    /// There are too many.
    #[error("there are {SILENCES_MAX} silences; remove one")]
    TooMany,
}

/// Every silence that stands, by its ID.
#[derive(Clone, Debug, Default)]
pub struct Silences(BTreeMap<String, Silence>);

impl Silences {
    pub(super) fn add(&mut self, silence: Silence, at: Time) -> Result<(), SilenceError> {
        self.expire(at);
        if !self.0.contains_key(&silence.id) && self.0.len() >= SILENCES_MAX {
            return Err(SilenceError::TooMany);
        }
        self.0.insert(silence.id.clone(), silence);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Silence> {
        self.0.remove(id)
    }

    /// Forgets those that are over.
    pub(super) fn expire(&mut self, at: Time) {
        self.0.retain(|_, silence| silence.ends_at > at);
    }

    /// Until when `finding` is mute.
    pub(super) fn until(&self, finding: &Finding) -> Option<Time> {
        let covers = |silence: &&Silence| silence.matches.covers(finding);
        self.0.values().filter(covers).map(|silence| silence.ends_at).max()
    }

    /// Those that stand, in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.0.values()
    }

    /// How many stand.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
