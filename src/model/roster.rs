//! The memory between two looks.

mod clusters;
mod elsewhere;
mod glance;
mod links;
mod order;
mod whole;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use glance::Glance;
use links::Links;
use order::Numbers;
pub use order::Order;
use thiserror::Error;
use witness::{Witness, sight};

use super::flow::{self, Receiver, Voice};
use super::pressure::{Loads, slow_consumers};
use super::routes::Meshes;
use super::traffic::TrafficMemory;
use super::{
    Accountz, Configured, Fact, Gatewayz, Heard, Interest, Jsz, Life, Movement, Name, Observer, Rejection,
    Routez, Server, ServerInfo, Sight, Signal, Snapshot, Statsz, Time, Vantage, Varz, heartbeat_interval,
    imprint,
};

/// How many servers are remembered. What the network says beyond that is counted and not taken in.
pub const SERVERS_MAX: usize = 20_000;
/// How many clusters are remembered, as [`SERVERS_MAX`].
pub const CLUSTERS_MAX: usize = 4096;
/// How much memory the answers may take that are held, in bytes, as [`Fact::bytes`] counts, which is about twice what they
/// take: ten thousand servers in a hundred clusters take 1.1 GiB by it.
const FACTS_BYTES_MAX: usize = 2 << 30;
/// How many IDs of ended lives are remembered, so that an old answer does not bring one back.
const RETIRED_MAX: usize = 4 * SERVERS_MAX;
/// How long a refused login stands for the present: a server dials again after 1.0 to 1.15 s.
const REJECTION_FRESH: Duration = Duration::from_secs(6);
/// A route list older than this says nothing about who lives now.
const ROUTES_FRESH: Duration = Duration::from_secs(3);
/// Servers whose silence begins this close together may be silent for one reason.
const TOGETHER: Duration = Duration::from_secs(3);
/// Two looks at an absent link further apart than this do not join into one absence.
const ABSENCE_GAP: Duration = Duration::from_secs(10);
/// A server that moves to another cluster may be told of in both for a while.
const DOUBLED_FOR: Duration = Duration::from_secs(10);
/// A server that left is forgotten after this long.
const LEFT_KEPT: Duration = Duration::from_secs(3600);

/// Why a reply was not taken in.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Odd {
    /// Two servers cannot share an ID; the one that spoke first keeps it.
    #[error("claims the ID of {known}, as {claimed}")]
    ClaimsId {
        /// Name and cluster of the server that has it.
        known: String,
        /// Name and cluster in the reply.
        claimed: String,
    },
    /// The roster is full.
    #[error("more than {SERVERS_MAX} servers")]
    Full,
    /// Its cluster is new, and one too many.
    #[error("more than {CLUSTERS_MAX} clusters")]
    Clusters,
    /// There is no room for what it says.
    #[error("what the servers say takes more than {} MiB", FACTS_BYTES_MAX >> 20)]
    Facts,
}

/// One look that is over.
#[derive(Clone, Debug)]
pub struct Look {
    /// The epoch it belongs to.
    pub epoch: u64,
    /// When the servers were asked.
    pub asked_at: Time,
    /// When those of each cluster were, where that was later.
    pub asked: BTreeMap<Name, Time>,
    /// Whether the connection is old enough to judge by.
    pub settled: bool,
    /// From where.
    pub vantage: Vantage,
    /// The IDs of those who answered GATEWAYZ.
    pub answered: BTreeSet<Name>,
    /// The IDs of those who answered it to a question that went another way than by the vantage's server.
    pub elsewhere: BTreeSet<Name>,
    /// The IDs of those whose answers come after a look is over, with when they were asked what they answered last.
    pub late: BTreeMap<Name, Time>,
    /// How well the agent itself can see.
    pub observer: Observer,
    /// How long it took to ask all of them: about as far apart looks are.
    pub lasts: Duration,
}

/// All servers that are known, and what was last seen of them.
#[derive(Debug, Default)]
pub struct Roster {
    records: BTreeMap<Name, Record>,
    links: Links,
    clusters: BTreeMap<Name, ClusterMemory>,
    rejections: BTreeMap<Name, VecDeque<(Name, Rejection)>>,
    meshes: Meshes,
    loads: Loads,
    retired: BTreeSet<Name>,
    retired_order: VecDeque<Name>,
    over: u64,
    clusters_over: u64,
    facts_over: u64,
    /// How much memory the answers take that are held.
    facts_bytes: usize,
    /// How many servers have each configuration that is kept, by its place.
    alike: BTreeMap<usize, usize>,
    began_at: Option<Time>,
    traffic: TrafficMemory,
}

#[derive(Debug)]
struct Record {
    info: ServerInfo,
    /// Whether `info` is its own word, not what others call it.
    introduced: bool,
    first_seen_at: Time,
    answered_at: Option<Time>,
    /// When it last answered by another way than the vantage's server, and the last sign that came so.
    answered_elsewhere_at: Option<Time>,
    elsewhere_at: Option<Time>,
    heard_at: Option<Time>,
    silent_since: Option<Time>,
    alive_at: Option<Time>,
    ended: bool,
    left_at: Option<Time>,
    /// When its gateway to the vantage's cluster was first seen to be gone.
    shut_at: Option<Time>,
    /// When each came, and its number.
    heartbeats: VecDeque<(Time, u64)>,
    /// The first look in a row in which another cluster had a living server of its name.
    doubled_since: Option<Time>,
    gatewayz: Option<(Time, Arc<Gatewayz>)>,
    /// Of the outbound gateways in that.
    imprint: Option<u64>,
    varz: Option<(Time, Arc<Varz>)>,
    routez: Option<(Time, Arc<Routez>)>,
    statsz: Option<(Time, Arc<Statsz>)>,
    accountz: Option<(Time, Arc<Accountz>)>,
    jsz: Option<(Time, Arc<Jsz>)>,
    jsz_before: Option<Arc<Jsz>>,
    interest: Option<(Time, Arc<Interest>)>,
    /// While it is silent.
    voice: Option<Voice>,
    /// Of its answers of each kind; by other ways, for of two answers on their way at once the newer may come first.
    told: [Numbers; Fact::KINDS],
    told_elsewhere: [Numbers; Fact::KINDS],
    /// How much memory its answers of each kind take.
    facts_bytes: [usize; Fact::KINDS],
    /// What of VARZ is counted once for all who have it.
    configured: Configured,
}

#[derive(Debug, Default)]
struct ClusterMemory {
    answering_since: Option<Time>,
    dark_since: Option<Time>,
    elsewhere_since: Option<Time>,
    severed_since: Option<Time>,
    /// Had a server of its own once, or was connected to: not only a name in a configuration.
    existed: bool,
    /// All of its servers had said goodbye in the look before.
    left: bool,
    /// As one of its servers told last: most often all tell the same.
    interest: Arc<Interest>,
}

impl Record {
    fn new(info: ServerInfo, introduced: bool, at: Time) -> Self {
        Self {
            info,
            introduced,
            first_seen_at: at,
            answered_at: None,
            answered_elsewhere_at: None,
            elsewhere_at: None,
            heard_at: None,
            silent_since: None,
            alive_at: None,
            ended: false,
            left_at: None,
            shut_at: None,
            heartbeats: VecDeque::new(),
            doubled_since: None,
            gatewayz: None,
            imprint: None,
            varz: None,
            routez: None,
            statsz: None,
            accountz: None,
            jsz: None,
            jsz_before: None,
            interest: None,
            voice: None,
            told: [Numbers::default(); Fact::KINDS],
            told_elsewhere: [Numbers::default(); Fact::KINDS],
            facts_bytes: [0; Fact::KINDS],
            configured: Configured::default(),
        }
    }

    /// When the process started, by its own clock.
    fn start(&self) -> Option<Time> {
        let varz = self.varz.as_ref().and_then(|(_, varz)| varz.start);
        varz.or_else(|| self.statsz.as_ref().and_then(|(_, statsz)| statsz.start))
    }

    fn hear(&mut self, at: Time, elsewhere: bool) {
        let heard_at = if elsewhere { &mut self.elsewhere_at } else { &mut self.heard_at };
        *heard_at = (*heard_at).max(Some(at));
    }

    /// The last sign of it, by whatever way.
    fn last_sign_at(&self) -> Option<Time> {
        self.heard_at.max(self.elsewhere_at)
    }
}

fn replace<T>(slot: &mut Option<(Time, Arc<T>)>, at: Time, fact: impl Into<Arc<T>>) {
    if slot.as_ref().is_none_or(|(held_at, _)| *held_at <= at) {
        *slot = Some((at, fact.into()));
    }
}

/// One server less has what is kept there; whether it was the last.
fn part(alike: &mut BTreeMap<usize, usize>, place: usize) -> bool {
    let Some(holders) = alike.get_mut(&place) else { return false };
    *holders -= 1;
    let alone = *holders == 0;
    if alone {
        alike.remove(&place);
    }
    alone
}

/// The other ends of its gateways: their clusters, and their IDs.
fn peers(gatewayz: &Gatewayz) -> impl Iterator<Item = (&Name, &Name)> {
    gatewayz.outbound.peers().chain(gatewayz.inbound.peers())
}

fn describe(info: &ServerInfo) -> String {
    format!("{} ({})", info.name, info.cluster.as_deref().unwrap_or("no cluster"))
}

impl Roster {
    /// Takes in one reply that was made at `made_at`.
    ///
    /// # Errors
    /// A reply under another server's ID, or one server too many; nothing is taken in then.
    pub fn answer(&mut self, server: ServerInfo, fact: Fact, made_at: Time) -> Result<(), Odd> {
        self.take(server, fact, made_at, false)
    }

    fn take(&mut self, server: ServerInfo, fact: Fact, made_at: Time, elsewhere: bool) -> Result<(), Odd> {
        let (cluster, told_at, id) = (server.cluster.clone(), server.time, server.id.clone());
        let seq = server.seq;
        let record = self.introduce(server, made_at)?;
        let told = if elsewhere { &mut record.told_elsewhere } else { &mut record.told };
        if let Some(told) = told.get_mut(fact.kind()) {
            told.take(seq);
        }
        let slow = slow_consumers(
            record.varz.as_ref().map(|(_, v)| &**v),
            record.statsz.as_ref().map(|(_, s)| &**s),
        );
        self.make_room(&id, &fact)?;
        self.loads.answer(&id, &fact, slow, made_at);
        let Some(record) = self.records.get_mut(&id) else { return Ok(()) };
        record.hear(made_at, elsewhere);
        let answered_at = if elsewhere { &mut record.answered_elsewhere_at } else { &mut record.answered_at };
        *answered_at = (*answered_at).max(Some(made_at));
        match fact {
            Fact::Gatewayz(gatewayz) => {
                // Who was named in the answer before is known.
                let held = record.gatewayz.as_ref().map(|(_, held)| &**held);
                let all_known = held.is_some_and(|held| peers(held).eq(peers(&gatewayz)));
                let gatewayz = Arc::new(gatewayz);
                replace(&mut record.gatewayz, made_at, Arc::clone(&gatewayz));
                let held = record.gatewayz.as_ref().map(|(_, held)| held.outbound.cids());
                record.imprint = held.map(|cids| imprint(cids.map(|(remote, cid)| (&**remote, cid))));
                for (remote, id) in peers(&gatewayz).filter(|_| !all_known) {
                    if !self.records.contains_key(id) {
                        self.name(id.clone(), id.clone(), Some(remote.clone()), made_at);
                    }
                }
            }
            Fact::Varz(varz) => replace(&mut record.varz, made_at, *varz),
            Fact::Routez(routez) => {
                let routez = Arc::new(routez);
                replace(&mut record.routez, made_at, Arc::clone(&routez));
                for (id, name) in routez.peers.names() {
                    if self.records.get(id).is_none_or(|r| !r.introduced) {
                        self.name(id.clone(), name.unwrap_or(id).clone(), cluster.clone(), made_at);
                    }
                }
            }
            Fact::Statsz(statsz) => replace(&mut record.statsz, made_at, statsz),
            Fact::Accountz(accountz) => {
                let (id, start) = (record.info.id.clone(), record.start());
                let started_at =
                    told_at.zip(start).map(|(told_at, start)| made_at.minus(told_at.since(start)));
                self.accounts(&id, started_at, accountz, made_at);
            }
            Fact::Jsz(jsz) => {
                if let Some((_, held)) = record.jsz.as_ref().filter(|(at, _)| *at < made_at) {
                    record.jsz_before = (**held != jsz).then(|| Arc::clone(held));
                }
                replace(&mut record.jsz, made_at, jsz);
            }
            Fact::Interest(interest) => {
                let known = cluster.as_ref().and_then(|cluster| self.clusters.get_mut(cluster));
                let mut alone = Arc::default();
                let known = known.map_or(&mut alone, |memory| &mut memory.interest);
                if **known != interest {
                    *known = Arc::new(interest);
                }
                replace(&mut record.interest, made_at, Arc::clone(known));
            }
        }
        Ok(())
    }

    /// Counts what `fact` takes in place of what the server said before.
    fn make_room(&mut self, id: &Name, fact: &Fact) -> Result<(), Odd> {
        let Some(record) = self.records.get_mut(id) else { return Ok(()) };
        let Some(held) = record.facts_bytes.get_mut(fact.kind()) else { return Ok(()) };
        let bytes = fact.bytes();
        let (mut before, mut after) = (*held, bytes);
        let configured = match fact {
            Fact::Varz(varz) => varz.gateway.as_ref().map(|gateway| &gateway.remotes),
            _ => Some(&record.configured),
        };
        let configured = configured.cloned().unwrap_or_default();
        let (old, new) = (record.configured.place(), configured.place());
        if old != new {
            before += if self.alike.get(&old) == Some(&1) { record.configured.bytes() } else { 0 };
            after += if self.alike.contains_key(&new) { 0 } else { configured.bytes() };
        }
        let others = self.facts_bytes.saturating_sub(before);
        // What grows no larger is taken in, whoever else has filled the room.
        if after > before && others.saturating_add(after) > FACTS_BYTES_MAX {
            self.facts_over += 1;
            return Err(Odd::Facts);
        }
        self.facts_bytes = others.saturating_add(after);
        *held = bytes;
        if old != new {
            part(&mut self.alike, old);
            *self.alike.entry(new).or_default() += 1;
            record.configured = configured;
        }
        Ok(())
    }

    fn accounts(&mut self, id: &Name, started_at: Option<Time>, told: Accountz, made_at: Time) {
        let at = self.traffic.poll_at(made_at);
        let Some(record) = self.records.get_mut(id) else { return };
        let held = record.accountz.take().or_else(|| Some((started_at?.min(at), Arc::default())));
        if held.as_ref().is_some_and(|(held_at, _)| *held_at > at) {
            record.accountz = held;
            return;
        }
        let told = Arc::new(told);
        record.accountz = Some((at, Arc::clone(&told)));
        self.traffic.take(&record.info, held.as_ref().map(|(at, held)| (*at, &**held)), &told, at);
    }

    /// Takes in what was heard unasked at `now`.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn hear(&mut self, server: ServerInfo, signal: Signal, now: Time) -> Result<(), Odd> {
        self.listen(server, signal, now, false)
    }

    fn listen(&mut self, server: ServerInfo, signal: Signal, now: Time, elsewhere: bool) -> Result<(), Odd> {
        let (seq, id) = (server.seq, server.id.clone());
        let record = self.introduce(server, now)?;
        record.hear(now, elsewhere);
        match signal {
            Signal::Heartbeat(statsz) => {
                // Two vantages hear the same one.
                if seq > 0 && record.heartbeats.iter().any(|(_, known)| *known == seq) {
                    return Ok(());
                }
                record.heartbeats.push_back((now, seq));
                while record.heartbeats.len() > 16 {
                    record.heartbeats.pop_front();
                }
                let fact = Fact::Statsz(statsz);
                self.make_room(&id, &fact)?;
                if let (Some(record), Fact::Statsz(statsz)) = (self.records.get_mut(&id), fact) {
                    replace(&mut record.statsz, now, statsz);
                }
            }
            Signal::Shutdown | Signal::LameDuck => record.left_at = Some(now),
            Signal::GatewayRejected { dialer_id } => {
                let by = record.info.clone();
                if let (Some(cluster), true) = (by.cluster, self.rejections.len() < SERVERS_MAX) {
                    let list = self.rejections.entry(dialer_id).or_default();
                    list.push_back((cluster, Rejection { by: by.name, at: now }));
                    while list.len() > 64 {
                        list.pop_front();
                    }
                }
            }
        }
        Ok(())
    }

    /// A reply of `server` came at `now` and was of no use: still a sign of life.
    pub fn mumble(&mut self, server: &ServerInfo, now: Time) {
        if let Some(record) = self.records.get_mut(&server.id) {
            record.hear(now, false);
        }
    }

    /// Makes servers known that an earlier start of the agent knew, or another agent, and when they were last heard.
    pub fn recall(&mut self, servers: impl IntoIterator<Item = (ServerInfo, Time)>) {
        let key = |info: &ServerInfo| (info.name.clone(), info.cluster.clone());
        let mut known: BTreeSet<(Name, Option<Name>)> = self.records.values().map(|r| key(&r.info)).collect();
        for (info, at) in servers {
            if info.cluster.as_ref().is_some_and(|cluster| !self.has_existed(cluster)) {
                continue;
            }
            if self.records.len() >= SERVERS_MAX {
                self.over += 1;
                continue;
            }
            if !info.id.is_empty() && !self.records.contains_key(&info.id) && known.insert(key(&info)) {
                let mut record = Record::new(info, false, at);
                record.heard_at = Some(at);
                self.records.insert(record.info.id.clone(), record);
            }
        }
    }

    /// Who has spoken to us and did not leave, as far as another agent needs it, and the last sign of each.
    pub fn known(&self) -> impl Iterator<Item = (ServerInfo, Time)> {
        self.records.values().filter(|r| r.introduced && r.left_at.is_none()).filter_map(|r| {
            let info = ServerInfo { tags: Vec::new(), metadata: BTreeMap::new(), ..r.info.clone() };
            Some((info, r.last_sign_at()?))
        })
    }

    /// Makes known that a server of this name had a gateway to `remote` at `at`.
    pub fn recall_link(&mut self, cluster: Name, server: Name, remote: &Name, at: Time) {
        self.links.recall(cluster, server, remote, at);
    }

    /// Makes a cluster known that an earlier start of the agent knew.
    pub fn recall_cluster(&mut self, cluster: &Name) {
        self.has_existed(cluster);
    }

    /// Remembers that there is or was such a cluster; whether there is room for it.
    fn has_existed(&mut self, cluster: &Name) -> bool {
        if let Some(memory) = self.clusters.get_mut(cluster) {
            memory.existed = true;
            return true;
        }
        if self.clusters.len() >= CLUSTERS_MAX {
            self.clusters_over += 1;
            return false;
        }
        self.clusters.insert(cluster.clone(), ClusterMemory { existed: true, ..ClusterMemory::default() });
        true
    }

    /// The connection was lost: what was counted in looks begins anew, for nobody looked in between.
    pub fn blink(&mut self) {
        for record in self.records.values_mut() {
            record.silent_since = None;
        }
        self.links.blink();
        for memory in self.clusters.values_mut() {
            memory.dark_since = None;
            memory.elsewhere_since = None;
            memory.severed_since = None;
        }
        self.meshes.blink();
    }

    /// The IDs of the servers whose answer is worth waiting for: they answered the last time or the time
    /// before, and did not say goodbye.
    pub fn prompt(&self, since: Time) -> impl Iterator<Item = &Name> {
        self.records
            .iter()
            .filter(move |(_, r)| r.left_at.is_none() && r.answered_at.is_some_and(|at| at >= since))
            .map(|(id, _)| id)
    }

    /// The IDs of the servers whose configuration was not seen since `since`, and which answer.
    pub fn without_varz(&self, since: Time) -> impl Iterator<Item = &Name> {
        self.records
            .iter()
            .filter(move |(_, r)| {
                r.left_at.is_none()
                    && r.silent_since.is_none()
                    && r.answered_at.is_some()
                    && r.answered_at >= r.answered_elsewhere_at
                    && r.varz.as_ref().is_none_or(|(at, _)| *at < since)
            })
            .map(|(id, _)| id)
    }

    /// The clusters with a server that is silent and said no goodbye: who lives there is worth asking.
    pub fn clusters_with_silence(&self) -> BTreeSet<Name> {
        self.records
            .values()
            .filter(|r| r.left_at.is_none() && (r.silent_since.is_some() || r.answered_at.is_none()))
            .filter_map(|r| r.info.cluster.clone())
            .collect()
    }

    /// The clusters whose routes are in trouble: they are worth asking for again.
    pub fn clusters_with_route_trouble(&self) -> BTreeSet<Name> {
        let troubled = self.meshes.incomplete().chain(self.loads.pressed_routes());
        troubled.filter_map(|id| self.cluster_of(id)).collect()
    }

    /// Whether more waits to be written on a gateway than usual.
    pub fn is_pressed(&self) -> bool {
        self.loads.is_pressed()
    }

    /// The cluster that a server introduced itself with.
    pub fn cluster_of(&self, id: &str) -> Option<Name> {
        self.records.get(id).and_then(|r| r.info.cluster.clone())
    }

    /// Those of `ids` that are of `cluster`.
    pub fn members(&self, cluster: &Name, ids: &BTreeSet<Name>) -> BTreeSet<Name> {
        ids.iter()
            .filter(|id| self.records.get(*id).is_some_and(|r| r.info.cluster.as_ref() == Some(cluster)))
            .cloned()
            .collect()
    }

    /// Whether `own` has told how many servers it hears, and which clusters it has gateways to.
    pub fn is_told_by(&self, own: &str) -> bool {
        self.records.get(own).is_some_and(|r| r.statsz.is_some())
    }

    /// Whether everybody who did not leave has told its totals since `since`, as heartbeats do.
    pub fn have_told_statsz(&self, since: Time) -> bool {
        let told = |r: &Record| r.statsz.as_ref().is_some_and(|(at, _)| *at >= since);
        self.records.values().all(|r| r.left_at.is_some() || r.silent_since.is_some() || told(r))
    }

    /// How many servers each cluster has, as far as is known: where only the gateways of `own` tell of a cluster,
    /// its share of those that `own` hears.
    pub fn census(&self, own: &str) -> BTreeMap<Name, usize> {
        let mut census: BTreeMap<Name, usize> = BTreeMap::new();
        for record in self.records.values().filter(|r| r.left_at.is_none()) {
            if let Some(cluster) = &record.info.cluster {
                *census.entry(cluster.clone()).or_default() += 1;
            }
        }
        let Some((_, told)) = self.records.get(own).and_then(|r| r.statsz.as_ref()) else { return census };
        let heard = told.active_servers.and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(SERVERS_MAX);
        let unknown: Vec<&Name> = told.gateways.keys().filter(|name| !census.contains_key(*name)).collect();
        let each = heard.saturating_sub(census.values().sum()).div_ceil(unknown.len().max(1)).max(1);
        census.extend(unknown.into_iter().map(|name| (name.clone(), each)));
        census
    }

    /// How many servers are known and did not leave.
    pub fn len(&self) -> usize {
        self.records.values().filter(|r| r.left_at.is_none()).count()
    }

    /// Whether no server is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether `server` claims the ID of a server of another name or cluster.
    ///
    /// # Errors
    /// It does; what it says is nobody's word.
    pub fn hold_to_its_id(&self, server: &ServerInfo) -> Result<(), Odd> {
        match self.records.get(&server.id) {
            Some(record)
                if record.introduced
                    && (record.info.name != server.name || record.info.cluster != server.cluster) =>
            {
                Err(Odd::ClaimsId { known: describe(&record.info), claimed: describe(server) })
            }
            _ => Ok(()),
        }
    }

    /// Where the answer to this question stands among those of its kind that the server gave before.
    pub fn order(&mut self, server: &ServerInfo, fact: &Fact, question: u64, elsewhere: bool) -> Order {
        // By other ways a server is asked more than once, and what else it is asked may be asked again.
        let once = (matches!(fact, Fact::Gatewayz(_)) && !elsewhere).then_some(question);
        let record = self.records.get_mut(&server.id);
        let told = record.map(|r| if elsewhere { &mut r.told_elsewhere } else { &mut r.told });
        let told = told.and_then(|told| told.get_mut(fact.kind()));
        told.map_or(Order::Next, |told| told.order(server.seq, once, !elsewhere))
    }

    /// What the server answered last to GATEWAYZ.
    pub fn gatewayz(&self, id: &str) -> Option<&Arc<Gatewayz>> {
        self.records.get(id)?.gatewayz.as_ref().map(|(_, gatewayz)| gatewayz)
    }

    /// What the server answered last to ROUTEZ, and when.
    pub fn routez(&self, id: &str) -> Option<&(Time, Arc<Routez>)> {
        self.records.get(id)?.routez.as_ref()
    }

    /// Whether `id` has spoken to us itself.
    pub fn knows(&self, id: &str) -> bool {
        self.records.get(id).is_some_and(|r| r.introduced)
    }

    /// The record of a server that speaks for itself.
    fn introduce(&mut self, server: ServerInfo, at: Time) -> Result<&mut Record, Odd> {
        self.hold_to_its_id(&server)?;
        let full = self.records.len() >= SERVERS_MAX;
        if full && !self.records.contains_key(&server.id) {
            self.over += 1;
            return Err(Odd::Full);
        }
        if !server.cluster.as_ref().is_none_or(|cluster| self.has_existed(cluster)) {
            return Err(Odd::Clusters);
        }
        match self.records.entry(server.id.clone()) {
            std::collections::btree_map::Entry::Occupied(entry) => {
                let record = entry.into_mut();
                // It speaks after it said goodbye: a lame duck of before 2.9.22, or a late message.
                if server.seq > record.info.seq || !record.introduced {
                    if record.left_at.is_some_and(|left_at| at > left_at) {
                        record.left_at = None;
                    }
                    record.info = server;
                }
                record.introduced = true;
                Ok(record)
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                self.retired.remove(&server.id);
                Ok(entry.insert(Record::new(server, true, at)))
            }
        }
    }

    /// Makes a server known that others name. An ended life is not brought back by an old answer.
    fn name(&mut self, id: Name, name: Name, cluster: Option<Name>, at: Time) {
        if id.is_empty() {
            return;
        }
        if let Some(record) = self.records.get_mut(&id) {
            if !record.introduced && record.info.name == id && name != id {
                record.info.name = name;
            }
            return;
        }
        if self.retired.contains(&id) {
            return;
        }
        if self.records.len() >= SERVERS_MAX {
            self.over += 1;
            return;
        }
        let info = ServerInfo { name, id: id.clone(), cluster, ..ServerInfo::default() };
        self.records.insert(id, Record::new(info, false, at));
    }

    /// The view after one look. What it remembers for the next is updated.
    pub fn snapshot(&mut self, look: Look) -> Snapshot {
        self.count_silence(&look);
        let witness = Witness::of(&self.records, &look);
        self.note_doubles(&look, &witness);
        self.retire(&look, &witness);
        let mut servers: BTreeMap<Name, Server> =
            self.records.iter_mut().map(|(id, r)| (id.clone(), r.seen(&look, &witness))).collect();
        self.listen_for_the_silent(&look, &mut servers);
        self.meshes.fill(&mut servers);
        self.loads.fill(&mut servers, look.asked_at);
        let clusters = self.clusters(&look, &servers);
        let lacks = servers.get(&look.vantage.server_id).map(|own| own.lacks.clone()).unwrap_or_default();
        for server in servers.values_mut() {
            server.sight = sight(server, &look, &clusters, &lacks);
        }
        let links = self.links.view(&look, &servers, &clusters, &self.loads, &self.rejections);
        let movement = self.movement(&look, &servers);
        let mut observer = look.observer;
        observer.servers_over = self.over;
        observer.clusters_over = self.clusters_over;
        observer.answers_over = self.facts_over;
        Snapshot {
            epoch: look.epoch,
            at: look.asked_at,
            began_at: *self.began_at.get_or_insert(look.asked_at),
            settled: look.settled,
            vantage: look.vantage,
            servers,
            clusters,
            links,
            movement,
            observer,
            expected: None,
        }
    }

    /// Gives back a snapshot that nobody needs any more: the next one is made in its room.
    pub fn take_back(&mut self, snapshot: Snapshot) {
        self.links.take_back(snapshot.links);
    }

    /// Sums up what accounts move over this time. What was summed up before is forgotten.
    pub fn sum_up_over(&mut self, window: Duration) {
        self.traffic = TrafficMemory::over(window);
    }

    fn movement(&mut self, look: &Look, servers: &BTreeMap<Name, Server>) -> Arc<Movement> {
        let last = servers
            .values()
            .filter(|server| !matches!(server.life, Life::Left | Life::Gone))
            .map(|server| {
                let told = self.records.get(&server.info.id).and_then(|record| record.accountz.as_ref());
                (&server.info.name, told.map_or(server.first_seen_at, |(at, _)| *at))
            })
            .min_by_key(|(_, at)| *at)
            .map(|(name, at)| (name.clone(), at));
        let system =
            servers.values().filter_map(|server| server.varz.as_ref()?.system_account.clone()).collect();
        self.traffic.view(last, system, look.asked_at)
    }

    fn count_silence(&mut self, look: &Look) {
        for (id, record) in &mut self.records {
            if look.hears(id) {
                record.silent_since = None;
            } else if look.settled {
                record.silent_since.get_or_insert(look.asked_at);
            }
            while record
                .heartbeats
                .front()
                .is_some_and(|(at, _)| look.asked_at.since(*at) > Server::HEARTBEAT_WINDOW)
            {
                record.heartbeats.pop_front();
            }
        }
        for list in self.rejections.values_mut() {
            while list.front().is_some_and(|(_, r)| look.asked_at.since(r.at) > REJECTION_FRESH) {
                list.pop_front();
            }
        }
        self.rejections.retain(|_, list| !list.is_empty());
    }

    fn listen_for_the_silent(&mut self, look: &Look, servers: &mut BTreeMap<Name, Server>) {
        let silent: BTreeSet<Name> =
            self.records.iter().filter(|(_, r)| r.silent_since.is_some()).map(|(id, _)| id.clone()).collect();
        if silent.is_empty() && self.records.values().all(|r| r.voice.is_none()) {
            return;
        }
        let answered =
            self.records.iter().filter(|(id, _)| servers.get(*id).is_some_and(|s| s.gatewayz.is_some()));
        let told = answered.map(|(id, record)| Receiver {
            id,
            cluster: record.info.cluster.as_ref(),
            gatewayz: record.gatewayz.as_ref(),
            routez: record.routez.as_ref(),
        });
        let mut counted = flow::received(told, look.vantage.cluster.as_ref(), |id| silent.contains(id));
        for (id, record) in &mut self.records {
            if record.silent_since.is_none() {
                record.voice = None;
                continue;
            }
            let asked_at = record.info.cluster.as_ref().and_then(|cluster| look.asked.get(cluster));
            let asked_at = asked_at.unwrap_or(&look.asked_at);
            let voice = record.voice.get_or_insert_with(|| Voice::from(asked_at.plus(Snapshot::ON_ITS_WAY)));
            let heard = voice.look(counted.remove(id).unwrap_or_default(), look.asked_at);
            if let Some(server) = servers.get_mut(id) {
                server.heard_by_others = heard;
            }
        }
    }

    /// Two servers of one name, in two clusters: what one of them does says nothing about the other.
    fn note_doubles(&mut self, look: &Look, witness: &Witness) {
        let lives = |id: &Name| look.hears(id) || witness.names(id);
        let mut clusters: BTreeMap<Name, BTreeSet<Option<Name>>> = BTreeMap::new();
        for (_, record) in self.records.iter().filter(|(id, _)| lives(id)) {
            let of_name = clusters.entry(record.info.name.clone()).or_default();
            of_name.insert(record.info.cluster.clone());
        }
        for (_, record) in self.records.iter_mut().filter(|(id, _)| lives(id)) {
            if clusters.get(&record.info.name).is_some_and(|of_name| of_name.len() > 1) {
                record.doubled_since.get_or_insert(look.asked_at);
            } else {
                record.doubled_since = None;
            }
        }
    }

    /// Ends the lives that are over: a newer server has the name, or it left long ago, or it was only ever
    /// named and nobody names it any more.
    fn retire(&mut self, look: &Look, witness: &Witness) {
        let mut newest: BTreeMap<(Name, Option<Name>), Time> = BTreeMap::new();
        let mut newest_of_name: BTreeMap<Name, Time> = BTreeMap::new();
        for (id, record) in &self.records {
            if look.hears(id) || record.last_sign_at().is_some() && record.silent_since.is_none() {
                let key = (record.info.name.clone(), record.info.cluster.clone());
                let at = newest.entry(key).or_insert(record.first_seen_at);
                *at = (*at).max(record.first_seen_at);
                let at = newest_of_name.entry(record.info.name.clone()).or_insert(record.first_seen_at);
                *at = (*at).max(record.first_seen_at);
            }
            // A next life that cannot speak to us is known by its peers' routes.
            if !record.introduced && witness.names(id) && record.info.name != *id {
                let key = (record.info.name.clone(), record.info.cluster.clone());
                let at = newest.entry(key).or_insert(record.first_seen_at);
                *at = (*at).max(record.first_seen_at);
            }
        }
        let over: Vec<Name> = self
            .records
            .iter()
            .filter(|(id, record)| {
                if look.hears(id) || witness.names(id) {
                    return false;
                }
                let last_at = record.last_sign_at().unwrap_or(record.first_seen_at);
                let key = (record.info.name.clone(), record.info.cluster.clone());
                let doubled = record.doubled_since.is_some_and(|at| look.asked_at.since(at) > DOUBLED_FOR);
                let again = newest.get(&key).is_some_and(|at| *at > last_at)
                    || !doubled && newest_of_name.get(&record.info.name).is_some_and(|at| *at > last_at);
                let left = record.left_at.is_some_and(|at| look.asked_at.since(at) > LEFT_KEPT);
                let rumour = !record.introduced && record.last_sign_at().is_none();
                again || left || rumour
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            let Some(record) = self.records.remove(&id) else { continue };
            let alone = part(&mut self.alike, record.configured.place());
            let shared = if alone { record.configured.bytes() } else { 0 };
            self.facts_bytes =
                self.facts_bytes.saturating_sub(record.facts_bytes.iter().sum::<usize>() + shared);
            let introduced = record.introduced;
            // A cluster whose servers all said goodbye is forgotten with the last of them.
            if record.left_at.is_some()
                && let Some(memory) = record.info.cluster.as_ref().and_then(|c| self.clusters.get_mut(c))
                && !self.records.values().any(|r| r.info.cluster == record.info.cluster)
            {
                memory.existed = false;
            }
            self.links.forget(&id);
            // What was only a rumour may be heard of again.
            if introduced && self.retired.insert(id.clone()) {
                self.retired_order.push_back(id);
            }
            while self.retired_order.len() > RETIRED_MAX {
                if let Some(oldest) = self.retired_order.pop_front() {
                    self.retired.remove(&oldest);
                }
            }
        }
    }
}

impl Record {
    fn seen(&mut self, look: &Look, witness: &Witness) -> Server {
        let id = &self.info.id;
        let answered = look.hears(id);
        let named_by = witness.named.get(id).cloned().unwrap_or_default();
        let denied_by = if answered { BTreeSet::new() } else { witness.denied(self) };
        // A heartbeat is a sign of life until the next one is overdue.
        let heard_since_silent = match (self.last_sign_at(), self.silent_since) {
            (Some(heard), Some(silent)) => {
                heard > silent && look.asked_at.since(heard) < heartbeat_interval(&self.info.ver) * 3 / 2
            }
            _ => false,
        };
        let life = if self.left_at.is_some() {
            Life::Left
        } else if answered || !named_by.is_empty() || heard_since_silent {
            Life::Alive
        } else if !denied_by.is_empty() {
            Life::Gone
        } else {
            Life::Unknown
        };
        if life == Life::Alive {
            self.alive_at = Some(look.asked_at);
        }
        // A lame duck holds its connections until it ends.
        let has_ended = self.ended || named_by.is_empty() && !denied_by.is_empty();
        self.ended = life == Life::Left && has_ended;
        Server {
            info: self.info.clone(),
            sight: Sight::Silent,
            life,
            first_seen_at: self.first_seen_at,
            elsewhere: look.elsewhere.contains(id) && !look.answered.contains(id),
            answered_at: self.answered_at,
            elsewhere_at: self.elsewhere_at,
            heard_at: self.heard_at,
            silent_since: self.silent_since,
            alive_at: self.alive_at,
            ended: self.ended,
            left_at: self.left_at,
            heartbeats: self.heartbeats.len(),
            named_by,
            denied_by,
            heard_by_others: Heard::default(),
            hearable: self.info.cluster == look.vantage.cluster || witness.hearable.contains(id),
            late_at: look.late.get(id).copied(),
            gatewayz: answered.then(|| self.gatewayz.as_ref().map(|(_, g)| Arc::clone(g))).flatten(),
            varz: self.varz.as_ref().map(|(_, v)| Arc::clone(v)),
            routez: self.routez.as_ref().map(|(_, r)| Arc::clone(r)),
            routez_at: self.routez.as_ref().map(|(at, _)| *at),
            lacks: BTreeMap::new(),
            route_pressure: BTreeMap::new(),
            statsz: self.statsz.as_ref().map(|(_, s)| Arc::clone(s)),
            accountz: self.accountz.as_ref().map(|(_, a)| Arc::clone(a)),
            jsz: self.jsz.as_ref().map(|(_, j)| Arc::clone(j)),
            jsz_before: self.jsz_before.clone(),
            interest: self.interest.as_ref().map(|(_, i)| Arc::clone(i)),
        }
    }
}

#[cfg(test)]
mod tests;
