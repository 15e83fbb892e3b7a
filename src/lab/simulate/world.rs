//! Who there is, who is connected to whom, and how that goes on.
//!
//! Each server dials one member of every other cluster, as real ones do: it has one outbound gateway for each
//! remote, and as many inbound ones as chose it. A link is kept once, and both ends are told from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use super::chance::{Chance, mix};
use super::link::{Link, Slot};

/// In nanoseconds, as all times here, which count from the Unix epoch.
pub(super) const SECOND: u64 = 1_000_000_000;
/// Every server tells how it is doing once in so long.
pub(super) const BEAT_EVERY: u64 = 10 * SECOND;
/// A server dials again after this, and up to a tenth more.
const REDIAL_AFTER: u64 = SECOND;
/// From the end of a server to its next life, where it is restarted.
const RESTART_TAKES: u64 = SECOND / 2;
/// A new server's first heartbeat that others hear.
const FIRST_BEAT_AFTER: u64 = 1_260_000_000;
/// The server that the nats-server itself passes for, which is the only one that clients can connect to.
pub(super) const HOST: usize = 0;

/// What is wrong with a server that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Since when it neither answers nor sends anything by itself.
    pub(super) silent_since: Option<u64>,
    /// Its answers are damaged.
    pub(super) garbles: bool,
    /// Its answers come this much later.
    pub(super) late_ms: u64,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) cluster: usize,
    /// Its number in its cluster.
    pub(super) number: usize,
    pub(super) host: String,
    pub(super) start: u64,
    pub(super) alive: bool,
    pub(super) seq: u64,
    /// How often it told all others something, and when last.
    pub(super) told: u32,
    pub(super) told_at: u64,
    /// How often it answered.
    pub(super) replied: u32,
    /// When the last of its answers comes that is late: none overtakes it.
    pub(super) late_until: u64,
    pub(super) lives: u32,
    pub(super) fault: Fault,
    next_cid: u32,
    /// By cluster.
    pub(super) outbound: Vec<Slot>,
    /// Who dialed it: the dialer's cluster and the dialer, in order.
    pub(super) inbound: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) servers: Range<usize>,
    /// How many servers of others have a gateway to it.
    pub(super) inbound: usize,
}

/// What happens by itself later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    Start(usize),
    Dial(usize, usize),
    Beat(usize),
}

/// What others get to hear of what happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Beat(usize),
    Shutdown(usize),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) clusters: Vec<Cluster>,
    pub(super) servers: Vec<Server>,
    pub(super) chance: Chance,
    by_id: BTreeMap<String, usize>,
    later: BinaryHeap<Reverse<(u64, Later)>>,
    began: u64,
    beats: u64,
}

impl Server {
    /// Until when it has sent what it sends.
    pub(super) fn sends_until(&self, now: u64) -> u64 {
        self.fault.silent_since.map_or(now, |at| at.min(now))
    }
}

impl World {
    /// Everybody runs, and has for a while.
    pub(super) fn new(clusters: usize, servers: usize, seed: u64, host_id: &str, now: u64) -> Self {
        let mut chance = Chance::new(mix(seed ^ 0x6761_7465));
        let digits = clusters.saturating_sub(1).max(1).ilog10() as usize + 1;
        let mut world = Self {
            clusters: Vec::new(),
            servers: Vec::new(),
            by_id: BTreeMap::new(),
            later: BinaryHeap::new(),
            began: now,
            beats: 0,
            chance: chance.clone(),
        };
        for cluster in 0..clusters {
            let name = format!("c{cluster:0digits$}");
            for number in 0..servers {
                let index = world.servers.len();
                world.servers.push(Server {
                    name: format!("{name}-{number}"),
                    id: if index == HOST { host_id.to_owned() } else { chance.server_id() },
                    cluster,
                    number,
                    host: if index == HOST { "127.0.0.1".to_owned() } else { host(cluster, number) },
                    start: now - 3_600 * SECOND - chance.next() % (3_600 * SECOND),
                    alive: true,
                    seq: 1_000 + chance.next() % 1_000,
                    told: 0,
                    told_at: 0,
                    replied: 0,
                    late_until: 0,
                    lives: 0,
                    fault: Fault::default(),
                    next_cid: first_cid(servers),
                    outbound: vec![Slot::Down; clusters],
                    inbound: Vec::new(),
                });
            }
            let range = cluster * servers..(cluster + 1) * servers;
            world.clusters.push(Cluster { name, servers: range, inbound: 0 });
        }
        world.chance = chance;
        for (index, server) in world.servers.iter().enumerate() {
            world.by_id.insert(server.id.clone(), index);
        }
        for index in 0..world.servers.len() {
            for cluster in 0..clusters {
                let start = now - 1_800 * SECOND - world.chance.next() % (1_800 * SECOND);
                world.dial(index, cluster, start);
            }
        }
        world
    }

    pub(super) fn server(&self, index: usize) -> Option<&Server> {
        self.servers.get(index)
    }

    pub(super) fn by_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied().filter(|index| self.server(*index).is_some_and(|s| s.alive))
    }

    pub(super) fn index_of(&self, server: &Server) -> usize {
        self.clusters.get(server.cluster).map_or(0, |c| c.servers.start + server.number)
    }

    /// Those that run in a cluster.
    pub(super) fn alive(&self, cluster: usize) -> impl Iterator<Item = usize> + '_ {
        let range = self.clusters.get(cluster).map(|c| c.servers.clone()).unwrap_or_default();
        range.filter(|index| self.server(*index).is_some_and(|s| s.alive))
    }

    /// The link of a server to a remote cluster.
    pub(super) fn link(&self, server: usize, cluster: usize) -> Option<&Link> {
        match self.server(server)?.outbound.get(cluster)? {
            Slot::Up(link) => Some(link),
            _ => None,
        }
    }

    /// How many servers one of this cluster hears, itself included.
    pub(super) fn heard(&self, cluster: usize) -> usize {
        self.clusters.get(cluster).map_or(0, |c| c.inbound) + self.alive(cluster).count()
    }

    /// Whether a request that a client of [`HOST`] makes comes to this server: gateways are one hop.
    pub(super) fn is_reached(&self, index: usize) -> bool {
        let Some(server) = self.server(index).filter(|s| s.alive) else { return false };
        server.cluster == self.host_cluster() || self.link(HOST, server.cluster).is_some()
    }

    /// Whether what this server sends comes to a client of [`HOST`].
    pub(super) fn reaches(&self, index: usize) -> bool {
        let Some(server) = self.server(index).filter(|s| s.alive) else { return false };
        server.cluster == self.host_cluster() || self.link(index, self.host_cluster()).is_some()
    }

    fn host_cluster(&self) -> usize {
        self.server(HOST).map_or(0, |host| host.cluster)
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> u64 {
        let later = self.later.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        later.min(self.beat_at())
    }

    /// Heartbeats are spread: one server after the other, each in its turn of ten seconds.
    fn beat_at(&self) -> u64 {
        let servers = u64::try_from(self.servers.len()).unwrap_or(u64::MAX).max(1);
        let (rounds, turn) = (self.beats / servers, self.beats % servers);
        self.began + (rounds + 1) * BEAT_EVERY + turn * BEAT_EVERY / servers
    }

    /// What happens by `now`, one thing at a time; none when all of it has.
    pub(super) fn step(&mut self, now: u64) -> Option<Event> {
        while self.due() <= now {
            let beat_at = self.beat_at();
            if self.later.peek().is_none_or(|Reverse((at, _))| *at > beat_at) {
                let turn = usize::try_from(self.beats).unwrap_or_default() % self.servers.len().max(1);
                self.beats += 1;
                return Some(Event::Beat(turn));
            }
            let Reverse((at, what)) = self.later.pop()?;
            match what {
                Later::Beat(server) => return Some(Event::Beat(server)),
                Later::Dial(server, cluster) => self.dial(server, cluster, at),
                Later::Start(server) => self.start(server, at),
            }
        }
        None
    }

    /// Connects to some server of a cluster, or tries again later.
    fn dial(&mut self, from: usize, cluster: usize, now: u64) {
        let servers = self.clusters.first().map_or(0, |c| c.servers.len());
        let Some(dialer) = self.servers.get_mut(from).filter(|s| s.alive) else { return };
        let (own, near_cid) = (dialer.cluster, dialer.next_cid);
        let (told_before, replied_before) = (dialer.told, dialer.replied);
        let Some(slot) = dialer.outbound.get_mut(cluster) else { return };
        if own == cluster {
            *slot = Slot::None;
            return;
        }
        if !matches!(slot, Slot::Down) {
            return;
        }
        let there: Vec<usize> = self.alive(cluster).collect();
        let Some(to) = there.get(self.chance.below(there.len())).copied() else {
            self.dial_later(from, cluster, now + REDIAL_AFTER);
            return;
        };
        let salt = self.chance.next();
        let Some(target) = self.servers.get_mut(to) else { return };
        let far_cid = target.next_cid;
        target.next_cid += 1;
        let at = target.inbound.partition_point(|other| *other < (own, from));
        target.inbound.insert(at, (own, from));
        let start = now.max(target.start + SECOND);
        let port = u16::try_from(32_768 + (salt >> 40) % 28_000).unwrap_or_default();
        let link = Link { to, near_cid, far_cid, port, start, salt, told_before, replied_before };
        if let Some(dialer) = self.servers.get_mut(from) {
            dialer.next_cid = near_cid.max(first_cid(servers)) + 1;
            if let Some(slot) = dialer.outbound.get_mut(cluster) {
                *slot = Slot::Up(link);
            }
        }
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.inbound += 1;
        }
    }

    fn dial_later(&mut self, from: usize, cluster: usize, at: u64) {
        let at = at + self.chance.next() % (REDIAL_AFTER / 10);
        self.later.push(Reverse((at, Later::Dial(from, cluster))));
    }

    /// Takes a link away at both ends.
    fn drop_link(&mut self, from: usize, cluster: usize, slot: Slot) -> bool {
        let Some(dialer) = self.servers.get_mut(from) else { return false };
        let own = dialer.cluster;
        let Some(old) = dialer.outbound.get_mut(cluster).filter(|old| !matches!(old, Slot::None)) else {
            return false;
        };
        let Slot::Up(link) = std::mem::replace(old, slot) else { return true };
        if let Some(target) = self.servers.get_mut(link.to) {
            target.inbound.retain(|other| *other != (own, from));
        }
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.inbound = cluster.inbound.saturating_sub(1);
        }
        true
    }

    /// Keeps a server from a remote cluster; false where there is no such link.
    pub(super) fn cut(&mut self, from: usize, cluster: usize) -> bool {
        self.drop_link(from, cluster, Slot::Cut)
    }

    /// Ends a server. Who had dialed it dials another one a second later.
    pub(super) fn kill(&mut self, index: usize, now: u64) {
        let Some(server) = self.servers.get_mut(index).filter(|s| s.alive) else { return };
        server.alive = false;
        let (own, dialers) = (server.cluster, server.inbound.clone());
        for cluster in 0..self.clusters.len() {
            if !matches!(self.servers.get(index).and_then(|s| s.outbound.get(cluster)), Some(Slot::Cut)) {
                self.drop_link(index, cluster, Slot::Down);
            }
        }
        for (_, dialer) in dialers {
            self.drop_link(dialer, own, Slot::Down);
            self.dial_later(dialer, own, now + REDIAL_AFTER);
        }
    }

    /// Ends a server, where it runs, and starts it again a little later.
    pub(super) fn restart(&mut self, index: usize, now: u64) {
        self.kill(index, now);
        self.later.push(Reverse((now + RESTART_TAKES, Later::Start(index))));
    }

    fn start(&mut self, index: usize, now: u64) {
        let servers = self.clusters.first().map_or(0, |c| c.servers.len());
        let id = self.chance.server_id();
        let Some(server) = self.servers.get_mut(index).filter(|s| !s.alive) else { return };
        self.by_id.remove(&server.id);
        self.by_id.insert(id.clone(), index);
        *server = Server {
            name: std::mem::take(&mut server.name),
            host: std::mem::take(&mut server.host),
            outbound: std::mem::take(&mut server.outbound),
            id,
            cluster: server.cluster,
            number: server.number,
            start: now,
            alive: true,
            seq: 0,
            told: 0,
            told_at: 0,
            replied: 0,
            late_until: 0,
            lives: server.lives + 1,
            fault: server.fault,
            next_cid: first_cid(servers),
            inbound: Vec::new(),
        };
        for cluster in 0..self.clusters.len() {
            self.dial_later(index, cluster, now + REDIAL_AFTER);
        }
        self.later.push(Reverse((now + FIRST_BEAT_AFTER, Later::Beat(index))));
    }

    /// Ends everything that is wrong. Who is dead starts; who was cut off dials when its turn comes.
    pub(super) fn heal(&mut self, now: u64) {
        for index in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(index) else { continue };
            server.fault = Fault::default();
            if !server.alive {
                self.later.push(Reverse((now, Later::Start(index))));
            }
            for cluster in 0..self.clusters.len() {
                let Some(server) = self.servers.get_mut(index) else { continue };
                if let Some(slot @ Slot::Cut) = server.outbound.get_mut(cluster) {
                    *slot = Slot::Down;
                    let at = now + self.chance.next() % REDIAL_AFTER;
                    self.dial_later(index, cluster, at);
                }
            }
        }
    }
}

/// The routes take the numbers before.
fn first_cid(servers: usize) -> u32 {
    u32::try_from(8 + 4 * servers).unwrap_or_default()
}

/// An address of the loopback network on which nobody listens.
fn host(cluster: usize, number: usize) -> String {
    format!("127.{}.{}.{}", 1 + cluster % 250, cluster / 250 * 40 + number / 250, 1 + number % 250)
}
