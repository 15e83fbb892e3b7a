//! What silences mute, and what is said when they end. Tests only.

use super::tests::{Case, LINK, NOTHING, OPENED, at, bad, link, resolved};
use super::*;
use crate::checks::example::secs;
use crate::findings::silence::Match;

const UPDATED: (Action, Reason) = (Action::Updated, Reason::EvidenceChanged);
const REMINDED: (Action, Reason) = (Action::Reminded, Reason::StillViolated);

fn of_server(server: &str) -> Match {
    Match { server: Some(server.into()), ..Match::default() }
}

fn silence(id: &str, matches: Match, from: u64, lasts: u64) -> Silence {
    Silence::new(id.into(), matches, secs(lasts), ["why", "who"], at(from)).unwrap()
}

fn muted(lasts: u64) -> Case {
    let mut case = Case::new();
    case.ledger.silence(silence("a", of_server("eu-1"), 0, lasts), at(0)).unwrap();
    case
}

fn violated(essence: &str) -> [(&'static str, Entity, Outcome); 1] {
    [(LINK, link("eu-1"), bad(0, 0, essence))]
}

fn healthy() -> [(&'static str, Entity, Outcome); 1] {
    [(LINK, link("eu-1"), Outcome::Healthy)]
}

fn unknown() -> [(&'static str, Entity, Outcome); 1] {
    [(LINK, link("eu-1"), Outcome::Unknown)]
}

#[test]
fn what_opens_in_a_silence_is_said_once_when_it_ends() {
    let mut case = muted(10);
    assert_eq!(case.epoch(1000, &violated("a")), NOTHING);
    assert_eq!(case.epoch(2000, &violated("a")), NOTHING);
    assert_eq!(case.ledger.open().count(), 1, "it is in the ledger");
    assert!(case.ledger.open().all(|f| f.is_silenced() && !f.is_said()));
    assert_eq!(case.epoch(9999, &violated("b")), NOTHING);
    let told = case.changes(10_000, &violated("b"));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].action, told[0].reason), OPENED);
    assert_eq!(told[0].finding.revision, 1, "nobody heard of it before");
    assert!(told[0].finding.opened_at < at(3000), "it says since when");
    assert_eq!(told[0].finding.published_at, at(10_000));
    assert_eq!(told[0].finding.summary, "it is b", "as it is now");
    assert_eq!(case.epoch(11_000, &violated("b")), NOTHING);
    assert_eq!(case.epoch(12_000, &healthy()), NOTHING);
    assert_eq!(case.epoch(13_000, &healthy()), resolved(Reason::Recovered));
}

#[test]
fn what_opens_and_is_over_in_a_silence_is_never_said() {
    let mut case = muted(60);
    for (millis, verdicts) in
        [(1000, violated("a")), (2000, violated("a")), (3000, healthy()), (4000, healthy())]
    {
        assert_eq!(case.epoch(millis, &verdicts), NOTHING);
    }
    assert_eq!(case.ledger.open().count(), 0);
    assert_eq!(case.epoch(61_000, &healthy()), NOTHING);
}

#[test]
fn what_was_said_before_a_silence_is_still_resolved_in_it() {
    let mut case = Case::new();
    case.epoch(0, &violated("a"));
    assert_eq!(case.ledger.open().count(), 1);
    case.ledger.silence(silence("a", of_server("eu-1"), 1000, 60), at(1000)).unwrap();
    assert_eq!(case.epoch(5000, &violated("b")), NOTHING, "news are muted");
    assert_eq!(case.epoch(9000, &violated("b")), NOTHING);
    case.epoch(10_000, &healthy());
    let over = case.changes_of_epoch(11_000, &healthy());
    assert_eq!((over[0].action, over[0].finding.revision), (Action::Resolved, 2), "no revision is left out");
}

#[test]
fn what_was_said_before_a_silence_is_spoken_of_at_its_end() {
    for (essence, expected) in [("a", REMINDED), ("b", UPDATED)] {
        let mut case = Case::new();
        case.epoch(0, &violated("a"));
        case.ledger.silence(silence("a", of_server("eu-1"), 1000, 10), at(1000)).unwrap();
        assert_eq!(case.epoch(10_999, &violated(essence)), NOTHING);
        let told = case.changes_of_epoch(11_000, &violated(essence));
        assert_eq!((told[0].action, told[0].reason), expected);
        assert_eq!(told[0].finding.revision, 2);
    }
}

#[test]
fn what_begins_to_heal_at_the_end_of_a_silence_is_not_said_any_more() {
    let mut case = muted(10);
    case.epoch(1000, &violated("a"));
    case.epoch(9000, &healthy());
    assert_eq!(case.look(10_000, &healthy()), NOTHING);
    assert_eq!(case.epoch(10_500, &healthy()), NOTHING, "it is over and was never told of");
    assert_eq!(case.ledger.open().count(), 0);
}

#[test]
fn what_cannot_be_seen_at_the_end_of_a_silence_is_said_all_the_same() {
    let mut case = muted(10);
    case.epoch(1000, &violated("a"));
    assert_eq!(case.epoch(10_000, &unknown()), [OPENED]);
}

#[test]
fn two_silences_mute_until_the_later_one_ends_and_a_removed_one_ends_at_once() {
    let mut case = muted(10);
    let by_check = Match { check: Some(LINK.into()), ..Match::default() };
    case.ledger.silence(silence("b", by_check, 0, 20), at(0)).unwrap();
    case.epoch(1000, &violated("a"));
    assert_eq!(case.epoch(11_000, &violated("a")), NOTHING);
    assert_eq!(case.ledger.silences().len(), 1, "one is over");
    assert!(case.ledger.unsilence("a", at(11_500)).is_none());
    assert!(case.ledger.unsilence("b", at(12_000)).is_some());
    assert_eq!(case.epoch(12_000, &violated("a")), [OPENED]);
    // The other order: what remains goes on muting.
    let mut case = muted(10);
    case.ledger.silence(silence("b", of_server("eu-1"), 0, 20), at(0)).unwrap();
    case.epoch(1000, &violated("a"));
    case.ledger.unsilence("b", at(2000));
    assert_eq!(case.epoch(3000, &violated("a")), NOTHING);
    assert_eq!(case.epoch(10_000, &violated("a")), [OPENED]);
}

#[test]
fn a_silence_mutes_what_has_all_its_names_and_nothing_else() {
    let mut case = Case::new();
    let both = Match { server: Some("eu-1".into()), remote: Some("ap".into()), ..Match::default() };
    case.ledger.silence(silence("a", both, 0, 60), at(0)).unwrap();
    assert_eq!(case.epoch(1000, &violated("a")), [OPENED], "its remote is us");
}

#[test]
fn a_ledger_that_is_restored_goes_on_in_silence() {
    let mut case = muted(10);
    case.epoch(1000, &violated("a"));
    let written = serde_json::to_string(&case.ledger.open().collect::<Vec<_>>()).unwrap();
    let silences: Vec<Silence> = case.ledger.silences().iter().cloned().collect();
    let read: Vec<Finding> = serde_json::from_str(&written).unwrap();
    case.ledger = Ledger::restore(read);
    for silence in silences {
        case.ledger.silence(silence, at(2000)).unwrap();
    }
    assert_eq!(case.epoch(3000, &violated("a")), NOTHING);
    assert_eq!(case.epoch(10_000, &violated("a")), [OPENED]);
}

#[test]
fn silences_are_bounded_in_number_in_time_and_in_size() {
    let new = |matches: Match, lasts, why: &str, who: &str| {
        Silence::new("x".into(), matches, lasts, [why, who], at(0)).err()
    };
    let m = || of_server("eu-1");
    assert_eq!(new(m(), secs(60), "why", "who"), None);
    assert_eq!(new(Match::default(), secs(60), "why", "who"), Some(SilenceError::MatchesAll));
    assert_eq!(new(m(), Duration::ZERO, "why", "who"), Some(SilenceError::Duration));
    assert_eq!(new(m(), Duration::MAX, "why", "who"), Some(SilenceError::Duration));
    for (matches, why, who) in [
        (m(), "", "who"),
        (m(), "why", "\n"),
        (m(), &*"x".repeat(1000), "who"),
        (of_server(&"x".repeat(1000)), "why", "who"),
        (of_server(""), "why", "who"),
    ] {
        assert_eq!(new(matches, secs(60), why, who), Some(SilenceError::Text));
    }
    let mut case = Case::new();
    for n in 0..crate::findings::SILENCES_MAX {
        case.ledger.silence(silence(&n.to_string(), m(), 0, 60), at(0)).unwrap();
    }
    let more = || silence("more", m(), 61_000, 60);
    assert_eq!(case.ledger.silence(more(), at(1000)), Err(SilenceError::TooMany));
    assert_eq!(case.ledger.silence(more(), at(61_000)), Ok(()), "those before are over");
    assert_eq!(case.ledger.silences().len(), 1);
}

#[test]
fn of_two_ledgers_the_one_that_told_of_a_finding_speaks_for_both() {
    let opened = |muted: bool, millis| {
        let mut case = if muted { self::muted(600) } else { Case::new() };
        case.epoch(millis, &violated("a"));
        case.ledger
    };
    for (ours, theirs) in [(true, false), (false, true)] {
        let mut ledger = opened(ours, 1000 + 1000 * u64::from(theirs));
        let their = opened(theirs, 1000 + 1000 * u64::from(ours));
        let said = if ours { &their } else { &ledger }.open().next().unwrap().opened_at;
        assert!(ledger.adopt(their.open().cloned(), at(5000)).is_empty());
        let finding = ledger.open().next().unwrap();
        assert!(finding.is_said());
        assert_eq!(finding.opened_at, said, "the life that subscribers know goes on");
    }
}
