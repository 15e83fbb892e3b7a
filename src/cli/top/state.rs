//! What the screen shows and what is asked next, as a function of all that came: no clock, no terminal, no NATS.

use std::time::Duration;

use super::data::{Data, Finding};
use super::keys::Key;
use super::links;
use crate::checks::Severity;
use crate::config::redact;
use crate::connect::{LinkEvent, Operation};
use crate::model::Time;

/// The links are asked for so often,
const LINKS_EVERY: Duration = Duration::from_secs(2);
/// and so often where the answer is large.
const LARGE_EVERY: Duration = Duration::from_secs(10);
const LARGE_BYTES: usize = 64 * 1024;
/// The whole list of open findings is read again so often: whether one is silenced, no event tells.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// And not more often than this, whatever seems to be amiss with it.
const LIST_PAUSE: Duration = Duration::from_secs(5);
/// So long a heartbeat is waited for before it is said that nobody watches.
const PATIENCE: Duration = Duration::from_secs(4);
/// A filter is no longer.
const FILTER_CHARS_MAX: usize = 64;
/// How far a page leads where nothing was drawn yet.
const PAGE: usize = 10;

/// Something that came.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Key(Key),
    /// A message of one of our subscriptions.
    Message {
        subject: &'a str,
        body: &'a [u8],
    },
    Answer(&'a Question, Answer<'a>),
    Link(&'a LinkEvent),
    /// Time passed.
    Tick,
}

/// Something to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A page of the open findings, behind the one that ended here.
    Findings {
        after: Option<String>,
    },
    Topology,
    Epoch,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    Body(&'a [u8]),
    /// In the agent's words.
    Refused(&'a str),
    NobodyThere,
    /// None in time.
    None,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Ask(Question),
    /// Draw all of it anew, whatever the terminal has.
    Repaint,
    /// Stop until somebody calls us back.
    Suspend,
    Quit,
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Links,
    Findings,
    Cause,
    Events,
}

impl Pane {
    const ALL: [Self; 4] = [Self::Links, Self::Findings, Self::Cause, Self::Events];
}

/// The connection to NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Up { since: Time },
    Lost { since: Time, why: String },
}

/// Whether the agent's API can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Unknown,
    Answers,
    NobodyThere,
    /// It did not answer in time.
    Silent,
    /// Why not.
    Refused(String),
}

/// What was drawn, for what a page is and where the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drawn {
    /// How many lines each pane showed.
    pub(super) lines: [usize; 4],
    /// How far the cause can be scrolled.
    pub(super) cause_scroll_max: usize,
}

/// All there is.
#[derive(Debug)]
pub(super) struct State {
    prefix: String,
    now: Time,
    data: Data,
    /// What is shown while it stands still, and since when.
    paused: Option<(Data, Time)>,
    pub(super) wire: Wire,
    pub(super) api: Api,
    /// The server that we are connected to.
    pub(super) at: String,
    asking: Asking,

    pub(super) pane: Pane,
    /// Whether that pane has the whole screen.
    pub(super) zoomed: bool,
    pub(super) help: bool,
    /// The chosen finding, and where it stood.
    chosen: (Option<String>, usize),
    pub(super) cause_scroll: usize,
    /// How many events are below what is shown.
    pub(super) events_scroll: usize,
    /// The chosen cell: row and column.
    pub(super) cell: (usize, usize),
    /// What is shown of the links, the findings and the events, as typed.
    filters: [String; 3],
    /// Whether that of the pane is being typed.
    pub(super) typing: bool,
    /// No finding below this is shown.
    pub(super) level: Severity,
    pub(super) order: links::Order,
    pub(super) drawn: Drawn,
}

/// What was asked, and is to be asked next.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is whether one question is on its way")]
struct Asking {
    links: bool,
    links_at: Time,
    epoch: bool,
    list: bool,
    list_at: Time,
    list_wanted: bool,
    /// Since when as many findings are held as there are, or not.
    amiss_since: Option<Time>,
    leader: Option<String>,
}

impl State {
    /// At the start: just connected to the server of this name.
    pub(super) fn new(prefix: &str, at: &str, now: Time) -> Self {
        Self {
            prefix: prefix.to_owned(),
            now,
            data: Data::default(),
            paused: None,
            wire: Wire::Up { since: now },
            api: Api::Unknown,
            at: redact::control(at).into_owned(),
            asking: Asking { list_wanted: true, ..Asking::default() },
            pane: Pane::Findings,
            zoomed: false,
            help: false,
            chosen: (None, 0),
            cause_scroll: 0,
            events_scroll: 0,
            cell: (0, 0),
            filters: Default::default(),
            typing: false,
            level: Severity::Info,
            order: links::Order::default(),
            drawn: Drawn::default(),
        }
    }

    /// What is shown.
    pub(super) fn data(&self) -> &Data {
        self.paused.as_ref().map_or(&self.data, |(data, _)| data)
    }

    /// What is known, whatever is shown.
    pub(super) fn live(&self) -> &Data {
        &self.data
    }

    /// The time of what is shown.
    pub(super) fn now(&self) -> Time {
        self.paused.as_ref().map_or(self.now, |(_, since)| *since)
    }

    /// The time, whatever is shown.
    pub(super) fn live_now(&self) -> Time {
        self.now
    }

    /// For how long it stands still.
    pub(super) fn paused_for(&self) -> Option<Duration> {
        self.paused.as_ref().map(|(_, since)| self.now.since(*since))
    }

    /// The filter of a pane.
    pub(super) fn filter(&self, pane: Pane) -> &str {
        match pane {
            Pane::Links => &self.filters[0],
            Pane::Findings | Pane::Cause => &self.filters[1],
            Pane::Events => &self.filters[2],
        }
    }

    fn filter_mut(&mut self) -> &mut String {
        match self.pane {
            Pane::Links => &mut self.filters[0],
            Pane::Findings | Pane::Cause => &mut self.filters[1],
            Pane::Events => &mut self.filters[2],
        }
    }

    /// The findings that are shown.
    pub(super) fn findings(&self) -> Vec<&Finding> {
        let filter = self.filter(Pane::Findings).to_lowercase();
        let wanted = |f: &&Finding| f.severity >= self.level && f.words.contains(&filter);
        self.data().findings.iter().map(|f| &**f).filter(wanted).collect()
    }

    /// Which of `findings` is the chosen one.
    pub(super) fn chosen(&self, findings: &[&Finding]) -> usize {
        let (name, at) = &self.chosen;
        let found = findings.iter().position(|f| Some(&f.fingerprint) == name.as_ref());
        found.unwrap_or_else(|| (*at).min(findings.len().saturating_sub(1)))
    }

    /// Nobody leads, as far as we can hear: since when, and whether anybody ever did.
    pub(super) fn unwatched_since(&self) -> Option<(Time, bool)> {
        let Wire::Up { since } = self.wire else { return None };
        match self.data.leader(self.now) {
            Some((_, agent)) => {
                // What was said while the connection was lost was not heard.
                let due = agent.due_until().max(since.plus(agent.epoch.interval() * 3));
                (self.now > due).then_some((agent.heard_at, true))
            }
            None => (self.now.since(since) > PATIENCE).then_some((since, false)),
        }
    }

    /// Takes in what came at `now`.
    pub(super) fn apply(&mut self, input: Input<'_>, now: Time) -> Vec<Effect> {
        self.now = now;
        let mut effects = Vec::new();
        match input {
            Input::Key(key) => effects.extend(self.key(key)),
            Input::Message { subject, body } => self.message(subject, body),
            Input::Answer(question, answer) => effects.extend(self.answer(question, &answer)),
            Input::Link(event) => self.link(event),
            Input::Tick => {}
        }
        self.choose();
        effects.extend(self.due().into_iter().map(Effect::Ask));
        effects
    }

    fn message(&mut self, subject: &str, body: &[u8]) {
        let kind = subject.strip_prefix(&self.prefix).and_then(|rest| rest.split('.').nth(1));
        let _known = match kind {
            Some("epoch") => self.data.epoch(body, self.now),
            Some("finding") => self.data.finding(body),
            Some("agent") => self.data.agent(body),
            _ => false,
        };
    }

    fn link(&mut self, event: &LinkEvent) {
        match event {
            LinkEvent::Connected => {
                self.wire = Wire::Up { since: self.now };
                // Requests that were on their way are lost.
                self.asking = Asking { list_wanted: true, ..Asking::default() };
            }
            LinkEvent::Disconnected => {
                let why = "the connection was closed".to_owned();
                self.wire = Wire::Lost { since: self.now, why };
            }
            LinkEvent::Retrying { reason } => {
                let since = match &self.wire {
                    Wire::Lost { since, .. } => *since,
                    Wire::Up { .. } => self.now,
                };
                self.wire = Wire::Lost { since, why: reason.clone() };
            }
            LinkEvent::SlowConsumer => self.asking.list_wanted = true,
            LinkEvent::Denied(denied) if denied.operation == Operation::Publish => {
                let subject = redact::control(&denied.subject);
                self.api = Api::Refused(format!("no permission to publish to `{subject}`"));
            }
            LinkEvent::Denied(denied) => {
                let subject = redact::control(&denied.subject);
                self.api = Api::Refused(format!("no permission to subscribe to `{subject}`"));
            }
            LinkEvent::LameDuck | LinkEvent::ServerError { .. } => {}
        }
    }

    fn answer(&mut self, question: &Question, answer: &Answer<'_>) -> Option<Effect> {
        let mut next = None;
        let good = match (question, answer) {
            (Question::Topology, answer) => {
                self.asking.links = false;
                let large = matches!(answer, Answer::Body(body) if body.len() > LARGE_BYTES);
                self.asking.links_at = self.now.plus(if large { LARGE_EVERY } else { LINKS_EVERY });
                match answer {
                    Answer::Body(body) if !self.data.topology(body, self.now) => {
                        // A version before there was a matrix.
                        self.data.links = None;
                        true
                    }
                    answer => matches!(answer, Answer::Body(_)),
                }
            }
            (Question::Epoch, answer) => {
                self.asking.epoch = false;
                matches!(answer, Answer::Body(body) if self.data.epoch(body, self.now))
            }
            (Question::Findings { .. }, Answer::Body(body)) => match self.data.list_page(body) {
                Ok(Some(after)) => {
                    next = Some(Effect::Ask(Question::Findings { after: Some(after) }));
                    true
                }
                Ok(None) => {
                    self.data.end_list();
                    self.asking.list = false;
                    true
                }
                Err(_) => {
                    self.asking.list = false;
                    false
                }
            },
            (Question::Findings { .. }, _) => {
                self.asking.list = false;
                self.asking.list_wanted = true;
                false
            }
        };
        match answer {
            Answer::Body(_) if good => self.api = Api::Answers,
            Answer::Body(_) => self.api = Api::Refused("its answer cannot be read".to_owned()),
            Answer::Refused(why) => self.api = Api::Refused(super::data::clean(why)),
            Answer::NobodyThere => self.api = Api::NobodyThere,
            // What is said of a permission says why.
            Answer::None if matches!(self.api, Api::Refused(_)) => {}
            Answer::None => self.api = Api::Silent,
        }
        next
    }

    /// What is to be asked now.
    fn due(&mut self) -> Vec<Question> {
        if matches!(self.wire, Wire::Lost { .. }) {
            return Vec::new();
        }
        let (now, asking) = (self.now, &mut self.asking);
        let mut due = Vec::new();
        if !asking.links && now >= asking.links_at {
            asking.links = true;
            due.push(Question::Topology);
            // Who may not hear heartbeats asks for the last one.
            let heard = self.data.leader(now).is_some_and(|(_, a)| now <= a.due_until());
            if !heard && !asking.epoch {
                asking.epoch = true;
                due.push(Question::Epoch);
            }
        }
        let leader = self.data.leader(now).map(|(name, _)| name.to_owned());
        if leader != asking.leader {
            asking.leader = leader;
            asking.list_wanted = true;
        }
        if self.data.is_complete(now) {
            asking.amiss_since = None;
        } else if now.since(*asking.amiss_since.get_or_insert(now)) > LINKS_EVERY {
            asking.list_wanted = true;
        }
        let since_list = now.since(asking.list_at);
        let first = asking.list_at == Time::default();
        let wanted = asking.list_wanted && (first || since_list >= LIST_PAUSE) || since_list >= LIST_EVERY;
        if !asking.list && wanted {
            (asking.list, asking.list_wanted, asking.list_at) = (true, false, now);
            asking.amiss_since = None;
            self.data.begin_list();
            due.push(Question::Findings { after: None });
        }
        due
    }

    /// Keeps the choice on what was chosen, where it is still there.
    fn choose(&mut self) {
        let findings = self.findings();
        let at = self.chosen(&findings);
        let name = findings.get(at).map(|f| f.fingerprint.clone());
        if name != self.chosen.0 {
            self.cause_scroll = 0;
        }
        self.chosen = (name, at);
    }

    fn key(&mut self, key: Key) -> Option<Effect> {
        if key == Key::Ctrl('c') {
            return Some(Effect::Quit);
        }
        if self.typing {
            self.type_filter(key);
            return None;
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key {
            Key::Char('q') => return Some(Effect::Quit),
            Key::Ctrl('z') => return Some(Effect::Suspend),
            Key::Ctrl('l') => return Some(Effect::Repaint),
            Key::Char('?') => self.help = true,
            Key::Char('/') => self.typing = true,
            Key::Char('p') => {
                self.paused = match self.paused {
                    Some(_) => None,
                    None => Some((self.data.clone(), self.now)),
                };
            }
            Key::Char('s') => self.sort(),
            Key::Tab => self.next_pane(1),
            Key::BackTab => self.next_pane(Pane::ALL.len() - 1),
            Key::Enter => {
                if self.pane == Pane::Findings {
                    self.pane = Pane::Cause;
                }
                self.zoomed = true;
            }
            Key::Esc => self.back(),
            key => self.travel(key),
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        let filter = self.filter_mut();
        match key {
            Key::Char(c) if filter.chars().count() < FILTER_CHARS_MAX && !c.is_control() => filter.push(c),
            Key::Backspace if filter.is_empty() => self.typing = false,
            Key::Backspace => {
                filter.pop();
            }
            Key::Ctrl('u') => filter.clear(),
            Key::Esc => {
                filter.clear();
                self.typing = false;
            }
            Key::Enter => self.typing = false,
            _ => {}
        }
    }

    /// One step back: out of the whole screen, else to all that the filters hide.
    fn back(&mut self) {
        if self.zoomed {
            self.zoomed = false;
            if self.pane == Pane::Cause {
                self.pane = Pane::Findings;
            }
        } else {
            self.filter_mut().clear();
            if matches!(self.pane, Pane::Findings | Pane::Cause) {
                self.level = Severity::Info;
            }
        }
    }

    fn sort(&mut self) {
        if self.pane == Pane::Links {
            self.order = self.order.next();
            self.cell = (0, 0);
        } else {
            self.level = match self.level {
                Severity::Info => Severity::Warning,
                Severity::Warning => Severity::Critical,
                Severity::Critical => Severity::Info,
            };
        }
    }

    /// The last row and the last column of the links.
    fn last_cell(&self) -> (usize, usize) {
        let Some((matrix, _)) = &self.data().links else { return (0, 0) };
        let table = links::Table::of(matrix, self.filter(Pane::Links), true);
        (table.rows.len().saturating_sub(1), table.columns.len().saturating_sub(1))
    }

    fn next_pane(&mut self, steps: usize) {
        let at = Pane::ALL.iter().position(|p| *p == self.pane).unwrap_or(0);
        let after = |steps| Pane::ALL.iter().cycle().nth(at + steps).copied().unwrap_or(Pane::Findings);
        self.pane = after(steps);
        // Of nothing there is no cause.
        if self.pane == Pane::Cause && self.findings().is_empty() {
            self.pane = after(steps + if steps == 1 { 1 } else { Pane::ALL.len() - 1 });
        }
    }

    fn travel(&mut self, key: Key) {
        let lines = self.drawn.lines.get(self.pane as usize).copied().unwrap_or(0);
        let page = if lines == 0 { PAGE } else { lines };
        let half = (page / 2).max(1);
        let moved = |at: usize, last: usize| -> usize {
            let to = match key {
                Key::Up | Key::Char('k') => at.saturating_sub(1),
                Key::Down | Key::Char('j') => at + 1,
                Key::PageUp | Key::Char('b') | Key::Ctrl('b') => at.saturating_sub(page),
                Key::PageDown | Key::Char(' ' | 'f') | Key::Ctrl('f') => at + page,
                Key::Ctrl('u') => at.saturating_sub(half),
                Key::Ctrl('d') => at + half,
                Key::Home | Key::Char('g') => 0,
                Key::End | Key::Char('G') => last,
                _ => at,
            };
            to.min(last)
        };
        match self.pane {
            Pane::Links => {
                let last = self.last_cell();
                let (row, column) = self.cell;
                let column = match key {
                    Key::Left | Key::Char('h') => column.saturating_sub(1),
                    Key::Right | Key::Char('l') => (column + 1).min(last.1),
                    _ => column.min(last.1),
                };
                self.cell = (moved(row.min(last.0), last.0), column);
            }
            Pane::Findings => {
                let findings = self.findings();
                let to = moved(self.chosen(&findings), findings.len().saturating_sub(1));
                let name = findings.get(to).map(|f| f.fingerprint.clone());
                self.cause_scroll = 0;
                self.chosen = (name, to);
            }
            Pane::Cause => {
                let last = self.drawn.cause_scroll_max;
                self.cause_scroll = moved(self.cause_scroll.min(last), last);
            }
            Pane::Events => {
                // The newest is at the end, and there one is at first.
                let last = self.data().events.len().saturating_sub(lines.max(1));
                let at = last - self.events_scroll.min(last);
                self.events_scroll = last - moved(at, last);
            }
        }
    }
}
