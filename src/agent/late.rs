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

    /// A look is over. Gives those who answered an earlier one meanwhile, and not this one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Pace;

    fn look(number: u64, millis: u64) -> Look {
        let pace = Pace::of(Duration::from_secs(2), Duration::ZERO);
        Look::new(number, number, true, Time::from_millis(millis), pace, &[])
    }

    #[test]
    fn who_is_late_counts_as_of_when_it_was_asked_until_it_is_on_time_or_silent() {
        let (mut late, id) = (Late::default(), Name::from("NEU0"));
        let none = BTreeSet::new();
        let after = |late: &mut Late, look: &Look, answered: &BTreeSet<Name>| {
            late.after(look, answered, |id| id.starts_with("NEU")).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(after(&mut late, &look(1, 1000), &none), []);
        let asked_at = late.asked_at(1, None).unwrap();
        late.note(&id, asked_at, true);
        late.note(&"NUS0".into(), asked_at, true);
        assert!(late.is_slow(&id));
        assert_eq!(after(&mut late, &look(2, 2000), &none), [(id.clone(), asked_at)], "one is not known");
        assert_eq!(
            after(&mut late, &look(3, 3000), &BTreeSet::from([id.clone()])),
            [],
            "it answered this one"
        );
        late.note(&id, Time::from_millis(500), false);
        assert!(!late.is_slow(&id));
        assert_eq!(
            after(&mut late, &look(4, 11_000), &none),
            [(id.clone(), asked_at)],
            "an older one tells less"
        );
        assert_eq!(after(&mut late, &look(5, 11_001), &none), [], "that is no answer any more");
        late.note(&id, Time::from_millis(11_001), true);
        late.forget(&id);
        assert!(!late.is_slow(&id) && after(&mut late, &look(6, 12_000), &none).is_empty());
        assert_eq!(late.asked_at(7, None), None);
    }
}
