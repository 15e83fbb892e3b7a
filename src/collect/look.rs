//! One round of requests, from the question to the moment when waiting longer is not worth it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Request;
use super::decode::Endpoint;
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
        Self { number, epoch, opens_epoch, asked_at, rounds, expects, last_at: asked_at, pace }
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
        self.expects && self.rounds.iter().all(|r| r.missing.is_empty())
    }

    /// When it ends if nothing more comes.
    pub fn ends_at(&self) -> Time {
        self.last_at.plus(self.pace.stall).min(self.asked_at.plus(self.pace.timeout))
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
    fn a_slow_continent_does_not_end_a_look() {
        let pace = Pace::of(Duration::from_secs(2), Duration::from_millis(300));
        assert_eq!(pace.stall, Duration::from_millis(900));
        assert_eq!(Pace::of(Duration::from_millis(200), Duration::ZERO).stall, Duration::from_millis(200));
    }
}
