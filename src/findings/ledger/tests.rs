use super::*;
use crate::checks::example::{defaults, ms, secs};
use crate::checks::{CauseKind, Confidence, Override};

pub(super) const LINK: &str = "gateway_disconnected";
const CLUSTER: &str = "cluster_unreachable";
const SERVER: &str = "server_missing";

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(1_000_000 + millis)
}

pub(super) fn link(server: &str) -> Entity {
    Entity {
        cluster: Some("eu".into()),
        server: Some(server.into()),
        server_id: Some(format!("ID-of-{server}").into()),
        remote: Some("us".into()),
        ..Entity::default()
    }
}

fn whole(cluster: &str) -> Entity {
    Entity { cluster: Some(cluster.into()), ..Entity::default() }
}

pub(super) fn bad(since: u64, ripe_at: u64, essence: &str) -> Outcome {
    Outcome::Violated(Box::new(Violation {
        since: at(since),
        ripe_at: at(ripe_at),
        summary: format!("it is {essence}"),
        cause: Cause::new(CauseKind::Unknown, Confidence::Possible, essence),
        impact: String::new(),
        evidence: Map::new(),
        remediation: Vec::new(),
        essence: essence.into(),
        server: None,
        scope: Scope::Entity,
    }))
}

pub(super) struct Case {
    pub(super) ledger: Ledger,
    settings: BTreeMap<&'static str, Settings>,
    epoch: u64,
}

impl Case {
    pub(super) fn new() -> Self {
        Self { ledger: Ledger::default(), settings: defaults(), epoch: 0 }
    }

    /// One look that is an epoch of its own.
    pub(super) fn epoch(
        &mut self,
        millis: u64,
        verdicts: &[(&'static str, Entity, Outcome)],
    ) -> Vec<(Action, Reason)> {
        self.epoch += 1;
        self.look(millis, verdicts)
    }

    /// One more look of the same epoch.
    pub(super) fn look(
        &mut self,
        millis: u64,
        verdicts: &[(&'static str, Entity, Outcome)],
    ) -> Vec<(Action, Reason)> {
        self.changes(millis, verdicts).iter().map(|c| (c.action, c.reason)).collect()
    }

    /// One look that is an epoch of its own, with all that is said.
    pub(super) fn changes_of_epoch(
        &mut self,
        millis: u64,
        verdicts: &[(&'static str, Entity, Outcome)],
    ) -> Vec<Change> {
        self.epoch += 1;
        self.changes(millis, verdicts)
    }

    pub(super) fn changes(
        &mut self,
        millis: u64,
        verdicts: &[(&'static str, Entity, Outcome)],
    ) -> Vec<Change> {
        let verdicts = verdicts
            .iter()
            .map(|(check, entity, outcome)| Verdict {
                check,
                severity: Severity::Critical,
                entity: entity.clone(),
                outcome: outcome.clone(),
            })
            .collect();
        self.ledger.step(Judgement {
            at: at(millis),
            seen_at: at(millis),
            is_glance: false,
            epoch: self.epoch,
            verdicts,
            settings: &self.settings,
            repeat_every: secs(3600),
        })
    }
}

pub(super) const OPENED: (Action, Reason) = (Action::Opened, Reason::Violated);
pub(super) const NOTHING: [(Action, Reason); 0] = [];

pub(super) fn resolved(reason: Reason) -> [(Action, Reason); 1] {
    [(Action::Resolved, reason)]
}

#[test]
fn a_violation_opens_when_it_is_ripe_and_not_before() {
    let mut case = Case::new();
    assert_eq!(case.epoch(0, &[(LINK, link("a"), bad(0, 2500, "x"))]), NOTHING);
    assert_eq!(case.epoch(2499, &[(LINK, link("a"), bad(0, 2500, "x"))]), NOTHING);
    assert_eq!(case.epoch(2500, &[(LINK, link("a"), bad(0, 2500, "x"))]), [OPENED]);
    assert_eq!(case.epoch(3000, &[(LINK, link("a"), bad(0, 2500, "x"))]), NOTHING, "it is open");
    assert_eq!(case.ledger.count(Severity::Critical), 1);
    assert_eq!(case.ledger.count(Severity::Info), 0);
}

#[test]
fn streaks_count_epochs_and_not_looks() {
    let mut case = Case::new();
    let verdict = [(SERVER, whole("a"), bad(0, 0, "x"))];
    assert_eq!(case.epoch(0, &verdict), NOTHING);
    assert_eq!(case.look(400, &verdict), NOTHING, "the same epoch, however many looks");
    assert_eq!(case.look(500, &verdict), NOTHING);
    assert_eq!(case.epoch(1000, &verdict), [OPENED], "open_after is 2");
    let healthy = [(SERVER, whole("a"), Outcome::Healthy)];
    assert_eq!(case.epoch(2000, &healthy), NOTHING);
    assert_eq!(case.look(2500, &healthy), NOTHING);
    assert_eq!(case.epoch(3000, &healthy), resolved(Reason::Recovered), "resolve_after is 2");
}

#[test]
fn a_healthy_look_ends_a_streak_of_violations_and_the_other_way_round() {
    let mut case = Case::new();
    case.epoch(0, &[(SERVER, whole("a"), bad(0, 0, "x"))]);
    case.epoch(1000, &[(SERVER, whole("a"), Outcome::Healthy)]);
    assert_eq!(case.epoch(2000, &[(SERVER, whole("a"), bad(0, 0, "x"))]), NOTHING);
    assert_eq!(case.epoch(3000, &[(SERVER, whole("a"), bad(0, 0, "x"))]), [OPENED]);
    case.epoch(4000, &[(SERVER, whole("a"), Outcome::Healthy)]);
    case.epoch(5000, &[(SERVER, whole("a"), bad(0, 0, "x"))]);
    assert_eq!(case.epoch(6000, &[(SERVER, whole("a"), Outcome::Healthy)]), NOTHING);
    assert_eq!(case.epoch(7000, &[(SERVER, whole("a"), Outcome::Healthy)]), resolved(Reason::Recovered));
}

#[test]
fn unknown_neither_opens_nor_resolves_nor_ends_a_streak() {
    let mut case = Case::new();
    case.epoch(0, &[(SERVER, whole("a"), bad(0, 0, "x"))]);
    for n in 1..50 {
        assert_eq!(case.epoch(n * 1000, &[(SERVER, whole("a"), Outcome::Unknown)]), NOTHING);
    }
    assert_eq!(case.epoch(50_000, &[(SERVER, whole("a"), bad(0, 0, "x"))]), [OPENED]);
    for n in 51..99 {
        assert_eq!(case.epoch(n * 1000, &[(SERVER, whole("a"), Outcome::Unknown)]), NOTHING);
        assert_eq!(case.epoch(n * 1000, &[]), NOTHING, "absence is not recovery");
    }
}

#[test]
fn what_left_is_gone_at_once() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    assert_eq!(case.epoch(500, &[(LINK, link("a"), Outcome::Gone)]), resolved(Reason::Gone));
    assert_eq!(case.epoch(900, &[(LINK, link("a"), Outcome::Gone)]), NOTHING, "once");
}

#[test]
fn an_old_life_that_left_does_not_end_the_finding_of_the_new_one() {
    let mut case = Case::new();
    let both = [(LINK, link("a"), Outcome::Gone), (LINK, link("a"), bad(0, 0, "x"))];
    assert_eq!(case.epoch(0, &both), [OPENED]);
    for n in 1..9 {
        assert_eq!(case.epoch(n * 1000, &both), NOTHING, "it neither resolves nor opens again");
    }
    let well = [(LINK, link("a"), Outcome::Gone), (LINK, link("a"), Outcome::Healthy)];
    case.epoch(10_000, &well);
    assert_eq!(case.epoch(11_000, &well), resolved(Reason::Recovered));
}

#[test]
fn of_two_servers_with_one_name_the_one_that_is_not_well_counts() {
    let mut case = Case::new();
    let both = [(LINK, link("a"), Outcome::Healthy), (LINK, link("a"), bad(0, 0, "x"))];
    assert_eq!(case.epoch(0, &both), [OPENED]);
    assert_eq!(case.epoch(1000, &both), NOTHING);
    assert_eq!(case.epoch(2000, &both), NOTHING, "it does not flap");
}

#[test]
fn evidence_that_changed_is_told_when_the_change_stands() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    assert_eq!(case.epoch(500, &[(LINK, link("a"), bad(0, 0, "y"))]), NOTHING);
    assert_eq!(case.epoch(1000, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING, "it was a moment's");
    assert_eq!(case.epoch(1500, &[(LINK, link("a"), bad(0, 0, "y"))]), NOTHING);
    let changes = case.changes(3500, &[(LINK, link("a"), bad(0, 0, "y"))]);
    let [change] = &changes[..] else { panic!("one update: {changes:?}") };
    assert_eq!((change.action, change.reason), (Action::Updated, Reason::EvidenceChanged));
    assert_eq!((change.finding.revision, &*change.finding.summary), (2, "it is y"));
    assert_eq!(case.epoch(9000, &[(LINK, link("a"), bad(0, 0, "y"))]), NOTHING, "told once");
}

#[test]
fn an_open_finding_is_repeated_also_while_it_cannot_be_seen() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    let hour = 3_600_000;
    assert_eq!(case.epoch(hour - 1, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING);
    let reminded = [(Action::Reminded, Reason::StillViolated)];
    assert_eq!(case.epoch(hour, &[(LINK, link("a"), bad(0, 0, "x"))]), reminded);
    assert_eq!(case.epoch(hour + 1, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING);
    assert_eq!(case.epoch(2 * hour, &[(LINK, link("a"), Outcome::Unknown)]), reminded);
}

#[test]
fn a_bigger_finding_that_opens_takes_the_place_of_what_it_explains() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    let both = [(LINK, link("a"), bad(0, 0, "x")), (CLUSTER, whole("us"), bad(500, 3000, "dark"))];
    assert_eq!(case.epoch(1000, &both), NOTHING, "what is only on its way does not end what is open");
    let changes = case.changes(3000, &both);
    let told: Vec<_> = changes.iter().map(|c| (c.action, c.reason)).collect();
    assert_eq!(told, [OPENED, (Action::Resolved, Reason::Explained)], "the bigger one first");
    let print = fingerprint(LINK, Severity::Critical, &link("a"));
    assert_eq!(changes[0].finding.inhibits, BTreeSet::from([print]));
    assert_eq!(case.epoch(4000, &both), NOTHING);
    assert_eq!(case.ledger.open().count(), 1);
}

#[test]
fn what_is_on_its_way_to_a_bigger_finding_holds_back_the_smaller() {
    let mut case = Case::new();
    let small = (LINK, link("a"), bad(0, 2500, "x"));
    let big = (CLUSTER, whole("us"), bad(500, 3000, "dark"));
    for millis in [500, 1500, 2500, 2900] {
        assert_eq!(case.epoch(millis, &[small.clone(), big.clone()]), NOTHING);
    }
    assert_eq!(case.epoch(2950, &[small.clone(), (CLUSTER, whole("us"), Outcome::Healthy)]), [OPENED]);
}

#[test]
fn patience_starts_anew_when_an_explanation_ends() {
    let mut case = Case::new();
    let small = (LINK, link("a"), bad(0, 2500, "x"));
    let big = (CLUSTER, whole("us"), bad(0, 2500, "dark"));
    assert_eq!(case.epoch(2500, &[small.clone(), big]), [OPENED]);
    let well = (CLUSTER, whole("us"), Outcome::Healthy);
    assert_eq!(case.epoch(60_000, &[small.clone(), well.clone()]), NOTHING);
    let ended = case.epoch(61_000, &[small.clone(), well.clone()]);
    assert_eq!(ended, resolved(Reason::Recovered), "the link gets its time now");
    assert_eq!(case.epoch(63_000, &[small.clone(), well.clone()]), NOTHING);
    assert_eq!(case.epoch(63_500, &[small, well]), [OPENED], "2.5 s after it was last explained");
}

#[test]
fn an_open_finding_explains_while_it_cannot_be_seen() {
    let mut case = Case::new();
    case.epoch(0, &[(CLUSTER, whole("us"), bad(0, 0, "dark"))]);
    for n in 1..20 {
        let verdicts = [(LINK, link("a"), bad(0, 0, "x")), (CLUSTER, whole("us"), Outcome::Unknown)];
        assert_eq!(case.epoch(n * 1000, &verdicts), NOTHING);
    }
}

#[test]
fn what_is_explained_and_not_open_explains_nothing_itself() {
    let mut case = Case::new();
    let silent = Entity { remote: Some("us".into()), ..link("a") };
    let server = Entity { remote: None, ..link("a") };
    let other = Entity { remote: Some("ap".into()), ..link("a") };
    assert_eq!(case.epoch(0, &[("gateway_silent", silent.clone(), bad(0, 0, "x"))]), [OPENED]);
    let verdicts = [
        ("gateway_silent", silent, bad(0, 0, "x")),
        (SERVER, server, bad(0, 0, "x")),
        (LINK, other, bad(0, 0, "x")),
    ];
    assert_eq!(case.epoch(1000, &verdicts), [OPENED], "the server lives, and its other gateway is lost");
    assert_eq!(case.epoch(2000, &verdicts), NOTHING);
    assert_eq!(
        case.epoch(3000, &verdicts),
        [(Action::Updated, Reason::EvidenceChanged)],
        "the server is not missing, and that is told"
    );
    assert_eq!(case.epoch(4000, &verdicts), NOTHING);
}

#[test]
fn another_severity_is_another_finding() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    case.settings.get_mut(LINK).expect("a check").severity = Some(Severity::Warning);
    let changes = case.changes(1000, &[(LINK, link("a"), bad(0, 0, "x"))]);
    let told: Vec<_> = changes.iter().map(|c| (c.action, c.reason, c.finding.severity)).collect();
    assert_eq!(
        told,
        [
            (Action::Resolved, Reason::Reclassified, Severity::Critical),
            (Action::Opened, Reason::Violated, Severity::Warning)
        ]
    );
    assert_ne!(changes[0].finding.fingerprint, changes[1].finding.fingerprint);
}

#[test]
fn a_check_that_is_switched_off_says_nothing_and_ends_what_it_opened() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x"))]);
    case.settings.get_mut(LINK).expect("a check").enabled = false;
    assert_eq!(case.epoch(1000, &[(LINK, link("a"), bad(0, 0, "x"))]), resolved(Reason::Gone));
    assert_eq!(case.epoch(2000, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING);
    case.settings.remove(LINK);
    assert_eq!(case.epoch(3000, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING, "nor one without settings");
}

#[test]
fn a_restored_ledger_goes_on_where_it_ended() {
    let mut case = Case::new();
    case.epoch(0, &[(LINK, link("a"), bad(0, 0, "x")), (LINK, link("b"), bad(0, 0, "x"))]);
    case.epoch(500, &[(LINK, link("b"), Outcome::Gone)]);
    let saved = serde_json::to_string(&case.ledger.open().collect::<Vec<_>>()).expect("it is written");
    let findings: Vec<Finding> = serde_json::from_str(&saved).expect("it is read");
    let mut case = Case { ledger: Ledger::restore(findings), ..Case::new() };
    assert_eq!(case.epoch(9000, &[(LINK, link("a"), bad(8000, 8000, "x"))]), NOTHING, "it is open already");
    let mut reborn = link("a");
    reborn.server_id = Some("another".into());
    case.epoch(10_000, &[(LINK, reborn.clone(), Outcome::Healthy)]);
    let changes = {
        case.epoch += 1;
        case.changes(11_000, &[(LINK, reborn, Outcome::Healthy)])
    };
    let [change] = &changes[..] else { panic!("one end: {changes:?}") };
    assert_eq!((change.reason, change.finding.revision), (Reason::Recovered, 2));
    assert_eq!(change.finding.opened_at, at(0), "it is the same finding");
    assert_eq!(change.finding.resolved_at, Some(at(11_000)));
}

#[test]
fn a_fingerprint_is_the_same_for_ever_and_knows_no_ids() {
    let mut entity = link("eu-1");
    assert_eq!(
        fingerprint(LINK, Severity::Critical, &entity),
        "ead8cf07c413395a",
        "who stored it would lose it"
    );
    entity.server_id = Some("another life".into());
    assert_eq!(fingerprint(LINK, Severity::Critical, &entity), "ead8cf07c413395a");
    assert_eq!(fingerprint(CLUSTER, Severity::Critical, &whole("us")), "e8e6b28dcdc31aca");
    assert_eq!(fingerprint("observer_degraded", Severity::Warning, &Entity::default()), "a7b570315d3348c8");
    assert_ne!(fingerprint(LINK, Severity::Warning, &entity), "ead8cf07c413395a", "severity is a part of it");
    let names = |cluster: &str, server: &str| Entity {
        cluster: Some(cluster.into()),
        server: Some(server.into()),
        ..Entity::default()
    };
    let print = |e: &Entity| fingerprint(SERVER, Severity::Warning, e);
    assert_ne!(print(&names("ab", "c")), print(&names("a", "bc")), "names do not run together");
    assert_ne!(print(&names("a", "")), print(&whole("a")), "an empty name is not none");
}

#[test]
fn the_next_look_is_due_when_something_ripens() {
    let verdict = |ripe_at| Verdict {
        check: LINK,
        severity: Severity::Critical,
        entity: link("a"),
        outcome: bad(0, ripe_at, "x"),
    };
    assert_eq!(Ledger::next_ripe(&[verdict(3000), verdict(2000), verdict(500)], at(1000)), Some(at(2000)));
    assert_eq!(Ledger::next_ripe(&[verdict(500)], at(1000)), None);
}

#[test]
fn an_override_holds_for_its_part_of_the_supercluster() {
    let mut settings = defaults().remove(LINK).expect("a check");
    let values = BTreeMap::from([("absent_for", crate::checks::Value::Duration(secs(9)))]);
    settings.overrides = vec![Override { cluster: Some("eu".into()), remote: Some("us".into()), values }];
    assert_eq!(settings.duration("absent_for", Some("eu"), Some("us")), secs(9));
    assert_eq!(settings.duration("absent_for", Some("eu"), Some("ap")), ms(2500));
    assert_eq!(settings.duration("absent_for", None, None), ms(2500));
    assert_eq!(settings.duration("no such key", None, None), Duration::ZERO);
}

/// A ledger that has opened these at that time.
fn having(opened_at: u64, verdicts: &[(&'static str, Entity, Outcome)]) -> Ledger {
    let mut case = Case::new();
    case.epoch(opened_at, verdicts);
    assert_eq!(case.ledger.open().count(), verdicts.len());
    case.ledger
}

fn open_of(ledger: &Ledger) -> Vec<Finding> {
    ledger.open().cloned().collect()
}

#[test]
fn of_a_finding_that_two_ledgers_have_the_earlier_life_goes_on() {
    let lost = [(LINK, link("a"), bad(0, 0, "x"))];
    let early = having(1000, &lost);
    let late = having(3000, &lost);
    for (mut ours, theirs) in [(early.clone(), &late), (late.clone(), &early)] {
        assert_eq!(ours.adopt(open_of(theirs), at(4000)), [], "nothing happened to it");
        let finding = open_of(&ours).remove(0);
        assert_eq!((finding.opened_at, finding.revision), (at(1000), 1));
        assert_eq!(finding.last_seen_at, at(3000));
    }
}

#[test]
fn what_only_the_other_ledger_has_is_open_from_then_on_and_ends_once() {
    let mut case = Case::new();
    let theirs = having(1000, &[(LINK, link("a"), bad(0, 0, "x"))]);
    assert_eq!(case.ledger.adopt(open_of(&theirs), at(2000)), []);
    assert_eq!(case.epoch(2500, &[(LINK, link("a"), bad(0, 0, "x"))]), NOTHING, "it was said");
    case.epoch(3000, &[(LINK, link("a"), Outcome::Healthy)]);
    assert_eq!(case.epoch(3500, &[(LINK, link("a"), Outcome::Healthy)]), resolved(Reason::Recovered));
    assert_eq!(case.epoch(4000, &[(LINK, link("a"), Outcome::Healthy)]), NOTHING);
}

#[test]
fn of_two_severities_the_one_that_was_seen_later_stands() {
    let mut ours = having(1000, &[(LINK, link("a"), bad(0, 0, "x"))]);
    let mut theirs = open_of(&having(3000, &[(LINK, link("a"), bad(0, 0, "y"))]));
    let their = theirs.get_mut(0).unwrap();
    their.severity = Severity::Warning;
    their.fingerprint = fingerprint(LINK, Severity::Warning, &their.entity);
    let changes = ours.adopt(theirs.clone(), at(4000));
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.action, change.reason), (Action::Resolved, Reason::Reclassified));
    assert_eq!((change.finding.severity, change.finding.revision), (Severity::Critical, 2));
    assert_eq!(open_of(&ours), theirs);
}

#[test]
fn a_check_that_this_version_does_not_have_is_left_alone() {
    let mut theirs = open_of(&having(1000, &[(LINK, link("a"), bad(0, 0, "x"))]));
    theirs.get_mut(0).unwrap().check = "of_tomorrow".into();
    let mut case = Case::new();
    case.ledger.adopt(theirs, at(2000));
    assert_eq!(case.epoch(3000, &[(LINK, link("a"), Outcome::Healthy)]), NOTHING);
    assert_eq!(case.ledger.open().count(), 1);
}

#[test]
fn no_more_open_than_there_may_be_and_what_does_not_is_counted() {
    let mut case = Case::new();
    let violated = |n: usize| (SERVER, link(&n.to_string()), bad(0, 0, "gone"));
    case.epoch(0, &[violated(0)]);
    case.epoch(1000, &[violated(0)]);
    let one = case.ledger.open().next().expect("one is open").clone();
    let many = (1..2 * FINDINGS_MAX).map(|n| Finding { entity: link(&n.to_string()), ..one.clone() });
    case.ledger = Ledger::restore(many);
    assert_eq!(case.ledger.len(), FINDINGS_MAX);
    let own = ("observer_degraded", Entity::default(), bad(0, 0, "full"));
    let new = [violated(0), (SERVER, link("another"), bad(0, 0, "gone")), own];
    case.epoch(2000, &new);
    let said = case.epoch(3000, &new);
    assert_eq!(said, [(Action::Opened, Reason::Violated)], "that it cannot see all is said all the same");
    assert_eq!((case.ledger.len(), case.ledger.over()), (FINDINGS_MAX + 1, 2));
    case.ledger.follow(Action::Opened, Finding { entity: link("of-another"), ..one.clone() });
    case.ledger.adopt([Finding { entity: link("of-another"), ..one }], at(3000));
    assert_eq!(case.ledger.len(), FINDINGS_MAX + 1);
    assert_eq!(case.ledger.over(), 3);
}

#[test]
fn what_waits_to_open_is_bounded_too() {
    let mut ledger = Ledger::default();
    let key = |n: usize| Key::of(SERVER, &link(&n.to_string()));
    ledger.pending = (0..PENDING_MAX).map(|n| (key(n), Pending::default())).collect();
    let mut view = View::default();
    for n in [0, PENDING_MAX] {
        let verdict = Verdict {
            check: SERVER,
            severity: Severity::Warning,
            entity: link(&n.to_string()),
            outcome: Outcome::Unknown,
        };
        let Outcome::Violated(violation) = bad(0, 0, "gone") else { panic!() };
        view.violated.insert(key(n), (verdict, *violation));
    }
    view.unknown = (0..PENDING_MAX).map(key).collect();
    ledger.count_streaks(&view, 1, false);
    assert_eq!(ledger.pending.len(), PENDING_MAX);
    assert!(ledger.pending.contains_key(&key(0)) && !ledger.pending.contains_key(&key(PENDING_MAX)));
}
