//! A supercluster in memory, healthy until a test breaks one thing, and an agent that looks at it.
//!
//! The servers behave as measured on real ones: one outbound a remote, to a random server there; a redial
//! 1.0 to 1.15 s after a loss; requests, answers and heartbeats that cross one gateway and no more; a lame
//! duck that says nothing; a stopped process whose connections stay listed for 41 s. The agent's part asks,
//! remembers and judges with the real roster, the real checks and the real ledger, at the agent's own pace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Entity, REGISTRY, Settings};
use crate::findings::{Action, Change, Finding, Ledger, Reason};
use crate::model::{
    Accountz, Connection, Fact, GatewayConfig, Gatewayz, Jsz, Name, Observer, Outbound, Roster, RoutePeer,
    Routez, ServerInfo, Signal, Snapshot, Statsz, Time, Varz,
};

const TICK: Duration = Duration::from_millis(50);
const LOOK_SOON: Duration = Duration::from_millis(50);
const STALE_AFTER: Duration = Duration::from_millis(41_500);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Up,
    /// SIGSTOP: connections stand, nothing is read or said.
    Stopped(Time),
    /// Serves its connections, and says and answers nothing.
    LameDuck,
    Down,
}

/// How a remote turns a dialler away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No TCP connection: nobody hears of the attempt.
    Cut,
    /// Wrong password: the remote says AUTH.ERR, and the dialler sends a heartbeat.
    Login,
    /// TLS or name: the dialler sends a heartbeat, nobody says a word.
    Handshake,
}

#[derive(Clone, Debug)]
struct Dial {
    up: Option<(Name, Name)>,
    cid: u64,
    start: Time,
    next_at: Time,
    sent: u64,
    received: u64,
}

#[derive(Debug)]
struct Node {
    name: Name,
    called: Name,
    cluster: Name,
    id: Name,
    ver: Name,
    power: Power,
    started_at: Time,
    starts_at: Option<Time>,
    seq: u64,
    beat_at: Time,
    beaten_at: Option<Time>,
    beats: u64,
    greeted: bool,
    gateway: Option<GatewayConfig>,
    dials: BTreeMap<Name, Dial>,
}

impl Node {
    fn runs(&self) -> bool {
        matches!(self.power, Power::Up | Power::LameDuck)
    }

    fn exists(&self) -> bool {
        self.power != Power::Down
    }
}

/// The supercluster and who watches it.
pub(crate) struct World {
    pub(crate) now: Time,
    nodes: BTreeMap<Name, Node>,
    refusals: BTreeMap<(Name, Name), Refusal>,
    /// Links that swallow what is sent, and since when.
    holes: BTreeMap<(Name, Name), Time>,
    /// Links that only their dialer knows of.
    half_open: BTreeSet<(Name, Name)>,
    /// Servers that no request reaches.
    deaf: BTreeSet<Name>,
    /// The first has no route to the second.
    no_routes: BTreeSet<(Name, Name)>,
    jams: BTreeMap<(Name, Name), jam::Jam>,
    stuck: Vec<(Time, jam::Late)>,
    /// The round trip between a server or cluster and another cluster, where it is long.
    far: BTreeMap<(Name, Name), Duration>,
    rtts: BTreeMap<(Name, Name), (u64, Time, Duration)>,
    muted: BTreeSet<Name>,
    random: u64,
    made: u64,
    /// Names of servers whose next answer to GATEWAYZ does not come.
    lost: BTreeSet<Name>,
    /// Answers that come late.
    delays: agent::Delays,
    /// Every answer comes twice.
    pub(crate) doubled: bool,
    /// Answers that get lost or come late by chance.
    noise: agent::Noise,
    pub(crate) observer: Observer,
    /// What each server counts of accounts; nothing where it stands not here.
    pub(crate) accountz: BTreeMap<Name, Accountz>,
    /// The streams that each server leads; without `JetStream` where it stands not here.
    pub(crate) jsz: BTreeMap<Name, Jsz>,
    pub(crate) expected: Option<std::sync::Arc<crate::model::Topology>>,

    agent: Option<Name>,
    /// Where it looks from besides.
    pub(crate) ways: agent::Ways,
    connected_at: Time,
    pub(crate) roster: Roster,
    pub(crate) ledger: Ledger,
    pub(crate) settings: BTreeMap<&'static str, Settings>,
    epoch: u64,
    half: bool,
    grid_at: Time,
    asked_at: Option<Time>,
    soon_at: Option<Time>,
    ripe_at: Option<Time>,
    varz_at: Option<Time>,
    routez_at: Option<Time>,
    accountz_at: Option<Time>,
    pub(crate) snapshot: Option<Snapshot>,
    /// Everything published, with the time.
    pub(crate) published: Vec<Change>,
}

impl World {
    /// `eu`, `us` and `ap` with three servers each, `eu-0` to `ap-2`, watched from `vantage` long enough to
    /// be judged.
    pub(crate) fn seen_from(vantage: &str) -> Self {
        Self::with_seed(vantage, 1)
    }

    /// As [`Self::seen_from`], with other random choices.
    pub(crate) fn with_seed(vantage: &str, seed: u64) -> Self {
        Self::of(&[("eu", 3), ("us", 3), ("ap", 3)], vantage, seed)
    }

    /// Clusters of these sizes, watched from `vantage` long enough to be judged.
    pub(crate) fn of(clusters: &[(&str, usize)], vantage: &str, seed: u64) -> Self {
        let mut world = Self::unwatched(clusters, seed);
        world.watch(vantage);
        world.run(secs(8));
        assert_eq!(world.story(), [""; 0], "a healthy supercluster makes no finding");
        world
    }

    /// A supercluster that has run for a while, and nobody looks.
    pub(crate) fn unwatched(clusters: &[(&str, usize)], seed: u64) -> Self {
        let now = Time::parse("2026-11-20T19:00:00Z").expect("a time");
        let mut world = Self {
            now,
            nodes: BTreeMap::new(),
            refusals: BTreeMap::new(),
            holes: BTreeMap::new(),
            half_open: BTreeSet::new(),
            deaf: BTreeSet::new(),
            no_routes: BTreeSet::new(),
            jams: BTreeMap::new(),
            stuck: Vec::new(),
            far: BTreeMap::new(),
            rtts: BTreeMap::new(),
            muted: BTreeSet::new(),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            made: 0,
            lost: BTreeSet::new(),
            delays: agent::Delays::default(),
            doubled: false,
            noise: agent::Noise::default(),
            observer: Observer::default(),
            accountz: BTreeMap::new(),
            jsz: BTreeMap::new(),
            expected: None,
            agent: None,
            ways: agent::Ways::default(),
            connected_at: now,
            roster: Roster::default(),
            ledger: Ledger::default(),
            settings: defaults(),
            epoch: 0,
            half: false,
            grid_at: now,
            asked_at: None,
            soon_at: None,
            ripe_at: None,
            varz_at: None,
            routez_at: None,
            accountz_at: None,
            snapshot: None,
            published: Vec::new(),
        };
        let names: Vec<Name> = clusters.iter().map(|(name, _)| Name::from(*name)).collect();
        for (cluster, size) in clusters {
            for n in 0..*size {
                let remotes = names
                    .iter()
                    .filter(|remote| ***remote != **cluster)
                    .map(|remote| (remote.clone(), [format!("{remote}.example:7222").into()].into()))
                    .collect();
                let gateway = GatewayConfig {
                    name: (*cluster).into(),
                    host: Some("0.0.0.0".into()),
                    port: Some(7222),
                    remotes,
                    ..GatewayConfig::default()
                };
                let name = Name::from(format!("{cluster}-{n}"));
                let node = Node {
                    name: name.clone(),
                    called: name.clone(),
                    cluster: (*cluster).into(),
                    id: "".into(),
                    ver: "2.15.1".into(),
                    power: Power::Down,
                    started_at: now,
                    starts_at: Some(now),
                    seq: 0,
                    beat_at: now,
                    beaten_at: None,
                    beats: 0,
                    greeted: false,
                    gateway: Some(gateway),
                    dials: BTreeMap::new(),
                };
                world.nodes.insert(name, node);
            }
        }
        world.run(secs(20));
        world
    }

    // ---- what a test does to it ----

    /// SIGKILL.
    pub(crate) fn kill(&mut self, server: &str) {
        self.node(server).power = Power::Down;
        self.node(server).dials.clear();
    }

    /// SIGKILL of each server of a cluster at once.
    pub(crate) fn kill_cluster(&mut self, cluster: &str) {
        for name in self.names_of(cluster) {
            self.kill(&name);
        }
    }

    /// The process starts, with a new ID.
    pub(crate) fn start(&mut self, server: &str) {
        let now = self.now;
        self.node(server).starts_at = Some(now);
    }

    /// Every server of a cluster starts.
    pub(crate) fn start_cluster(&mut self, cluster: &str) {
        for name in self.names_of(cluster) {
            self.start(&name);
        }
    }

    /// Every server of a cluster that does not run starts.
    pub(crate) fn start_if_down(&mut self, cluster: &str) {
        for name in self.names_of(cluster) {
            if !self.nodes[&name].exists() {
                self.start(&name);
            }
        }
    }

    /// SIGTERM, and half a second later the next life.
    pub(crate) fn restart(&mut self, server: &str) {
        self.say(server, &Signal::Shutdown);
        self.kill(server);
        let back_at = self.now.plus(ms(500));
        self.node(server).starts_at = Some(back_at);
        if self.agent.as_deref() == Some(server) {
            let next = self.names_of(&self.cluster_of(server)).into_iter().find(|n| **n != *server);
            self.reconnect(&next.expect("another server of the cluster"));
        }
    }

    /// A restart that changes its gateway block.
    pub(crate) fn reconfigure(&mut self, server: &str, change: impl FnOnce(&mut Option<GatewayConfig>)) {
        self.restart(server);
        change(&mut self.node(server).gateway);
    }

    /// SIGTERM, and it does not come back.
    pub(crate) fn shut_down(&mut self, server: &str) {
        self.say(server, &Signal::Shutdown);
        self.kill(server);
    }

    /// Lame duck, until [`Self::kill`] ends it: without a word.
    pub(crate) fn lame_duck(&mut self, server: &str) {
        self.say(server, &Signal::LameDuck);
        self.node(server).power = Power::LameDuck;
    }

    /// SIGSTOP.
    pub(crate) fn stop(&mut self, server: &str) {
        self.node(server).power = Power::Stopped(self.now);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, server: &str) {
        let (now, dropped) = (
            self.now,
            matches!(self.nodes[server].power, Power::Stopped(at) if self.now.since(at) > STALE_AFTER),
        );
        self.node(server).power = Power::Up;
        // What the others gave up meanwhile it notices now.
        for dial in self.node(server).dials.values_mut().filter(|_| dropped) {
            dial.up = None;
            dial.next_at = now.plus(ms(1050));
        }
        self.catch_up();
    }

    /// The way from `server` to the gateways of `remote` breaks, with a reset.
    pub(crate) fn cut(&mut self, server: &str, remote: &str) {
        self.refuse(server, remote, Refusal::Cut);
    }

    /// The connection breaks and can be made again at once: the server redials after `gap`.
    pub(crate) fn reset(&mut self, server: &str, remote: &str, gap: Duration) {
        let next_at = self.now.plus(gap);
        if let Some(dial) = self.node(server).dials.get_mut(remote) {
            dial.up = None;
            dial.next_at = next_at;
        }
    }

    /// The password that `server` has for `remote` is wrong.
    pub(crate) fn refuse_login(&mut self, server: &str, remote: &str) {
        self.refuse(server, remote, Refusal::Login);
    }

    /// `remote` takes the connections of `server` and ends them in the handshake.
    pub(crate) fn refuse_handshake(&mut self, server: &str, remote: &str) {
        self.refuse(server, remote, Refusal::Handshake);
    }

    /// Nothing passes between two clusters, in both directions.
    pub(crate) fn partition(&mut self, a: &str, b: &str) {
        for (from, to) in [(a, b), (b, a)] {
            for server in self.names_of(from) {
                self.cut(&server, to);
            }
        }
    }

    /// What `server` sends to `remote` is lost, and nobody notices for a while.
    pub(crate) fn swallow(&mut self, server: &str, remote: &str) {
        let now = self.now;
        self.holes.insert((server.into(), remote.into()), now);
    }

    /// The far end of a link drops it, and its dialer hears nothing of it.
    pub(crate) fn half_open(&mut self, server: &str, remote: &str) {
        self.half_open.insert((server.into(), remote.into()));
        self.swallow(server, remote);
    }

    /// No request reaches the server, as when a route to it swallows them.
    pub(crate) fn deafen(&mut self, server: &str) {
        self.deaf.insert(server.into());
    }

    /// There is no route between two servers of a cluster, as both know.
    pub(crate) fn cut_route(&mut self, a: &str, b: &str) {
        self.lose_route(a, b);
        self.lose_route(b, a);
    }

    /// `server` gave up its route to `peer`, which does not know yet.
    pub(crate) fn lose_route(&mut self, server: &str, peer: &str) {
        self.no_routes.insert((server.into(), peer.into()));
    }

    /// Every way is open, every password right.
    pub(crate) fn heal(&mut self) {
        self.refusals.clear();
        self.holes.clear();
        self.deaf.clear();
        for (server, remote) in std::mem::take(&mut self.half_open) {
            self.reset(&server, &remote, ms(1050));
        }
        self.no_routes.clear();
        self.far.clear();
        self.catch_up();
    }

    /// What waited on a connection that passes again arrives.
    fn catch_up(&mut self) {
        for server in self.names() {
            let remotes: Vec<Name> = self.nodes[&server].dials.keys().cloned().collect();
            for remote in remotes {
                if self.passes(&server, &remote)
                    && let Some(dial) = self.node(&server).dials.get_mut(&remote)
                {
                    dial.received = dial.sent;
                }
            }
        }
    }

    /// The next answer of `server` gets lost.
    pub(crate) fn lose_reply(&mut self, server: &str) {
        self.lost.insert(server.into());
    }

    /// Nobody looks for `time`, and nothing happens.
    pub(crate) fn skip(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// Runs for `time`.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            let tick_at = self.now.plus(TICK);
            match self.next_look_at() {
                Some(at) if at <= tick_at && at <= end => {
                    self.now = self.now.max(at);
                    self.look();
                }
                _ => {
                    self.now = tick_at.min(end);
                    self.tick();
                }
            }
        }
    }

    // ---- what a test asks of it ----

    /// Everything published so far, one line each: `opened gateway_disconnected us/us-1→eu path_cut`.
    pub(crate) fn story(&self) -> Vec<String> {
        self.published.iter().map(tell).collect()
    }

    /// What was published since, which is then forgotten.
    pub(crate) fn take_story(&mut self) -> Vec<String> {
        let story = self.story();
        self.published.clear();
        story
    }

    /// What is open.
    pub(crate) fn open(&self) -> Vec<String> {
        self.ledger.open().map(name).collect()
    }

    /// The last snapshot.
    pub(crate) fn view(&self) -> &Snapshot {
        self.snapshot.as_ref().expect("somebody looked")
    }

    /// Every server's name, by cluster and number.
    pub(crate) fn names(&self) -> Vec<Name> {
        self.nodes.keys().cloned().collect()
    }

    pub(crate) fn id(&self, server: &str) -> Name {
        self.nodes[server].id.clone()
    }

    /// The server at the other end of a link.
    pub(crate) fn peer(&self, server: &str, remote: &str) -> Option<Name> {
        self.nodes[server].dials.get(remote)?.up.as_ref().map(|(peer, _)| peer.clone())
    }

    /// How a server introduces itself.
    pub(crate) fn info(&self, server: &str) -> ServerInfo {
        let node = &self.nodes[server];
        ServerInfo {
            name: node.called.clone(),
            host: "127.0.0.1".into(),
            id: node.id.clone(),
            cluster: Some(node.cluster.clone()),
            ver: node.ver.clone(),
            seq: node.seq,
            time: Some(self.now),
            jetstream: self.jsz.contains_key(server),
            ..ServerInfo::default()
        }
    }

    /// Every server runs this version; before they are watched.
    pub(crate) fn version(&mut self, ver: &str) {
        for node in self.nodes.values_mut() {
            node.ver = ver.into();
        }
    }

    // ---- the servers ----

    fn refuse(&mut self, server: &str, remote: &str, how: Refusal) {
        self.refusals.insert((server.into(), remote.into()), how);
        let next_at = self.now.plus(ms(1050));
        if let Some(dial) = self.node(server).dials.get_mut(remote) {
            dial.up = None;
            dial.next_at = next_at;
        }
    }

    fn node(&mut self, server: &str) -> &mut Node {
        self.nodes.get_mut(server).unwrap_or_else(|| panic!("there is no server {server}"))
    }

    fn cluster_of(&self, server: &str) -> Name {
        self.nodes[server].cluster.clone()
    }

    fn names_of(&self, cluster: &str) -> Vec<Name> {
        self.nodes.values().filter(|n| *n.cluster == *cluster).map(|n| n.name.clone()).collect()
    }

    fn pick(&mut self, from: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(0) % from.max(1)
    }

    fn tick(&mut self) {
        self.flow();
        let now = self.now;
        let due: Vec<Name> = self
            .nodes
            .values()
            .filter(|n| n.starts_at.is_some_and(|at| at <= now))
            .map(|n| n.name.clone())
            .collect();
        for name in due {
            self.made += 1;
            let id = Name::from(format!("N{:04}{}", self.made, name.replace('-', "X").to_uppercase()));
            let phase = self.pick(10_000) as u64;
            let node = self.node(&name);
            node.id = id;
            node.power = Power::Up;
            node.started_at = now;
            node.starts_at = None;
            node.seq = 0;
            node.beat_at = now.plus(ms(phase));
            node.greeted = false;
            node.dials.clear();
        }
        for name in self.names() {
            self.drop_dead(&name);
        }
        for name in self.names() {
            self.dial(&name);
            self.beat(&name);
        }
    }

    fn is_hole(&self, server: &str, remote: &str) -> bool {
        self.holes.contains_key(&(Name::from(server), Name::from(remote)))
    }

    fn drop_dead(&mut self, server: &Name) {
        let now = self.now;
        if !self.nodes[server].runs() {
            return;
        }
        let dead: Vec<Name> = self.nodes[server]
            .dials
            .iter()
            .filter(|(remote, dial)| {
                let hole = self.holes.get(&(server.clone(), (*remote).clone()));
                let given_up = hole.is_some_and(|since| now.since(*since) > STALE_AFTER);
                dial.up.as_ref().is_some_and(|(peer, id)| {
                    let peer = &self.nodes[peer];
                    let stale = matches!(peer.power, Power::Stopped(at) if now.since(at) > STALE_AFTER);
                    !peer.exists() || peer.id != *id || stale || given_up
                })
            })
            .map(|(remote, _)| remote.clone())
            .collect();
        for remote in dead {
            let gap = ms(1000 + self.pick(150) as u64);
            if let Some(dial) = self.node(server).dials.get_mut(&remote) {
                dial.up = None;
                dial.next_at = now.plus(gap);
            }
        }
    }

    /// The remotes that a server dials: what it lists, and what gossip tells.
    fn remotes(&self, server: &Name) -> BTreeSet<Name> {
        let node = &self.nodes[server];
        let Some(gateway) = &node.gateway else { return BTreeSet::new() };
        let mut remotes: BTreeSet<Name> = gateway.remotes.keys().cloned().collect();
        let whole_lists = |remote: &Name| {
            self.peers(&node.cluster)
                .any(|p| p.gateway.as_ref().is_some_and(|g| g.remotes.contains_key(remote)))
        };
        for peer in self.peers(&node.cluster) {
            remotes.extend(peer.dials.iter().filter(|(_, d)| d.up.is_some()).map(|(r, _)| r.clone()));
        }
        for other in self.nodes.values().filter(|n| n.cluster != node.cluster) {
            let dials_us = other.dials.get(&node.cluster).is_some_and(|d| d.up.is_some());
            if dials_us && (!gateway.reject_unknown || whole_lists(&other.cluster)) {
                remotes.insert(other.cluster.clone());
            }
        }
        remotes
    }

    fn peers(&self, cluster: &Name) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |n| n.cluster == *cluster && n.exists())
    }

    fn dial(&mut self, server: &Name) {
        let now = self.now;
        if self.nodes[server].power != Power::Up || now.since(self.nodes[server].started_at) < secs(1) {
            return;
        }
        for remote in self.remotes(server) {
            let due =
                self.nodes[server].dials.get(&remote).is_none_or(|d| d.up.is_none() && d.next_at <= now);
            if due {
                self.dial_one(server, &remote);
            }
        }
    }

    fn dial_one(&mut self, server: &Name, remote: &Name) {
        let now = self.now;
        let (own, cluster, tls) = {
            let node = &self.nodes[server];
            (node.id.clone(), node.cluster.clone(), node.gateway.as_ref().is_some_and(|g| g.tls_required))
        };
        let there: Vec<(Name, Name)> = self
            .peers(remote)
            .filter(|n| n.power == Power::Up && n.gateway.is_some())
            .filter(|n| self.peers(&cluster).all(|p| p.called != n.called))
            .map(|n| (n.name.clone(), n.id.clone()))
            .collect();
        let refusal = self.refusals.get(&(server.clone(), remote.clone())).copied();
        let mut up = None;
        let mut reached = false;
        if refusal != Some(Refusal::Cut) && !self.is_hole(server, remote) && !there.is_empty() {
            reached = true;
            let (name, id) = there[self.pick(there.len())].clone();
            let far = self.nodes[&name].gateway.clone().expect("it has a gateway");
            let known = self
                .peers(remote)
                .any(|p| p.gateway.as_ref().is_some_and(|g| g.remotes.contains_key(&cluster)));
            // Refused by each server of a cluster that knows another one of that name.
            let namesake = self.peers(remote).any(|p| p.called == self.nodes[server].called);
            if refusal == Some(Refusal::Login) {
                self.say(&name, &Signal::GatewayRejected { dialer_id: own });
            } else if refusal.is_none()
                && !namesake
                && far.tls_required == tls
                && (known || !far.reject_unknown)
            {
                up = Some((name, id));
            }
        }
        self.made += 1;
        let (cid, next_at) = (self.made, now.plus(ms(1000 + self.pick(100) as u64)));
        self.node(server)
            .dials
            .insert(remote.clone(), Dial { up, cid, start: now, next_at, sent: 0, received: 0 });
        if reached {
            self.heartbeat(server);
        }
    }

    fn beat(&mut self, server: &Name) {
        let now = self.now;
        let node = &self.nodes[server];
        if node.power != Power::Up {
            return;
        }
        if !node.greeted && now.since(node.started_at) >= ms(1260) {
            self.node(server).greeted = true;
            // Each server sends one when it hears a new one.
            for name in self.names() {
                if self.nodes[&name].power == Power::Up {
                    self.heartbeat(&name);
                }
            }
        }
        if self.nodes[server].beat_at <= now {
            let interval = if &*self.nodes[server].ver == "2.9.10" { secs(30) } else { secs(10) };
            self.node(server).beat_at = now.plus(interval);
            self.heartbeat(server);
        }
    }

    fn heartbeat(&mut self, server: &Name) {
        let now = self.now;
        // At most one a second, since 2.10.17.
        if self.nodes[server].beaten_at.is_some_and(|at| now.since(at) < ms(900)) {
            return;
        }
        self.node(server).beaten_at = Some(now);
        self.node(server).beats += 1;
        let remotes: Vec<Name> = self.nodes[server].dials.keys().cloned().collect();
        for remote in remotes {
            self.send(server, &remote);
        }
        let statsz = self.statsz(server);
        self.say(server, &Signal::Heartbeat(statsz));
    }

    /// What a server says unasked reaches the agent where the server's own gateway does.
    fn say(&mut self, server: &str, signal: &Signal) {
        self.node(server).seq += 1;
        let Some(agent) = self.agent.clone() else { return };
        let up = |n: &Node| n.power == Power::Up;
        let hears = |at: &Name| self.reaches(server, &self.nodes[at]);
        let elsewhere = || self.ways.vantages.iter().any(|at| up(&self.nodes[at]) && hears(at));
        if !up(&self.nodes[server]) || !hears(&agent) && !elsewhere() {
            return;
        }
        let info = self.info(server);
        let late_by = self.late_by(server, &self.cluster_of(&agent));
        if !late_by.is_zero() {
            self.stuck.push((self.now.plus(late_by), jam::Late::Signal(info, signal.clone(), self.now)));
            return;
        }
        let news = !self.roster.knows(&info.id) || !matches!(signal, Signal::Heartbeat(_));
        let heard = if self.reaches(server, &self.nodes[&agent]) {
            self.roster.hear(info, signal.clone(), self.now)
        } else {
            self.roster.hear_elsewhere(info, signal.clone(), self.now)
        };
        heard.expect("no two servers share an ID");
        if news {
            self.soon_at.get_or_insert(self.now.plus(LOOK_SOON));
        }
    }

    /// One message of `server` to `remote`, counted where it gets to.
    fn send(&mut self, server: &str, remote: &Name) {
        let arrives = self.passes(server, remote);
        if let Some(dial) = self.node(server).dials.get_mut(remote)
            && dial.up.is_some()
        {
            dial.sent += 1;
            dial.received += u64::from(arrives);
        }
    }

    /// Whether what `server` sends arrives in `cluster`.
    fn passes(&self, server: &str, cluster: &Name) -> bool {
        if self.is_hole(server, cluster) {
            return false;
        }
        let node = &self.nodes[server];
        node.cluster == *cluster
            || node.dials.get(cluster).and_then(|d| d.up.as_ref()).is_some_and(|(peer, id)| {
                let peer = &self.nodes[peer];
                peer.runs() && peer.id == *id
            })
    }

    /// Whether it arrives at `at`, from where it enters the cluster over one route at the most.
    fn reaches(&self, server: &str, at: &Node) -> bool {
        let node = &self.nodes[server];
        let door = node.dials.get(&at.cluster).and_then(|d| d.up.as_ref()).map(|(peer, _)| &self.nodes[peer]);
        let from = if node.cluster == at.cluster { Some(node) } else { door };
        self.passes(server, &at.cluster) && from.is_some_and(|from| self.has_route(from, at))
    }

    fn has_route(&self, from: &Node, to: &Node) -> bool {
        from.id == to.id || !self.no_routes.contains(&(from.name.clone(), to.name.clone()))
    }

    fn statsz(&self, server: &str) -> Statsz {
        let node = &self.nodes[server];
        let inbounds = self.gatewayz(server).inbound;
        let up = node.dials.iter().filter(|(_, d)| d.up.is_some());
        let comes = |to: &Name| u32::try_from(inbounds.peers_of(to).len()).unwrap();
        let gateways = up.map(|(to, d)| (to.clone(), d.cid, comes(to))).collect();
        Statsz {
            start: Some(node.started_at),
            active_servers: Some(self.nodes.values().filter(|n| n.power == Power::Up).count() as u64),
            ..Statsz::default()
        }
        .with_gateways(gateways)
    }

    fn gatewayz(&self, server: &str) -> Gatewayz {
        let node = &self.nodes[server];
        let Some(config) = &node.gateway else { return Gatewayz::default() };
        let connection = |dial: &Dial, peer_id: &Name| Connection {
            cid: dial.cid,
            peer_id: peer_id.clone(),
            start: Some(dial.start),
            in_msgs: dial.received,
            out_msgs: dial.sent,
            ..Connection::default()
        };
        let outbound = node.dials.iter().filter_map(|(remote, dial)| {
            let (_, id) = dial.up.as_ref()?;
            let configured = config.remotes.contains_key(remote);
            let connection = self.load(connection(dial, id), &node.name, remote);
            Some((remote.clone(), Outbound { configured, connection }))
        });
        let mut inbound: BTreeMap<Name, Vec<Connection>> = BTreeMap::new();
        let stale = |n: &Node| matches!(n.power, Power::Stopped(at) if self.now.since(at) > STALE_AFTER);
        for other in self.nodes.values().filter(|n| n.exists() && !stale(n)) {
            for (remote, dial) in &other.dials {
                let dropped = self.half_open.contains(&(other.name.clone(), remote.clone()));
                if !dropped && dial.up.as_ref().is_some_and(|(_, id)| *id == node.id) {
                    inbound.entry(other.cluster.clone()).or_default().push(connection(dial, &other.id));
                }
            }
        }
        Gatewayz {
            name: Some(config.name.clone()),
            host: Some("10.0.0.1".into()),
            port: config.port,
            outbound: outbound.collect(),
            inbound: inbound.into(),
        }
    }

    fn varz(&self, server: &str) -> Varz {
        let node = &self.nodes[server];
        Varz {
            start: Some(node.started_at),
            config_load_time: Some(node.started_at),
            client_host: "0.0.0.0".into(),
            client_port: 4222,
            gateway: node.gateway.clone(),
            ..Varz::default()
        }
    }

    fn routez(&self, server: &str) -> Routez {
        let node = &self.nodes[server];
        let named = &*node.ver != "2.9.10";
        let there = self.peers(&node.cluster).filter(|p| p.called != node.called && self.has_route(node, p));
        let peers = there.map(|p| {
            let peer = RoutePeer {
                in_msgs: p.beats,
                name: named.then(|| p.called.clone()),
                ip: Some("127.0.0.1".into()),
                ..RoutePeer::default()
            };
            (p.id.clone(), peer)
        });
        Routez { peers: peers.collect() }
    }
}

/// Every check as it is when nobody sets anything.
pub(crate) fn defaults() -> BTreeMap<&'static str, Settings> {
    REGISTRY.iter().map(|check| (check.manual().slug, Settings::of(*check))).collect()
}

/// `us/us-1→eu`
pub(crate) fn place(entity: &Entity) -> String {
    let mut text = entity.cluster.as_deref().unwrap_or("-").to_owned();
    for (mark, name) in
        [("/", &entity.server), ("→", &entity.remote), ("@", &entity.account), ("~", &entity.peer_server)]
    {
        if let Some(name) = name {
            text.push_str(mark);
            text.push_str(name);
        }
    }
    text
}

fn name(finding: &Finding) -> String {
    format!("{} {} {}", finding.check, place(&finding.entity), finding.cause.kind.as_str())
}

/// One line of a story: an end is told with its reason, where that is not recovery.
fn tell(change: &Change) -> String {
    let f = &change.finding;
    match (change.action, change.reason) {
        (Action::Resolved, Reason::Recovered) => format!("resolved {} {}", f.check, place(&f.entity)),
        (Action::Resolved, reason) => {
            format!("resolved {} {} {reason:?}", f.check, place(&f.entity)).to_lowercase()
        }
        (action, _) => format!("{} {}", action.as_str(), name(f)),
    }
}

/// What is expected of one fault, seen from each of some servers and with several random choices.
pub(crate) struct Trial<'a> {
    /// The clusters and their sizes.
    pub(crate) of: &'a [(&'a str, usize)],
    /// From where.
    pub(crate) from: &'a [&'a str],
    /// The findings that open, in any order, and no other.
    pub(crate) opens: &'a [&'a str],
    /// How long that takes at the most.
    pub(crate) within: Duration,
    /// How long the fault lasts.
    pub(crate) lasts: Duration,
}

/// From one server of each cluster.
pub(crate) const EVERYWHERE: &[&str] = &["eu-0", "us-0", "ap-0"];
/// Three clusters of three.
pub(crate) const THREE: &[(&str, usize)] = &[("eu", 3), ("us", 3), ("ap", 3)];

impl Trial<'_> {
    /// `fault` opens what is expected; after `heal` each resolves once, and nothing is left open.
    pub(crate) fn holds(&self, fault: impl Fn(&mut World), heal: impl Fn(&mut World)) {
        for vantage in self.from {
            for seed in 1..3 {
                let mut world = World::of(self.of, vantage, seed);
                fault(&mut world);
                let since = world.now;
                world.run(self.within);
                // Later on a fault may show another face, and only who saw the first one knows better.
                crate::findings::judge::tests::assert_alike(&world);
                world.run(self.lasts.saturating_sub(self.within));
                let seen = format!("seen from {vantage} with seed {seed}: {:?}", world.story());
                let opened: Vec<&Change> =
                    world.published.iter().filter(|c| c.action == Action::Opened).collect();
                let mut names: Vec<String> = opened.iter().map(|c| name(&c.finding)).collect();
                names.sort();
                assert_eq!(names, self.opens, "one fault makes one finding, {seen}");
                for change in opened {
                    let took = change.finding.opened_at.since(since);
                    assert!(took <= self.within, "it took {took:?}, more than {:?}, {seen}", self.within);
                }
                heal(&mut world);
                world.run(secs(25));
                let resolved = world.published.iter().filter(|c| c.action == Action::Resolved).count();
                assert_eq!(
                    (resolved, world.open()),
                    (self.opens.len(), Vec::new()),
                    "each resolves once and nothing is left open after healing, seen from {vantage} with seed \
                     {seed}: {:?}",
                    world.story()
                );
                world.assert_in_order();
            }
        }
    }
}

impl World {
    /// Each finding opens, changes with ascending revisions, and ends; then it may open anew.
    pub(crate) fn assert_in_order(&self) {
        let mut open: BTreeMap<&str, u64> = BTreeMap::new();
        for change in &self.published {
            let f = &change.finding;
            let before = open.get(&*f.fingerprint).copied();
            match change.action {
                Action::Opened => assert_eq!((before, f.revision), (None, 1), "opened twice: {}", name(f)),
                _ => assert_eq!(before, Some(f.revision - 1), "out of order: {}", tell(change)),
            }
            if change.action == Action::Resolved {
                open.remove(&*f.fingerprint);
            } else {
                open.insert(&f.fingerprint, f.revision);
            }
        }
    }
}

mod agent;
mod change;
mod jam;
mod simulation;
mod tests;
mod ways;
