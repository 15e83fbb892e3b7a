//! What is known, as it was told: the agents, the open findings, the links, what happened last. Everything that
//! others wrote is made harmless and cut to its bound here, so that what draws it need not.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::checks::Severity;
use crate::cli::watch::{cause, spoken};
use crate::config::redact;
use crate::model::{Matrix, Time};

/// So many open findings are held, the worst of them.
pub(super) const FINDINGS_MAX: usize = 1000;
/// So many events.
const EVENTS_MAX: usize = 500;
/// So many agents.
const AGENTS_MAX: usize = 64;
/// How much of one text.
const TEXT_CHARS_MAX: usize = 1000;
/// How much of one finding.
const FINDING_CHARS_MAX: usize = 16_000;
/// How much of a name.
const NAME_CHARS_MAX: usize = 128;
/// How deep evidence is looked into.
const DEPTH_MAX: usize = 3;
/// Nobody watches after so many intervals of silence.
const SILENT_INTERVALS: u32 = 3;
/// An interval is never shorter than this.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// An agent that was not heard for so long is no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// The worst first, and of these the newest.
    pub(super) findings: Vec<Rc<Finding>>,
    /// The newest last.
    pub(super) events: VecDeque<Rc<Event>>,
    /// By name.
    pub(super) agents: BTreeMap<String, Agent>,
    /// The links, and when that came.
    pub(super) links: Option<(Rc<Matrix>, Time)>,
    /// Which list of open findings is being read.
    round: u64,
}

/// An open finding.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) fingerprint: String,
    pub(super) severity: Severity,
    pub(super) silenced: bool,
    /// What it is called: its code, or the name of a check that has none.
    pub(super) code: String,
    pub(super) summary: String,
    pub(super) opened_at: Time,
    revision: u64,
    /// What there is to say of it, in order.
    pub(super) told: Vec<Told>,
    /// What a filter looks for.
    pub(super) words: String,
    /// In which list it was last.
    round: u64,
}

/// A part of what a finding says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// What it is; nothing where it goes on.
    pub(super) label: &'static str,
    pub(super) text: String,
    /// Whether it is no prose: a command, or a line of a configuration.
    pub(super) whole: bool,
}

/// Something that happened, in a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) at: Time,
    pub(super) word: String,
    /// Of a finding.
    pub(super) severity: Option<Severity>,
    pub(super) text: String,
}

/// An agent, by its last heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) epoch: Epoch,
    pub(super) heard_at: Time,
    /// In how many epochs in a row somebody did not answer.
    pub(super) short: u32,
}

/// An epoch message.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the message has this name for its number")]
pub(super) struct Epoch {
    agent: String,
    pub(super) epoch: u64,
    pub(super) leader: bool,
    pub(super) settled: bool,
    pub(super) interval_ms: u64,
    next_epoch_in_ms: u64,
    timestamp: Option<Time>,
    pub(super) servers: Servers,
    pub(super) links: Links,
    pub(super) open: Open,
    pub(super) silences: u64,
    pub(super) vantage: Place,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Servers {
    pub(super) expected: u64,
    pub(super) answered: u64,
    pub(super) missing: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Links {
    pub(super) expected: u64,
    pub(super) connected: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Open {
    pub(super) critical: u64,
    pub(super) warning: u64,
    pub(super) info: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) cluster: Option<String>,
    pub(super) server: String,
}

impl Epoch {
    fn read(body: &[u8]) -> Option<Self> {
        let mut epoch: Self = serde_json::from_slice(body).ok()?;
        let name = |name: &mut String| *name = cut(name, NAME_CHARS_MAX);
        name(&mut epoch.agent);
        name(&mut epoch.vantage.server);
        epoch.vantage.cluster.iter_mut().for_each(name);
        epoch.servers.missing.iter_mut().for_each(name);
        Some(epoch).filter(|e| !e.agent.is_empty())
    }

    /// Between two heartbeats.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.max(self.next_epoch_in_ms))
            .clamp(INTERVAL_MIN, FORGOTTEN_AFTER)
    }
}

impl Agent {
    /// Until when silence is no sign.
    pub(super) fn due_until(&self) -> Time {
        self.heard_at.plus(self.epoch.interval() * SILENT_INTERVALS)
    }
}

impl Data {
    /// Takes an epoch message in; whether it is one.
    pub(super) fn epoch(&mut self, body: &[u8], now: Time) -> bool {
        let Some(epoch) = Epoch::read(body) else { return false };
        let known = self.agents.get(&epoch.agent);
        // The same one again is no sign of life.
        if known.is_some_and(|a| a.epoch.timestamp == epoch.timestamp && a.epoch.epoch == epoch.epoch) {
            return true;
        }
        let all = epoch.servers.answered >= epoch.servers.expected;
        let short = if all { 0 } else { known.map_or(0, |a| a.short).saturating_add(1) };
        self.agents.retain(|_, a| now.since(a.heard_at) < FORGOTTEN_AFTER || a.epoch.leader);
        if self.agents.len() >= AGENTS_MAX && !self.agents.contains_key(&epoch.agent) {
            let oldest = self.agents.iter().min_by_key(|(_, a)| a.heard_at).map(|(name, _)| name.clone());
            oldest.map(|name| self.agents.remove(&name));
        }
        self.agents.insert(epoch.agent.clone(), Agent { epoch, heard_at: now, short });
        true
    }

    /// Who leads, by name: of two that are heard the first by name, else who was heard last.
    pub(super) fn leader(&self, now: Time) -> Option<(&str, &Agent)> {
        let leaders = || self.agents.iter().filter(|(_, a)| a.epoch.leader);
        let heard = leaders().find(|(_, a)| now <= a.due_until());
        heard.or_else(|| leaders().max_by_key(|(_, a)| a.heard_at)).map(|(name, a)| (name.as_str(), a))
    }

    /// How many others could take over.
    pub(super) fn standing_by(&self, now: Time) -> usize {
        self.agents.values().filter(|a| !a.epoch.leader && now <= a.due_until()).count()
    }

    /// What the clock of who leads says, for the ages of what it dated.
    pub(super) fn told_now(&self, now: Time) -> Time {
        self.leader(now)
            .and_then(|(_, a)| Some(a.epoch.timestamp?.plus(now.since(a.heard_at))))
            .unwrap_or(now)
    }

    /// How many findings are open, as who leads says; where nobody does, how many are held.
    pub(super) fn open(&self, now: Time) -> Open {
        if let Some((_, agent)) = self.leader(now) {
            return agent.epoch.open;
        }
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count() as u64;
        Open {
            critical: count(Severity::Critical),
            warning: count(Severity::Warning),
            info: count(Severity::Info),
        }
    }

    /// Whether as many findings are held as who leads says there are.
    pub(super) fn is_complete(&self, now: Time) -> bool {
        let Open { critical, warning, info } = self.open(now);
        let all = critical.saturating_add(warning).saturating_add(info);
        self.findings.len() as u64 == all.min(FINDINGS_MAX as u64)
    }

    /// From here on a list of all open findings is read.
    pub(super) fn begin_list(&mut self) {
        self.round += 1;
    }

    /// Takes a page of it in. The answer is where the next one begins, as far as there is room for it.
    ///
    /// # Errors
    /// It is no such page.
    pub(super) fn list_page(&mut self, body: &[u8]) -> Result<Option<String>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Page {
            findings: Vec<Value>,
            next: Option<String>,
        }
        let page: Page = serde_json::from_slice(body)?;
        for item in &page.findings {
            if let Some(finding) = Finding::read(item) {
                self.hold(finding, true);
            }
        }
        let listed = self.findings.iter().filter(|f| f.round == self.round).count();
        Ok(page.next.filter(|_| listed < FINDINGS_MAX))
    }

    /// What was in none of its pages is not open.
    pub(super) fn end_list(&mut self) {
        let round = self.round;
        self.findings.retain(|f| f.round == round);
    }

    fn hold(&mut self, mut finding: Finding, listed: bool) {
        finding.round = self.round;
        if let Some(at) = self.findings.iter().position(|f| f.fingerprint == finding.fingerprint) {
            let held = self.findings.remove(at);
            let older = (finding.opened_at, finding.revision) < (held.opened_at, held.revision);
            if older {
                finding = Finding { round: self.round, ..(*held).clone() };
            } else if !listed {
                finding.silenced = false;
            }
        }
        let at = self.findings.partition_point(|f| f.rank() < finding.rank());
        self.findings.insert(at, Rc::new(finding));
        self.findings.truncate(FINDINGS_MAX);
    }

    /// Takes an event of a finding in; whether it is one.
    pub(super) fn finding(&mut self, body: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(body) else { return false };
        let Some(finding) = Finding::read(&event) else { return false };
        let text = |key: &str| event.get(key).and_then(Value::as_str).map(clean);
        let time = |key: &str| event.get(key).and_then(Value::as_str).and_then(Time::parse);
        let Some(word) = text("action") else { return false };
        let resolved = event.get("state").and_then(Value::as_str) == Some("resolved");
        let mut line = format!("{} {}", finding.code, finding.summary);
        if resolved {
            let after =
                time("resolved_at").map(|at| format!("after {}", spoken(at.since(finding.opened_at))));
            let note: Vec<String> = text("reason").into_iter().chain(after).collect();
            let _ = write!(line, " ({})", note.join(" "));
        }
        let at = time("timestamp").unwrap_or(finding.opened_at);
        // Who takes over may say again what was said last.
        let again = |e: &Rc<Event>| (e.at, &e.word, &e.text) == (at, &word, &line);
        if !self.events.iter().rev().take(8).any(again) {
            self.happened(Event { at, word, severity: Some(finding.severity), text: line });
        }
        if resolved {
            let over = |f: &Finding| f.fingerprint == finding.fingerprint && f.opened_at <= finding.opened_at;
            self.findings.retain(|f| !over(f));
        } else {
            self.hold(finding, false);
        }
        true
    }

    /// Takes an event of an agent in; whether it is one.
    pub(super) fn agent(&mut self, body: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(body) else { return false };
        let text = |key: &str| event.get(key).and_then(Value::as_str).map(clean);
        let (Some(word), Some(agent)) = (text("event"), text("agent")) else { return false };
        let at = event.get("timestamp").and_then(Value::as_str).and_then(Time::parse);
        if word == "stopping" {
            self.agents.retain(|name, a| *name != agent || a.epoch.leader);
        }
        let reason = text("reason").filter(|r| !r.is_empty()).map(|r| format!(": {r}")).unwrap_or_default();
        let text = format!("agent {agent}{reason}");
        self.happened(Event { at: at.unwrap_or_default(), word, severity: None, text });
        true
    }

    fn happened(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Rc::new(event));
    }

    /// Takes the answer to who is there in; whether it is one.
    pub(super) fn topology(&mut self, body: &[u8], now: Time) -> bool {
        #[derive(Deserialize)]
        struct Answer {
            matrix: Matrix,
        }
        let answer = serde_json::from_slice::<Answer>(body);
        answer.map(|a| self.links = Some((Rc::new(a.matrix), now))).is_ok()
    }
}

impl Finding {
    /// Its place in the list.
    fn rank(&self) -> impl Ord + '_ {
        use std::cmp::Reverse;
        (self.silenced, Reverse(self.severity), Reverse(self.opened_at), &self.fingerprint)
    }

    /// Reads an event or an item of a list.
    fn read(event: &Value) -> Option<Self> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(clean);
        let part = |pointer: &str| text(pointer).filter(|t| !t.is_empty());
        let severity = Severity::deserialize(event.get("severity")?).ok()?;
        let opened_at = Time::deserialize(event.get("opened_at")?).ok()?;
        let mut teller = Teller::default();
        let cause = cause(part("/cause/kind"), part("/cause/confidence"), part("/cause/detail"));
        teller.tell("cause", &cause.unwrap_or_default(), false);
        teller.tell("impact", &part("/impact").unwrap_or_default(), false);
        teller.advice(event.get("remediation").and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
        match event.get("inhibits").and_then(Value::as_array).map_or(0, Vec::len) {
            0 => {}
            1 => teller.tell("covers", "1 more finding, explained by this one", false),
            n => teller.tell("covers", &format!("{n} more findings, explained by this one"), false),
        }
        if let Some(evidence) = event.get("evidence").and_then(Value::as_object) {
            for (key, value) in evidence {
                teller.evidence(&cut(key, NAME_CHARS_MAX), value, DEPTH_MAX);
            }
        }
        let names: Vec<String> = ["cluster", "server", "remote", "account", "peer_server"]
            .iter()
            .filter_map(|key| part(&format!("/entity/{key}")))
            .collect();
        let (check, summary) = (part("/check")?, text("/summary")?);
        let code = part("/code").unwrap_or_else(|| check.clone());
        Some(Self {
            words: format!("{severity} {check} {code} {summary} {}", names.join(" ")).to_lowercase(),
            fingerprint: cut(event.get("fingerprint")?.as_str()?, NAME_CHARS_MAX),
            severity,
            silenced: event.get("silenced").and_then(Value::as_bool).unwrap_or(false),
            code,
            summary,
            opened_at,
            revision: event.get("revision").and_then(Value::as_u64).unwrap_or(0),
            told: teller.told,
            round: 0,
        })
    }
}

/// Collects what there is to say, up to the bound.
#[derive(Default)]
struct Teller {
    told: Vec<Told>,
    chars: usize,
}

impl Teller {
    fn tell(&mut self, label: &'static str, text: &str, whole: bool) {
        if self.chars > FINDING_CHARS_MAX || (text.is_empty() && !label.is_empty()) {
            return;
        }
        self.chars += text.len() + 1;
        if self.chars > FINDING_CHARS_MAX {
            let text = "the rest is left out; `gatewatch watch --json` has it".to_owned();
            return self.told.push(Told { label: "", text, whole: false });
        }
        let text = if whole { text.trim_end() } else { text };
        self.told.push(Told { label, text: clean(text), whole });
    }

    fn advice(&mut self, steps: &[Value]) {
        let mut last = None;
        for step in steps {
            let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
            // Several commands for one purpose are one step.
            if last != Some(text("do")) {
                let mut lines = text("do").lines();
                self.tell("do", lines.next().unwrap_or_default(), false);
                lines.for_each(|line| self.tell("", line, true));
                last = Some(text("do"));
            }
            for (n, line) in text("run").lines().enumerate() {
                self.tell(if n == 0 { "run" } else { "" }, line, true);
            }
        }
    }

    fn evidence(&mut self, key: &str, value: &Value, depth: usize) {
        let plain = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match value {
            Value::Null => {}
            Value::Object(map) if map.is_empty() => {}
            Value::Object(map) if depth > 0 => {
                for (name, value) in map {
                    self.evidence(&format!("{key}.{}", cut(name, NAME_CHARS_MAX)), value, depth - 1);
                }
            }
            Value::Array(list) if depth > 0 && list.iter().any(|v| v.is_object() || v.is_array()) => {
                for (n, value) in list.iter().enumerate() {
                    self.evidence(&format!("{key}.{n}"), value, depth - 1);
                }
            }
            Value::Array(list) => {
                let list: Vec<String> = list.iter().map(plain).collect();
                let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
                self.tell("seen", &format!("{key}: {list}"), false);
            }
            Value::String(text) if text.contains('\n') => {
                self.tell("seen", &format!("{key}:"), false);
                text.lines().for_each(|line| self.tell("", line, true));
            }
            other => self.tell("seen", &format!("{key}: {}", plain(other)), false),
        }
    }
}

/// `text` in one line, bounded, and without anything that a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    cut(text, TEXT_CHARS_MAX)
}

fn cut(text: &str, chars_max: usize) -> String {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(i, _)| i);
    let rest = if end < text.len() { "…" } else { "" };
    redact::control(text.get(..end).unwrap_or_default()).into_owned() + rest
}
