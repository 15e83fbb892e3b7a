//! Answers to questions that went another way than by the vantage's server.

use std::collections::BTreeSet;

use super::{Look, Odd, Record, Roster};
use crate::model::{Fact, Name, ServerInfo, Signal, Time};

impl Look {
    /// Whether it answered, by whatever way, or does so late.
    pub(super) fn hears(&self, id: &Name) -> bool {
        self.answered.contains(id) || self.elsewhere.contains(id) || self.late.contains_key(id)
    }

    /// Whether what it tells is older than this look.
    pub(super) fn is_late(&self, id: &Name) -> bool {
        self.late.contains_key(id)
    }
}

impl Roster {
    /// Takes in one reply to a question that went another way.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn answer_elsewhere(&mut self, server: ServerInfo, fact: Fact, made_at: Time) -> Result<(), Odd> {
        self.take(server, fact, made_at, true)
    }

    /// Takes in what was heard unasked elsewhere.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn hear_elsewhere(&mut self, server: ServerInfo, signal: Signal, now: Time) -> Result<(), Odd> {
        self.listen(server, signal, now, true)
    }

    /// The IDs of the servers of `cluster` that answered by another way since `since`.
    pub fn prompt_elsewhere(&self, cluster: &Name, since: Time) -> BTreeSet<Name> {
        let told = self.of(cluster).filter(|r| r.answered_elsewhere_at.is_some_and(|at| at >= since));
        told.map(|r| r.info.id.clone()).collect()
    }

    /// What is worth asking the servers of `cluster` by another way besides their gateways: whether the
    /// configuration of one that answers so was not seen since `since`, and whether one is silent.
    pub fn lacks_elsewhere(&self, cluster: &Name, since: Time) -> (bool, bool) {
        let unseen = |r: &Record| {
            r.answered_elsewhere_at.is_some() && r.varz.as_ref().is_none_or(|(at, _)| *at < since)
        };
        let silent = |r: &Record| r.silent_since.is_some() || r.answered_elsewhere_at.is_none();
        (self.of(cluster).any(unseen), self.of(cluster).any(silent))
    }

    fn of<'a>(&'a self, cluster: &'a Name) -> impl Iterator<Item = &'a Record> {
        self.records.values().filter(move |r| r.info.cluster.as_ref() == Some(cluster) && r.left_at.is_none())
    }
}
