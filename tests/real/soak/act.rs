//! What is done to the supercluster, the agents and the sink, and what must be found of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gatewatch::lab::{Direction, View};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{AGENTS, CLUSTERS, SERVERS, Soak, UPGRADE_TO, link};
use crate::common::WITHIN;
use crate::common::load::Load;

/// The lower half of what the contract has for a short break: a server dials again after 1.0 to 1.15 s.
const BLINK_MS: u64 = 900;
/// A link that is reset again as soon as it is back has never been there for who looks twice a second.
const BETWEEN_RESETS: Duration = Duration::from_secs(2);
/// A server's heartbeats come every 10 s, and one is not missed before one and a half intervals.
const HICCUP_MS: u64 = 5000;
const DELAY: Duration = Duration::from_millis(100);
/// Bytes per second that a throttled link carries.
const THROTTLED: u64 = 1_000_000;

/// The same numbers for the same seed.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Seeds that are small numbers begin far apart.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.roll(2);
        dice
    }

    pub(super) fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.roll(of.len() as u64);
        of[usize::try_from(at).unwrap()].clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cut,
    Reject,
    HoleForth,
    HoleBoth,
    HoleBack,
    HalfOpen,
    Delay,
    Narrow,
    Jam,
    Blink,
    Flap,
    Part,
    Unroute,
    Kill,
    Bounce,
    Terminate,
    LameDuck,
    Freeze,
    Hiccup,
    KillCluster,
    Upgrade,
    Limit,
    AgentKill,
    AgentEnd,
    AgentFreeze,
    Disk,
    SinkAway,
    SinkBlink,
}

/// Each kind, how often it is drawn, and how it is called in the table. What takes half a minute and more to be found
/// is for runs that have the time.
pub(super) const KINDS: &[(Kind, u64, bool, &str)] = &[
    (Kind::Cut, 6, false, "link cut"),
    (Kind::Reject, 3, false, "link rejected"),
    (Kind::HoleForth, 4, false, "black hole from the dialer"),
    (Kind::HoleBoth, 3, false, "black hole both ways"),
    (Kind::HoleBack, 1, true, "black hole from the acceptor"),
    (Kind::HalfOpen, 3, false, "half open"),
    (Kind::Delay, 2, true, "100 ms late each way"),
    (Kind::Narrow, 2, false, "throttled, carries its load"),
    (Kind::Jam, 2, true, "throttled, and given more"),
    (Kind::Blink, 3, false, "cut for 0.9 s"),
    (Kind::Flap, 2, false, "reset three times"),
    (Kind::Part, 3, false, "two clusters cut apart"),
    (Kind::Unroute, 3, false, "route cut"),
    (Kind::Kill, 4, false, "server killed"),
    (Kind::Bounce, 3, false, "server killed, back at once"),
    (Kind::Terminate, 2, false, "server ended and started"),
    (Kind::LameDuck, 1, true, "server in lame duck"),
    (Kind::Freeze, 3, false, "server frozen"),
    (Kind::Hiccup, 2, false, "server frozen for 5 s"),
    (Kind::KillCluster, 2, false, "cluster killed"),
    // Not by chance: each server in its turn.
    (Kind::Upgrade, 0, false, "server upgraded"),
    (Kind::Limit, 2, false, "server takes one connection"),
    (Kind::AgentKill, 4, false, "agent killed"),
    (Kind::AgentEnd, 2, false, "agent ended and started"),
    (Kind::AgentFreeze, 3, false, "agent frozen"),
    (Kind::Disk, 2, false, "agent's disk full"),
    (Kind::SinkAway, 2, false, "sink's server away"),
    (Kind::SinkBlink, 2, false, "sink's server killed, back at once"),
];

/// One thing done. `a` and `b` are the dialer and the remote, the two clusters, or the one server.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) kind: Kind,
    pub(super) a: String,
    pub(super) b: String,
}

/// What the oracle knows of an act.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// One of these opens; none: silence, for `hold`.
    pub(super) any_of: Vec<String>,
    /// These may open besides, for they follow from it.
    pub(super) may: BTreeSet<String>,
    pub(super) within: Duration,
    pub(super) resolves: Duration,
    pub(super) hold: Duration,
}

pub(super) fn cluster_of(server: &str) -> &str {
    server.split('-').next().unwrap_or_default()
}

fn pair(a: &str, b: &str) -> String {
    if a < b { format!("{a}+{b}") } else { format!("{b}+{a}") }
}

impl Act {
    pub(super) fn name(&self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("", |(.., name)| name)
    }

    /// One that touches nothing that is `claimed` in this round. `slow` ones only where there is the time.
    /// The agent `spared` goes through all of it in one life.
    pub(super) fn draw(
        dice: &mut Dice,
        slow: bool,
        spared: &str,
        claimed: &BTreeSet<String>,
    ) -> Option<Self> {
        let may = |(_, weight, is_slow, _): &&(Kind, u64, bool, &str)| *weight > 0 && (slow || !is_slow);
        let kinds: Vec<_> = KINDS.iter().filter(may).collect();
        let mut at = dice.roll(kinds.iter().map(|(_, weight, ..)| weight).sum());
        let kind = kinds.iter().find(|(_, weight, ..)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let kind = kind?.0;
        let server = dice.one(SERVERS).to_owned();
        let others: Vec<&str> =
            CLUSTERS.iter().copied().filter(|name| *name != cluster_of(&server)).collect();
        let remote = dice.one(&others).to_owned();
        let peers: Vec<&str> = SERVERS
            .iter()
            .copied()
            .filter(|peer| cluster_of(peer) == cluster_of(&server) && *peer != server)
            .collect();
        let peer = dice.one(&peers).to_owned();
        let agent = dice.one(AGENTS).to_owned();
        let none = String::new();
        let (a, b) = match kind {
            Kind::Part => (cluster_of(&server).to_owned(), remote),
            Kind::KillCluster => (cluster_of(&server).to_owned(), none),
            Kind::Unroute if server < peer => (server, peer),
            Kind::Unroute => (peer, server),
            // An agent is refused there, and goes elsewhere.
            Kind::Limit | Kind::AgentKill | Kind::AgentEnd | Kind::AgentFreeze | Kind::Disk => (agent, none),
            Kind::SinkAway | Kind::SinkBlink => ("sink".to_owned(), none),
            kind if Self::of_link(kind) => (server, remote),
            _ => (server, none),
        };
        if matches!(kind, Kind::AgentKill | Kind::AgentEnd) && a == spared {
            return None;
        }
        // What an agent asks would wait behind the load, for longer than anybody waits for an answer.
        if kind == Kind::Jam && AGENTS.contains(&a.as_str()) {
            return None;
        }
        let act = Self { kind, a, b };
        act.claims().is_disjoint(claimed).then_some(act)
    }

    fn of_link(kind: Kind) -> bool {
        use Kind::{Blink, Cut, Delay, Flap, HalfOpen, HoleBack, HoleBoth, HoleForth, Jam, Narrow, Reject};
        matches!(kind, Cut | Reject | HoleForth | HoleBoth | HoleBack | HalfOpen | Delay | Blink | Flap)
            || matches!(kind, Narrow | Jam)
    }

    /// What no other act of the round may touch, so that each finding has one act that it comes from: links between
    /// two clusters; a cluster with all links from and to it, since gateways lead to any of its servers; the agents.
    pub(super) fn claims(&self) -> BTreeSet<String> {
        let whole = |cluster: &str| {
            let others = CLUSTERS.iter().filter(|other| **other != cluster);
            others.map(|other| pair(cluster, other)).chain([cluster.to_owned()]).collect()
        };
        match self.kind {
            kind if Self::of_link(kind) => [pair(cluster_of(&self.a), &self.b)].into(),
            Kind::Part => [pair(&self.a, &self.b)].into(),
            Kind::KillCluster => whole(&self.a),
            // Whose gateway to its cluster ends there is not heard in it, be it by the agent that leads: what is wrong
            // with their other links may not be seen before it goes on.
            Kind::Freeze => CLUSTERS.iter().flat_map(|cluster| whole(cluster)).collect(),
            Kind::AgentKill | Kind::AgentEnd | Kind::AgentFreeze => {
                ["agents".to_owned(), cluster_of(&self.a).to_owned()].into()
            }
            Kind::Disk => ["disk".to_owned()].into(),
            Kind::SinkAway | Kind::SinkBlink => ["sink".to_owned()].into(),
            _ => whole(cluster_of(&self.a)),
        }
    }

    /// Whether another agent may have to lead because of it: one that does not hear the leader any more, or is not
    /// heard by all.
    pub(super) fn moves(&self) -> bool {
        match self.kind {
            Kind::Part
            | Kind::KillCluster
            | Kind::Unroute
            | Kind::Freeze
            | Kind::Hiccup
            | Kind::AgentKill
            | Kind::AgentEnd
            | Kind::AgentFreeze => true,
            Kind::Disk | Kind::SinkAway | Kind::SinkBlink => false,
            _ => AGENTS.contains(&self.a.as_str()),
        }
    }

    /// What must be found, within the bound of the catalogue of faults, and what may be found besides.
    pub(super) fn expected(&self) -> Expected {
        let (a, b) = (self.a.as_str(), self.b.as_str());
        let cluster = cluster_of(a);
        let link = |check: &str| format!("critical {check} {cluster}/{a}/{b}");
        let s = Duration::from_secs;
        let silent = |hold_s| (Vec::new(), Duration::ZERO, WITHIN, s(hold_s));
        let found = |any_of: &[String], within_s| (any_of.to_vec(), s(within_s), WITHIN, Duration::ZERO);
        let (any_of, within, resolves, hold) = match self.kind {
            Kind::Cut | Kind::Reject => found(&[link("gateway_disconnected")], 8),
            Kind::HoleForth | Kind::HoleBoth => found(&[link("gateway_silent")], 15),
            Kind::HoleBack => found(&[link("gateway_disconnected")], 60),
            // Who asks through it, or is answered through it, finds that nothing passes before it can ask both ends.
            // Who looks from the cluster that it leads to has no answer of the dialer, and no server there has its
            // connection: that is all that can be known there.
            Kind::HalfOpen => {
                found(&[link("gateway_one_way"), link("gateway_silent"), link("gateway_disconnected")], 15)
            }
            Kind::Delay => {
                let (any_of, within, _, hold) =
                    found(&[format!("warning gateway_rtt_high {cluster}/{a}/{b}")], 45);
                (any_of, within, s(60), hold)
            }
            Kind::Jam => {
                let pressure = |severity| format!("{severity} gateway_pending_pressure {cluster}/{a}/{b}");
                let (any_of, within, _, hold) = found(&["warning", "critical"].map(pressure), 40);
                (any_of, within, s(60), hold)
            }
            Kind::Flap => {
                let (any_of, within, _, hold) =
                    found(&[format!("warning gateway_flapping {cluster}/{a}/{b}")], 20);
                // It ends when the last reset leaves the window.
                (any_of, within, super::FLAPPING_WINDOW + WITHIN, hold)
            }
            Kind::Part => {
                let (first, second) = if a < b { (a, b) } else { (b, a) };
                // From either of the two the other is dark; from the third it is one finding for both.
                found(
                    &[
                        format!("critical cluster_unreachable {first}/_/_"),
                        format!("critical cluster_unreachable {second}/_/_"),
                        format!("critical gateway_disconnected {first}/_/{second}"),
                    ],
                    8,
                )
            }
            Kind::Unroute => found(&[format!("warning route_mesh_incomplete {cluster}/{a}/{b}")], 20),
            Kind::Kill => found(&[format!("warning server_missing {cluster}/{a}/_")], 12),
            Kind::Freeze => found(&[format!("warning server_missing {cluster}/{a}/_")], 25),
            Kind::KillCluster => found(&[format!("critical cluster_unreachable {a}/_/_")], 8),
            Kind::SinkAway => found(&["warning observer_degraded _/_/sink".to_owned()], 12),
            Kind::Terminate | Kind::Limit | Kind::Disk | Kind::Narrow => silent(8),
            Kind::Blink
            | Kind::Bounce
            | Kind::Upgrade
            | Kind::LameDuck
            | Kind::Hiccup
            | Kind::AgentKill
            | Kind::AgentEnd
            | Kind::AgentFreeze
            | Kind::SinkBlink => silent(6),
        };
        Expected { any_of, may: BTreeSet::new(), within, resolves, hold }
    }

    /// Does it. When it took effect.
    pub(super) async fn begin(&self, soak: &mut Soak, expected: &mut Expected) -> Instant {
        let (a, b) = (self.a.as_str(), self.b.as_str());
        let lab = &soak.company.lab;
        let hole = async |direction| lab.blackhole(a, b, direction).await.unwrap().instant;
        match self.kind {
            Kind::Cut | Kind::Unroute => lab.cut(a, b).await.unwrap().instant,
            Kind::Reject => lab.reject(a, b).await.unwrap().instant,
            Kind::HoleForth => hole(Direction::FromDialer).await,
            Kind::HoleBoth => hole(Direction::Both).await,
            Kind::HoleBack => hole(Direction::FromAcceptor).await,
            Kind::HalfOpen => lab.half_open(a, b).await.unwrap().instant,
            Kind::Delay => lab.delay(a, b, DELAY).await.unwrap().instant,
            Kind::Narrow | Kind::Jam => {
                let mark = lab.throttle(a, b, THROTTLED).await.unwrap();
                let given = if self.kind == Kind::Jam { THROTTLED * 3 } else { THROTTLED / 10 };
                let load = Load::start(lab, a, Some(&format!("{b}-1")), given, None).await;
                soak.loads.insert((a.to_owned(), b.to_owned()), load);
                mark.instant
            }
            Kind::Blink => {
                let mark = lab.cut(a, b).await.unwrap();
                tokio::time::sleep(Duration::from_millis(BLINK_MS)).await;
                lab.heal(a, b).await.unwrap();
                mark.instant
            }
            Kind::Flap => {
                let mut last = Instant::now();
                for _ in 0..3 {
                    let cid = lab.view(a).await.unwrap().outbound[b].cid;
                    last = lab.reset(a, b).await.unwrap().instant;
                    let again = |view: &View| view.outbound.get(b).is_some_and(|link| link.cid != cid);
                    lab.wait_until(a, "another connection", WITHIN, again).await.unwrap();
                    tokio::time::sleep(BETWEEN_RESETS).await;
                }
                last
            }
            Kind::Part => {
                lab.cut(a, b).await.unwrap();
                lab.cut(b, a).await.unwrap().instant
            }
            Kind::Kill => lab.kill(a).await.unwrap().instant,
            Kind::Bounce => {
                let mark = lab.kill(a).await.unwrap();
                lab.start_server(a).await.unwrap();
                mark.instant
            }
            Kind::Terminate => lab.terminate(a).await.unwrap().instant,
            Kind::LameDuck => lab.lame_duck(a).await.unwrap().instant,
            Kind::Freeze => {
                expected.may = links_to(soak, a).await;
                soak.company.lab.stop(a).await.unwrap().instant
            }
            Kind::Hiccup => {
                let mark = lab.stop(a).await.unwrap();
                tokio::time::sleep(Duration::from_millis(HICCUP_MS)).await;
                lab.cont(a).await.unwrap();
                mark.instant
            }
            Kind::KillCluster => lab.kill_cluster(a).await.unwrap().instant,
            Kind::Upgrade => {
                let mark = lab.terminate(a).await.unwrap();
                soak.upgrade(a);
                soak.company.lab.start_server(a).await.unwrap();
                mark.instant
            }
            Kind::Limit => {
                soak.reload(a, "\nmax_connections: 1\n").await;
                Instant::now()
            }
            Kind::AgentKill => {
                soak.company.kill(a).await;
                Instant::now()
            }
            Kind::AgentEnd => {
                soak.company.end(a).await;
                Instant::now()
            }
            Kind::AgentFreeze => {
                soak.company.signal(a, Signal::SIGSTOP);
                Instant::now()
            }
            Kind::Disk => {
                soak.fill_disk(a);
                Instant::now()
            }
            Kind::SinkAway => {
                soak.store.kill().await;
                Instant::now()
            }
            Kind::SinkBlink => {
                soak.store.kill().await;
                soak.store.revive().await;
                Instant::now()
            }
        }
    }

    /// Undoes it.
    pub(super) async fn end(&self, soak: &mut Soak) {
        let (a, b) = (self.a.as_str(), self.b.as_str());
        let lab = &soak.company.lab;
        match self.kind {
            Kind::Cut
            | Kind::Reject
            | Kind::HoleForth
            | Kind::HoleBoth
            | Kind::HoleBack
            | Kind::HalfOpen
            | Kind::Delay
            | Kind::Unroute => drop(lab.heal(a, b).await.unwrap()),
            Kind::Narrow | Kind::Jam => {
                lab.heal(a, b).await.unwrap();
                soak.loads.remove(&(a.to_owned(), b.to_owned()));
            }
            Kind::Part => {
                lab.heal(a, b).await.unwrap();
                lab.heal(b, a).await.unwrap();
            }
            Kind::Kill | Kind::Terminate => drop(lab.start_server(a).await.unwrap()),
            Kind::LameDuck => {
                // It has 30 s for its clients.
                lab.wait_exit(a, WITHIN * 2).await.unwrap();
                lab.start_server(a).await.unwrap();
            }
            Kind::Freeze => drop(lab.cont(a).await.unwrap()),
            Kind::KillCluster => {
                let members = lab.members(a).unwrap();
                let starts = members.into_iter().map(|server| lab.start_server(server));
                futures_util::future::try_join_all(starts).await.unwrap();
            }
            Kind::Limit => soak.reload(a, "").await,
            Kind::AgentKill | Kind::AgentEnd => soak.company.join(a),
            Kind::AgentFreeze => soak.company.signal(a, Signal::SIGCONT),
            Kind::Disk => soak.free_disk(a),
            Kind::SinkAway => soak.store.revive().await,
            Kind::Blink | Kind::Flap | Kind::Bounce | Kind::Hiccup | Kind::Upgrade | Kind::SinkBlink => {}
        }
    }
}

/// The links that lead to a server: what is sent over them while it is frozen arrives nowhere, which is true of each
/// for itself, and found where both ways to look tell of it.
async fn links_to(soak: &Soak, server: &str) -> BTreeSet<String> {
    let lab = &soak.company.lab;
    let (id, remote) = (lab.server_id(server).await.unwrap(), cluster_of(server));
    let mut links = BTreeSet::new();
    for dialer in SERVERS.iter().filter(|dialer| cluster_of(dialer) != remote) {
        let view = lab.view(dialer).await.unwrap();
        if view.outbound.get(remote).is_some_and(|link| link.server_id == id) {
            links.insert(format!("critical gateway_silent {}/{dialer}/{remote}", cluster_of(dialer)));
        }
    }
    links
}

impl Soak {
    /// The next version, from the server's next start on.
    fn upgrade(&mut self, server: &str) {
        let at = self.versions.entry(server.to_owned()).or_default();
        *at = (*at + 1).min(UPGRADE_TO.len() - 1);
        link(self.dir.path(), server, &self.binaries[*at]);
    }

    /// Has a server read its configuration again, with `more` than it started with.
    async fn reload(&self, server: &str, more: &str) {
        let file = self.company.lab.dir().join(server).join("server.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        let own = text.split("\nmax_connections").next().unwrap_or_default();
        std::fs::write(&file, format!("{own}{more}")).unwrap();
        let pid = self.company.lab.pid(server).await.unwrap().unwrap();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGHUP).unwrap();
    }

    /// What the agent writes beside its file before it renames it into place goes where nothing has room, whoever
    /// runs this test.
    fn fill_disk(&self, agent: &str) {
        let part = self.part(agent);
        let _ = std::fs::remove_file(&part);
        std::os::unix::fs::symlink("/dev/full", part).unwrap();
    }

    fn free_disk(&self, agent: &str) {
        let part = self.part(agent);
        // An agent that saved just before may have its own there.
        if std::fs::symlink_metadata(&part).is_ok_and(|is| is.is_symlink()) {
            std::fs::remove_file(part).unwrap();
        }
    }
}
