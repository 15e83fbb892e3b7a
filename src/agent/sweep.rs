//! An agent that looks until its last look alone shows all that it found, and publishes nothing.

use std::time::Duration;

use async_nats::Client;
use tokio::sync::mpsc;

use super::io::Action;
use super::{Agent, AgentError, Effect, Io, LOOKS_PER_EPOCH, UNSETTLED};
use crate::clock;
use crate::collect::decode::Endpoint;
use crate::collect::{Look, Request, Target};
use crate::config::Config;
use crate::connect::{Account, LinkEvent};
use crate::findings::judge;
use crate::model::{Link, Server, Sight, Snapshot, Time};
use crate::peers::Peers;
use crate::publish::Outbox;

/// A sweep is over in a few looks, however seldom the agent is told to look.
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// What is asked for once may come faster than what is asked for all the time.
const BUDGET_MIN_BYTES_PER_S: u64 = 20_000_000;
const BUDGET_MIN_REQUESTS_PER_S: u64 = 10_000;

/// Where all servers cannot be asked at once, it takes as long as it takes, up to this.
const ASKED_WITHIN: Duration = Duration::from_secs(300);

/// How often all servers are asked for a heartbeat at the most.
const NUDGES_MAX: u32 = 4;
const NUDGE_EVERY: Duration = Duration::from_millis(1200);
/// In a larger supercluster one waits for the heartbeats that come by themselves.
const NUDGED_MAX: usize = 128;
/// Every server sends one within this, and the look after it tells.
const HEARTBEATS_WITHIN: Duration = Duration::from_secs(12);

/// How much a sweep looks.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    /// At least so long.
    pub at_least: Duration,
    /// And at least so many looks.
    pub looks: u32,
    /// From then on until a look is conclusive, but no longer than this.
    pub longer_max: Duration,
}

impl Default for Enough {
    fn default() -> Self {
        // What moves shows in the second look; a server that stopped is missed after one and a half heartbeats, 15 s.
        Self { at_least: Duration::ZERO, looks: 2, longer_max: Duration::from_secs(20) }
    }
}

/// What a sweep saw.
#[derive(Debug)]
pub struct Sweep {
    /// The last look; the last settled one, where there is one.
    pub snapshot: Snapshot,
    /// What was still about to show; nothing where the look is conclusive.
    pub waits_for: Option<&'static str>,
}

/// Looks as [`run`](super::run) does, and publishes and saves nothing, for as long as is `enough`; `stop` ends it
/// at once. `tell` hears of each look. None when nothing was seen until then.
///
/// # Errors
/// As [`run`](super::run).
pub async fn sweep(
    config: Config,
    client: Client,
    link: mpsc::Receiver<LinkEvent>,
    account: Account,
    enough: Enough,
    stop: impl Future<Output = &'static str>,
    mut tell: impl FnMut(&Sweep),
) -> Result<Option<Sweep>, AgentError> {
    let inbox = client.new_inbox();
    let mut io = Io::open(client, config.connect.clone(), link, &inbox, &[], Box::pin(stop)).await?;
    let config = Config {
        interval: config.interval.min(INTERVAL_MAX),
        state_file: None,
        // Somebody waits, and it is once.
        budget_bytes_per_s: config.budget_bytes_per_s.max(BUDGET_MIN_BYTES_PER_S),
        budget_requests_per_s: config.budget_requests_per_s.max(BUDGET_MIN_REQUESTS_PER_S),
        ..config
    };
    let interval = config.interval;
    let mut agent = Agent::new(config, inbox, Peers::alone(), io.clock.now());
    agent.outbox = Outbox::closed();
    drop(agent.is_told_who_it_is(account));
    let soonest = io.clock.now().plus(enough.at_least);
    let asked_by = soonest.plus(ASKED_WITHIN);
    let mut latest = soonest.plus(interval / LOOKS_PER_EPOCH * enough.looks).plus(enough.longer_max);
    let effects = agent.begin(io.identity(), io.clock.now());
    io.perform(effects).await;
    let (mut last, mut looks): (Option<Sweep>, u32) = (None, 0);
    let mut nudges = Nudges::default();
    while io.clock.now() < latest {
        if looks < enough.looks {
            latest = latest.max(agent.looked_by().plus(enough.longer_max).min(asked_by));
        }
        let due = agent.due().min(latest);
        let action = io.select(due).await?;
        match action {
            Action::Stop(_) => break,
            Action::Due => agent.wakes(due, clock::spent_here(), io.clock.now()),
            _ => {}
        }
        let mut effects = agent.apply(action, io.identity(), io.clock.now());
        if agent.seen.is_none() && agent.has_all_of_the_first_look() {
            effects.extend(agent.finish(io.clock.now()));
        }
        io.perform(effects).await;
        if let Some(snapshot) = agent.seen.take() {
            looks += 1;
            if looks == 1 && snapshot.servers.len() > NUDGED_MAX {
                latest = latest.plus(HEARTBEATS_WITHIN);
            }
            io.perform(nudges.after(&snapshot, io.clock.now())).await;
            // What moves shows in the second look: nothing is gained by waiting for its turn.
            if looks == 1 {
                agent.soon_at.get_or_insert(io.clock.now());
            }
            let sweep = Sweep { waits_for: agent.waits_for(&snapshot), snapshot };
            tell(&sweep);
            if sweep.waits_for.is_none() && looks >= enough.looks && io.clock.now() >= soonest {
                return Ok(Some(sweep));
            }
            if sweep.snapshot.settled || last.as_ref().is_none_or(|last| !last.snapshot.settled) {
                last = Some(sweep);
            }
        }
    }
    Ok(last)
}

/// Whether nothing was seen to arrive at the far end since the first look, or within the last second by its own
/// word, and nothing to be stuck.
fn is_untried(link: &Link, snapshot: &Snapshot) -> bool {
    let flow = &link.flow;
    let moved = || flow.moved_at.is_some_and(|at| at > snapshot.began_at);
    flow.both_ends && flow.stuck_since.is_none() && !moved() && !received_lately(link, snapshot)
}

/// A server that has just sent a heartbeat may send no other for a second, whoever asks (2.10 to 2.12).
fn received_lately(link: &Link, snapshot: &Snapshot) -> bool {
    let gatewayz = |id: &str| snapshot.servers.get(id)?.gatewayz.as_ref();
    let far = || {
        let peer_id = gatewayz(&link.server_id)?.outbound.peer(&link.remote)?;
        gatewayz(peer_id)?.inbound.from_peer(&link.cluster, &link.server_id).next()?.idle
    };
    far().is_some_and(|idle| idle < Duration::from_secs(1))
}

/// All servers are asked for a heartbeat, which crosses every link: else it would take ten seconds to see which
/// of them nothing passes.
#[derive(Debug, Default)]
struct Nudges {
    sent: u32,
    last_at: Option<Time>,
}

impl Nudges {
    fn after(&mut self, snapshot: &Snapshot, now: Time) -> Vec<Effect> {
        // A server sends one a second at the most, and may just have sent one.
        let due = self.last_at.is_none_or(|at| now.since(at) >= NUDGE_EVERY);
        let affordable = self.sent < NUDGES_MAX && snapshot.servers.len() <= NUDGED_MAX;
        let untried = || snapshot.links.iter().any(|link| is_untried(link, snapshot));
        if !due || !affordable || !untried() {
            return Vec::new();
        }
        self.sent += 1;
        self.last_at = Some(now);
        let all = Request { endpoint: Endpoint::Statsz, target: Target::All };
        all.subject().map(|subject| Effect::Nudge { subject }).into_iter().collect()
    }
}

impl Agent {
    /// Whether what was asked at `asked_at` was asked of a view that can be complete. A connection that is new says
    /// little about its server: who publishes nothing, and hears of nothing that others remember, may judge at once
    /// by a server that has run for long enough. So may who was away for a moment, as new credentials ask for it.
    pub(super) fn is_settled(&self, asked_at: Time) -> bool {
        let at_once = || (self.outbox.is_closed() && self.is_at_an_old_server()) || self.sees_on();
        asked_at.since(self.looking_since) >= UNSETTLED || at_once()
    }

    /// Whether it was away for a moment, and sees from here what it saw before.
    pub(super) fn sees_on(&self) -> bool {
        self.saw_until.is_some() && self.is_at_an_old_server()
    }

    fn is_at_an_old_server(&self) -> bool {
        self.roster.uptime(&self.vantage.server_id).is_some_and(|uptime| uptime >= UNSETTLED)
    }

    /// When the look that is under way, or else the next one, is over if nothing more comes then.
    fn looked_by(&self) -> Time {
        self.look.as_ref().map_or_else(|| self.next_look_at(), Look::over_by)
    }

    /// Whether the first look, which waits for nobody it knows, has nobody left to wait for.
    fn has_all_of_the_first_look(&self) -> bool {
        self.looks == 1
            && self.roster.is_whole()
            && self.look.as_ref().is_some_and(|look| {
                !look.is_asking()
                    && look.answered(Endpoint::Gatewayz, false).contains(&self.vantage.server_id)
            })
    }

    /// What is still about to show: a server that has something to tell for the first time, a violation that waits.
    /// Nothing where `snapshot` alone shows what this agent found.
    fn waits_for(&self, snapshot: &Snapshot) -> Option<&'static str> {
        let is_told = |s: &Server| match s.sight {
            Sight::Answered => s.varz.is_some() && s.routez.is_some() && s.statsz.is_some(),
            // One reply that was lost comes with the next look.
            Sight::Silent => s.silent_since.is_some_and(|at| snapshot.at.since(at) >= UNSETTLED),
            Sight::Named => snapshot.at.since(s.first_seen_at) >= UNSETTLED,
            _ => true,
        };
        let is_judged = || {
            let judged = judge(snapshot, &self.config.checks);
            judged.iter().map(|f| &f.fingerprint).eq(self.ledger.open().map(|f| &f.fingerprint))
        };
        if !snapshot.settled {
            Some("for the first seconds of the server that it is connected to")
        } else if !snapshot.servers.values().all(is_told) {
            Some("for servers that have not told everything")
        } else if snapshot.links.iter().any(|link| is_untried(link, snapshot)) {
            // A link over which nothing went yet may be one over which nothing goes.
            Some("for something to cross every gateway")
        } else if self.ripe_at.is_some() || !is_judged() {
            Some("whether what it sees lasts")
        } else {
            None
        }
    }
}
