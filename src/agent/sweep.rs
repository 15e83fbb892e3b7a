//! An agent that looks until its last look alone shows all that it found, and publishes nothing.

use std::time::Duration;

use async_nats::Client;
use tokio::sync::mpsc;

use super::io::Action;
use super::{Agent, AgentError, Effect, Io, UNSETTLED};
use crate::collect::decode::Endpoint;
use crate::collect::{Request, Target};
use crate::config::Config;
use crate::connect::LinkEvent;
use crate::findings::judge;
use crate::model::{Link, Sight, Snapshot, Time};
use crate::peers::Peers;
use crate::publish::Outbox;

/// How long a sweep looks beyond what it was told to, at the most: a server that stopped is missed after one and
/// a half heartbeats, 15 s.
const LONGER_MAX: Duration = Duration::from_secs(20);
/// A sweep is over in a few looks, however seldom the agent is told to look.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How often all servers are asked for a heartbeat at the most.
const NUDGES_MAX: u32 = 4;
const NUDGE_EVERY: Duration = Duration::from_millis(1200);
/// In a larger supercluster one waits for the heartbeats that come by themselves.
const NUDGED_MAX: usize = 128;

/// What a sweep saw.
#[derive(Debug)]
pub struct Sweep {
    /// The last look; the last settled one, where there is one.
    pub snapshot: Snapshot,
    /// Whether it shows all, and nothing was still about to show.
    pub conclusive: bool,
}

/// Looks as [`run`](super::run) does, and publishes and saves nothing: for `at_least`, and from then on until a
/// look is conclusive, but no more than 20 s; `stop` ends it at once. None when nothing was seen until then.
///
/// # Errors
/// As [`run`](super::run).
pub async fn sweep(
    config: Config,
    client: Client,
    link: mpsc::Receiver<LinkEvent>,
    missing: Vec<(String, String)>,
    at_least: Duration,
    stop: impl Future<Output = &'static str>,
) -> Result<Option<Sweep>, AgentError> {
    let inbox = client.new_inbox();
    let mut io = Io::open(client, config.connect.clone(), link, &inbox, &[], Box::pin(stop)).await?;
    let interval = config.interval.min(INTERVAL_MAX);
    let mut agent =
        Agent::new(Config { interval, state_file: None, ..config }, inbox, Peers::alone(), io.clock.now());
    agent.outbox = Outbox::closed();
    for (operation, subject) in missing {
        agent.refused(&operation, &subject);
    }
    let soonest = io.clock.now().plus(at_least);
    let latest = soonest.plus(LONGER_MAX);
    let effects = agent.begin(io.identity(), io.clock.now());
    io.perform(effects).await;
    let mut last: Option<Sweep> = None;
    let mut nudges = Nudges::default();
    while io.clock.now() < latest {
        let action = io.select(agent.due().min(latest)).await?;
        if matches!(action, Action::Stop(_)) {
            break;
        }
        let effects = agent.apply(action, io.identity(), io.clock.now());
        io.perform(effects).await;
        if let Some(snapshot) = agent.seen.take() {
            io.perform(nudges.after(&snapshot, io.clock.now())).await;
            let sweep = Sweep { conclusive: agent.is_conclusive(&snapshot), snapshot };
            if sweep.conclusive && io.clock.now() >= soonest {
                return Ok(Some(sweep));
            }
            if sweep.snapshot.settled || last.as_ref().is_none_or(|last| !last.snapshot.settled) {
                last = Some(sweep);
            }
        }
    }
    Ok(last)
}

/// Whether nothing was seen to arrive at the far end since `began_at`, and nothing to be stuck.
fn is_untried(link: &Link, began_at: Time) -> bool {
    let flow = &link.flow;
    flow.both_ends && flow.stuck_since.is_none() && flow.moved_at.is_none_or(|at| at <= began_at)
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
        let untried = || snapshot.links.iter().any(|link| is_untried(link, snapshot.began_at));
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
    /// Whether `snapshot` alone shows what this agent found, and nothing is about to change that: no server
    /// still has something to tell for the first time, and no violation waits.
    fn is_conclusive(&self, snapshot: &Snapshot) -> bool {
        let told = snapshot.servers.values().all(|s| match s.sight {
            Sight::Answered => s.varz.is_some() && s.routez.is_some() && s.statsz.is_some(),
            // One reply that was lost comes with the next look.
            Sight::Silent => s.silent_since.is_some_and(|at| snapshot.at.since(at) >= UNSETTLED),
            _ => true,
        });
        // A link over which nothing went yet may be one over which nothing goes.
        let tried = !snapshot.links.iter().any(|link| is_untried(link, snapshot.began_at));
        let judged = judge(snapshot, &self.config.checks);
        let open = self.ledger.open().map(|f| &f.fingerprint);
        snapshot.settled
            && told
            && tried
            && self.ripe_at.is_none()
            && judged.iter().map(|f| &f.fingerprint).eq(open)
    }
}
