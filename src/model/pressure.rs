//! What waits to be written on a link or a route, from answer to answer, and its round trip.
//!
//! Fed with answers by the time when they were made, not when they came: the answers of a server behind a jam
//! come late, and carry what was pending then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lean::Span;
use super::packed::{Keys, Pack, Packed, Packer, Packet};
use super::sorted::make_room;
use super::{
    Accountz, ByKind, Connection, Fact, Gatewayz, Name, Outbound, RoutePeer, Routez, Server, Statsz, Time,
    Varz,
};

/// From here on it is remembered. Below is what every busy connection has for a moment.
pub const PRESSED_BYTES: u64 = 256 * 1024;
/// How many links are remembered.
const LINKS_MAX: usize = 1_000_000;
/// How many of them, and how many routes, are remembered as pressed.
const PRESSED_MAX: usize = 4096;
/// How long what was pending is remembered.
const WINDOW: Duration = Duration::from_secs(30);
const SAMPLES_MAX: usize = 64;
/// An answer that waits behind 150 MB on a slow way is more than a minute old when it comes.
const TOLD_FOR: Duration = Duration::from_secs(120);
/// The rates are those of this last part of the window: what waits is counted anew when a write ends, which takes
/// up to 10 s.
const RATE_OVER: Duration = Duration::from_secs(15);
const RATE_OVER_MIN: Duration = Duration::from_millis(400);
/// How many accounts are told of.
const ACCOUNTS_MAX: usize = 5;
/// A round trip that ends this soon after a jam was made in it.
const POLLUTED: Duration = Duration::from_secs(2);

/// More waits to be written than does on a healthy connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pressure {
    /// Since when in a row.
    pub since: Time,
    /// When the newest word of it was made.
    pub told_at: Time,
    /// What waits.
    pub pending_bytes: u64,
    /// The smaller one of the last two words; zero where there is only one.
    pub floor_bytes: u64,
    /// The most of the last 30 s.
    pub peak_bytes: u64,
    /// What is written.
    pub drain_bytes_per_s: Option<u64>,
    /// Over what time that is.
    pub rates_over: Duration,
    /// What is to be written.
    pub inflow_bytes_per_s: Option<u64>,
    /// When all of it would have passed, as the last two words go; none where it does not grow less.
    pub empty_in: Option<Duration>,
    /// How often a producer had to wait since it began; since 2.12.
    pub stalls: Option<u64>,
    /// When the connection ended under it.
    pub cut_at: Option<Time>,
    /// By how much the server's count of slow consumers of this kind rose since it began; since 2.10.
    pub slow_consumers: Option<u64>,
    /// The accounts that sent most over all gateways of the server, in bytes a second; since 2.11.10.
    pub top_accounts: Option<Vec<(Name, u64)>>,
}

/// The last two round trips of a link that were not made in a jam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rtt {
    /// The newest.
    #[cfg_attr(test, schemars(with = "Option<Duration>"))]
    last: Option<Span>,
    /// The one before, of the same connection.
    #[cfg_attr(test, schemars(with = "Option<Duration>"))]
    before: Option<Span>,
}

impl Rtt {
    /// The newest.
    pub fn last(self) -> Option<Duration> {
        self.last.map(Duration::from)
    }

    /// The one before, of the same connection.
    pub fn before(self) -> Option<Duration> {
        self.before.map(Duration::from)
    }
}

/// All that is remembered, by the server's ID and the remote's name or the peer's ID.
#[derive(Debug, Default)]
pub(super) struct Loads {
    rtts: BTreeMap<Name, Packed<RttMemory>>,
    /// The remotes of those that answered last.
    keys: Keys,
    rtts_held: usize,
    links: BTreeMap<(Name, Name), Memory>,
    routes: BTreeMap<(Name, Name), Memory>,
    /// Of servers with a pressed link: what their accounts had sent before.
    accounts: BTreeMap<Name, [Option<(Time, Accountz)>; 2]>,
}

#[derive(Debug, Default)]
pub(super) struct RttMemory {
    cid: u64,
    /// Whether the last one is from before this connection was seen.
    old: bool,
    told: Option<Span>,
    rtt: Rtt,
    pressed_at: Option<Time>,
    /// When the last one was seen.
    taken_at: Option<Time>,
}

#[derive(Debug)]
struct Memory {
    cid: u64,
    since: Time,
    /// When the connection was first seen to be another one.
    made_at: Time,
    samples: VecDeque<Sample>,
    stalls: Option<u64>,
    slow: Option<u64>,
    cut_at: Option<Time>,
    /// The most that waited on the connection that ended.
    cut_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    pending_bytes: u64,
    out_bytes: u64,
    stalls: Option<u64>,
}

/// How often connections of a server missed their write deadline, as it told last.
pub(super) fn slow_consumers(varz: Option<&Varz>, statsz: Option<&Statsz>) -> Option<ByKind> {
    let (a, b) = (varz.and_then(|v| v.slow_consumers), statsz.and_then(|s| s.slow_consumers));
    let most = |a: ByKind, b: ByKind| ByKind {
        routes: a.routes.max(b.routes),
        gateways: a.gateways.max(b.gateways),
    };
    a.or(b).map(|one| most(one, b.unwrap_or_default()))
}

impl Loads {
    /// Takes in an answer; `slow` is the server's count of slow consumers as it was known before.
    pub(super) fn answer(&mut self, id: &Name, fact: &Fact, slow: Option<ByKind>, at: Time) {
        match fact {
            Fact::Gatewayz(gatewayz) => self.gatewayz(id, gatewayz, slow.map(|s| s.gateways), at),
            Fact::Routez(routez) => self.routez(id, routez, slow.map(|s| s.routes), at),
            Fact::Accountz(accountz) => self.accountz(id, accountz, at),
            _ => {}
        }
    }

    fn gatewayz(&mut self, id: &Name, gatewayz: &Gatewayz, slow: Option<u64>, at: Time) {
        let mut rtts = self.rtts_of(id);
        self.rtts_held +=
            make_room(&mut rtts, gatewayz.outbound.keys(), LINKS_MAX.saturating_sub(self.rtts_held));
        let mut kept = rtts.iter_mut().peekable();
        for (remote, Outbound { connection: c, .. }) in gatewayz.outbound.iter() {
            // One that is remembered, or is to be.
            if !self.links.is_empty() || c.pending_bytes >= PRESSED_BYTES {
                let sample =
                    Sample { at, pending_bytes: c.pending_bytes, out_bytes: c.out_bytes, stalls: c.stalls };
                take(&mut self.links, &(id.clone(), remote.clone()), c.cid, sample, slow);
            }
            while kept.next_if(|(known, _)| known < remote).is_some() {}
            if let Some((_, memory)) = kept.next_if(|(known, _)| known == remote) {
                memory.take(&c, at);
            }
        }
        self.rtts.insert(id.clone(), Packed::of(&rtts, at, &mut self.keys));
        let from = (id.clone(), Name::from(""));
        let of_server = self.links.range_mut(from..).take_while(|((server, _), _)| server == id);
        for ((_, remote), memory) in of_server {
            if !gatewayz.outbound.contains_key(remote) {
                memory.ended(at);
            }
        }
    }

    fn routez(&mut self, id: &Name, routez: &Routez, slow: Option<u64>, at: Time) {
        for (peer, RoutePeer { pending_bytes, out_bytes, .. }) in routez.peers.iter() {
            let sample = Sample { at, pending_bytes, out_bytes, stalls: None };
            take(&mut self.routes, &(id.clone(), peer.clone()), 0, sample, slow);
        }
    }

    fn accountz(&mut self, id: &Name, accountz: &Accountz, at: Time) {
        if self.of_server(id).next().is_none() {
            return;
        }
        let [before, last] = self.accounts.entry(id.clone()).or_default();
        if last.as_ref().is_none_or(|(last_at, _)| *last_at < at) {
            *before = last.replace((at, accountz.clone()));
        }
    }

    fn of_server<'a>(&'a self, id: &'a Name) -> impl Iterator<Item = &'a Memory> {
        let from = (id.clone(), Name::from(""));
        self.links.range(from..).take_while(move |((server, _), _)| server == id).map(|(_, memory)| memory)
    }

    /// Forgets what is over, and tells what the routes are like.
    pub(super) fn fill(&mut self, servers: &mut BTreeMap<Name, Server>, now: Time) {
        let lasts =
            |(id, _): &(Name, Name), memory: &mut Memory| servers.contains_key(id) && !memory.is_over(now);
        self.links.retain(lasts);
        self.routes.retain(lasts);
        self.rtts.retain(|id, _| servers.contains_key(id));
        self.rtts_held = self.rtts.values().map(Packed::len).sum();
        let links = &self.links;
        self.accounts.retain(|id, _| links.keys().any(|(server, _)| server == id));
        for ((id, peer), memory) in &self.routes {
            let Some(server) = servers.get_mut(id) else { continue };
            let slow = slow_consumers(server.varz.as_deref(), server.statsz.as_deref());
            if let Some(pressure) = memory.told(slow.map(|s| s.routes)) {
                server.route_pressure.insert(peer.clone(), pressure);
            }
        }
    }

    /// Whether a gateway is pressed.
    pub(super) fn is_pressed(&self) -> bool {
        !self.links.is_empty()
    }

    /// The IDs of the servers with a route that is pressed.
    pub(super) fn pressed_routes(&self) -> impl Iterator<Item = &Name> {
        self.routes.keys().map(|(id, _)| id)
    }

    /// The round trips of a server's links, in the order of the remotes.
    pub(super) fn rtts_of(&self, id: &Name) -> Vec<(Name, RttMemory)> {
        self.rtts.get(id).map(Packed::open).unwrap_or_default()
    }

    pub(super) fn of_link(&self, server: &Server, remote: &Name) -> Option<Box<Pressure>> {
        if self.links.is_empty() {
            return None;
        }
        let memory = self.links.get(&(server.info.id.clone(), remote.clone()))?;
        let slow = slow_consumers(server.varz.as_deref(), server.statsz.as_deref());
        let mut pressure = memory.told(slow.map(|s| s.gateways))?;
        pressure.top_accounts = self.top_accounts(&server.info.id);
        Some(Box::new(pressure))
    }

    fn top_accounts(&self, id: &Name) -> Option<Vec<(Name, u64)>> {
        let [Some((before_at, before)), Some((at, last))] = self.accounts.get(id)? else { return None };
        let sent = |accountz: &Accountz, name: &Name| Some(accountz.accounts.get(name)?.sent.of?.gateways);
        let mut rates: Vec<(Name, u64)> = last
            .accounts
            .keys()
            .filter_map(|name| {
                let grown = sent(last, name)?.checked_sub(sent(before, name).unwrap_or(0))?;
                let shown =
                    last.accounts.get(name).and_then(|a| a.name.clone()).unwrap_or_else(|| name.clone());
                Some((shown, per_second(grown, at.since(*before_at))?))
            })
            .collect();
        if rates.is_empty() {
            return None;
        }
        rates.retain(|(_, rate)| *rate > 0);
        rates.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rates.truncate(ACCOUNTS_MAX);
        Some(rates)
    }
}

fn take(
    of: &mut BTreeMap<(Name, Name), Memory>,
    key: &(Name, Name),
    cid: u64,
    sample: Sample,
    slow: Option<u64>,
) {
    if let Some(memory) = of.get_mut(key) {
        memory.take(cid, sample, slow);
    } else if sample.pending_bytes >= PRESSED_BYTES && of.len() < PRESSED_MAX {
        let samples = VecDeque::from([sample]);
        let memory = Memory {
            cid,
            since: sample.at,
            made_at: sample.at,
            samples,
            stalls: sample.stalls,
            slow,
            cut_at: None,
            cut_bytes: 0,
        };
        of.insert(key.clone(), memory);
    }
}

impl Memory {
    fn take(&mut self, cid: u64, sample: Sample, slow: Option<u64>) {
        let last = self.samples.back().copied();
        if last.is_some_and(|last| sample.at <= last.at) {
            return;
        }
        if last.is_some_and(|last| last.pending_bytes < PRESSED_BYTES)
            && sample.pending_bytes >= PRESSED_BYTES
        {
            self.since = sample.at;
            self.stalls = sample.stalls;
            self.slow = slow;
        }
        if cid != self.cid || last.is_some_and(|last| sample.out_bytes < last.out_bytes) {
            self.ended(sample.at);
            self.cid = cid;
            self.stalls = sample.stalls;
        }
        self.samples.push_back(sample);
        while self.samples.len() > SAMPLES_MAX
            || self.samples.front().is_some_and(|s| sample.at.since(s.at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// The connection is not there any more.
    fn ended(&mut self, at: Time) {
        let last = self.of_connection().next_back();
        if last.is_some_and(|s| s.pending_bytes >= PRESSED_BYTES && s.at < at) {
            self.cut_at = Some(at);
            self.cut_bytes = self.peak();
        }
        self.made_at = at;
    }

    fn peak(&self) -> u64 {
        self.samples.iter().map(|s| s.pending_bytes).max().unwrap_or(0)
    }

    /// Those of the present connection.
    fn of_connection(&self) -> impl DoubleEndedIterator<Item = &Sample> {
        self.samples.iter().filter(|s| s.at >= self.made_at)
    }

    fn is_over(&self, now: Time) -> bool {
        let recent = |at: Time| now.since(at) <= TOLD_FOR;
        let told = self.samples.back().is_some_and(|s| recent(s.at));
        let pressed = self.samples.iter().any(|s| s.pending_bytes >= PRESSED_BYTES);
        !(told && pressed || self.cut_at.is_some_and(|at| now.since(at) <= WINDOW))
    }

    fn told(&self, slow: Option<u64>) -> Option<Pressure> {
        let told_at = self.samples.back().map(|s| s.at).max(self.cut_at)?;
        let cut_lately = self.cut_at.is_some_and(|at| told_at.since(at) <= WINDOW);
        let (last, before) = (self.of_connection().next_back(), self.of_connection().rev().nth(1));
        let (drain, inflow, over) = self
            .rates()
            .map_or((None, None, Duration::ZERO), |(drain, inflow, over)| (Some(drain), Some(inflow), over));
        Some(Pressure {
            since: self.since,
            told_at,
            pending_bytes: last.map_or(0, |s| s.pending_bytes),
            floor_bytes: last.zip(before).map_or(0, |(a, b)| a.pending_bytes.min(b.pending_bytes)),
            peak_bytes: self.peak().max(if cut_lately { self.cut_bytes } else { 0 }),
            drain_bytes_per_s: drain,
            rates_over: over,
            inflow_bytes_per_s: inflow,
            empty_in: last.zip(before).and_then(|(last, before)| empty_in(*before, *last)),
            stalls: last.and_then(|s| s.stalls).zip(self.stalls).map(|(now, then)| now.saturating_sub(then)),
            cut_at: self.cut_at,
            slow_consumers: slow.zip(self.slow).map(|(now, then)| now.saturating_sub(then)),
            top_accounts: None,
        })
    }

    /// What is written and what is to be written, in bytes a second, and over what time that is.
    fn rates(&self) -> Option<(u64, u64, Duration)> {
        let last = self.of_connection().next_back()?;
        let first = self.of_connection().find(|s| last.at.since(s.at) <= RATE_OVER)?;
        let over = last.at.since(first.at);
        if over < RATE_OVER_MIN {
            return None;
        }
        let inflow = last.out_bytes.saturating_sub(first.out_bytes);
        let drained = (inflow + first.pending_bytes).saturating_sub(last.pending_bytes);
        Some((per_second(drained, over)?, per_second(inflow, over)?, over))
    }
}

fn empty_in(before: Sample, last: Sample) -> Option<Duration> {
    let less = before.pending_bytes.checked_sub(last.pending_bytes).filter(|less| *less > 0)?;
    let nanos = last.at.since(before.at).as_nanos() * u128::from(last.pending_bytes) / u128::from(less);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

impl Pack for RttMemory {
    fn pack(&self, to: &mut Packer) {
        to.number(self.cid);
        to.number(u64::from(self.old));
        for span in [self.told, self.rtt.last, self.rtt.before] {
            to.perhaps(span);
        }
        to.time(self.pressed_at);
        to.time(self.taken_at);
    }

    fn unpack(from: &mut Packet<'_>) -> Self {
        let (cid, old) = (from.number(), from.number() == 1);
        let mut span = || from.perhaps().map(|nanos| Duration::from_nanos(nanos).into());
        let (told, rtt) = (span(), Rtt { last: span(), before: span() });
        Self { cid, old, told, rtt, pressed_at: from.time(), taken_at: from.time() }
    }
}

impl RttMemory {
    pub(super) const fn rtt(&self) -> Rtt {
        self.rtt
    }

    fn take(&mut self, c: &Connection, at: Time) {
        if c.cid != self.cid {
            // What stands there when it is first seen was measured before, whenever that was.
            let old = c.rtt.is_some_and(|rtt| !rtt.is_zero());
            *self = Self { cid: c.cid, old, ..Self::default() };
        }
        if c.pending_bytes >= PRESSED_BYTES {
            self.pressed_at = self.pressed_at.max(Some(at));
        }
        let Some(rtt) = c.rtt.filter(|rtt| !rtt.is_zero() && self.told != Some((*rtt).into())) else {
            return;
        };
        self.told = Some(rtt.into());
        let sent_at = at.minus(rtt + POLLUTED);
        if self.pressed_at.is_some_and(|pressed_at| pressed_at >= sent_at) {
            return;
        }
        // Two PINGs that waited in one black hole or stopped process tell of it once.
        let another = self.taken_at.is_none_or(|taken_at| at.minus(rtt) >= taken_at);
        let last = self.rtt.last.filter(|_| !self.old);
        self.rtt = Rtt { last: Some(rtt.into()), before: if another { last } else { self.rtt.before } };
        // From the second one on, what comes next is new.
        self.old &= self.taken_at.is_none();
        self.taken_at = Some(at);
    }
}

fn per_second(bytes: u64, over: Duration) -> Option<u64> {
    u64::try_from(u128::from(bytes) * 1000 / over.as_millis().max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::sorted::found;
    use super::super::{Account, ServerInfo, Traffic, TrafficOf};
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(1_000_000 + millis)
    }

    fn told(cid: u64, pending_bytes: u64, out_bytes: u64, rtt_ms: u64) -> Fact {
        let connection = Connection {
            cid,
            pending_bytes,
            out_bytes,
            rtt: Some(Duration::from_millis(rtt_ms)),
            stalls: Some(out_bytes / 1_000_000),
            ..Connection::default()
        };
        let outbound = [("eu".into(), Outbound { configured: true, connection })].into_iter().collect();
        Fact::Gatewayz(Gatewayz { outbound, ..Gatewayz::default() })
    }

    fn slow(gateways: u64) -> ByKind {
        ByKind { gateways, routes: 0 }
    }

    fn pressure(loads: &Loads, now_slow: u64) -> Option<Pressure> {
        loads.links.get(&("U1".into(), "eu".into()))?.told(Some(now_slow))
    }

    const MB: u64 = 1_000_000;

    #[test]
    fn the_rates_are_those_between_answers_in_the_order_they_were_made() {
        let mut loads = Loads::default();
        let id = Name::from("U1");
        loads.answer(&id, &told(7, 10_000, 0, 5), Some(slow(0)), at(0));
        assert_eq!(pressure(&loads, 0), None, "nothing waits");
        loads.answer(&id, &told(7, MB, MB, 5), Some(slow(0)), at(500));
        loads.answer(&id, &told(7, 9 * MB, 11 * MB, 5), Some(slow(0)), at(1500));
        // One that comes late says nothing new.
        loads.answer(&id, &told(7, 300 * MB, 5 * MB, 5), Some(slow(0)), at(1000));
        let p = pressure(&loads, 0).expect("it is pressed");
        assert_eq!((p.pending_bytes, p.floor_bytes, p.peak_bytes), (9 * MB, MB, 9 * MB));
        assert_eq!((p.drain_bytes_per_s, p.inflow_bytes_per_s), (Some(2 * MB), Some(10 * MB)));
        assert_eq!((p.since, p.told_at, p.empty_in), (at(500), at(1500), None));
        assert_eq!((p.stalls, p.slow_consumers, p.cut_at), (Some(10), Some(0), None));
        loads.answer(&id, &told(7, 6 * MB, 11 * MB, 5), Some(slow(0)), at(2500));
        assert_eq!(pressure(&loads, 0).and_then(|p| p.empty_in), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_connection_that_ends_under_the_load_was_cut_and_one_that_ends_idle_was_not() {
        for gone in [true, false] {
            let mut loads = Loads::default();
            let id = Name::from("U1");
            loads.answer(&id, &told(7, 20 * MB, 30 * MB, 5), Some(slow(3)), at(0));
            loads.answer(&id, &told(7, 40 * MB, 50 * MB, 5), Some(slow(3)), at(500));
            if gone {
                loads.answer(&id, &Fact::Gatewayz(Gatewayz::default()), Some(slow(3)), at(1000));
            }
            loads.answer(&id, &told(8, 0, 0, 5), Some(slow(4)), at(2000));
            let p = pressure(&loads, 4).expect("it is remembered");
            assert_eq!(p.cut_at, Some(at(if gone { 1000 } else { 2000 })));
            assert_eq!((p.slow_consumers, p.pending_bytes, p.floor_bytes), (Some(1), 0, 0));
            loads.answer(&id, &told(8, MB, MB, 5), Some(slow(4)), at(31_900));
            let peak = |loads: &Loads| pressure(loads, 4).map(|p| p.peak_bytes);
            assert_eq!(peak(&loads), Some(if gone { MB } else { 40 * MB }), "it is the same jam for a while");
        }
        let mut loads = Loads::default();
        let id = Name::from("U1");
        loads.answer(&id, &told(7, MB, MB, 5), Some(slow(3)), at(0));
        loads.answer(&id, &told(7, 0, 2 * MB, 5), Some(slow(3)), at(500));
        loads.answer(&id, &told(8, 0, 0, 5), Some(slow(3)), at(1000));
        assert_eq!(pressure(&loads, 3).and_then(|p| p.cut_at), None);
    }

    #[test]
    fn of_links_that_there_is_no_room_for_no_round_trip_is_remembered() {
        let mut loads = Loads { rtts_held: LINKS_MAX - 1, ..Loads::default() };
        for id in ["U1", "U2"] {
            loads.answer(&id.into(), &told(7, 0, 0, 5), None, at(0));
        }
        let known = |id: &str| loads.rtts_of(&id.into()).len();
        assert_eq!((known("U1"), known("U2"), loads.rtts_held), (1, 0, LINKS_MAX));
    }

    #[test]
    fn what_is_over_or_gone_is_forgotten() {
        let mut loads = Loads::default();
        let id = Name::from("U1");
        let server = |id: &str| {
            let mut roster = super::super::Roster::default();
            let info = ServerInfo { id: id.into(), cluster: Some("us".into()), ..ServerInfo::default() };
            roster.answer(info, Fact::Statsz(Statsz::default()), at(0)).expect("a new one");
            let vantage = super::super::Vantage::default();
            let look = super::super::Look {
                epoch: 1,
                asked_at: at(0),
                settled: true,
                vantage,
                answered: std::collections::BTreeSet::new(),
                elsewhere: std::collections::BTreeSet::new(),
                observer: super::super::Observer::default(),
                lasts: Duration::ZERO,
                asked: BTreeMap::new(),
                late: BTreeMap::new(),
            };
            roster.snapshot(look).servers
        };
        loads.answer(&id, &told(7, MB, MB, 5), None, at(0));
        loads.fill(&mut server("U1"), at(100_000));
        assert!(loads.is_pressed(), "its answers may be late");
        loads.fill(&mut server("U1"), at(121_000));
        assert!(!loads.is_pressed());
        loads.answer(&id, &told(7, MB, MB, 5), None, at(0));
        loads.fill(&mut server("U2"), at(1000));
        assert!(!loads.is_pressed() && loads.rtts.is_empty(), "nobody of that ID is left");
        for n in 0..2 * PRESSED_MAX {
            loads.answer(&Name::from(format!("N{n}")), &told(7, MB, MB, 5), None, at(0));
        }
        assert_eq!(loads.links.len(), PRESSED_MAX);
        for n in 0..10 * SAMPLES_MAX as u64 {
            loads.answer(&"N1".into(), &told(7, MB, MB, 5), None, at(n + 1));
        }
        assert_eq!(loads.links[&("N1".into(), "eu".into())].samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn a_round_trip_made_in_a_jam_does_not_count() {
        let mut loads = Loads::default();
        let id = Name::from("U1");
        let rtt = |loads: &Loads| {
            let rtt = found(&loads.rtts_of(&"U1".into()), &"eu".into()).unwrap().rtt();
            let (last, before) = (rtt.last(), rtt.before());
            (last.map(|d| d.as_millis()), before.map(|d| d.as_millis()))
        };
        loads.answer(&id, &told(7, 0, 0, 5), None, at(0));
        assert_eq!(rtt(&loads), (Some(5), None));
        loads.answer(&id, &told(7, 0, 0, 5), None, at(500));
        assert_eq!(rtt(&loads), (Some(5), None), "it is the same one");
        loads.answer(&id, &told(7, MB, 0, 5), None, at(1000));
        loads.answer(&id, &told(7, 0, 0, 9000), None, at(11_000));
        assert_eq!(rtt(&loads), (Some(5), None), "it began in the jam");
        loads.answer(&id, &told(7, 0, 0, 6), None, at(26_000));
        assert_eq!(rtt(&loads), (Some(6), None), "the first was measured before anybody looked");
        loads.answer(&id, &told(7, 0, 0, 20_000), None, at(50_000));
        assert_eq!(rtt(&loads), (Some(20_000), Some(6)));
        loads.answer(&id, &told(7, 0, 0, 5_000), None, at(50_500));
        assert_eq!(rtt(&loads), (Some(5_000), Some(6)), "it began before the other one was back");
        loads.answer(&id, &told(8, 0, 0, 7), None, at(52_000));
        assert_eq!(rtt(&loads), (Some(7), None), "another connection, another way");
    }

    #[test]
    fn the_accounts_that_send_most_are_told_in_order() {
        let accountz = |bytes: &[(&str, Option<u64>)]| {
            let account = |sent: Option<u64>| Account {
                sent: Traffic {
                    bytes: 0,
                    of: sent.map(|gateways| TrafficOf { gateways, ..TrafficOf::default() }),
                },
                ..Account::default()
            };
            let accounts = bytes.iter().map(|(name, sent)| ((*name).into(), account(*sent))).collect();
            Fact::Accountz(Accountz { accounts })
        };
        let mut loads = Loads::default();
        let id = Name::from("U1");
        loads.answer(&id, &accountz(&[("APP", Some(0))]), None, at(0));
        assert!(loads.accounts.is_empty(), "nothing is pressed");
        loads.answer(&id, &told(7, MB, MB, 5), None, at(0));
        loads.answer(&id, &accountz(&[("A", Some(MB)), ("B", Some(5)), ("IDLE", Some(9))]), None, at(1000));
        assert_eq!(loads.top_accounts(&id), None);
        let later = [("A", Some(3 * MB)), ("B", Some(9 * MB + 5)), ("IDLE", Some(9)), ("NEW", Some(MB))];
        loads.answer(&id, &accountz(&later), None, at(3000));
        let top = [("B".into(), 4_500_000), ("A".into(), MB), ("NEW".into(), 500_000)];
        assert_eq!(loads.top_accounts(&id), Some(top.to_vec()));
        loads.answer(&id, &accountz(&[("A", None)]), None, at(5000));
        assert_eq!(loads.top_accounts(&id), None, "an old version does not tell");
    }
}
