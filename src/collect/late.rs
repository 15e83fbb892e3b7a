//! Who answers, and takes longer for it than a look lasts.
//!
//! What they tell counts when it comes, as of when they were asked, for as long as no answer is overdue by more than
//! they are late. Who takes longer than the longest wait is not waited for any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Look;
use crate::model::{Name, Time};

/// Older than this it is no answer any more.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Lateness varies by half of it, and by so much.
const VARIES_BY: Duration = Duration::from_secs(1);
/// Of how many looks it is known when they asked: as many as there are in that time.
const LOOKS_MAX: usize = 40;

/// Late answers.
#[derive(Debug, Default)]
pub struct Late {
    /// By the ID of who answers.
    answered: BTreeMap<Name, Told>,
    /// The looks that are over: their number, and when they asked, all and each cluster.
    looks: VecDeque<(u64, Time, BTreeMap<Name, Time>)>,
}

/// What a server answered last.
#[derive(Debug)]
struct Told {
    cluster: Option<Name>,
    /// When it was so, and how long that took to come.
    made_at: Time,
    took: Duration,
    /// Whether that was too long to wait for.
    is_slow: bool,
}

impl Late {
    /// A server told its gateways on time.
    pub fn forget(&mut self, id: &Name) {
        self.answered.remove(id);
    }

    /// A server of `cluster` told its gateways late, `now`, as they were at `made_at`; `is_slow` if nobody can wait for
    /// that.
    pub fn note(&mut self, id: &Name, cluster: Option<&Name>, made_at: Time, is_slow: bool, now: Time) {
        let told = Told { cluster: cluster.cloned(), made_at, took: now.since(made_at), is_slow };
        match self.answered.get_mut(id) {
            Some(held) if held.made_at > made_at => held.is_slow = is_slow,
            Some(held) => *held = told,
            None => drop(self.answered.insert(id.clone(), told)),
        }
    }

    /// Whether nobody can wait for this server.
    pub fn is_slow(&self, id: &Name) -> bool {
        self.answered.get(id).is_some_and(|told| told.is_slow)
    }

    /// When the look of this number asked; none where that was long ago.
    pub fn asked_at(&self, number: u64, cluster: Option<&Name>) -> Option<Time> {
        let look = self.looks.iter().find(|(known, ..)| *known == number)?;
        Some(asked_at(look, cluster))
    }

    /// A look is over `now`. Gives those who answered an earlier one meanwhile and not this one, with when that was so.
    pub fn after(
        &mut self,
        look: &Look,
        answered: &BTreeSet<Name>,
        is_known: impl Fn(&Name) -> bool,
        now: Time,
    ) -> BTreeMap<Name, Time> {
        if self.looks.len() >= LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back((look.number, look.asked_at, look.asked()));
        let looks = &self.looks;
        self.answered.retain(|id, told| {
            look.asked_at.since(told.made_at) <= LATE_MAX && is_known(id) && !told.is_overdue(looks, now)
        });
        let told = self.answered.iter().filter(|(id, _)| !answered.contains(*id));
        told.map(|(id, told)| (id.clone(), told.made_at)).collect()
    }
}

impl Told {
    /// Whether what it was asked after that ought to have come.
    fn is_overdue(&self, looks: &VecDeque<(u64, Time, BTreeMap<Name, Time>)>, now: Time) -> bool {
        let asked = looks.iter().map(|look| asked_at(look, self.cluster.as_ref()));
        let next = asked.filter(|at| *at > self.made_at).min();
        next.is_some_and(|at| now.since(at) > self.took + VARIES_BY.max(self.took / 2))
    }
}

fn asked_at((_, at, of_clusters): &(u64, Time, BTreeMap<Name, Time>), cluster: Option<&Name>) -> Time {
    cluster.and_then(|cluster| of_clusters.get(cluster)).copied().unwrap_or(*at)
}

#[cfg(test)]
mod tests {
    use super::super::Pace;
    use super::*;

    fn look(number: u64, millis: u64) -> Look {
        let pace = Pace::of(Duration::from_secs(2), Duration::ZERO);
        Look::new(number, number, true, Time::from_millis(millis), pace, &[])
    }

    fn after(late: &mut Late, look: &Look, answered: &[&str]) -> Vec<(Name, Time)> {
        let answered = answered.iter().map(|id| Name::from(*id)).collect();
        late.after(look, &answered, |id| id.starts_with("NEU"), look.asked_at).into_iter().collect()
    }

    #[test]
    fn who_is_late_counts_as_of_when_it_was_asked_until_it_is_on_time_or_silent() {
        let (mut late, id) = (Late::default(), Name::from("NEU0"));
        assert_eq!(after(&mut late, &look(1, 1000), &[]), []);
        let asked_at = late.asked_at(1, None).unwrap();
        let now = Time::from_millis(4000);
        late.note(&id, None, asked_at, true, now);
        late.note(&"NUS0".into(), None, asked_at, true, now);
        assert!(late.is_slow(&id));
        assert_eq!(after(&mut late, &look(2, 4100), &[]), [(id.clone(), asked_at)], "one is not known");
        assert_eq!(after(&mut late, &look(3, 4600), &["NEU0"]), [], "it answered this one");
        late.note(&id, None, Time::from_millis(500), false, Time::from_millis(5000));
        assert!(!late.is_slow(&id));
        assert_eq!(
            after(&mut late, &look(4, 8600), &[]),
            [(id.clone(), asked_at)],
            "an older one tells less"
        );
        assert_eq!(after(&mut late, &look(5, 8601), &[]), [], "what was asked at 4.1 s is overdue");
        late.note(&id, None, Time::from_millis(8601), true, Time::from_millis(11_601));
        late.forget(&id);
        assert!(!late.is_slow(&id) && after(&mut late, &look(6, 12_000), &[]).is_empty());
        assert_eq!(late.asked_at(7, None), None);
    }

    #[test]
    fn what_is_too_old_is_no_answer_though_it_was_not_asked_since() {
        let (mut late, id) = (Late::default(), Name::from("NEU0"));
        late.note(&id, None, Time::from_millis(1000), true, Time::from_millis(10_000));
        assert_eq!(after(&mut late, &look(1, 11_000), &[]), [(id.clone(), Time::from_millis(1000))]);
        assert_eq!(after(&mut late, &look(2, 11_001), &[]), []);
    }
}
