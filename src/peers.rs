//! Which of many agents leads.
//!
//! Agents hear each other's beats. In each island one leads: it asks the servers and publishes. The others keep
//! its ledger, and one of them leads when it is silent. No store is needed: the claim that was made first stands,
//! and who hears it gives way. Pure: what was heard and the time are handed in, what is to be done is returned.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Name, Time};

/// How long an agent that comes waits for one that leads to answer.
const LISTEN: Duration = Duration::from_millis(1500);
/// Several that come at once, and find nobody, hear of each other first.
const GATHER: Duration = Duration::from_millis(200);
/// A leader is gone when so many of its beats are overdue, and a little more for the way.
const EPOCHS_SILENT: f64 = 2.0;
const SLACK: Duration = Duration::from_millis(300);
/// Those that stand by claim one after the other, and the first is heard before the next would.
const TURN: Duration = Duration::from_millis(100);
const TURNS_MAX: u32 = 6;
/// How often who stands by says so.
pub const STANDBY_EVERY: Duration = Duration::from_secs(10);
/// So long an agent says whose place it took.
const NEWS: Duration = Duration::from_millis(500);
/// A leader that we hear and that does not hear us: after so many of its messages we give way, for it cannot.
const UNHEARD_MAX: u32 = 3;
/// How many other agents are known.
const PEERS_MAX: usize = 4096;
/// How many of the leaders that it hears an agent names.
const HEARS_MAX: usize = 16;
/// No agent is waited for longer than its own word, and no word is believed beyond this: who leads beats as often as who
/// stands by, and more often where it looks more often. One forged beat must not blind all for hours.
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// When an agent began to lead, and which. Of two the smaller one stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// By the claimant's clock, which all compare alike.
    pub since: Time,
    /// A start of an agent.
    pub instance: Name,
}

/// One sign of life of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Which start of an agent; names may be shared.
    pub instance: Name,
    /// Its name.
    pub agent: Name,
    /// Since when it leads, if it does.
    pub leading_since: Option<Time>,
    /// When the next is due.
    pub next_in: Duration,
    /// When it was made, by the clock of who sends it.
    #[serde(default)]
    pub made_at: Option<Time>,
    /// The instances of the leaders that it hears.
    #[serde(default)]
    pub hears: Vec<Name>,
    /// The instance in whose place it leads, for that was not heard any more.
    #[serde(default)]
    pub succeeds: Option<Name>,
    /// How many changes of findings it has published since it leads.
    #[serde(default)]
    pub changes: u64,
    /// Whether this is its last.
    #[serde(default)]
    pub stops: bool,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ask whether somebody leads.
    Ask,
    /// Lead, for this reason.
    Lead(&'static str),
    /// Stand by, for this agent leads; its ledger is the one that counts.
    StandBy(Name),
    /// Go on leading: another agent gives way to us and hands over what it has open.
    Expect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// By itself, and silent: a sweep.
    Alone,
    /// Nobody knows yet whether somebody leads.
    Asking { until: Time },
    /// Another one leads; none that is known, for a moment, when it has said that it stops.
    Standing { leader: Option<Name> },
    /// This one leads.
    Leading { claim: Claim, beat_at: Time, succeeds: Option<Name> },
}

#[derive(Clone, Debug)]
struct Peer {
    agent: Name,
    leading_since: Option<Time>,
    heard_at: Time,
    next_in: Duration,
    /// How many messages in a row it did not name us.
    unheard: u32,
    /// Whether it was told of to the one that leads.
    expected: bool,
}

impl Peer {
    fn gone_at(&self) -> Time {
        self.heard_at.plus(self.next_in.mul_f64(EPOCHS_SILENT) + SLACK)
    }
}

/// How long the beats of an agent are on their way, its clock's difference to ours included.
#[derive(Clone, Debug)]
struct Way {
    least_ns: i128,
    /// How many in a row were late and came as regularly as they were sent.
    regular: u32,
    at: Time,
}

impl Way {
    /// Whether one that was made at `made_at` comes later than the fastest by so much that an answer to it may be on its
    /// way. Where all wait alike, a clock was set.
    fn is_late(&mut self, made_at: Time, next_in: Duration, now: Time) -> bool {
        let most = next_in / 2 + SLACK;
        let took_ns = took_ns(made_at, now);
        self.least_ns = self.least_ns.min(took_ns);
        let apart = now.since(std::mem::replace(&mut self.at, now));
        if took_ns - self.least_ns <= i128::try_from(most.as_nanos()).unwrap_or(i128::MAX) {
            self.regular = 0;
            return false;
        }
        let is_regular = apart >= next_in / 2 && apart <= next_in + most;
        self.regular = if is_regular { self.regular + 1 } else { 0 };
        if self.regular > UNHEARD_MAX {
            self.least_ns = took_ns;
            self.regular = 0;
            return false;
        }
        true
    }
}

fn took_ns(made_at: Time, now: Time) -> i128 {
    i128::from(now.as_nanos()) - i128::from(made_at.as_nanos())
}

/// All that an agent knows of the others.
#[derive(Clone, Debug)]
pub struct Peers {
    instance: Name,
    role: Role,
    known: BTreeMap<Name, Peer>,
    /// Outlives what is known of the agent: who is late for long is forgotten meanwhile.
    ways: BTreeMap<Name, Way>,
    /// Since when nobody is known to lead.
    vacant_at: Time,
}

impl Peers {
    /// One that has to find out; the first [`Peers::tick`] asks.
    pub fn new(instance: Name, now: Time) -> Self {
        Self {
            instance,
            role: Role::Asking { until: now },
            known: BTreeMap::new(),
            ways: BTreeMap::new(),
            vacant_at: now,
        }
    }

    /// One that looks by itself and is no part of it.
    pub fn alone() -> Self {
        let role = Role::Alone;
        let instance = Name::from("");
        Self { instance, role, known: BTreeMap::new(), ways: BTreeMap::new(), vacant_at: Time::default() }
    }

    /// Which start of an agent this is.
    pub fn instance(&self) -> &Name {
        &self.instance
    }

    /// Whether it asks the servers and judges.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Alone | Role::Leading { .. })
    }

    /// Since when it leads.
    pub fn leading_since(&self) -> Option<Time> {
        match &self.role {
            Role::Leading { claim, .. } => Some(claim.since),
            _ => None,
        }
    }

    /// The instance in whose place it leads, told while that is news: after a partition the older claim stands.
    pub fn succeeds(&self, now: Time) -> Option<&Name> {
        match &self.role {
            Role::Leading { claim, succeeds, .. } if now.since(claim.since) < NEWS => succeeds.as_ref(),
            _ => None,
        }
    }

    /// The instance that it follows.
    pub fn leader(&self) -> Option<&Name> {
        match &self.role {
            Role::Standing { leader } => leader.as_ref(),
            _ => None,
        }
    }

    /// The instances of the leaders that are heard.
    pub fn hears(&self, now: Time) -> Vec<Name> {
        self.leaders(now).map(|(instance, _)| instance.clone()).take(HEARS_MAX).collect()
    }

    fn leaders(&self, now: Time) -> impl Iterator<Item = (&Name, &Peer)> {
        self.known.iter().filter(move |(_, peer)| peer.leading_since.is_some() && now < peer.gone_at())
    }

    /// When something is due even if nobody says anything.
    pub fn due(&self) -> Option<Time> {
        match &self.role {
            Role::Alone | Role::Leading { .. } => None,
            Role::Asking { until } => Some(*until),
            Role::Standing { leader } => {
                let leader = leader.as_ref().and_then(|leader| self.known.get(leader));
                let vacant_at = leader.map_or(self.vacant_at, Peer::gone_at);
                Some(vacant_at.plus(TURN * self.turn()))
            }
        }
    }

    /// How many of those that stand by go first.
    fn turn(&self) -> u32 {
        let first = self.known.range(..self.instance.clone());
        let turn = first.filter(|(_, peer)| peer.leading_since.is_none()).take(TURNS_MAX as usize).count();
        u32::try_from(turn).unwrap_or(TURNS_MAX)
    }

    /// It is time for what was due.
    pub fn tick(&mut self, now: Time) -> Option<Turn> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.forget_the_gone(now);
        match &self.role {
            Role::Asking { until } if *until <= self.vacant_at => {
                self.role = Role::Asking { until: now.plus(LISTEN) };
                Some(Turn::Ask)
            }
            Role::Standing { leader: Some(_) } => {
                // Another one may have missed it earlier than we did.
                let next = self.follow_next(now);
                next.or_else(|| Some(self.lead("the agent that led is gone", now)))
            }
            _ => Some(self.lead("no other agent leads", now)),
        }
    }

    fn forget_the_gone(&mut self, now: Time) {
        self.known
            .retain(|_, peer| now.since(peer.heard_at) < peer.next_in.mul_f64(EPOCHS_SILENT) + STANDBY_EVERY);
    }

    /// The servers say that nobody listens to the question.
    pub fn nobody(&mut self, now: Time) {
        if matches!(self.role, Role::Asking { until } if until > self.vacant_at) {
            self.vacant_at = now.plus(GATHER);
            self.role = Role::Standing { leader: None };
        }
    }

    fn lead(&mut self, reason: &'static str, now: Time) -> Turn {
        let claim = Claim { since: now, instance: self.instance.clone() };
        let succeeds = self.leader().cloned();
        self.role = Role::Leading { claim, beat_at: now, succeeds };
        Turn::Lead(reason)
    }

    /// This agent has just said that it lives.
    pub fn beaten(&mut self, now: Time) {
        if let Role::Leading { beat_at, .. } = &mut self.role {
            *beat_at = now;
        }
    }

    /// An agent that said nothing for so long, for it was stopped or away, may have been replaced: it asks.
    pub fn doubt(&mut self, interval: Duration, now: Time) -> bool {
        let Role::Leading { beat_at, .. } = &self.role else { return false };
        let silent = now.since(*beat_at) > interval.mul_f64(EPOCHS_SILENT) + SLACK;
        if silent {
            self.ask_anew(now);
        }
        silent
    }

    /// Whatever was heard is old: after a connection was lost.
    pub fn ask_anew(&mut self, now: Time) {
        if self.role != Role::Alone {
            self.known.clear();
            self.vacant_at = now;
            self.role = Role::Asking { until: now };
        }
    }

    /// An agent gave a sign of life.
    pub fn hear(&mut self, beat: Beat, now: Time) -> Option<Turn> {
        if beat.instance == self.instance || self.role == Role::Alone {
            return None;
        }
        let before = self.known.remove(&beat.instance);
        if beat.stops {
            return self.vacate(&beat.instance, now);
        }
        if self.known.len() >= PEERS_MAX {
            // Who leads has nothing due, and each start of an agent is another one.
            self.forget_the_gone(now);
        }
        if self.known.len() >= PEERS_MAX {
            return None;
        }
        let is_late = self.is_late(&beat, now);
        let named = beat.hears.contains(&self.instance);
        let peer = Peer {
            agent: beat.agent,
            leading_since: beat.leading_since,
            heard_at: now,
            next_in: beat.next_in.min(INTERVAL_MAX),
            // Who took our place knows better than by one message whether it hears us.
            unheard: match &beat.succeeds {
                _ if named => 0,
                Some(succeeds) if *succeeds == self.instance => UNHEARD_MAX + 1,
                _ => before.as_ref().map_or(0, |peer| peer.unheard) + 1,
            },
            expected: before.is_some_and(|peer| peer.expected),
        };
        let instance = beat.instance;
        self.known.insert(instance.clone(), peer);
        match beat.leading_since {
            Some(since) => self.hear_leader(&Claim { since, instance }, is_late, now),
            None => self.vacate(&instance, now),
        }
    }

    fn is_late(&mut self, beat: &Beat, now: Time) -> bool {
        let Some(made_at) = beat.made_at else { return false };
        if self.ways.len() >= PEERS_MAX && !self.ways.contains_key(&beat.instance) {
            self.ways.retain(|instance, _| self.known.contains_key(instance));
        }
        let fresh = || Way { least_ns: took_ns(made_at, now), regular: 0, at: now };
        let way = self.ways.entry(beat.instance.clone()).or_insert_with(fresh);
        way.is_late(made_at, beat.next_in.min(INTERVAL_MAX), now)
    }

    fn hear_leader(&mut self, other: &Claim, is_late: bool, now: Time) -> Option<Turn> {
        let peer = self.known.get_mut(&other.instance)?;
        match &self.role {
            Role::Alone => return None,
            Role::Asking { .. } => {}
            Role::Standing { leader } => {
                let best = self.leaders(now).filter_map(|(instance, peer)| {
                    Some(Claim { since: peer.leading_since?, instance: instance.clone() })
                });
                if leader.as_ref() == Some(&other.instance) || best.min().as_ref() != Some(other) {
                    return None;
                }
            }
            Role::Leading { claim, .. } => {
                if claim < other && peer.unheard <= UNHEARD_MAX {
                    let first = !std::mem::replace(&mut peer.expected, true);
                    return first.then_some(Turn::Expect);
                }
                // It said so before it could know of us, and may have given way since.
                if is_late && other < claim {
                    return None;
                }
            }
        }
        self.role = Role::Standing { leader: Some(other.instance.clone()) };
        self.known.get(&other.instance).map(|peer| Turn::StandBy(peer.agent.clone()))
    }

    /// The one that we follow leads no more: another that is heard does, or it is somebody's turn.
    fn vacate(&mut self, instance: &Name, now: Time) -> Option<Turn> {
        if self.leader() != Some(instance) {
            return None;
        }
        self.vacant_at = now;
        let next = self.follow_next(now);
        if next.is_none() {
            self.role = Role::Standing { leader: None };
        }
        next
    }

    /// Follows the first of those that are heard to lead.
    fn follow_next(&mut self, now: Time) -> Option<Turn> {
        let leaders = self.leaders(now).map(|(instance, peer)| (peer.leading_since, instance, &peer.agent));
        let (leader, agent) = leaders.min().map(|(_, instance, agent)| (instance.clone(), agent.clone()))?;
        self.role = Role::Standing { leader: Some(leader) };
        Some(Turn::StandBy(agent))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checks::example::{ms, secs};

    const INTERVAL: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(50);

    struct One {
        peers: Peers,
        beat_at: Time,
        alive: bool,
        paused: bool,
    }

    /// Agents that hear each other after one step, unless the way from one to the other is cut.
    struct Net {
        now: Time,
        agents: Vec<One>,
        cut: BTreeSet<(usize, usize)>,
        /// Ways on which, since then, more is sent than passes: what takes a second to be sent takes so many to come.
        jams: BTreeMap<(usize, usize), (Time, f64)>,
        late: Vec<(Time, usize, usize, Beat)>,
        flying: Vec<(usize, Beat)>,
        turns: Vec<(usize, Turn)>,
    }

    impl Net {
        fn of(agents: usize) -> Self {
            let mut net = Self {
                now: at(0),
                agents: vec![],
                cut: BTreeSet::new(),
                jams: BTreeMap::new(),
                late: vec![],
                flying: vec![],
                turns: vec![],
            };
            for _ in 0..agents {
                net.join();
            }
            net
        }

        fn join(&mut self) {
            // The first of them is not the smallest.
            let instance = Name::from(format!("i{}", (self.agents.len() + 5) % 10));
            let peers = Peers::new(instance, self.now);
            self.agents.push(One { peers, beat_at: Time::default(), alive: true, paused: false });
        }

        fn beat(&self, n: usize) -> Beat {
            let peers = &self.agents[n].peers;
            let leading_since = peers.leading_since();
            let next_in = if leading_since.is_some() { INTERVAL } else { STANDBY_EVERY };
            let agent = Name::from(format!("agent-{n}"));
            let hears = peers.hears(self.now);
            Beat {
                instance: peers.instance().clone(),
                agent,
                leading_since,
                next_in,
                hears,
                made_at: Some(self.now),
                succeeds: peers.succeeds(self.now).cloned(),
                changes: 0,
                stops: false,
            }
        }

        fn run(&mut self, time: Duration) {
            let until = self.now.plus(time);
            while self.now < until {
                self.now = self.now.plus(STEP);
                self.step();
            }
        }

        fn step(&mut self) {
            let now = self.now;
            let flying = std::mem::take(&mut self.flying);
            for n in 0..self.agents.len() {
                if !self.agents[n].alive || self.agents[n].paused {
                    continue;
                }
                if self.agents[n].peers.doubt(INTERVAL, now) {
                    self.agents[n].beat_at = at(0);
                }
                let (due, late) = std::mem::take(&mut self.late)
                    .into_iter()
                    .partition(|(at, _, to, _)| *at <= now && *to == n);
                self.late = late;
                let due: Vec<(Time, usize, usize, Beat)> = due;
                for (.., beat) in due {
                    let turn = self.agents[n].peers.hear(beat, now);
                    self.turn(n, turn);
                }
                for (from, beat) in flying.iter().filter(|(from, _)| *from != n) {
                    if let Some((since, times)) = self.jams.get(&(*from, n)) {
                        let comes_at = since.plus(now.since(*since).mul_f64(*times));
                        self.late.push((comes_at, *from, n, beat.clone()));
                    } else if !self.cut.contains(&(*from, n)) {
                        let turn = self.agents[n].peers.hear(beat.clone(), now);
                        self.turn(n, turn);
                    }
                }
                let turn = self.agents[n].peers.tick(now);
                self.turn(n, turn);
                let leads = self.agents[n].peers.leads();
                let every = if leads { INTERVAL } else { STANDBY_EVERY };
                if now.since(self.agents[n].beat_at) >= every {
                    self.say(n);
                }
            }
        }

        fn say(&mut self, n: usize) {
            self.agents[n].beat_at = self.now;
            self.agents[n].peers.beaten(self.now);
            self.flying.push((n, self.beat(n)));
        }

        fn turn(&mut self, n: usize, turn: Option<Turn>) {
            let Some(turn) = turn else { return };
            if turn == Turn::Ask {
                let heard = |(m, one): (usize, &One)| {
                    one.alive && !one.paused && one.peers.leads() && !self.cut.contains(&(n, m))
                };
                let leader = self.agents.iter().enumerate().position(heard);
                let answer = match leader {
                    Some(m) if !self.cut.contains(&(m, n)) => {
                        let beat = self.beat(m);
                        self.agents[n].peers.hear(beat, self.now)
                    }
                    Some(_) => None,
                    None => {
                        self.agents[n].peers.nobody(self.now);
                        None
                    }
                };
                self.turn(n, answer);
            } else if turn != Turn::Expect {
                self.say(n);
            }
            self.turns.push((n, turn));
        }

        fn leaders(&self) -> Vec<usize> {
            let leads = |n: &usize| self.agents[*n].alive && self.agents[*n].peers.leads();
            (0..self.agents.len()).filter(leads).collect()
        }

        fn part(&mut self, left: &[usize], right: &[usize]) {
            for a in left {
                for b in right {
                    self.cut.extend([(*a, *b), (*b, *a)]);
                }
            }
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000 + ms)
    }

    #[test]
    fn who_is_alone_leads_at_once() {
        let mut net = Net::of(1);
        net.run(GATHER + STEP);
        assert_eq!(net.leaders(), [0]);
        net.run(secs(60));
        assert_eq!(net.leaders(), [0]);
    }

    #[test]
    fn of_many_that_start_at_once_one_leads() {
        let mut net = Net::of(9);
        net.run(secs(120));
        assert_eq!(net.leaders().len(), 1);
        let led = net.turns.iter().filter(|(_, turn)| matches!(turn, Turn::Lead(_)));
        assert_eq!(led.count(), 1, "not even for a moment");
    }

    #[test]
    fn one_that_is_heard_ever_later_gives_its_place_once() {
        for times in [1.5, 2.0, 2.6, 4.0] {
            let mut net = Net::of(3);
            net.run(secs(10));
            let [leader] = net.leaders()[..] else { panic!("one leads") };
            let other = (leader + 1) % 3;
            net.turns.clear();
            net.jams.insert((leader, other), (net.now, times));
            net.run(secs(60));
            let led = net.turns.iter().filter(|(_, turn)| matches!(turn, Turn::Lead(_))).count();
            assert!(led <= 1, "{times}: {:?}", net.turns);
            assert_eq!(net.leaders().len(), 1, "{times}");
            net.jams.clear();
            net.run(secs(30));
            assert_eq!(net.leaders().len(), 1, "{times}");
        }
    }

    #[test]
    fn a_leader_whose_clock_is_set_back_is_believed_again() {
        let mut way = Way { least_ns: 0, regular: 0, at: at(0) };
        let mut told = Vec::new();
        for n in 1..8_u64 {
            let now = at(1000 * n);
            told.push(way.is_late(if n < 3 { now } else { now.minus(secs(600)) }, INTERVAL, now));
        }
        assert_eq!(told, [false, false, true, true, true, false, false], "three, and it is believed");
    }

    #[test]
    fn who_comes_later_stands_by() {
        let mut net = Net::of(1);
        net.run(secs(5));
        for _ in 0..4 {
            net.join();
            net.run(secs(3));
        }
        assert_eq!(net.leaders(), [0]);
        assert!(net.agents[3].peers.leader() == Some(net.agents[0].peers.instance()));
    }

    #[test]
    fn the_next_one_leads_within_three_heartbeats() {
        let mut net = Net::of(9);
        net.run(secs(15));
        for _ in 0..8 {
            let [leader] = net.leaders()[..] else { panic!("{:?}", net.leaders()) };
            net.agents[leader].alive = false;
            net.run(INTERVAL * 3);
            assert_eq!(net.leaders().len(), 1, "and one only");
            net.run(secs(25));
            assert_eq!(net.leaders().len(), 1);
        }
    }

    #[test]
    fn who_misses_the_leader_later_than_another_follows_that_one() {
        let mut peers = Peers::new("c".into(), at(0));
        let beat = |instance: &str, since: u64| Beat {
            instance: instance.into(),
            agent: instance.into(),
            leading_since: Some(at(since)),
            next_in: INTERVAL,
            made_at: None,
            hears: Vec::new(),
            succeeds: None,
            changes: 0,
            stops: false,
        };
        assert_eq!(peers.hear(beat("a", 0), at(10)), Some(Turn::StandBy("a".into())));
        let due = peers.due().expect("it may be gone");
        assert_eq!(
            peers.hear(beat("b", 2000), due.minus(ms(5))),
            None,
            "by our watch the first is there still"
        );
        assert_eq!(peers.tick(due), Some(Turn::StandBy("b".into())));
    }

    #[test]
    fn who_stops_is_followed_at_once() {
        let mut net = Net::of(3);
        net.run(secs(15));
        let [leader] = net.leaders()[..] else { panic!("{:?}", net.leaders()) };
        net.agents[leader].alive = false;
        let last = Beat { stops: true, ..net.beat(leader) };
        net.flying.push((leader, last));
        net.run(ms(500));
        assert_eq!(net.leaders().len(), 1);
    }

    #[test]
    fn each_island_has_one_and_of_two_the_older_remains() {
        let mut net = Net::of(6);
        net.run(secs(15));
        let before = net.leaders();
        let older = |n: usize| (n < 3) == (before[0] < 3);
        net.part(&[0, 1, 2], &[3, 4, 5]);
        net.run(secs(10));
        assert_eq!(net.leaders().len(), 2, "{:?}", net.leaders());
        assert!(net.leaders()[0] < 3 && net.leaders()[1] >= 3);
        net.turns.clear();
        net.cut.clear();
        net.run(secs(3));
        assert_eq!(net.leaders(), before);
        let gave_way = net.turns.iter().filter(|(n, turn)| !older(*n) && matches!(turn, Turn::StandBy(_)));
        assert_eq!(gave_way.count(), 3, "{:?}", net.turns);
        net.run(secs(60));
        assert_eq!(net.leaders(), before);
    }

    #[test]
    fn who_hears_a_younger_leader_first_waits_for_what_it_hands_over() {
        let mut net = Net::of(2);
        net.cut.extend([(0, 1), (1, 0)]);
        net.run(secs(5));
        assert_eq!(net.leaders(), [0, 1]);
        let younger = net.agents.iter().map(|one| one.peers.leading_since()).enumerate();
        let (younger, _) =
            younger.max_by_key(|(n, since)| (*since, net.agents[*n].peers.instance())).unwrap();
        net.cut.remove(&(younger, 1 - younger));
        net.turns.clear();
        net.run(secs(2));
        assert_eq!(net.turns, [(1 - younger, Turn::Expect)], "once");
        net.cut.clear();
        net.run(secs(2));
        assert_eq!(net.leaders(), [1 - younger]);
    }

    #[test]
    fn who_is_not_heard_gives_way_to_the_one_that_cannot_hear_it() {
        let mut net = Net::of(2);
        net.run(secs(15));
        let [leader] = net.leaders()[..] else { panic!("{:?}", net.leaders()) };
        net.cut.insert((leader, 1 - leader));
        net.run(secs(10));
        assert_eq!(net.leaders(), [1 - leader]);
        net.cut.clear();
        net.run(secs(30));
        assert_eq!(net.leaders(), [1 - leader], "and does not take it back");
    }

    #[test]
    fn who_was_stopped_for_a_while_asks_before_it_says_anything() {
        let mut net = Net::of(2);
        net.run(secs(15));
        let [leader] = net.leaders()[..] else { panic!("{:?}", net.leaders()) };
        net.agents[leader].paused = true;
        net.run(secs(5));
        assert_eq!(net.leaders().len(), 2, "it does not know yet");
        net.turns.clear();
        net.agents[leader].paused = false;
        net.run(secs(1));
        assert_eq!(net.leaders(), [1 - leader]);
        assert!(net.turns.iter().all(|(_, turn)| !matches!(turn, Turn::Lead(_))), "{:?}", net.turns);
    }

    #[test]
    fn who_looks_by_itself_is_no_part_of_it() {
        let mut alone = Peers::alone();
        let beat = Net::of(1).beat(0);
        assert_eq!((alone.hear(beat, at(0)), alone.tick(at(9000)), alone.due()), (None, None, None));
        assert!(alone.leads() && !alone.doubt(INTERVAL, at(9000)));
    }

    #[test]
    fn what_others_say_is_kept_within_bounds() {
        let mut peers = Peers::new("me".into(), at(0));
        for n in 0..2 * PEERS_MAX {
            let agent = Name::from(n.to_string());
            let next_in = Duration::MAX;
            let beat =
                Beat { instance: agent.clone(), agent, leading_since: None, next_in, ..Net::of(1).beat(0) };
            peers.hear(beat, at(0));
        }
        assert!(peers.known.len() <= PEERS_MAX);
        assert!(peers.turn() <= TURNS_MAX);
    }

    #[test]
    fn no_more_agents_are_known_than_there_may_be_and_those_that_are_gone_make_room() {
        let mut peers = Peers::new(Name::from("ME"), at(0));
        let beat = |n: usize| Beat {
            instance: format!("I{n}").into(),
            agent: "a".into(),
            leading_since: None,
            next_in: INTERVAL,
            made_at: None,
            hears: Vec::new(),
            succeeds: None,
            changes: 0,
            stops: false,
        };
        peers.tick(at(0));
        peers.tick(at(2000));
        assert!(peers.leads());
        for n in 0..2 * PEERS_MAX {
            peers.hear(beat(n), at(3000));
        }
        assert_eq!(peers.known.len(), PEERS_MAX);
        assert!(!peers.known.contains_key("I5000"));
        peers.hear(beat(7), at(60_000));
        peers.hear(beat(5000), at(60_000));
        assert!(peers.known.contains_key("I5000"), "nobody else was heard of for a minute");
        assert_eq!(peers.known.len(), 2);
    }
}
