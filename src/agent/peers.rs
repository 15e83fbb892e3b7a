//! What the agent does about other agents: it follows the one that leads, takes its place, gives way to it.
//!
//! Besides their beats (`<prefix>.peer.*`) agents say a [`Word`] to each other: on `<prefix>.ledger.pull`, which only
//! who leads listens to, or on `<prefix>.ledger.<instance>`. Ledgers travel in pages. Answers go to the instance that
//! asked and to no inbox: `allow_responses` lets one reply through, and a ledger may have many pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message as Incoming;
use async_nats::StatusCode;
use serde::{Deserialize, Serialize};

use super::io::Effect;
use super::{Agent, millis};
use crate::collect::decode;
use crate::findings::{Action, Change, FINDINGS_MAX, Finding, Ledger, Reason, Silence};
use crate::model::{Name, Observer, ServerInfo, Snapshot, Time};
use crate::peers::{Beat, Peers, STANDBY_EVERY, Turn};
use crate::publish::event::{self, AgentEvent, EpochCost, Sight, Told};

/// What judging takes for each server at the most, where there are thousands.
const JUDGED_IN: Duration = Duration::from_micros(500);
/// How large the findings of one page may be, and the servers, in bytes.
const PAGE_BYTES: usize = 256 * 1024;
/// How much of a ledger is taken over from others, in bytes as it is written: twice what a thousand findings of the
/// largest kind take, or all that there may be of the usual kind.
pub(super) const LEDGER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest name of an agent: what a configuration may say.
const AGENT_BYTES_MAX: usize = 128;
/// How long nothing is judged while another agent hands over what it has open.
const HOLD: Duration = Duration::from_secs(2);
/// A ledger that did not come, or does not fit, is asked for again.
const PULL_EVERY: Duration = Duration::from_secs(1);
/// What was not taken over is offered again.
const OFFER_EVERY: Duration = Duration::from_secs(2);
/// So many of the findings that ended are remembered, lest they are handed over again.
const ENDED_MAX: usize = 4096;
/// So many beats may be on their way back to us; one more confirms nothing, which is safe.
pub(super) const RECEIPTS_MAX: usize = 64;

const LEDGER: &str = "ledger";

/// What agents say of ledgers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    /// This instance wants to have the ledger.
    Ask(Name),
    /// Here it is.
    Copy(Page),
    /// Take it over.
    Offer(Page),
    /// It is taken over.
    Taken,
}

impl Word {
    fn to(&self, subject: String, reply: Option<String>) -> Option<Effect> {
        let body = serde_json::to_string(self).ok()?;
        Some(Effect::Send { subject, reply, body })
    }
}

/// A part of a ledger, and whose it is.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    beat: Beat,
    number: u32,
    last: bool,
    findings: Vec<Finding>,
    /// Who is there: one that ends before the next agent has heard it is to be missed all the same.
    #[serde(default)]
    servers: Vec<Seen>,
    /// All of them, on the last page.
    #[serde(default)]
    silences: Vec<Silence>,
}

/// A server, and how long ago there was a sign of it.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    server: ServerInfo,
    ms_ago: u64,
}

/// A ledger that is on its way to us.
#[derive(Debug, Default)]
struct Copy {
    pages: u32,
    bytes: usize,
    findings: Vec<Finding>,
}

/// How this agent stands to the others.
/// How a finding ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    fingerprint: String,
    opened_at: Time,
    at: Time,
    reason: Reason,
    revision: u64,
}

impl Ended {
    /// The change that ended `finding`, as everybody else heard it.
    pub(super) fn of(&self, finding: Finding) -> Change {
        let mut finding = finding.ended(self.at);
        finding.revision = self.revision;
        Change { action: Action::Resolved, reason: self.reason, finding }
    }
}

#[derive(Debug)]
pub(super) struct Company {
    pub(super) peers: Peers,
    /// How many changes this agent has published since it leads.
    pub(super) changes: u64,
    beat_at: Time,
    /// When the next beat is due by the last one.
    promised: Duration,
    /// Whether the ledger is our own, and not a copy of the leader's.
    owns: bool,
    /// Which of the leader's changes our ledger is as of.
    follows: Option<u64>,
    /// How many beats in a row said that it should be another.
    lags: u32,
    copy: Copy,
    pulled_at: Option<Time>,
    /// What this agent had open when it gave way, until the one that leads has taken it over.
    estate: Vec<Finding>,
    offered_at: Option<Time>,
    hold_until: Time,
    ended: VecDeque<Ended>,
    /// How much was taken over from others since this agent leads, or had nothing open.
    taken_bytes: usize,
    /// For each beat that did not come back yet, what was sent before it.
    pub(super) receipts: VecDeque<u64>,
}

impl Company {
    pub(super) fn new(peers: Peers) -> Self {
        Self {
            peers,
            changes: 0,
            beat_at: Time::default(),
            promised: Duration::ZERO,
            owns: true,
            follows: None,
            lags: 0,
            copy: Copy::default(),
            pulled_at: None,
            estate: Vec::new(),
            offered_at: None,
            hold_until: Time::default(),
            ended: VecDeque::new(),
            taken_bytes: 0,
            receipts: VecDeque::new(),
        }
    }

    fn beat_every(&self, interval: Duration) -> Duration {
        if self.peers.leads() { interval.min(STANDBY_EVERY) } else { STANDBY_EVERY }
    }

    fn note(&mut self, action: Action, reason: Reason, finding: &Finding) {
        if let (Action::Resolved, Some(at)) = (action, finding.resolved_at) {
            if self.ended.len() >= ENDED_MAX {
                self.ended.pop_front();
            }
            let (fingerprint, opened_at, revision) =
                (finding.fingerprint.clone(), finding.opened_at, finding.revision);
            self.ended.push_back(Ended { fingerprint, opened_at, at, reason, revision });
        }
    }

    pub(super) fn how_it_ended(&self, finding: &Finding) -> Option<&Ended> {
        let is_it = |e: &&Ended| e.fingerprint == finding.fingerprint && e.opened_at == finding.opened_at;
        self.ended.iter().find(is_it)
    }
}

/// What an agent listens to of the others.
pub(super) fn subjects(prefix: &str, instance: &str) -> [String; 3] {
    [format!("{prefix}.peer.*"), format!("{prefix}.finding.>"), format!("{prefix}.{LEDGER}.{instance}")]
}

/// What only who leads listens to.
pub(super) fn pull_subject(prefix: &str) -> String {
    format!("{prefix}.{LEDGER}.pull")
}

impl Agent {
    /// When something is due that is about other agents.
    pub(super) fn company_due(&self) -> Option<Time> {
        if !self.connected || self.outbox.is_closed() {
            return None;
        }
        let company = &self.company;
        let beat_at = company.beat_at.plus(company.beat_every(self.config.interval));
        let offer_at = company.offered_at.map(|at| at.plus(OFFER_EVERY));
        let pull_at = company.pulled_at.map(|at| at.plus(PULL_EVERY));
        [Some(beat_at), company.peers.due(), offer_at, pull_at].into_iter().flatten().min()
    }

    /// Does what is due about other agents.
    pub(super) fn attend(&mut self, now: Time) -> Vec<Effect> {
        if !self.connected || self.outbox.is_closed() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let turn = self.company.peers.tick(now);
        effects.extend(self.turn(turn, now));
        if now.since(self.company.beat_at) >= self.company.beat_every(self.config.interval) {
            // What was held back after a reconnect leaves here where no look takes it along.
            effects.extend(self.send(now));
            effects.extend(self.beat(false, now));
            if !self.company.peers.leads() {
                effects.push(self.say_that_we_stand_by(now));
            }
        }
        if self.company.offered_at.is_some_and(|at| now.since(at) >= OFFER_EVERY) {
            effects.extend(self.offer(now));
        }
        if self.company.pulled_at.is_some_and(|at| now.since(at) >= PULL_EVERY) {
            effects.extend(self.pull(now));
        }
        effects
    }

    /// Whoever said nothing for long may have been replaced: it says nothing more before it knows.
    pub(super) fn doubt(&mut self, now: Time) -> Vec<Effect> {
        let promised = self.company.promised.max(self.config.interval);
        if self.connected && self.company.peers.doubt(promised, now) {
            tracing::warn!("was silent for too long to lead on unasked");
            self.pause();
            return self.attend(now);
        }
        Vec::new()
    }

    /// What was heard from others is old, for the connection was lost.
    pub(super) fn meet_again(&mut self, now: Time) {
        self.company.receipts.clear();
        if !self.company.peers.leads() {
            self.company.peers.ask_anew(now);
            self.company.copy = Copy::default();
        }
    }

    /// Asks and judges nothing from here on.
    fn pause(&mut self) {
        self.drop_look();
        self.soon_at = None;
        self.ripe_at = None;
        self.style.speaker.leads = false;
    }

    fn turn(&mut self, turn: Option<Turn>, now: Time) -> Vec<Effect> {
        match turn {
            None => Vec::new(),
            Some(Turn::Ask) => {
                let subject = pull_subject(&self.style.prefix);
                // The server says there that nobody listens.
                let reply = self.ledger_subject(self.company.peers.instance());
                Word::Ask(self.company.peers.instance().clone())
                    .to(subject, Some(reply))
                    .into_iter()
                    .collect()
            }
            Some(Turn::Lead(reason)) => self.lead(reason, now),
            Some(Turn::StandBy(agent)) => {
                let mut effects = self.stand_by(&agent, now);
                if self.company.estate.is_empty() {
                    effects.extend(self.pull(now));
                } else {
                    effects.extend(self.offer(now));
                }
                effects
            }
            Some(Turn::Expect) => {
                self.company.hold_until = now.plus(HOLD);
                Vec::new()
            }
        }
    }

    /// Whether findings are to be judged now.
    pub(super) fn may_judge(&self, now: Time) -> bool {
        now >= self.company.hold_until
    }

    fn lead(&mut self, reason: &str, now: Time) -> Vec<Effect> {
        let company = &mut self.company;
        company.changes = 0;
        company.taken_bytes = 0;
        company.owns = true;
        company.follows = None;
        company.copy = Copy::default();
        company.pulled_at = None;
        company.offered_at = None;
        let estate = std::mem::take(&mut company.estate);
        self.style.speaker.leads = true;
        let known: Vec<Finding> = self.ledger.open().chain(&estate).cloned().collect();
        self.recall(&known);
        let changes = self.ledger.adopt(estate, now);
        self.kept.lead(now);
        self.start_to_look(now);
        tracing::info!(reason, open = self.ledger.len(), "leading");
        self.say(AgentEvent::Leading, reason, now);
        let mut effects = vec![Effect::Listen(true)];
        effects.extend(self.serve());
        effects.extend(self.beat(false, now));
        self.publish_changes(&changes);
        effects.extend(self.send(now));
        effects
    }

    fn stand_by(&mut self, agent: &str, now: Time) -> Vec<Effect> {
        // What was opened and never left this agent was not opened for anybody; what ended so has not ended.
        let mut unsaid: Vec<Told> = Vec::new();
        for message in self.outbox.take_unsent() {
            match event::read(message.payload.as_bytes()) {
                Some(told) => unsaid.push(told),
                // What it tells of itself is true whoever leads.
                None => self.outbox.push(message),
            }
        }
        let mut open: Vec<Finding> = self.ledger.open().cloned().collect();
        open.retain(|f| !unsaid.iter().any(|told| told.action == Action::Opened && of(told, f)));
        open.extend(
            unsaid
                .into_iter()
                .filter(|told| told.action == Action::Resolved)
                .map(|told| told.finding.reopened()),
        );
        self.company.follows = None;
        if std::mem::take(&mut self.company.owns) {
            self.company.estate = open;
        }
        self.pause();
        tracing::info!(leader = agent, "standing by");
        self.say(AgentEvent::Standby, &format!("{agent} leads"), now);
        let mut effects = vec![Effect::Listen(false)];
        effects.extend(self.withdraw());
        effects.extend(self.send(now));
        effects.extend(self.beat(false, now));
        effects
    }

    /// Says that this agent lives. It hears that itself, which is the receipt for all that was sent before.
    pub(super) fn beat(&mut self, stops: bool, now: Time) -> Option<Effect> {
        if self.outbox.is_closed() {
            return None;
        }
        self.company.beat_at = now;
        self.company.peers.beaten(now);
        if self.company.receipts.len() < RECEIPTS_MAX {
            self.company.receipts.push_back(self.outbox.mark());
        }
        let beat = Beat { stops, ..self.own_beat(now) };
        self.company.promised = beat.next_in;
        let subject = format!("{}.peer.{}", self.style.prefix, self.company.peers.instance());
        let body = serde_json::to_string(&beat).ok()?;
        Some(Effect::Send { subject, reply: None, body })
    }

    fn own_beat(&self, now: Time) -> Beat {
        let peers = &self.company.peers;
        Beat {
            instance: peers.instance().clone(),
            agent: self.vantage.agent.clone(),
            leading_since: peers.leading_since(),
            // It says nothing while it judges.
            next_in: self.company.beat_every(self.config.interval).max(self.judges_for().min(STANDBY_EVERY)),
            made_at: Some(now),
            hears: peers.hears(now),
            succeeds: peers.succeeds(now).cloned(),
            changes: self.company.changes,
            stops: false,
        }
    }

    /// For how long it may judge, as it did lately; the first time as long as that many servers have taken.
    fn judges_for(&self) -> Duration {
        let servers = u32::try_from(self.roster.len()).unwrap_or(u32::MAX);
        self.busy.lasts().max(JUDGED_IN.saturating_mul(servers))
    }

    /// The epoch message of an agent that does not look.
    fn say_that_we_stand_by(&mut self, now: Time) -> Effect {
        self.epoch += 1;
        let every = self.company.beat_every(self.config.interval);
        let cost =
            EpochCost { started_at: now, next_epoch_in_ms: millis(every), ..std::mem::take(&mut self.cost) };
        let nothing = Snapshot {
            epoch: self.epoch,
            at: now,
            began_at: now,
            settled: false,
            vantage: self.vantage.clone(),
            servers: BTreeMap::new(),
            clusters: BTreeMap::new(),
            links: Vec::new(),
            movement: Arc::default(),
            observer: Observer::default(),
            expected: None,
        };
        let id = nuid::next().to_string();
        let sight = Sight::of(&nothing);
        Effect::Publish(event::epoch(&nothing, &sight, cost, self.standing(), &self.style, &id, now))
    }

    /// Asks the one that leads for its ledger.
    fn pull(&mut self, now: Time) -> Option<Effect> {
        self.company.pulled_at = None;
        let subject = self.ledger_subject(self.company.peers.leader()?);
        self.company.pulled_at = Some(now);
        self.company.copy = Copy::default();
        Word::Ask(self.company.peers.instance().clone()).to(subject, None)
    }

    /// Hands over what this agent had open to the one that leads.
    fn offer(&mut self, now: Time) -> Vec<Effect> {
        self.company.offered_at = None;
        let Some(leader) = self.company.peers.leader() else { return Vec::new() };
        if self.company.estate.is_empty() {
            return self.pull(now).into_iter().collect();
        }
        let effects = self.pages(&self.company.estate, leader, Word::Offer, now);
        self.company.offered_at = Some(now);
        effects
    }

    fn ledger_subject(&self, instance: &str) -> String {
        format!("{}.{LEDGER}.{instance}", self.style.prefix)
    }

    fn pages(&self, findings: &[Finding], to: &str, word: fn(Page) -> Word, now: Time) -> Vec<Effect> {
        let servers = self.roster.known().map(|(server, at)| Seen { server, ms_ago: millis(now.since(at)) });
        let (mut findings, mut servers) = (paged(findings.iter().cloned()), paged(servers));
        let count = findings.len().max(servers.len());
        findings.resize_with(count, Vec::new);
        servers.resize_with(count, Vec::new);
        let page = |(n, (findings, servers))| Page {
            beat: self.own_beat(now),
            number: u32::try_from(n).unwrap_or(u32::MAX),
            last: n + 1 == count,
            findings,
            servers,
            silences: if n + 1 == count { self.silences() } else { Vec::new() },
        };
        let subject = self.ledger_subject(to);
        findings
            .into_iter()
            .zip(servers)
            .enumerate()
            .map(page)
            .filter_map(|page| word(page).to(subject.clone(), None))
            .collect()
    }

    /// Another agent said something; none where it was no agent.
    pub(super) fn peer_said(&mut self, message: &Incoming, now: Time) -> Option<Vec<Effect>> {
        let rest = message.subject.strip_prefix(self.style.prefix.as_str())?.strip_prefix('.')?;
        let (kind, _) = rest.split_once('.')?;
        Some(match kind {
            "peer" => match serde_json::from_slice::<Beat>(&message.payload) {
                Ok(beat) if is_sound(&beat) => self.hear_beat(beat, now),
                _ => Vec::new(),
            },
            "finding" => self.follow(message, now),
            LEDGER => self.ledger_said(message, now),
            _ => return None,
        })
    }

    fn hear_beat(&mut self, beat: Beat, now: Time) -> Vec<Effect> {
        if beat.instance == *self.company.peers.instance() {
            let mark = self.company.receipts.pop_front();
            return mark.map(|mark| self.confirm(mark)).unwrap_or_default();
        }
        let of_leader = self.company.peers.leader() == Some(&beat.instance);
        let changes = beat.changes;
        let turn = self.company.peers.hear(beat, now);
        if turn.is_some() {
            return self.turn(turn, now);
        }
        if !of_leader || self.company.pulled_at.is_some() || self.company.offered_at.is_some() {
            return Vec::new();
        }
        // Its last change may be a little behind its beat.
        self.company.lags = if self.company.follows == Some(changes) { 0 } else { self.company.lags + 1 };
        if self.company.lags < 2 { Vec::new() } else { self.pull(now).into_iter().collect() }
    }

    /// The one that leads published a change: it is ours too.
    fn follow(&mut self, message: &Incoming, now: Time) -> Vec<Effect> {
        let Some(leader) = self.company.peers.leader() else { return Vec::new() };
        let Some(told) = event::read(&message.payload).filter(|told| told.instance == *leader) else {
            return Vec::new();
        };
        if told.action == Action::Resolved {
            self.company.estate.retain(|finding| !of(&told, finding));
        }
        match self.company.follows {
            // It was heard before.
            Some(at) if told.change <= at => return Vec::new(),
            Some(at) if told.change == at + 1 => self.company.follows = Some(told.change),
            Some(_) => {
                // Something was missed.
                self.company.follows = None;
                self.company.pulled_at.get_or_insert(now.minus(PULL_EVERY));
            }
            None => {}
        }
        // Also where something was missed: what is over is not to come back if this agent leads before it has the
        // whole ledger.
        self.company.note(told.action, told.reason, &told.finding);
        self.ledger.follow(told.action, told.finding);
        self.save()
    }

    /// What is said of ledgers: a question, the answer to ours, what is handed over, or that it was taken.
    fn ledger_said(&mut self, message: &Incoming, now: Time) -> Vec<Effect> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            self.company.peers.nobody(now);
            return Vec::new();
        }
        match serde_json::from_slice(&message.payload) {
            Ok(Word::Ask(instance)) if self.company.peers.leads() && is_instance(&instance) => {
                let open: Vec<Finding> = self.ledger.open().cloned().collect();
                self.pages(&open, &instance, Word::Copy, now)
            }
            Ok(Word::Copy(page)) if is_sound(&page.beat) => self.copy(page, message.payload.len(), now),
            Ok(Word::Offer(page)) if is_sound(&page.beat) => self.take_over(page, message.payload.len(), now),
            Ok(Word::Taken) if !self.company.estate.is_empty() => {
                self.company.estate.clear();
                self.company.offered_at = None;
                self.pull(now).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn copy(&mut self, page: Page, bytes: usize, now: Time) -> Vec<Effect> {
        let (instance, changes) = (page.beat.instance.clone(), page.beat.changes);
        let agent = page.beat.agent.clone();
        let mut effects = Vec::new();
        if let Some(Turn::StandBy(agent)) = self.company.peers.hear(page.beat, now) {
            effects.extend(self.stand_by(&agent, now));
        }
        let company = &mut self.company;
        if company.peers.leader() != Some(&instance) {
            return effects;
        }
        if !company.estate.is_empty() {
            // First it takes over what this agent had, then its ledger has that too.
            if company.offered_at.is_none() {
                effects.extend(self.offer(now));
            }
            return effects;
        }
        if page.number == 0 {
            company.copy = Copy::default();
        }
        if page.number != company.copy.pages || company.copy.findings.len() > FINDINGS_MAX {
            return effects;
        }
        company.copy.bytes = company.copy.bytes.saturating_add(bytes);
        if company.copy.bytes > LEDGER_BYTES_MAX {
            tracing::warn!(from = ?agent, "sends more of a ledger than is taken in");
            company.copy = Copy::default();
            return effects;
        }
        company.copy.pages += 1;
        company.copy.findings.extend(page.findings.into_iter().filter(Finding::is_named_right));
        self.roster.recall(seen(page.servers, now));
        let company = &mut self.company;
        if page.last {
            let copy = std::mem::take(&mut company.copy);
            company.follows = Some(changes);
            company.lags = 0;
            company.pulled_at = None;
            tracing::debug!(open = copy.findings.len(), changes, "has the ledger of the one that leads");
            self.ledger = Ledger::restore(copy.findings);
            self.take_silences(page.silences, now);
            effects.extend(self.save());
        }
        effects
    }

    /// Another agent gives way and hands over what it has open.
    fn take_over(&mut self, page: Page, bytes: usize, now: Time) -> Vec<Effect> {
        if !self.company.peers.leads() {
            return Vec::new();
        }
        if self.ledger.is_empty() {
            self.company.taken_bytes = 0;
        }
        self.company.taken_bytes = self.company.taken_bytes.saturating_add(bytes);
        let mut room = FINDINGS_MAX.saturating_sub(self.ledger.len());
        if self.company.taken_bytes > LEDGER_BYTES_MAX {
            tracing::warn!(from = ?page.beat.agent, "hands over more than is taken in");
            room = 0;
        }
        let known = |f: &Finding| f.is_named_right() && self.company.how_it_ended(f).is_none();
        let findings: Vec<Finding> = page.findings.into_iter().filter(known).take(room).collect();
        tracing::info!(from = ?page.beat.agent, findings = findings.len(), "took over what another agent had open");
        self.recall(&findings);
        self.roster.recall(seen(page.servers, now));
        self.take_silences(page.silences, now);
        let changes = self.ledger.adopt(findings, now);
        // Those that stand by have not heard of it.
        self.company.changes += 1;
        self.publish_changes(&changes);
        let mut effects = self.send(now);
        if page.last {
            self.company.hold_until = now;
            self.kept.read_again();
            effects.extend(self.save());
            let taken = Word::Taken.to(self.ledger_subject(&page.beat.instance), None);
            effects.extend(taken);
        }
        effects
    }

    pub(super) fn silences(&self) -> Vec<Silence> {
        self.ledger.silences().iter().cloned().collect()
    }

    /// Takes up the silences of another agent, or of an earlier start.
    pub(super) fn take_silences(&mut self, silences: Vec<Silence>, now: Time) {
        for silence in silences {
            // What is too many was too many when it was added.
            let _ = self.ledger.silence(silence, now);
        }
    }

    /// Puts changes of the ledger into the outbox.
    pub(super) fn publish_changes(&mut self, changes: &[Change]) {
        for change in changes {
            let f = &change.finding;
            tracing::info!(
                action = change.action.as_str(),
                reason = ?change.reason,
                severity = f.severity.as_str(),
                check = ?f.check,
                cause = f.cause.kind.as_str(),
                "{}",
                f.summary.escape_debug()
            );
            self.company.note(change.action, change.reason, f);
            self.company.changes += 1;
            self.style.speaker.changes = self.company.changes;
            let message = event::finding(change, &self.sight, &self.style, &nuid::next().to_string());
            self.kept.keep(&message);
            self.outbox.push(message);
            self.desk.take(change);
        }
    }
}

/// Whether it can be of an agent like this one.
fn is_sound(beat: &Beat) -> bool {
    is_instance(&beat.instance)
        && beat.agent.len() <= AGENT_BYTES_MAX
        && !beat.agent.chars().any(char::is_control)
}

/// Whether it can be the end of a subject.
fn is_instance(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn of(told: &Told, finding: &Finding) -> bool {
    told.finding.fingerprint == finding.fingerprint && told.finding.opened_at == finding.opened_at
}

/// Those that can be servers, and when there was a sign of each.
fn seen(servers: Vec<Seen>, now: Time) -> impl Iterator<Item = (ServerInfo, Time)> {
    let at = move |ms_ago| now.minus(Duration::from_millis(ms_ago));
    servers.into_iter().filter_map(move |seen| Some((decode::introduced(seen.server)?, at(seen.ms_ago))))
}

/// In pages, of which there is one at least.
fn paged<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<Vec<T>> {
    let mut pages: Vec<Vec<T>> = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        let length = serde_json::to_string(&item).map_or(0, |text| text.len());
        bytes += length;
        if bytes > PAGE_BYTES && bytes > length {
            pages.push(Vec::new());
            bytes = length;
        }
        if let Some(page) = pages.last_mut() {
            page.push(item);
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::{World, secs};

    #[test]
    fn what_the_sink_still_has_open_ends_there_as_everybody_heard_it_end() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "ap");
        world.run(secs(5));
        let open = world.ledger.open().next().expect("it is told of").clone();
        world.heal();
        world.run(secs(10));
        let is_end = |change: &&Change| change.action == Action::Resolved;
        let end = world.published.iter().find(is_end).expect("it is over");
        let mut company = Company::new(Peers::alone());
        assert!(company.how_it_ended(&open).is_none());
        company.note(end.action, end.reason, &end.finding);
        let again = company.how_it_ended(&open).expect("it was heard").of(open.clone());
        let told = |c: &Change| (c.action, c.reason, c.finding.resolved_at, c.finding.revision);
        assert_eq!(told(&again), told(end));
        let mut later = open;
        later.opened_at = world.now;
        assert!(company.how_it_ended(&later).is_none(), "another life");
    }
}
