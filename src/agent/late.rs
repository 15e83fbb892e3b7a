//! Who answers, and takes longer for it than a look lasts.
//!
//! What they tell counts when it comes, as of when they were asked. Who takes longer than the longest wait is not waited
//! for any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::collect::Look;
use crate::model::{Name, Time};

/// Older than this it is no answer any more.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Of how many looks it is known when they asked: as many as there are in that time.
const LOOKS_MAX: usize = 40;

/// Late answers.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// When they were asked what they answered last, by their ID.
    answered: BTreeMap<Name, Time>,
    /// Those of them who took too long.
    slow: BTreeSet<Name>,
    /// The looks that are over: their number, and when they asked, all and each cluster.
    looks: VecDeque<(u64, Time, BTreeMap<Name, Time>)>,
}

impl Late {
    /// A server told its gateways on time.
    pub(super) fn forget(&mut self, id: &Name) {
        self.answered.remove(id);
        self.slow.remove(id);
    }

    /// A server told its gateways late, as they were at `made_at`; `slow` if nobody can wait for that.
    pub(super) fn note(&mut self, id: &Name, made_at: Time, slow: bool) {
        let held = self.answered.entry(id.clone()).or_insert(made_at);
        *held = made_at.max(*held);
        if slow {
            self.slow.insert(id.clone());
        } else {
            self.slow.remove(id);
        }
    }

    pub(super) fn is_slow(&self, id: &Name) -> bool {
        self.slow.contains(id)
    }

    /// When the look of this number asked; none where that was long ago.
    pub(super) fn asked_at(&self, number: u64, cluster: Option<&Name>) -> Option<Time> {
        let (_, asked_at, asked) = self.looks.iter().find(|(known, ..)| *known == number)?;
        Some(cluster.and_then(|cluster| asked.get(cluster)).copied().unwrap_or(*asked_at))
    }

    /// A look is over: those who answered an earlier one meanwhile, and not this one.
    pub(super) fn after(
        &mut self,
        look: &Look,
        answered: &BTreeSet<Name>,
        is_known: impl Fn(&Name) -> bool,
    ) -> BTreeMap<Name, Time> {
        if self.looks.len() >= LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back((look.number, look.asked_at, look.asked()));
        self.answered.retain(|id, at| look.asked_at.since(*at) <= LATE_MAX && is_known(id));
        self.slow.retain(|id| self.answered.contains_key(id));
        self.answered
            .iter()
            .filter(|(id, _)| !answered.contains(*id))
            .map(|(id, at)| (id.clone(), *at))
            .collect()
    }
}
