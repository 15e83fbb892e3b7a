//! One round of requests, from the question to the moment when waiting longer is not worth it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::decode::Endpoint;
use super::{Part, Request};
use crate::model::{Name, Time};

/// How long replies are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At the most.
    pub timeout: Duration,
    /// After the last reply, or the question.
    pub stall: Duration,
}

impl Pace {
    /// Silence after which nothing more is to be expected from servers close by.
    const STALL_MIN: Duration = Duration::from_millis(400);

    /// Waits three times as long as the slowest server took lately, so that a far continent does not end a
    /// look early.
    pub fn of(timeout: Duration, slowest: Duration) -> Self {
        Self { timeout, stall: (slowest * 3).clamp(Self::STALL_MIN.min(timeout), timeout) }
    }
}

/// What a reply was to its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of this server to this question.
    First,
    /// This server has answered this question already.
    Double,
}

/// A look that is under way.
#[derive(Debug)]
pub struct Look {
    /// Its number: never given twice.
    pub number: u64,
    /// The epoch it belongs to.
    pub epoch: u64,
    /// Whether it is the first of its epoch.
    pub opens_epoch: bool,
    /// When the servers were asked.
    pub asked_at: Time,
    rounds: Vec<Round>,
    /// What is still to be asked, and when.
    later: VecDeque<Part>,
    next_at: Time,
    /// When each cluster was asked, where that is not at once.
    asked: BTreeMap<Name, Time>,
    asked_last_at: Time,
    /// Whether there is anybody to wait for.
    expects: bool,
    last_at: Time,
    pace: Pace,
}

#[derive(Debug)]
struct Round {
    endpoint: Endpoint,
    /// Asked by another way than over our own server.
    elsewhere: bool,
    missing: BTreeSet<Name>,
    answered: BTreeSet<Name>,
}

impl Look {
    /// A look that asks `requests`, each with the servers whose answer is worth waiting for.
    pub fn new(
        number: u64,
        epoch: u64,
        opens_epoch: bool,
        asked_at: Time,
        pace: Pace,
        requests: &[(Request, BTreeSet<Name>)],
    ) -> Self {
        let mut rounds: Vec<Round> = Vec::new();
        for (request, missing) in requests {
            match rounds.iter_mut().find(|r| r.endpoint == request.endpoint) {
                Some(round) => round.missing.extend(missing.iter().cloned()),
                None => rounds.push(Round {
                    endpoint: request.endpoint,
                    elsewhere: false,
                    missing: missing.clone(),
                    answered: BTreeSet::new(),
                }),
            }
        }
        let expects = rounds.iter().any(|r| !r.missing.is_empty());
        Self {
            number,
            epoch,
            opens_epoch,
            asked_at,
            rounds,
            later: VecDeque::new(),
            next_at: asked_at,
            asked: BTreeMap::new(),
            asked_last_at: asked_at,
            expects,
            last_at: asked_at,
            pace,
        }
    }

    /// What is asked of all is asked in `parts`, one after the other.
    pub fn ask_in_parts(&mut self, parts: VecDeque<Part>) {
        self.later = parts;
    }

    /// Whether something is still to be asked.
    pub fn is_asking(&self) -> bool {
        !self.later.is_empty()
    }

    /// Whether it is asked in parts.
    pub fn is_in_parts(&self) -> bool {
        self.is_asking() || !self.asked.is_empty()
    }

    /// When the servers of each cluster were asked, where that was not at once.
    pub fn asked(&self) -> BTreeMap<Name, Time> {
        self.asked.clone()
    }

    /// Nobody read answers until now: those that were asked have their time again.
    pub fn wait_anew(&mut self, now: Time) {
        self.last_at = now;
        self.asked_last_at = now;
    }

    /// Something else takes up the budget for so long.
    pub fn give_way(&mut self, lasts: Duration) {
        self.next_at = self.next_at.plus(lasts);
    }

    /// What is not asked yet goes so many times as fast.
    pub fn hurry(&mut self, times: f64, now: Time) {
        let shorter = |lasts: Duration| lasts.div_f64(times.max(1.0));
        self.next_at = self.next_at.min(now.plus(shorter(self.next_at.since(now))));
        self.later.iter_mut().for_each(|part| part.lasts = shorter(part.lasts));
    }

    /// When the budget is free again for what is not asked yet, or for another look.
    pub fn next_at(&self) -> Time {
        self.next_at
    }

    /// The next part, where it is due.
    pub fn next_part(&mut self, now: Time) -> Option<Part> {
        if now < self.next_at {
            return None;
        }
        let part = self.later.pop_front()?;
        // What was slept through is not made up for.
        self.next_at = self.next_at.plus(part.lasts).max(now);
        self.asked.extend(part.clusters.iter().map(|cluster| (cluster.clone(), now)));
        self.asked_last_at = now;
        self.last_at = self.last_at.max(now);
        Some(part)
    }

    /// When the servers of `cluster` were asked.
    pub fn asked_of(&self, cluster: Option<&Name>) -> Time {
        cluster.and_then(|cluster| self.asked.get(cluster)).copied().unwrap_or(self.asked_at)
    }

    /// Something is asked by another way too; `missing` are those whose answer that way is worth waiting for.
    pub fn ask_elsewhere(&mut self, endpoint: Endpoint, missing: BTreeSet<Name>) {
        self.expects |= !missing.is_empty();
        let asked = |r: &&mut Round| r.endpoint == endpoint && r.elsewhere;
        if let Some(round) = self.rounds.iter_mut().find(asked) {
            round.missing.extend(missing);
        } else {
            self.rounds.push(Round { endpoint, elsewhere: true, missing, answered: BTreeSet::new() });
        }
    }

    /// A reply of `server` came, to what was asked over our own server or `elsewhere`.
    pub fn arrived(&mut self, endpoint: Endpoint, elsewhere: bool, server: &Name, at: Time) -> Arrival {
        let asked = |r: &&mut Round| r.endpoint == endpoint && r.elsewhere == elsewhere;
        let Some(round) = self.rounds.iter_mut().find(asked) else {
            return Arrival::Double;
        };
        self.last_at = self.last_at.max(at);
        round.missing.remove(server);
        if round.answered.insert(server.clone()) { Arrival::First } else { Arrival::Double }
    }

    /// The servers that answered `endpoint`, over our own server or `elsewhere`.
    pub fn answered(&self, endpoint: Endpoint, elsewhere: bool) -> BTreeSet<Name> {
        let asked = |r: &&Round| r.endpoint == endpoint && r.elsewhere == elsewhere;
        self.rounds.iter().find(asked).map(|r| r.answered.clone()).unwrap_or_default()
    }

    /// Whether everyone who was waited for has answered. With nobody to wait for, time decides.
    pub fn is_complete(&self) -> bool {
        !self.is_asking() && self.expects && self.rounds.iter().all(|r| r.missing.is_empty())
    }

    /// When it is over if all goes as it is planned, at the latest.
    pub fn over_by(&self) -> Time {
        let asked_at = |at: Time, part: &Part| at.plus(part.lasts);
        let last = self.later.iter().rev().skip(1).fold(self.next_at, asked_at);
        if self.is_asking() { last.plus(self.pace.timeout) } else { self.ends_at() }
    }

    /// When it ends, or goes on to ask, if nothing more comes.
    pub fn ends_at(&self) -> Time {
        if self.is_asking() {
            return self.next_at;
        }
        self.last_at.plus(self.pace.stall).min(self.asked_last_at.plus(self.pace.timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;

    fn look(expected: &[&str]) -> Look {
        let request = Request { endpoint: Endpoint::Gatewayz, target: Target::All };
        let pace = Pace::of(Duration::from_secs(2), Duration::from_millis(5));
        let expected = expected.iter().map(|id| Name::from(*id)).collect();
        Look::new(1, 1, true, Time::from_millis(1000), pace, &[(request, expected)])
    }

    #[test]
    fn a_look_ends_early_when_everyone_has_answered() {
        let mut look = look(&["a", "b"]);
        assert_eq!(
            look.arrived(Endpoint::Gatewayz, false, &"a".into(), Time::from_millis(1002)),
            Arrival::First
        );
        assert!(!look.is_complete());
        assert_eq!(
            look.arrived(Endpoint::Gatewayz, false, &"b".into(), Time::from_millis(1003)),
            Arrival::First
        );
        assert!(look.is_complete());
        assert_eq!(
            look.arrived(Endpoint::Gatewayz, false, &"b".into(), Time::from_millis(1003)),
            Arrival::Double
        );
        assert_eq!(look.answered(Endpoint::Gatewayz, false).len(), 2);
    }

    #[test]
    fn what_is_not_asked_yet_can_be_asked_sooner() {
        let at = Time::from_millis;
        let part = |_| Part { lasts: Duration::from_secs(10), ..Part::default() };
        let mut look = look(&["a"]);
        look.ask_in_parts((0..3).map(part).collect());
        assert_eq!(look.over_by(), at(23_000), "two seconds after the third was asked");
        assert!(look.next_part(at(1000)).is_some() && look.next_at() == at(11_000));
        look.hurry(5.0, at(6000));
        assert_eq!((look.next_at(), look.over_by()), (at(7000), at(11_000)));
        assert!(look.next_part(at(7000)).is_some() && look.next_at() == at(9000));
        look.hurry(0.5, at(8000));
        assert_eq!((look.next_at(), look.over_by()), (at(9000), at(11_000)), "no slower");
        assert!(look.next_part(at(9000)).is_some() && !look.is_asking());
        assert_eq!(look.over_by(), look.ends_at());
    }

    #[test]
    fn an_answer_by_another_way_is_no_answer_over_our_own_server() {
        let mut look = look(&["a"]);
        look.ask_elsewhere(Endpoint::Gatewayz, BTreeSet::from(["b".into()]));
        let at = Time::from_millis(1002);
        assert_eq!(look.arrived(Endpoint::Gatewayz, true, &"a".into(), at), Arrival::First);
        assert!(!look.is_complete(), "a may answer over our own server yet, and b by the other way");
        assert_eq!(look.arrived(Endpoint::Gatewayz, false, &"a".into(), at), Arrival::First);
        assert_eq!(look.arrived(Endpoint::Gatewayz, true, &"b".into(), at), Arrival::First);
        assert!(look.is_complete());
        assert_eq!(look.answered(Endpoint::Gatewayz, false), BTreeSet::from(["a".into()]));
        assert_eq!(look.answered(Endpoint::Gatewayz, true).len(), 2);
        assert_eq!(look.arrived(Endpoint::Varz, true, &"a".into(), at), Arrival::Double, "nobody asked");
    }

    #[test]
    fn a_look_with_nobody_to_wait_for_gives_the_unknown_their_time() {
        let mut look = look(&[]);
        assert!(!look.is_complete());
        assert_eq!(look.ends_at(), Time::from_millis(1400));
        look.arrived(Endpoint::Gatewayz, false, &"a".into(), Time::from_millis(1300));
        assert!(!look.is_complete(), "there may be more");
        assert_eq!(look.ends_at(), Time::from_millis(1700));
    }

    #[test]
    fn a_reply_gives_the_next_one_more_time_but_never_beyond_the_timeout() {
        let mut look = look(&["a", "b"]);
        for ms in [1300, 1600, 1900, 2200, 2500, 2800] {
            look.arrived(Endpoint::Gatewayz, false, &"a".into(), Time::from_millis(ms));
        }
        assert_eq!(look.ends_at(), Time::from_millis(3000));
    }

    #[test]
    fn a_look_in_parts_asks_one_after_the_other_and_waits_for_the_last() {
        let mut look = look(&["a", "b"]);
        let part = |cluster: &str| Part {
            clusters: vec![cluster.into()],
            requests: Vec::new(),
            lasts: Duration::from_millis(700),
        };
        look.ask_in_parts(["eu", "us"].map(part).into());
        assert_eq!(look.next_part(Time::from_millis(1000)), Some(part("eu")));
        assert_eq!(look.next_part(Time::from_millis(1100)), None, "not before its time");
        look.arrived(Endpoint::Gatewayz, false, &"a".into(), Time::from_millis(1003));
        look.arrived(Endpoint::Gatewayz, false, &"b".into(), Time::from_millis(1004));
        assert!(!look.is_complete());
        assert_eq!(look.ends_at(), Time::from_millis(1700));
        assert_eq!(look.next_part(Time::from_millis(1750)), Some(part("us")));
        assert_eq!(look.next_at(), Time::from_millis(2400));
        assert!(look.is_complete() && !look.is_asking() && look.is_in_parts());
        assert_eq!(look.ends_at(), Time::from_millis(2150));
        assert_eq!(look.asked_of(Some(&"us".into())), Time::from_millis(1750));
        assert_eq!(look.asked_of(None), Time::from_millis(1000));
    }

    #[test]
    fn a_slow_continent_does_not_end_a_look() {
        let pace = Pace::of(Duration::from_secs(2), Duration::from_millis(300));
        assert_eq!(pace.stall, Duration::from_millis(900));
        assert_eq!(Pace::of(Duration::from_millis(200), Duration::ZERO).stall, Duration::from_millis(200));
    }
}
