//! What each account moves over gateways, summed up over a sliding window.
//!
//! Every server counts for each account since its start (`server/events.go`, ACCOUNT STATZ). Of two answers of
//! one life the difference is what was moved in between. It is put into the slot of the later answer; a slot is
//! a thirtieth of the window. Summed up are only slots that every living server has told of, so that what one
//! end sent and the other received stand in one sum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Account, Accountz, Life, Name, Server, ServerInfo, Snapshot, Time};

/// How many slots a window has.
const SLOTS: u64 = 30;
/// How many slots are kept: those that not every server has told of yet stand beside the window.
const SLOTS_KEPT: u64 = SLOTS + SLOTS / 2 + 1;
/// The servers are asked at least so often, and five times in a shorter window.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// How long a server may say nothing of its accounts: three answers at the usual pace.
const PATIENCE: Duration = Duration::from_secs(35);
/// How many accounts are remembered. Those that move least over gateways are dropped beyond that.
const ACCOUNTS_MAX: usize = 4096;
/// How many sums of an account in a cluster are remembered.
const SUMS_MAX: usize = 4096;
/// How many accounts stand in a snapshot, those that move most over gateways.
const SHOWN_MAX: usize = 256;
/// Leaders are asked for every minute.
const LED_LATELY: Duration = Duration::from_secs(180);
/// The system account's name where none is configured.
const SYSTEM_ACCOUNT: &str = "$SYS";

/// Payload bytes of an account, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Moved {
    /// What clients and leaf nodes published.
    pub published_bytes: u64,
    /// What was sent over gateways.
    pub tx_bytes: u64,
    /// What was received over gateways.
    pub rx_bytes: u64,
}

impl Moved {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            published_bytes: self.published_bytes.saturating_add(other.published_bytes),
            tx_bytes: self.tx_bytes.saturating_add(other.tx_bytes),
            rx_bytes: self.rx_bytes.saturating_add(other.rx_bytes),
        }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            published_bytes: self.published_bytes.saturating_sub(other.published_bytes),
            tx_bytes: self.tx_bytes.saturating_sub(other.tx_bytes),
            rx_bytes: self.rx_bytes.saturating_sub(other.rx_bytes),
        }
    }

    /// Counted since the server's start; none where the version does not tell gateways apart.
    fn of(account: &Account) -> Option<Self> {
        let (sent, received) = (account.sent.of?, account.received.of?);
        Some(Self {
            published_bytes: account
                .received
                .bytes
                .saturating_sub(received.gateways)
                .saturating_sub(received.routes),
            tx_bytes: sent.gateways,
            rx_bytes: received.gateways,
        })
    }
}

/// Why sums cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Doubt {
    /// A server that may well live has not told its counters lately.
    Silent {
        /// Its name.
        server: Name,
    },
    /// A server moved bytes of the account, and its version does not count those of gateways apart: before
    /// 2.11.10.
    NotCounted {
        /// Its name.
        server: Name,
        /// Its version.
        ver: Name,
    },
}

/// What the accounts moved in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Movement {
    /// How long it is.
    pub window: Duration,
    /// When it was looked at first.
    pub since: Option<Time>,
    /// Its end: up to then every server has told.
    pub until: Option<Time>,
    /// Why no account can be judged.
    pub doubt: Option<Doubt>,
    /// The accounts that moved anything, without the system account: the `SHOWN_MAX` that move most over
    /// gateways.
    pub accounts: BTreeMap<Name, AccountView>,
    /// How many moved anything.
    pub accounts_total: usize,
}

impl Movement {
    /// How much of the window was seen, for an account that nothing else is said of.
    pub fn seen(&self) -> Duration {
        match (self.since, self.until) {
            (Some(since), Some(until)) => until.since(since).min(self.window),
            _ => Duration::ZERO,
        }
    }
}

/// One account in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccountView {
    /// What the operator calls it, where servers tell that.
    pub name: Option<Name>,
    /// Its place among the accounts, by what it sent over gateways; from 1.
    pub rank: usize,
    /// How much of the window was seen of it.
    pub seen: Duration,
    /// What the servers of each cluster counted.
    pub clusters: BTreeMap<Name, Moved>,
    /// Why it cannot be judged.
    pub doubt: Option<Doubt>,
}

impl AccountView {
    /// All clusters together.
    pub fn total(&self) -> Moved {
        self.clusters.values().fold(Moved::default(), |sum, moved| sum.plus(*moved))
    }
}

/// What is remembered of the accounts.
#[derive(Debug)]
pub(super) struct TrafficMemory {
    window: Duration,
    began_at: Option<Time>,
    polled_at: Time,
    newest: u64,
    accounts: BTreeMap<Name, AccountMemory>,
    /// When accounts were dropped: one that comes back was not seen before.
    dropped_at: Option<Time>,
    /// Counts what changes the sums.
    changes: u64,
    shown: Option<(Sight, Arc<Movement>)>,
}

/// What a view depends on.
type Sight = (u64, u64, Option<Doubt>, BTreeSet<Name>);

#[derive(Debug, Default)]
struct AccountMemory {
    name: Option<Name>,
    /// A server came or came back that had moved something of it, nobody knows when.
    since: Option<Time>,
    not_counted: Option<(Time, Name, Name)>,
    clusters: BTreeMap<Name, BTreeMap<u64, Moved>>,
}

impl Default for TrafficMemory {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            began_at: None,
            polled_at: Time::default(),
            newest: 0,
            accounts: BTreeMap::new(),
            dropped_at: None,
            changes: 0,
            shown: None,
        }
    }
}

impl TrafficMemory {
    /// Begins anew with another window.
    pub(super) fn over(window: Duration) -> Self {
        Self { window, ..Self::default() }
    }

    /// The slot that ends at `at` or next.
    fn slot(&self, at: Time) -> u64 {
        at.as_nanos().div_ceil(self.slot_ns())
    }

    fn slot_ns(&self) -> u64 {
        u64::try_from(self.window.as_nanos().div_ceil(u128::from(SLOTS))).unwrap_or(u64::MAX).max(1)
    }

    fn end_of(&self, slot: u64) -> Time {
        Time::from_nanos(slot.saturating_mul(self.slot_ns()))
    }

    fn patience(&self) -> Duration {
        PATIENCE.min(self.window / 2)
    }

    /// The time of the answers that belong together with one of `at`: those to one question come within some
    /// milliseconds, and must not lie in two slots.
    pub(super) fn poll_at(&mut self, at: Time) -> Time {
        let together = ASKED_EVERY.min(self.window / 5) / 2;
        if at.since(self.polled_at) > together {
            self.polled_at = at;
        }
        if self.polled_at.since(at) > together { at } else { self.polled_at }
    }

    /// Takes in what `server` told at `at`. `before` is its last answer of this life, or its start with
    /// nothing counted; none where neither is known.
    pub(super) fn take(
        &mut self,
        server: &ServerInfo,
        before: Option<(Time, &Accountz)>,
        told: &Accountz,
        at: Time,
    ) {
        let began_at = *self.began_at.get_or_insert(at);
        let slot = self.slot(at);
        self.changes += 1;
        // What was moved in a long silence may lie outside the window.
        let before = before.filter(|(held_at, _)| at.since(*held_at) <= self.patience());
        let nothing = Account::default();
        let cluster = server.cluster.clone().unwrap_or_default();
        let again = self.dropped_at.is_some_and(|dropped_at| at.since(dropped_at) <= self.window);
        for (name, account) in &told.accounts {
            let held = before.map(|(_, held)| held.accounts.get(name).unwrap_or(&nothing));
            let step = Step::of(held, account);
            if step == Step::None || step == Step::Unseen && at <= began_at {
                continue;
            }
            let memory = self
                .accounts
                .entry(name.clone())
                .or_insert_with(|| AccountMemory { since: again.then_some(at), ..AccountMemory::default() });
            if account.name.is_some() {
                memory.name.clone_from(&account.name);
            }
            match step {
                Step::None => {}
                Step::Unseen => memory.since = memory.since.max(Some(at)),
                Step::NotCounted => {
                    memory.not_counted = Some((at, server.name.clone(), server.ver.clone()));
                }
                Step::Moved(moved) => {
                    let sum = memory.clusters.entry(cluster.clone()).or_default().entry(slot).or_default();
                    *sum = sum.plus(moved);
                }
            }
        }
        if slot > self.newest {
            self.newest = slot;
            self.forget(at);
        }
        let sums: usize = self.accounts.values().map(|memory| memory.clusters.len()).sum();
        if self.accounts.len() > ACCOUNTS_MAX || sums > SUMS_MAX {
            self.drop_least(at);
        }
    }

    /// Forgets what lies outside the window.
    fn forget(&mut self, now: Time) {
        let oldest = self.newest.saturating_sub(SLOTS_KEPT);
        let kept = self.window * 2;
        self.accounts.retain(|_, memory| {
            memory.clusters.retain(|_, slots| {
                *slots = slots.split_off(&oldest);
                !slots.is_empty()
            });
            memory.since = memory.since.filter(|at| now.since(*at) < kept);
            memory.not_counted.take_if(|(at, ..)| now.since(*at) >= kept);
            !memory.clusters.is_empty() || memory.since.is_some() || memory.not_counted.is_some()
        });
    }

    fn drop_least(&mut self, now: Time) {
        let mut by_size: Vec<(u64, Name)> = self
            .accounts
            .iter()
            .map(|(name, memory)| {
                let slots = memory.clusters.values().flat_map(BTreeMap::values);
                (slots.map(|moved| moved.tx_bytes).fold(0, u64::saturating_add), name.clone())
            })
            .collect();
        by_size.sort();
        let mut sums: usize = self.accounts.values().map(|memory| memory.clusters.len()).sum();
        for (_, name) in by_size {
            if self.accounts.len() <= ACCOUNTS_MAX * 3 / 4 && sums <= SUMS_MAX * 3 / 4 {
                break;
            }
            sums -= self.accounts.remove(&name).map_or(0, |memory| memory.clusters.len());
        }
        self.dropped_at = Some(now);
    }

    /// The sums at `now`. `last` is the server of those alive that told last of its accounts the longest ago,
    /// with the time; `system` are the names of the system accounts.
    pub(super) fn view(
        &mut self,
        last: Option<(Name, Time)>,
        system: BTreeSet<Name>,
        now: Time,
    ) -> Arc<Movement> {
        let doubt = last
            .as_ref()
            .filter(|(_, at)| now.since(*at) > self.patience())
            .map(|(server, _)| Doubt::Silent { server: server.clone() });
        let until = last.map_or(0, |(_, at)| at.as_nanos() / self.slot_ns());
        let sight = (self.changes, until, doubt, system);
        if let Some((_, shown)) = self.shown.as_ref().filter(|(of, _)| *of == sight) {
            return Arc::clone(shown);
        }
        let (_, _, doubt, system) = &sight;
        let movement = Arc::new(self.sum(until, doubt.clone(), system));
        self.shown = Some((sight, Arc::clone(&movement)));
        movement
    }

    fn sum(&self, until: u64, doubt: Option<Doubt>, system: &BTreeSet<Name>) -> Movement {
        let from = until.saturating_sub(SLOTS);
        let mut accounts: Vec<(Name, AccountView)> = self
            .accounts
            .iter()
            .filter(|(name, _)| ***name != *SYSTEM_ACCOUNT && !system.contains(*name))
            .map(|(name, memory)| {
                let began = memory.since.max(self.began_at).map_or(until, |at| self.slot(at));
                // Not after `until`: a range that ends before it begins is a panic.
                let first = from.max(began).min(until);
                let clusters = memory.clusters.iter().filter_map(|(cluster, slots)| {
                    let slots = slots.range(first..=until).filter(|(slot, _)| **slot > first);
                    slots.map(|(_, moved)| *moved).reduce(Moved::plus).map(|moved| (cluster.clone(), moved))
                });
                let not_counted = memory.not_counted.as_ref().filter(|(at, ..)| self.slot(*at) > from);
                let view = AccountView {
                    name: memory.name.clone(),
                    rank: 0,
                    seen: self.end_of(until).since(self.end_of(first)).min(self.window),
                    clusters: clusters.collect(),
                    doubt: not_counted.map(|(_, server, ver)| Doubt::NotCounted {
                        server: server.clone(),
                        ver: ver.clone(),
                    }),
                };
                (name.clone(), view)
            })
            .filter(|(_, view)| !view.clusters.is_empty() || view.doubt.is_some() || view.seen < self.window)
            .collect();
        accounts.sort_by_key(|(_, view)| std::cmp::Reverse(view.total().tx_bytes));
        for (n, (_, view)) in accounts.iter_mut().enumerate() {
            view.rank = n + 1;
        }
        let accounts_total = accounts.len();
        Movement {
            window: self.window,
            since: self.began_at.map(|at| self.end_of(self.slot(at))),
            until: (until > 0 && self.began_at.is_some()).then(|| self.end_of(until)),
            doubt,
            accounts: accounts.into_iter().take(SHOWN_MAX).collect(),
            accounts_total,
        }
    }
}

/// What one account did on one server between two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    None,
    /// Something, nobody knows when.
    Unseen,
    /// Something, which is not told apart.
    NotCounted,
    Moved(Moved),
}

impl Step {
    fn of(held: Option<&Account>, now: &Account) -> Self {
        let Some(held) = held else {
            return if now.sent.bytes == 0 && now.received.bytes == 0 { Self::None } else { Self::Unseen };
        };
        if held.sent.bytes == now.sent.bytes && held.received.bytes == now.received.bytes {
            return Self::None;
        }
        let Some(moved) = Moved::of(now) else { return Self::NotCounted };
        // The account was unloaded and loaded again: it counts from zero.
        let reset = now.sent.bytes < held.sent.bytes || now.received.bytes < held.received.bytes;
        let held = Moved::of(held).filter(|_| !reset).unwrap_or_default();
        Self::Moved(moved.less(held))
    }
}

impl Snapshot {
    /// Where the clients and leaf nodes of an account are connected, by cluster.
    pub fn connections_of(&self, account: &str) -> BTreeMap<Name, u64> {
        let mut clusters = BTreeMap::new();
        for server in self.expected().filter(|server| server.life != Life::Gone) {
            let accountz = server.accountz.as_ref();
            let Some(found) = accountz.and_then(|a| a.accounts.get(account)) else { continue };
            let connections = found.connections.saturating_add(found.leafnodes);
            if connections > 0 {
                let sum: &mut u64 =
                    clusters.entry(server.info.cluster.clone().unwrap_or_default()).or_default();
                *sum = sum.saturating_add(connections);
            }
        }
        clusters
    }

    /// Where the streams of each account are led: account, cluster, how many, and some of their names. A cluster
    /// led a stream when it did so at one of the last two times that its servers told; what a server led that
    /// just ended, another one leads soon, and tells a minute later.
    pub fn streams(&self) -> BTreeMap<&Name, BTreeMap<&str, (u64, BTreeSet<&Name>)>> {
        let mut accounts: BTreeMap<&Name, BTreeMap<&str, (u64, BTreeSet<&Name>)>> = BTreeMap::new();
        let lately = |server: &&Server| match server.life {
            Life::Left => server.left_at.is_some_and(|at| self.at.since(at) < LED_LATELY),
            Life::Gone => server.silent_since.is_some_and(|at| self.at.since(at) < LED_LATELY),
            Life::Alive | Life::Unknown => true,
        };
        for server in self.servers.values().filter(lately) {
            let mut led: BTreeMap<&Name, (u64, BTreeSet<&Name>)> = BTreeMap::new();
            let told = server.jsz.iter().chain(&server.jsz_before);
            for (account, streams) in told.flat_map(|jsz| &jsz.leads) {
                let (total, names) = led.entry(account).or_default();
                *total = streams.total.max(*total);
                names.extend(&streams.names);
            }
            for (account, (n, more)) in led {
                let (total, names) =
                    accounts.entry(account).or_default().entry(server.cluster()).or_default();
                *total = total.saturating_add(n);
                names.extend(more);
            }
        }
        accounts
    }
}

#[cfg(test)]
mod tests;
