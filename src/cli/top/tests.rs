//! The screen in the situations that people meet, from what an agent says of real superclusters: sweep files of
//! three clusters of three servers, and made-up ones where no file can be had.

use std::fmt::Write as _;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use serde_json::json;

use super::keys::Key;
use super::state::{Answer, Effect, Input, Pane, Question, State};
use super::view::{self, Look};
use crate::api::{self, ANSWER_BYTES_MAX, Counters, Endpoint, Resolved, View};
use crate::checks::Severity;
use crate::checks::example::{defaults, secs};
use crate::config::redact;
use crate::connect::{Denied, LinkEvent, Operation};
use crate::findings::{Action, Change, Finding, Ledger, Reason, judge};
use crate::model::{Cell, Matrix, Seat, Snapshot, Time};
use crate::publish::event::{self, EpochCost, Sight, Speaker, Standing, Style};

const NARROW: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (140, 40);
const SITUATIONS: [&str; 5] = ["healthy", "link-lost", "cluster-down", "mismatch", "blind"];

/// An agent that saw this, and a screen that listens to it.
struct Play {
    state: State,
    now: Time,
    snapshot: Snapshot,
    ledger: Ledger,
    epochs: u64,
}

fn style() -> Style {
    let speaker = Speaker { leads: true, ..Speaker::default() };
    Style { prefix: "gatewatch".to_owned(), speaker, ..Style::default() }
}

impl Play {
    /// Nothing was heard yet.
    fn of(snapshot: Snapshot) -> Self {
        let ledger = Ledger::restore(judge(&snapshot, &defaults()));
        let now = snapshot.at.plus(secs(12));
        let state = State::new("gatewatch", "us-0", now);
        Self { state, now, epochs: snapshot.epoch, snapshot, ledger }
    }

    fn situation(name: &str) -> Self {
        let path = format!("{}/tests/situations/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut play = Self::of(Snapshot::from_file(&file).unwrap());
        play.run(3);
        let found: Vec<Finding> = play.ledger.open().cloned().collect();
        for finding in found {
            play.event(finding, Action::Opened);
        }
        play
    }

    fn take(&mut self, input: Input<'_>) -> Vec<Effect> {
        self.state.apply(input, self.now)
    }

    fn hear(&mut self, subject: &str, body: &str) {
        let effects = self.take(Input::Message { subject, body: body.as_bytes() });
        self.answer(effects);
    }

    /// Answers as the agent would, until nothing more is asked.
    fn answer(&mut self, effects: Vec<Effect>) {
        let mut left = effects;
        while let Some(effect) = left.pop() {
            let Effect::Ask(question) = effect else { continue };
            let body = self.agent(&question);
            let answer = body.as_ref().map_or(Answer::None, |body| Answer::Body(body));
            left.extend(self.state.apply(Input::Answer(&question, answer), self.now));
        }
    }

    fn agent(&self, question: &Question) -> Result<Vec<u8>, api::ApiError> {
        let epoch = self.epoch();
        let view = View {
            now: self.now,
            ledger: &self.ledger,
            resolved: &Resolved::default(),
            snapshot: Some(&self.snapshot),
            epoch: Some(&epoch),
            settings: &defaults(),
            counters: &Counters::default(),
            agent: "eu-watch",
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match question {
            Question::Findings { after } => {
                let body = json!({ "after": after, "limit": 2 });
                api::answer(Endpoint::Findings, body.to_string().as_bytes(), &view)
            }
            Question::Topology => api::answer(Endpoint::Topology, b"", &view),
            Question::Epoch => api::answer(Endpoint::Epoch, b"", &view),
        }
    }

    fn epoch(&self) -> String {
        let open = [Severity::Critical, Severity::Warning, Severity::Info].map(|s| self.ledger.count(s));
        let cost = EpochCost { interval_ms: 1000, next_epoch_in_ms: 900, ..EpochCost::default() };
        let standing = Standing { open, silences: 0 };
        let mut snapshot = self.snapshot.clone();
        snapshot.vantage.agent = "eu-watch".into();
        snapshot.epoch = self.epochs;
        let sight = Sight::of(&snapshot);
        event::epoch(&snapshot, &sight, cost, standing, &style(), "id", self.now).payload
    }

    /// So many epochs pass.
    fn run(&mut self, epochs: usize) {
        for _ in 0..epochs {
            self.now = self.now.plus(secs(1));
            self.epochs += 1;
            let epoch = self.epoch();
            self.hear("gatewatch.epoch.eu-watch", &epoch);
        }
    }

    /// Time passes, and nobody says anything.
    fn silence(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(secs(1));
            self.take(Input::Tick);
        }
    }

    fn event(&mut self, finding: Finding, action: Action) {
        let reason = if action == Action::Resolved { Reason::Recovered } else { Reason::Violated };
        let change = Change { action, reason, finding };
        let message = event::finding(&change, &Sight::of(&self.snapshot), &style(), "id");
        self.hear(&message.subject, &message.payload);
    }

    fn keys(&mut self, keys: &[Key]) {
        for key in keys {
            let effects = self.take(Input::Key(*key));
            self.answer(effects);
            // As the loop does: what a page is, is known by what was drawn.
            self.draw(NARROW, true);
        }
    }

    fn draw(&mut self, (width, height): (u16, u16), colour: bool) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = Look { colour, unicode: true };
        let state = &mut self.state;
        terminal
            .draw(|frame| {
                let drawn = view::draw(state, look, frame.area(), frame.buffer_mut());
                state.drawn = drawn;
            })
            .unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(&mut self, size: (u16, u16)) -> String {
        text(&self.draw(size, true))
    }

    /// The screen, and how it is painted with colours and without.
    fn picture(&mut self, size: (u16, u16)) -> String {
        let (colour, plain) = (self.draw(size, true), self.draw(size, false));
        assert_eq!(text(&colour), text(&plain), "without colour one reads the same");
        format!("{}\n-- colour --\n{}\n-- NO_COLOR --\n{}", text(&colour), paint(&colour), paint(&plain))
    }
}

fn but(finding: &Finding, change: impl FnOnce(&mut Finding)) -> Finding {
    let mut finding = finding.clone();
    change(&mut finding);
    finding
}

fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// What is painted: row, columns, text and how.
fn paint(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let style = |x: u16| {
            let cell = &buffer[(x, y)];
            let mut words = Vec::new();
            if cell.fg != Color::Reset {
                words.push(format!("{:?}", cell.fg).to_lowercase());
            }
            if cell.bg != Color::Reset {
                words.push(format!("on {:?}", cell.bg).to_lowercase());
            }
            for (bit, word) in
                [(Modifier::BOLD, "bold"), (Modifier::DIM, "dim"), (Modifier::REVERSED, "reversed")]
            {
                words.extend(cell.modifier.contains(bit).then(|| word.to_owned()));
            }
            words.join(" ")
        };
        let mut from = 0;
        while from < buffer.area.width {
            let how = style(from);
            let to = (from..buffer.area.width).find(|x| style(*x) != how).unwrap_or(buffer.area.width);
            let what: String = (from..to).map(|x| buffer[(x, y)].symbol()).collect();
            if !how.is_empty() && !what.trim().is_empty() {
                let _ = writeln!(out, "{:2}: {:<24} {}", y + 1, how, what.trim());
            }
            from = to;
        }
    }
    out
}

#[test]
fn the_five_situations() {
    for name in SITUATIONS {
        let mut play = Play::situation(name);
        insta::assert_snapshot!(format!("{name}-narrow"), play.picture(NARROW));
        insta::assert_snapshot!(format!("{name}-wide"), play.picture(WIDE));
    }
}

#[test]
fn two_hundred_clusters_show_their_trouble_first() {
    let mut play = large();
    let picture = play.picture(NARROW);
    insta::assert_snapshot!("200-clusters-narrow", picture);
    // Row and column of the cluster with trouble are in sight, and so is every other after some steps.
    assert!(picture.contains("c117") && picture.contains("!2/3"), "{picture}");
    play.keys(&[Key::Tab, Key::Tab, Key::Tab, Key::Enter, Key::Char('G')]);
    let end = play.text(NARROW);
    assert!(end.contains("c199"), "{end}");
    play.keys(&[Key::Char('/'), Key::Char('4'), Key::Char('2'), Key::Enter]);
    let rows = play.text(NARROW);
    assert!(rows.contains("c042") && rows.contains("c142") && !rows.contains("\n c041"), "{rows}");
}

/// An agent of 200 clusters, one of which has lost links.
fn large() -> Play {
    let mut play = Play::situation("link-lost");
    let name = |n: usize| crate::model::Name::from(format!("c{n:03}"));
    let mut matrix = Matrix::default();
    for n in 0..200 {
        let seat =
            Seat { servers: 3, answered: 3, links_expected: 597, links_connected: 597, ..Seat::default() };
        let seat = if n == 117 { Seat { links_connected: 596, ..seat } } else { seat };
        matrix.clusters.insert(name(n), seat);
        let cell = |m: usize| {
            let rtt_ms = Some((1 + n.abs_diff(m)) as f64);
            let cell = Cell { expected: 3, connected: 3, rtt_ms, ..Cell::default() };
            if (n, m) == (117, 23) {
                Cell { connected: 2, lost: vec!["c117-1".into()], ..cell }
            } else {
                cell
            }
        };
        matrix.links.insert(name(n), (0..200).filter(|m| *m != n).map(|m| (name(m), cell(m))).collect());
    }
    matrix.fit(ANSWER_BYTES_MAX);
    assert!(matrix.left_out.whole > 1000 && matrix.left_out.troubled == 0, "{:?}", matrix.left_out);
    let body = json!({ "clusters": {}, "matrix": matrix }).to_string();
    play.take(Input::Answer(&Question::Topology, Answer::Body(body.as_bytes())));
    play
}

#[test]
fn who_is_not_heard_for_three_intervals_watches_no_more() {
    let mut play = Play::situation("healthy");
    play.silence(3);
    assert!(!play.text(NARROW).contains("NOBODY"), "two heartbeats may be late");
    play.silence(1);
    insta::assert_snapshot!("nobody-watches", play.picture(NARROW));
    play.run(1);
    let text = play.text(NARROW);
    assert!(text.contains(" OK ") && !text.contains("NOBODY"), "{text}");
}

#[test]
fn where_nobody_ever_watched_that_is_said_when_there_was_time_to_hear_it() {
    let mut play = Play::of(Play::situation("healthy").snapshot);
    for (seconds, wanted) in
        [(1, "waiting for the first heartbeat"), (5, "NOBODY WATCHES: no heartbeat for 6s")]
    {
        for _ in 0..seconds {
            play.now = play.now.plus(secs(1));
            for effect in play.take(Input::Tick) {
                let Effect::Ask(question) = effect else { panic!("{effect:?}") };
                play.take(Input::Answer(&question, Answer::NobodyThere));
            }
        }
        let text = play.text(NARROW);
        assert!(text.contains(wanted) && text.contains(" UNKNOWN "), "{text}");
    }
}

#[test]
fn a_connection_that_is_lost_is_said_first_and_all_is_asked_anew_after_it() {
    let mut play = Play::situation("link-lost");
    play.take(Input::Link(&LinkEvent::Disconnected));
    play.take(Input::Link(&LinkEvent::Retrying { reason: "connection refused".to_owned() }));
    play.silence(10);
    let text = play.text(WIDE);
    let banner = "NO CONNECTION to NATS for 10s, trying again; what is shown is 10s old: connection refused";
    assert!(text.contains(banner) && text.contains(" UNKNOWN "), "{text}");
    let effects = play.take(Input::Link(&LinkEvent::Connected));
    let asked = [Question::Topology, Question::Findings { after: None }].map(Effect::Ask);
    assert!(asked.iter().all(|a| effects.contains(a)), "{effects:?}");
    assert!(!play.text(WIDE).contains("NOBODY"), "who was not heard meanwhile is given time");
}

#[test]
fn what_may_not_be_asked_is_said() {
    let mut play = Play::situation("healthy");
    let subject = "gatewatch.api.topology".to_owned();
    let denied = LinkEvent::Denied(Denied { operation: Operation::Publish, subject });
    play.take(Input::Link(&denied));
    play.take(Input::Answer(&Question::Topology, Answer::None));
    let text = play.text(WIDE);
    assert!(text.contains("no permission to publish to `gatewatch.api.topology`"), "{text}");
    assert!(text.contains(" OK "), "heartbeats tell that much");
}

#[test]
fn what_opens_and_resolves_comes_and_goes() {
    let mut play = Play::situation("healthy");
    let other = Play::situation("link-lost");
    let finding = other.ledger.open().next().unwrap().clone();
    play.event(finding.clone(), Action::Opened);
    assert!(play.text(NARROW).contains(">critical"));
    // An answer that was on its way says less than what came since, and one that came before resolves nothing.
    let newer = but(&finding, |f| (f.revision, f.summary) = (5, "five".to_owned()));
    play.event(newer, Action::Updated);
    other.answer_into(&mut play);
    assert!(play.text(NARROW).contains("CLUSTER_007 five"), "{}", play.text(NARROW));
    let over = but(&finding, |f| (f.resolved_at, f.revision) = (Some(f.opened_at.plus(secs(63))), 6));
    play.event(over, Action::Resolved);
    let text = play.text(NARROW);
    assert!(text.contains("none open") && text.contains(" resolved critical"), "{text}");
    assert!(play.text(WIDE).contains("resolved critical CLUSTER_007 us-1 (us) has no gateway to ap"));
    // Opened again later, it is another one.
    play.event(but(&finding, |f| f.opened_at = f.opened_at.plus(secs(90))), Action::Opened);
    assert!(play.text(NARROW).contains(">critical"));
}

impl Play {
    /// The list of our open findings, as the other's first page.
    fn answer_into(&self, other: &mut Self) {
        let question = Question::Findings { after: None };
        let body = self.agent(&question).unwrap();
        other.take(Input::Answer(&question, Answer::Body(&body)));
    }

    /// With so many open findings.
    fn with(count: usize) -> Self {
        let mut play = Self::situation("link-lost");
        let real = play.ledger.open().next().unwrap().clone();
        let like = |n: usize| {
            but(&real, |f| {
                f.fingerprint = format!("{n:016x}");
                f.summary = format!("number {n}");
                f.severity = [Severity::Info, Severity::Critical, Severity::Warning][n % 3];
                f.entity.server = Some(format!("s{n}").into());
                f.opened_at = real.opened_at.minus(secs(n as u64));
            })
        };
        play.ledger = Ledger::restore((0..count).map(like));
        play.run(70);
        play
    }
}

#[test]
fn the_worst_come_first_and_the_choice_stays_on_what_was_chosen() {
    let mut play = Play::with(30);
    let text = play.text(NARROW);
    assert!(text.contains("10 critical, 10 warning, 10 info") && text.contains(">critical"), "{text}");
    assert!(text.contains("what    number 1\n"), "the newest of the worst: {text}");
    play.keys(&[Key::Char('j'), Key::Down]);
    assert!(play.text(NARROW).contains("what    number 7\n"), "{}", play.text(NARROW));
    let mut worse = play.ledger.open().next().unwrap().clone();
    worse = but(&worse, |f| {
        (f.severity, f.fingerprint, f.opened_at) = (Severity::Critical, "f".to_owned(), play.now);
    });
    play.event(worse, Action::Opened);
    assert!(play.text(NARROW).contains("what    number 7\n"), "{}", play.text(NARROW));
    play.keys(&[Key::Char('G')]);
    assert!(play.text(NARROW).contains("what    number 27\n"), "{}", play.text(NARROW));
    play.keys(&[Key::Char('s')]);
    let text = play.text(NARROW);
    assert!(text.contains("warning and critical") && text.contains(">warning"), "{text}");
    play.keys(&[Key::Char('s'), Key::Char('/'), Key::Char('R'), Key::Char(' '), Key::Char('4'), Key::Enter]);
    let text = play.text(NARROW);
    assert!(text.contains("findings /R 4") && text.contains("what    number 4\n"), "{text}");
    play.keys(&[Key::Esc]);
    let text = play.text(NARROW);
    assert!(!text.contains("/R 4") && text.contains("31 of 30, the worst first"), "{text}");
}

#[test]
fn a_pane_takes_the_whole_screen_and_gives_it_back() {
    let mut play = Play::situation("mismatch");
    play.keys(&[Key::Enter]);
    let text = play.text(NARROW);
    assert!(text.contains("why, and what to do") && !text.contains("links, row to column"), "{text}");
    insta::assert_snapshot!("mismatch-whole", text);
    play.keys(&[Key::Char('G')]);
    let end = play.text(NARROW);
    assert!(end.contains(" id  ") && !end.contains("more lines"), "{end}");
    play.keys(&[Key::Char('k')]);
    assert!(play.text(NARROW).contains("1 more lines"), "one step back is one line: {}", play.text(NARROW));
    play.keys(&[Key::Esc]);
    assert!(play.text(NARROW).contains("links, row to column"));
    play.keys(&[Key::Char('?')]);
    insta::assert_snapshot!("help", play.text(NARROW));
    play.keys(&[Key::Char('q')]);
    assert!(play.text(NARROW).contains("links, row to column"), "it left the help alone");
    assert_eq!(play.take(Input::Key(Key::Char('q'))), [Effect::Quit]);
}

#[test]
fn the_words_of_a_chosen_cell_are_told() {
    let mut play = Play::situation("link-lost");
    play.keys(&[Key::BackTab, Key::Char('j'), Key::Char('j')]);
    assert_eq!(play.state.pane, Pane::Links);
    let text = play.text(NARROW);
    assert!(text.contains("us to ap: 2 of 3 links up; lost: us-1; RTT"), "{text}");
    play.keys(&[Key::Char('l'), Key::Right]);
    assert!(play.text(NARROW).contains("us: 3 of 3 servers answer"), "{}", play.text(NARROW));
}

#[test]
fn what_is_held_stands_still_while_all_else_goes_on() {
    let mut play = Play::situation("link-lost");
    play.keys(&[Key::Char('p')]);
    let finding = play.ledger.open().next().unwrap().clone();
    play.ledger = Ledger::default();
    play.event(but(&finding, |f| (f.resolved_at, f.revision) = (Some(play.now), 2)), Action::Resolved);
    play.run(5);
    let text = play.text(NARROW);
    assert!(text.contains("PAUSED for 5s") && text.contains(">critical     15s"), "{text}");
    play.keys(&[Key::Char('p')]);
    let text = play.text(NARROW);
    assert!(text.contains("none open") && text.contains(" OK "), "{text}");
}

#[test]
fn a_silenced_finding_says_so_and_stands_last() {
    let mut play = Play::with(3);
    let body = {
        let question = Question::Findings { after: None };
        let page = play.agent(&question).unwrap();
        let mut page: serde_json::Value = serde_json::from_slice(&page).unwrap();
        page["findings"][0]["silenced"] = json!(true);
        page["next"] = json!(null);
        page.to_string()
    };
    play.take(Input::Answer(&Question::Findings { after: None }, Answer::Body(body.as_bytes())));
    let text = play.text(WIDE);
    assert!(text.contains("(silenced) number 1"), "{text}");
    let last = text.lines().rfind(|l| l.contains("CLUSTER_007 ") && l.contains(" number "));
    assert!(last.is_some_and(|l| l.contains("number 1")), "{text}");
}

#[test]
fn much_of_everything_is_bounded() {
    let mut play = Play::with(super::data::FINDINGS_MAX + 500);
    assert_eq!(play.state.live().findings.len(), super::data::FINDINGS_MAX);
    assert!(
        play.state.live().findings.iter().all(|f| f.severity > Severity::Info),
        "the mildest are not held"
    );
    let finding = play.ledger.open().next().unwrap().clone();
    for n in 0..600 {
        play.event(but(&finding, |f| f.summary = format!("event {n}")), Action::Updated);
        let body = json!({ "agent": format!("a{n}"), "epoch": 1, "timestamp": play.now }).to_string();
        play.hear("gatewatch.epoch.a", &body);
    }
    assert_eq!(play.state.live().events.len(), 500);
    assert!(play.state.live().agents.len() <= 64);
    let large: Vec<_> = (0..5000).map(|n| json!({ "do": format!("{n} {}", "x".repeat(2000)) })).collect();
    let body = json!({ "action": "opened", "state": "open", "severity": "critical", "check": "c", "summary": "s",
        "fingerprint": "large", "opened_at": play.now, "remediation": large });
    play.hear("gatewatch.finding.critical.c", &body.to_string());
    let held = play.state.live().findings.iter().find(|f| f.fingerprint == "large").unwrap();
    let chars: usize = held.told.iter().map(|t| t.text.len()).sum();
    assert!(chars < 20_000 && held.told.last().is_some_and(|t| t.text.contains("left out")), "{chars}");
}

#[test]
fn nothing_that_others_named_steers_the_terminal() {
    let mut play = Play::situation("healthy");
    let evil = "a\u{1b}[2J\u{7}\u{202e}b\n\u{9b}31m";
    let matrix = json!({ "clusters": { evil: { "servers": 2, "answered": 1, "missing": [evil],
        "links_expected": 1, "links_connected": 0 } },
        "links": { evil: { "us": { "expected": 1, "connected": 0, "lost": [evil] } } } });
    let body = json!({ "clusters": {}, "matrix": matrix }).to_string();
    play.take(Input::Answer(&Question::Topology, Answer::Body(body.as_bytes())));
    let body = json!({ "action": evil, "state": "open", "severity": "critical", "check": evil, "code": evil,
        "summary": evil, "fingerprint": evil, "opened_at": play.now, "timestamp": play.now,
        "entity": { "cluster": evil }, "cause": { "kind": evil, "confidence": evil, "detail": evil },
        "impact": evil, "evidence": { evil: { evil: [evil, { evil: evil }] } },
        "remediation": [{ "do": evil, "run": evil }] });
    play.hear("gatewatch.finding.critical.c", &body.to_string());
    let body = json!({ "agent": evil, "event": evil, "reason": evil, "timestamp": play.now });
    play.hear("gatewatch.agent.started.x", &body.to_string());
    let body = json!({ "agent": evil, "epoch": 1, "leader": true, "settled": true, "timestamp": play.now,
        "servers": { "expected": 2, "answered": 1, "missing": [evil] },
        "vantage": { "cluster": evil, "server": evil } });
    play.now = play.now.plus(secs(70));
    play.hear("gatewatch.epoch.x", &body.to_string());
    play.take(Input::Answer(&Question::Topology, Answer::Refused(evil)));
    for pane in [Pane::Links, Pane::Findings, Pane::Cause, Pane::Events] {
        (play.state.pane, play.state.zoomed) = (pane, true);
        let text = play.text(WIDE);
        assert!(text.contains("a\\u{1b}"), "{pane:?}: {text}");
        assert!(
            !text.chars().any(|c| c != '\n' && redact::control(&c.to_string()) != c.to_string()),
            "{text:?}"
        );
    }
}

#[test]
fn a_screen_of_any_size_can_be_drawn() {
    let mut plays: Vec<Play> = SITUATIONS.iter().map(|name| Play::situation(name)).collect();
    plays.extend([large(), Play::with(50)]);
    for play in &mut plays {
        for (width, height) in
            (1..30).map(|n| (n * 7, n * 2 - 1)).chain([(0, 0), (9, 0), (0, 9), (1, 60), (300, 1), (20, 5)])
        {
            for pane in [Pane::Links, Pane::Findings, Pane::Cause, Pane::Events] {
                for zoomed in [false, true] {
                    (play.state.pane, play.state.zoomed) = (pane, zoomed);
                    let text = play.text((width, height));
                    assert_eq!(text.lines().count(), usize::from(height));
                }
            }
        }
    }
}

#[test]
fn what_is_no_message_of_ours_changes_nothing() {
    let mut play = Play::situation("link-lost");
    let before = play.text(WIDE);
    for body in
        ["", "{", "null", "[]", "5", "{}", r#"{"agent":5}"#, r#"{"action":"opened","severity":"loud"}"#]
    {
        for subject in
            ["gatewatch.finding.x", "gatewatch.epoch.x", "gatewatch.agent.x", "gatewatch.y", "z", ""]
        {
            play.hear(subject, body);
        }
    }
    assert_eq!(play.text(WIDE), before);
}
