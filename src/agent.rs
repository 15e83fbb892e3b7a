//! The agent: selects one action, applies it, starts its effects.
//!
//! Only `Io::select` and `Io::perform` wait. `Agent::apply` is plain: given the time and what came, it
//! changes the agent and returns what is to be done. Advisories never say what is wrong, only that a look is
//! due now.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod glance;
mod io;
mod kept;
mod made;
mod may;
mod memory;
mod peers;
mod questions;
mod service;
mod stall;
mod sweep;
mod thrift;
mod ways;

pub use sweep::{Enough, Sweep, sweep};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{Client, Message as Incoming};
use thiserror::Error;
use tokio::sync::mpsc;

use glance::Glances;
use io::{Action, Effect, Identity, Io};
use kept::Kept;
use memory::{complained_of, is_finding};
use peers::Company;
use questions::{ACCOUNTZ_EVERY, ACCOUNTZ_PER_WINDOW};
use service::Desk;

use crate::checks::{self, Severity, Verdict};
use crate::clock;
use crate::collect::decode::{self, Decoder, Endpoint, Garbled};
use crate::collect::{Arrival, Late, Look, Pace, Request, Sizes, Target, parse_inbox};
use crate::config::Config;
use crate::connect::{Account, LinkEvent};
use crate::findings::{Action as Happened, Judgement, Ledger};
use crate::model::{
    self, Complaint, Fact, Name, Observer, Order, Roster, ServerInfo, Signal, Snapshot, Time, Vantage,
};
use crate::peers::Peers;
use crate::publish::event::{self, AgentEvent, EpochCost, Sight, Speaker, Standing, Style};
use crate::publish::{Message, Outbox, StateFile};

/// A server that just started sees its own cluster only, for 1.0 s; so does who is connected to it (measured).
const UNSETTLED: Duration = Duration::from_secs(3);
/// How many times an epoch the gateways are looked at: a link that is lost is seen half an interval later at
/// the most, which leaves its patience, and not our pace, to decide when it is told of.
const LOOKS_PER_EPOCH: u32 = 2;
/// Two looks are never closer than this, whatever advisories say.
const LOOK_GAP_MIN: Duration = Duration::from_millis(250);
/// An advisory is followed by the servers' own reaction; a look waits for that.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// A cluster that does not answer is asked for heartbeats by other ways at this pace.
const DETOUR_EVERY: Duration = Duration::from_millis(1500);
/// More servers than this one by one are asked all at once.
const DIRECT_MAX: usize = 8;
/// As good as never.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long our own server may take to tell how many others there are.
const GREETING: Duration = Duration::from_millis(250);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// What no server does.
const IMPOSTOR: &str = "somebody else answers under its ID";
/// How many servers' complaints are kept.
const COMPLAINTS_MAX: usize = 256;
/// Messages that come faster than they are read are logged again after this long.
const OVERRUN_APART: Duration = Duration::from_secs(60);
/// How many refused permissions are kept.
const REFUSALS_MAX: usize = 64;

/// Why the agent ended by itself.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The client gave up, which it is told never to do.
    #[error("the connection was closed for good")]
    Closed,
    /// A subscription could not be made.
    #[error("cannot subscribe to {subject}")]
    Subscribe {
        /// Of what.
        subject: String,
        /// What the client says.
        source: async_nats::SubscribeError,
    },
}

/// Watches until `stop` completes; what it answers is the reason that is published.
///
/// # Errors
/// The connection was closed for good.
pub async fn run(
    config: Config,
    client: Client,
    link: mpsc::Receiver<LinkEvent>,
    account: Account,
    stop: impl Future<Output = &'static str>,
) -> Result<(), AgentError> {
    let inbox = client.new_inbox();
    let instance = nuid::next().to_string();
    let others = peers::subjects(&config.prefix, &instance);
    let pulls = peers::pull_subject(&config.prefix);
    let mut io = Io::open(client, config.connect.clone(), link, &inbox, &others, Box::pin(stop)).await?;
    io.pull_subject = pulls;
    let peers = Peers::new(instance.into(), io.clock.now());
    let mut agent = Agent::new(config, inbox, peers, io.clock.now());
    io.sink = agent.kept.start(&agent.config);
    drop(agent.is_told_who_it_is(account));
    let effects = agent.begin(io.identity(), io.clock.now());
    carry_out(effects, &mut io, &mut agent).await;
    loop {
        let due = agent.due();
        let action = io.select(due).await?;
        let stops = matches!(action, Action::Stop(_));
        // A look begins when it is due.
        if matches!(action, Action::Due) || agent.is_late(due, io.clock.now()) {
            agent.wakes(due, clock::spent_here(), io.clock.now());
            agent.spent = clock::spent();
        }
        let effects = agent.apply(action, io.identity(), io.clock.now());
        carry_out(effects, &mut io, &mut agent).await;
        if stops {
            break;
        }
    }
    // The last words are said when the server has them.
    let until = io.clock.now().plus(FAREWELL);
    while !agent.outbox.is_empty() && io.clock.now() < until {
        let action = io.select(until).await?;
        let effects = agent.apply(action, io.identity(), io.clock.now());
        carry_out(effects, &mut io, &mut agent).await;
    }
    let effects = agent.save();
    carry_out(effects, &mut io, &mut agent).await;
    drop(tokio::time::timeout(FAREWELL, agent.kept.drained()).await);
    // Bounded: with the connection away there is nobody to flush to.
    drop(tokio::time::timeout(FAREWELL, io.client.flush()).await);
    Ok(())
}

/// What is to be saved and said, and then what is to be kept.
async fn carry_out<S>(effects: Vec<Effect>, io: &mut Io<S>, agent: &mut Agent)
where
    S: Future<Output = &'static str>,
{
    io.perform(effects).await;
    agent.kept.pass_on();
}

/// All that the agent knows.
struct Agent {
    config: Config,
    style: Style,
    inbox: String,
    state_file: Option<StateFile>,
    vantage: Vantage,
    identity: Identity,
    connected: bool,
    connected_at: Time,
    lost: Option<Time>,
    decoder: Decoder,
    roster: Roster,
    ledger: Ledger,
    outbox: Outbox,
    observer: Observer,
    /// What each server's clock is ahead of ours by, in nanoseconds, by ID.
    skew_ns: BTreeMap<Name, i128>,
    look: Option<Look>,
    glances: Glances,
    late: Late,
    /// What was in the outbox when the newest look asked.
    mark: u64,
    looks: u64,
    epoch: u64,
    /// Counts what streaks are counted in, and when it last did.
    turn: u64,
    turned_at: Time,
    grid_at: Time,
    grid_step: u32,
    soon_at: Option<Time>,
    ripe_at: Option<Time>,
    asked_last_at: Time,
    /// When the look before the last one asked.
    asked_before_at: Time,
    varz_asked: BTreeMap<Name, Time>,
    accountz_every: Duration,
    /// When all were asked last, by what they were asked.
    asked_all: BTreeMap<Endpoint, Time>,
    slowest: Duration,
    sizes: Sizes,
    thrift: thrift::Thrift,
    /// The processor's time that was spent so far.
    spent: Duration,
    /// What of that the agent's own thread had spent when it was last seen to run.
    worked: Duration,
    busy: stall::Busy,
    /// When it was last seen to run.
    awake_at: Time,
    /// When the budget is free for another look.
    free_at: Time,
    /// Until when our own server is given to tell how many there are, before all are asked.
    greeted: Option<Time>,
    cost: EpochCost,
    degraded: bool,
    company: Company,
    kept: Kept,
    /// From where and how completely the last look saw.
    sight: Sight,
    /// Since when it looks without a break.
    looking_since: Time,
    /// Until when it looked before that, where the break was short and what was seen then is what there is.
    saw_until: Option<Time>,
    ways: ways::Ways,
    /// Whether the state file tells of findings as not confirmed.
    owes: bool,
    /// The last look, where nothing is published.
    seen: Option<Snapshot>,
    /// Where requests are answered.
    desk: Desk,
    may: may::May,
}

impl Agent {
    fn new(config: Config, inbox: String, peers: Peers, now: Time) -> Self {
        let speaker = Speaker { instance: peers.instance().clone(), ..Speaker::default() };
        let style = Style {
            prefix: config.prefix.clone(),
            cloudevents: config.cloudevents,
            speaker,
            signer: config.signer.clone(),
        };
        let vantage = Vantage { agent: config.name.as_str().into(), ..Vantage::default() };
        let mut roster = Roster::default();
        let mut accountz_every = ACCOUNTZ_EVERY;
        if let Some(settings) = config.checks.get("gateway_traffic_ratio") {
            let window = settings.duration("window", None, None);
            roster.sum_up_over(window);
            accountz_every = accountz_every.min(window / ACCOUNTZ_PER_WINDOW);
        }
        Self {
            state_file: config.state_file.clone().map(StateFile::new),
            style,
            inbox,
            vantage,
            config,
            identity: Identity::default(),
            connected: true,
            connected_at: now,
            lost: None,
            decoder: Decoder::default(),
            roster,
            ledger: Ledger::default(),
            outbox: Outbox::default(),
            observer: Observer::default(),
            skew_ns: BTreeMap::new(),
            look: None,
            glances: Glances::default(),
            late: Late::default(),
            mark: 0,
            looks: 0,
            epoch: 0,
            turn: 0,
            turned_at: Time::default(),
            grid_at: now,
            grid_step: 0,
            soon_at: None,
            ripe_at: None,
            asked_last_at: Time::default(),
            asked_before_at: Time::default(),
            varz_asked: BTreeMap::new(),
            accountz_every,
            asked_all: BTreeMap::new(),
            slowest: Duration::ZERO,
            sizes: Sizes::default(),
            thrift: thrift::Thrift::default(),
            spent: Duration::ZERO,
            worked: Duration::ZERO,
            busy: stall::Busy::default(),
            awake_at: now,
            free_at: now,
            greeted: None,
            cost: EpochCost::default(),
            degraded: false,
            company: Company::new(peers),
            kept: Kept::default(),
            sight: Sight::default(),
            looking_since: now,
            saw_until: None,
            ways: ways::Ways::default(),
            owes: false,
            seen: None,
            desk: Desk::default(),
            may: may::May::default(),
        }
    }

    /// Takes up what an earlier start left, and says that we are here.
    fn begin(&mut self, identity: Identity, now: Time) -> Vec<Effect> {
        self.attach(identity, now);
        self.restore(now);
        tracing::info!(
            agent = %self.vantage.agent,
            server = %self.vantage.server,
            open = self.ledger.open().count(),
            "watching"
        );
        self.say(AgentEvent::Started, "the agent was started", now);
        let mut effects = self.open_vantages();
        effects.extend(self.send(now));
        effects.extend(self.attend(now));
        effects
    }

    /// A connection stands.
    fn attach(&mut self, identity: Identity, now: Time) {
        self.vantage.server = identity.server.clone();
        self.vantage.server_id = identity.server_id.clone();
        self.identity = identity;
        self.connected = true;
        self.connected_at = now;
        self.outbox.rewind();
        self.start_to_look(now);
    }

    /// What was seen before may be old.
    fn start_to_look(&mut self, now: Time) {
        self.looking_since = now;
        self.saw_until = None;
        self.drop_look();
        self.glances = Glances::default();
        self.late = Late::default();
        self.greeted = None;
        self.grid_at = now;
        self.grid_step = 0;
        self.soon_at = None;
        self.ripe_at = None;
        self.asked_all.retain(|endpoint, _| !matches!(endpoint, Endpoint::Statsz | Endpoint::Routez));
        self.roster.blink();
    }

    /// What this look was to show, the next one does: also the epoch that it began.
    fn drop_look(&mut self) {
        if self.look.take().is_some_and(|look| look.opens_epoch) {
            self.epoch = self.epoch.saturating_sub(1);
        }
    }

    /// When something is due even if nothing happens.
    fn due(&self) -> Time {
        let at = match &self.look {
            Some(look) => look.ends_at(),
            // Nothing is: the connection, or another agent, wakes us.
            None if !self.connected || !self.company.peers.leads() => self.looking_since.plus(FAR),
            None => self.next_look_at(),
        };
        let at = self.glance_due().map_or(at, |due| at.min(due));
        self.company_due().map_or(at, |due| at.min(due))
    }

    fn next_look_at(&self) -> Time {
        let untold = || !self.roster.is_told_by(&self.vantage.server_id);
        if let Some(until) = self.greeted.filter(|until| *until > self.asked_last_at && untold()) {
            return until;
        }
        let mut at = self.grid_at;
        if let Some(ripe_at) = self.ripe_at {
            // A look on time for the verdict; one that is due a little before is moved rather than doubled.
            let close = at.plus(Duration::from_millis(100));
            if ripe_at < at || ripe_at <= close {
                at = ripe_at;
            }
        }
        if let Some(soon_at) = self.soon_at {
            at = at.min(soon_at);
        }
        at = at.max(self.free_at);
        if self.asked_last_at == Time::default() { at } else { at.max(self.asked_last_at.plus(LOOK_GAP_MIN)) }
    }

    fn apply(&mut self, action: Action, identity: Identity, now: Time) -> Vec<Effect> {
        let mut effects = self.doubt(now);
        effects.extend(self.act(action, identity, now));
        effects
    }

    fn act(&mut self, action: Action, identity: Identity, now: Time) -> Vec<Effect> {
        match action {
            Action::Stop(reason) => {
                tracing::info!(reason, "stopping");
                self.say(AgentEvent::Stopping, reason, now);
                let mut effects = self.release();
                effects.extend(self.beat(true, now));
                effects.extend(self.withdraw());
                effects.extend(self.ask_for_receipt());
                effects
            }
            Action::Link(event) => self.link_event(event, identity, now),
            Action::Reply(message) => {
                // Two counts of one connection differ when the news of the new one is still on its way.
                if identity.connects != self.identity.connects {
                    return Vec::new();
                }
                self.reply(&message, now)
            }
            Action::Heard(message) => self.peer_said(&message, now).unwrap_or_else(|| {
                self.heard(&message, false, now);
                Vec::new()
            }),
            Action::Way(number, news) => self.way_tells(number, news, now),
            Action::Sink(event) => self.sink_said(event, now),
            Action::Due => {
                let mut effects = self.attend(now);
                let leads = self.company.peers.leads();
                effects.extend(match &self.look {
                    Some(look) if now >= look.ends_at() && look.is_asking() => self.ask_next_part(now),
                    Some(look) if now >= look.ends_at() => self.finish(now),
                    None if leads && self.connected && now >= self.next_look_at() => self.ask(now),
                    _ => Vec::new(),
                });
                effects.extend(self.glance(now));
                effects.extend(self.ask_what_it_may_now(now));
                effects
            }
            Action::WhoWeAre(account) => self.is_told_who_it_is(account),
            Action::Asked(question) => self.asked(question, now),
        }
    }

    fn link_event(&mut self, event: LinkEvent, identity: Identity, now: Time) -> Vec<Effect> {
        match event {
            LinkEvent::Connected => {
                if identity == self.identity && self.connected {
                    return Vec::new();
                }
                let lost_at = self.lost.take();
                let from = self.vantage.server.clone();
                let saw_until = lost_at.filter(|at| self.is_settled(*at) && now.since(*at) < UNSETTLED);
                self.attach(identity, now);
                self.saw_until = saw_until;
                self.meet_again(now);
                let away_ms = lost_at.map_or(0, |at| now.since(at).as_millis());
                let reason =
                    format!("connected to {} after {away_ms} ms without {from}", self.vantage.server);
                tracing::info!(server = %self.vantage.server, away_ms, "connected again");
                self.say(AgentEvent::Restored, &reason, now);
                return vec![self.ask_anew_what_it_may(now)];
            }
            LinkEvent::Disconnected => {
                self.connected = false;
                self.drop_look();
                self.glances = Glances::default();
                self.desk.forget_sweeps();
                self.lost.get_or_insert(now);
            }
            LinkEvent::Denied(denied) => self.was_denied(&denied, None),
            LinkEvent::SlowConsumer => self.lost_some(now),
            LinkEvent::Retrying { .. } | LinkEvent::LameDuck | LinkEvent::ServerError { .. } => {}
        }
        Vec::new()
    }

    fn lost_some(&mut self, now: Time) {
        // A storm brings thousands.
        if self.observer.overrun_at.is_none_or(|at| now.since(at) > OVERRUN_APART) {
            tracing::warn!("messages came faster than they were read, and some were not taken in");
        }
        self.observer.overrun_at = Some(now);
    }

    /// Asks what is due.
    fn ask(&mut self, now: Time) -> Vec<Effect> {
        if self.greeted.is_none() && !self.roster.is_told_by(&self.vantage.server_id) {
            return self.greet(now);
        }
        // A round takes its time, and one that begins too soon says nothing in the end.
        if !self.is_settled(now) && self.is_large() {
            self.free_at = self.looking_since.plus(UNSETTLED);
            self.grid_at = self.grid_at.max(self.free_at);
            return Vec::new();
        }
        let on_grid = now >= self.grid_at;
        if on_grid {
            // Rounds that take their time wait for the verdicts of the one before.
            let own = if self.is_large() { self.busy.last() } else { Duration::ZERO };
            self.observer.behind = now.since(self.grid_at).saturating_sub(own);
        }
        let opens_epoch = on_grid && self.grid_step == 0 || self.epoch == 0;
        if opens_epoch {
            self.epoch += 1;
            let interval = now.since(self.cost.started_at);
            self.cost.interval_ms =
                if self.cost.started_at == Time::default() { 0 } else { millis(interval) };
            self.cost.started_at = now;
        }
        if on_grid {
            self.advance_grid(now);
        }
        if self.soon_at.is_some_and(|at| now >= at) {
            self.soon_at = None;
        }
        if self.ripe_at.is_some_and(|at| now >= at) {
            self.ripe_at = None;
        }
        let mut requests = self.requests(opens_epoch, now);
        let parts = self.parts(&requests);
        self.looks += 1;
        let mut look = Look::new(
            self.looks,
            self.epoch,
            opens_epoch,
            now,
            Pace::of(self.config.timeout, self.slowest),
            &requests,
        );
        if let Some(mut parts) = parts {
            let percent = self.config.budget_cpu_percent;
            self.thrift.measure(&parts, self.spent, percent, now);
            // The first one is waited for: until it is over nobody is judged.
            if self.glances.are_needed() {
                self.thrift.slow_down(&mut parts);
            }
            requests.retain(|(request, _)| request.target != Target::All);
            look.ask_in_parts(parts);
        }
        let elsewhere = self.ask_elsewhere(&mut look, now);
        self.asked_before_at = self.asked_last_at;
        self.asked_last_at = now;
        // What waits goes first: the replies to this look tell that it arrived.
        let mut effects = self.send(now);
        self.mark = self.outbox.mark();
        for (request, _) in &requests {
            effects.extend(self.question(request, self.looks));
        }
        effects.extend(elsewhere);
        self.slowest = self.slowest.mul_f64(0.9);
        self.look = Some(look);
        effects.extend(self.ask_next_part(now));
        effects
    }

    /// Asks for the look of this number.
    fn question(&mut self, request: &Request, number: u64) -> Option<Effect> {
        let subject = request.subject()?;
        self.cost.requests += 1;
        let reply = format!("{}.{}", self.inbox, request.inbox_token(number));
        Some(Effect::Ask { subject, reply, body: request.body() })
    }

    /// One more look after the last words: its answer is their receipt.
    fn ask_for_receipt(&mut self) -> Option<Effect> {
        self.looks += 1;
        self.mark = self.outbox.mark();
        let target = Target::Server(self.vantage.server_id.clone());
        self.question(&Request { endpoint: Endpoint::Gatewayz, target }, self.looks)
    }

    fn advance_grid(&mut self, now: Time) {
        let step = self.config.interval / LOOKS_PER_EPOCH;
        self.grid_step = (self.grid_step + 1) % LOOKS_PER_EPOCH;
        self.grid_at = self.grid_at.plus(step);
        // What was slept through is not made up for.
        while self.grid_at <= now && !step.is_zero() {
            self.grid_at = self.grid_at.plus(step);
            self.grid_step = (self.grid_step + 1) % LOOKS_PER_EPOCH;
            if now.since(self.grid_at) > self.config.interval * 100 {
                self.grid_at = now;
            }
        }
    }

    fn reply(&mut self, message: &Incoming, now: Time) -> Vec<Effect> {
        let Some((number, endpoint)) = parse_inbox(&message.subject) else { return Vec::new() };
        // Whoever answered: what was sent before the question has arrived.
        let mut effects = if number == self.looks { self.confirm(self.mark) } else { Vec::new() };
        if message.status.is_some() {
            return effects;
        }
        self.take_reply(message, endpoint, number, false, now);
        if self.look.as_ref().is_some_and(Look::is_complete) {
            effects.extend(self.finish(now));
        }
        effects.extend(self.end_glance(now));
        effects
    }

    /// What was sent up to `mark` has arrived.
    fn confirm(&mut self, mark: u64) -> Vec<Effect> {
        let paid = self.outbox.confirm(mark) && self.owes && !self.outbox.waiting().any(is_finding);
        if paid { self.save() } else { Vec::new() }
    }

    /// Takes in one reply, to what was asked over our own server or `elsewhere`; the ID of who gave it.
    fn take_reply(
        &mut self,
        message: &Incoming,
        endpoint: Endpoint,
        number: u64,
        elsewhere: bool,
        now: Time,
    ) -> Option<Name> {
        self.cost.replies += 1;
        self.cost.bytes_in += message.payload.len() as u64;
        let encoding = message
            .headers
            .as_ref()
            .and_then(|h| h.get("Content-Encoding"))
            .map(async_nats::HeaderValue::as_str);
        match self.decoder.reply(endpoint, encoding, &message.payload) {
            // What asks by another way asks one cluster, and whoever else answers was not asked.
            Ok((server, _)) if elsewhere && !self.ways.ask(server.cluster.as_ref()) => None,
            Ok((server, fact)) => {
                let id = server.id.clone();
                self.fact(server, fact, endpoint, (number, elsewhere, message.length), now);
                Some(id)
            }
            Err(garbled) => {
                self.complain(&garbled, now);
                None
            }
        }
    }

    fn fact(
        &mut self,
        server: ServerInfo,
        fact: Fact,
        endpoint: Endpoint,
        (number, elsewhere, bytes): (u64, bool, usize),
        now: Time,
    ) {
        // Before it counts as that server's answer: the true one's would be dropped as a double.
        if let Err(odd) = self.roster.hold_to_its_id(&server) {
            return self.complain_of(Some(server), odd.to_string(), now);
        }
        let order = self.roster.order(&server, &fact, number, elsewhere);
        if let Order::Behind(newest) | Order::Restored(newest) = order {
            let odd = format!("its numbers run backwards, from {newest} to {}: {IMPOSTOR}", server.seq);
            self.complain_of(Some(server.clone()), odd, now);
        }
        if order == Order::Twice {
            let odd = format!("it answers one question twice: {IMPOSTOR}");
            return self.complain_of(Some(server), odd, now);
        }
        if matches!(order, Order::Copy | Order::Behind(_)) {
            return;
        }
        let id = server.id.clone();
        let looks = self.look.iter_mut().chain(self.glances.look_mut());
        let look = looks.into_iter().find(|l| l.number == number);
        let on_time = look.is_some();
        let made_at = match look {
            Some(look) => {
                let cluster_asked_at = look.asked_of(server.cluster.as_ref());
                // What moved is summed up as of one moment.
                let asked_at = if endpoint == Endpoint::Accountz { look.asked_at } else { cluster_asked_at };
                if look.arrived(endpoint, elsewhere, &id, now) == Arrival::Double {
                    return;
                }
                self.sizes.learn(endpoint, bytes);
                let took = now.since(cluster_asked_at);
                self.slowest = self.slowest.max(took);
                if let Some(time) = server.time.filter(|_| took <= self.config.timeout) {
                    // What is late, and what is not, is told of as it was when it was asked.
                    let skew = i128::from(time.as_nanos()) - i128::from(cluster_asked_at.as_nanos());
                    // Lives end and IDs are new each time: those that count are told again in the next look.
                    if self.skew_ns.len() > 2 * model::SERVERS_MAX {
                        self.skew_ns.clear();
                    }
                    self.skew_ns.insert(id.clone(), skew);
                }
                asked_at
            }
            // A late reply says how it was when it was made.
            None => self.made_at(&server, number, now),
        };
        if !on_time {
            tracing::debug!(server = %server.name, late_ms = millis(now.since(made_at)), "late reply");
        }
        if endpoint == Endpoint::Gatewayz && !elsewhere {
            self.note_how_late(&server, on_time, made_at, number, now);
        }
        if let (Fact::Gatewayz(told), false) = (&fact, elsewhere) {
            self.note_what_is_new(&server, told, now);
        }
        let taken = if elsewhere {
            self.roster.answer_elsewhere(server.clone(), fact, made_at)
        } else {
            self.roster.answer(server.clone(), fact, made_at)
        };
        if matches!(endpoint, Endpoint::Gatewayz | Endpoint::Routez) {
            self.desk.renew(&id, &self.roster);
        }
        if let Err(odd) = taken {
            self.complain_of(Some(server), odd.to_string(), now);
        }
    }

    /// The next look waits for whoever can be waited for.
    fn note_how_late(&mut self, server: &ServerInfo, on_time: bool, made_at: Time, number: u64, now: Time) {
        if on_time {
            return self.late.forget(&server.id);
        }
        let took = self.late.asked_at(number, server.cluster.as_ref()).map(|asked_at| now.since(asked_at));
        let slow = took.is_none_or(|took| took > self.config.timeout);
        if let Some(took) = took.filter(|_| !slow) {
            self.slowest = self.slowest.max(took);
        }
        self.late.note(&server.id, server.cluster.as_ref(), made_at, slow, now);
        if let Some(cluster) = &server.cluster {
            self.glances.hurry(cluster, now);
        }
    }

    fn complain(&mut self, garbled: &Garbled, now: Time) {
        self.cost.decode_errors += 1;
        if let Some(server) = &garbled.server {
            self.roster.mumble(server, now);
        }
        self.complain_of(garbled.server.clone(), garbled.error.to_string(), now);
    }

    fn complain_of(&mut self, server: Option<ServerInfo>, error: String, now: Time) {
        let id = server.as_ref().map(|s| s.id.clone()).unwrap_or_default();
        if !self.observer.complaints.contains_key(&id) && self.observer.complaints.len() >= COMPLAINTS_MAX {
            return;
        }
        let complaint = self.observer.complaints.entry(id).or_insert_with(|| {
            let who = server.as_ref().map(|s| &*s.name).unwrap_or_default();
            tracing::warn!(server = ?who, %error, "reply of no use");
            Complaint { server, count: 0, recent: 0, error: String::new(), at: now }
        });
        if now.since(complaint.at) > Complaint::APART {
            complaint.recent = 0;
        }
        complaint.count += 1;
        complaint.recent += 1;
        complaint.error = error;
        complaint.at = now;
    }

    /// Something was heard unasked. It says *look now*; a heartbeat is data too.
    fn heard(&mut self, message: &Incoming, elsewhere: bool, now: Time) {
        // Not all of it was kept.
        let named = message.subject.len() + message.reply.as_ref().map_or(0, |reply| reply.len());
        self.cost.bytes_in += message.length.saturating_sub(named) as u64;
        let subject = message.subject.as_str();
        let (roster, own) = (&self.roster, self.vantage.cluster.as_ref());
        let counts = self.glances.are_needed() && !elsewhere;
        let mut moved = counts;
        let heard = if subject.ends_with(".STATSZ") {
            self.decoder.heartbeat(&message.payload, |server, imprint| {
                let known = counts && server.cluster.as_ref() != own && roster.answered(&server.id, imprint);
                moved &= !known;
                known
            })
        } else if subject.ends_with(".SHUTDOWN") {
            decode::goodbye(&message.payload).map(|server| (server, Signal::Shutdown))
        } else if subject.ends_with(".LAMEDUCK") {
            decode::goodbye(&message.payload).map(|server| (server, Signal::LameDuck))
        } else {
            match decode::auth_error(&message.payload) {
                Ok(Some(heard)) => Ok(heard),
                Ok(None) => return,
                Err(garbled) => Err(garbled),
            }
        };
        let (server, mut signal) = match heard {
            Ok(heard) => heard,
            Err(garbled) => return self.complain(&garbled, now),
        };
        let news = !self.roster.knows(&server.id) || !matches!(signal, Signal::Heartbeat(_));
        let made_at = match &mut signal {
            Signal::Heartbeat(told) => {
                if moved {
                    self.note_what_moved(&server, told, now);
                }
                self.use_up(&server, told);
                self.beat_at(&server, now)
            }
            _ => now,
        };
        let taken = if elsewhere {
            self.roster.hear_elsewhere(server.clone(), signal, made_at)
        } else {
            self.roster.hear(server.clone(), signal, made_at)
        };
        if let Err(odd) = taken {
            return self.complain_of(Some(server), odd.to_string(), now);
        }
        if news && self.connected && self.company.peers.leads() {
            self.soon_at.get_or_insert(now.plus(LOOK_SOON));
        }
    }

    /// The look is over: builds, judges, publishes.
    fn finish(&mut self, now: Time) -> Vec<Effect> {
        let Some(look) = self.look.take() else { return Vec::new() };
        if look.is_in_parts() {
            // Each is an epoch, and the next one begins when the budget is free.
            self.free_at = look.next_at();
            self.grid_at = self.free_at.max(now);
            self.grid_step = 0;
        }
        if look.opens_epoch {
            self.take_a_turn(now);
        }
        let answered = look.answered(Endpoint::Gatewayz, false);
        if let Some(cluster) = self.roster.cluster_of(&self.vantage.server_id)
            && self.vantage.cluster.replace(cluster) != self.vantage.cluster
        {
            self.roster.forget_who_comes_no_more();
        }
        self.vantage.ways = self.ways_now();
        self.observer.findings_over = self.ledger.over();
        self.observer.outbox = self.outbox.stat();
        self.observer.sink = self.kept.trouble();
        // One that a finding is open about is kept until it was judged to be over.
        let open: BTreeSet<Name> = self.ledger.open().filter_map(complained_of).collect();
        self.observer
            .complaints
            .retain(|id, complaint| now.since(complaint.at) < Complaint::APART * 2 || open.contains(id));
        // Of a large supercluster there is room for one.
        if let Some(shown) = self.desk.put_away() {
            self.roster.take_back(shown);
        }
        let late = self.late.after(&look, &answered, |id| self.roster.knows(id), now);
        let settled = self.is_settled(look.asked_at) && answered.contains(&self.vantage.server_id);
        let mut snapshot = self.roster.snapshot(model::Look {
            epoch: look.epoch,
            asked_at: look.asked_at,
            asked: look.asked(),
            settled,
            vantage: self.vantage.clone(),
            answered,
            elsewhere: look.answered(Endpoint::Gatewayz, true),
            late,
            observer: self.observer.clone(),
            lasts: now.since(look.asked_at),
        });
        snapshot.expected.clone_from(&self.config.expected);
        self.sight = Sight::of(&snapshot);
        let verdicts = self.judge(&snapshot);
        self.ripe_at = Ledger::next_ripe(&verdicts, look.asked_at);
        if look.is_in_parts() && !self.outbox.is_closed() {
            self.glances.follow(&verdicts, &self.ledger, look.asked_at, now);
            self.hurry(now);
        } else {
            self.glances = Glances::default();
        }
        let changes = if settled && self.may_judge(now) && self.kept.may_judge(now) {
            self.ledger.step(Judgement {
                at: look.asked_at.max(now),
                seen_at: if look.is_in_parts() { look.asked_at } else { look.asked_at.max(now) },
                is_glance: false,
                epoch: self.turn,
                verdicts,
                settings: &self.config.checks,
                repeat_every: self.config.repeat_every,
            })
        } else {
            Vec::new()
        };
        let mut effects = self.provoke(&snapshot);
        effects.extend(self.tend_ways(&snapshot, now));
        self.publish_changes(&changes);
        self.say_how_we_see(&changes, now);
        effects.extend(self.answer_sweeps(&snapshot, look.asked_at, now));
        if look.opens_epoch {
            self.say_epoch(&snapshot, look.asked_at, now);
        }
        if !changes.is_empty() {
            effects.extend(self.save());
        }
        effects.extend(self.send(now));
        if self.outbox.is_closed() {
            self.seen = Some(snapshot);
        } else {
            self.desk.show(snapshot);
        }
        effects
    }

    /// Who does not answer is asked for a heartbeat: whether it lives, and which ways from it are open, is seen
    /// by who receives it.
    fn provoke(&mut self, snapshot: &Snapshot) -> Vec<Effect> {
        if !snapshot.settled {
            return Vec::new();
        }
        let mute: Vec<&model::Server> = snapshot.mute().collect();
        // Half a supercluster that is silent is no matter for single servers.
        let nudged = if mute.len() > DIRECT_MAX { &[] } else { mute.as_slice() };
        let effects: Vec<Effect> = nudged
            .iter()
            .filter_map(|server| {
                let target = Target::Server(server.info.id.clone());
                Some(Effect::Nudge { subject: Request { endpoint: Endpoint::Statsz, target }.subject()? })
            })
            .collect();
        self.cost.requests += effects.len() as u64;
        effects
    }

    fn take_a_turn(&mut self, now: Time) {
        self.turn += 1;
        self.turned_at = now;
    }

    fn judge(&self, snapshot: &Snapshot) -> Vec<Verdict> {
        if !snapshot.settled {
            return Vec::new();
        }
        checks::evaluate(snapshot, &self.config.checks, &self.ledger.watched())
    }

    fn say_how_we_see(&mut self, changes: &[crate::findings::Change], now: Time) {
        if changes.iter().all(|c| &*c.finding.check != "observer_degraded") {
            return;
        }
        let open: Vec<String> = self
            .ledger
            .open()
            .filter(|f| &*f.check == "observer_degraded")
            .map(|f| f.summary.clone())
            .collect();
        let news =
            changes.iter().any(|c| c.action == Happened::Opened && &*c.finding.check == "observer_degraded");
        if !open.is_empty() && (news || !self.degraded) {
            self.degraded = true;
            self.say(AgentEvent::Degraded, &open.join("; "), now);
        } else if open.is_empty() && self.degraded {
            self.degraded = false;
            self.say(AgentEvent::Restored, "it sees everything again", now);
        }
    }

    fn say_epoch(&mut self, snapshot: &Snapshot, asked_at: Time, now: Time) {
        let message = self.epoch_message(snapshot, asked_at, now);
        self.desk.close_epoch(&message, self.cost);
        self.outbox.push(message);
        self.cost = EpochCost { started_at: self.cost.started_at, ..EpochCost::default() };
    }

    fn epoch_message(&mut self, snapshot: &Snapshot, asked_at: Time, now: Time) -> Message {
        let steps_left = (LOOKS_PER_EPOCH - self.grid_step) % LOOKS_PER_EPOCH;
        let next_at = self.grid_at.plus(self.config.interval / LOOKS_PER_EPOCH * steps_left);
        self.cost.duration_ms = millis(now.since(asked_at));
        self.cost.next_epoch_in_ms = millis(next_at.since(now));
        let id = nuid::next().to_string();
        event::epoch(snapshot, &self.sight, self.cost, self.standing(), &self.style, &id, now)
    }

    /// How many findings are open, and silences stand.
    fn standing(&self) -> Standing {
        Standing {
            open: [Severity::Critical, Severity::Warning, Severity::Info].map(|s| self.ledger.count(s)),
            silences: self.ledger.silences().len(),
        }
    }

    fn say(&mut self, event: AgentEvent, reason: &str, now: Time) {
        let id = nuid::next().to_string();
        self.outbox.push(event::agent(event, reason, &self.vantage, &self.style, &id, now));
    }

    /// Sends what waits. After a reconnect not before the connection is settled: the interest of subscribers
    /// in other clusters takes as long to arrive.
    fn send(&mut self, now: Time) -> Vec<Effect> {
        let again = self.identity.connects > 1;
        let unsettled = now.since(self.connected_at) < UNSETTLED && !self.sees_on();
        if again && unsettled { Vec::new() } else { self.release() }
    }

    fn release(&mut self) -> Vec<Effect> {
        if !self.connected {
            return Vec::new();
        }
        self.outbox.send().into_iter().map(Effect::Publish).collect()
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
