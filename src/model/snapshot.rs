//! One look at the supercluster, complete: a check needs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Accountz, Flow, Gatewayz, Heard, Interest, Jsz, Movement, Name, Pressure, Routez, Rtt, ServerInfo,
    Statsz, Time, Topology, Varz,
};

/// What one look showed, with what is remembered of the looks before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Counted from 1 at the agent's start. Two looks may share one epoch.
    pub epoch: u64,
    /// When the servers were asked; every answer is newer.
    pub at: Time,
    /// When the first look asked: what was there then may be old.
    pub began_at: Time,
    /// False for the first seconds after a connection was made: a server that just started sees only its own
    /// cluster, and nothing is judged by such a view.
    pub settled: bool,
    /// From where.
    pub vantage: Vantage,
    /// Every server that is known, by ID.
    pub servers: BTreeMap<Name, Server>,
    /// Every cluster that is known or configured somewhere, by name.
    pub clusters: BTreeMap<Name, Cluster>,
    /// Every link that exists or is expected, ordered by cluster, server, remote.
    pub links: Vec<Link>,
    /// What the accounts moved over gateways lately.
    #[serde(default)]
    pub movement: Arc<Movement>,
    /// How well the agent itself can see.
    pub observer: Observer,
    /// What ought to be there, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Arc<Topology>>,
}

/// Where an agent looks from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Vantage {
    /// The agent's name.
    pub agent: Name,
    /// The cluster of the server it is connected to.
    pub cluster: Option<Name>,
    /// The name of the server it is connected to.
    pub server: Name,
    /// Its ID.
    pub server_id: Name,
    /// The other ways by which it looks, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

/// Another server that an agent is connected to, by which it asks those that do not answer over its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Way {
    /// Its cluster.
    pub cluster: Option<Name>,
    /// Its name.
    pub server: Name,
    /// Its ID.
    pub server_id: Name,
    /// Whether the agent was told to look from there; else it is a neighbour of its own server, for a while.
    pub configured: bool,
}

/// How a server shows itself in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Sight {
    /// It answered.
    Answered,
    /// It was asked, as far as we can see, and said nothing.
    Silent,
    /// A request cannot reach it, or its answer cannot come back: gateways are one hop.
    Unreachable,
    /// It never spoke to us; others name it.
    Named,
    /// It said goodbye.
    Left,
}

/// Whether a server runs, by all the signs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Life {
    /// It answered, was heard since it stopped answering, or others have connections to it.
    Alive,
    /// It is silent, and those of its cluster who answer have no route to it.
    Gone,
    /// It said goodbye.
    Left,
    /// Nobody who would know has answered.
    Unknown,
}

/// One server, from its start to its end: a restart makes another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Server {
    /// As it introduces itself; only name, ID and cluster where others named it.
    pub info: ServerInfo,
    /// In this look.
    pub sight: Sight,
    /// By all signs.
    pub life: Life,
    /// The first sign of it.
    pub first_seen_at: Time,
    /// Whether it answered by another way, and not over the vantage's server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
    /// When it last answered over the vantage's server.
    pub answered_at: Option<Time>,
    /// The last sign from itself: an answer, a heartbeat, an advisory.
    pub heard_at: Option<Time>,
    /// The last such sign that came by another way than over the vantage's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere_at: Option<Time>,
    /// The first look in a row that it did not answer.
    pub silent_since: Option<Time>,
    /// Whether its peers have had no route to it since it said goodbye.
    #[serde(default)]
    pub ended: bool,
    /// The last look that showed it alive, be it by others.
    pub alive_at: Option<Time>,
    /// When it said goodbye.
    pub left_at: Option<Time>,
    /// How often it was heard unasked in the last [`Self::HEARTBEAT_WINDOW`].
    pub heartbeats: usize,
    /// While it does not answer: the names of the servers that have a route or a gateway connection to it, as they
    /// answered now.
    pub named_by: BTreeSet<Name>,
    /// The names of those of its cluster that answered lately and have no route to it.
    pub denied_by: BTreeSet<Name>,
    /// Whether a server of the vantage's cluster has a connection from it, so that it could be heard.
    pub hearable: bool,
    /// Since it is silent: who else hears it, gateways into the vantage's cluster left out.
    #[serde(default)]
    pub heard_by_others: Heard,
    /// GATEWAYZ as it answered in this look; none when it did not.
    pub gatewayz: Option<Arc<Gatewayz>>,
    /// When it was asked for that, where its answers come after their look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_at: Option<Time>,
    /// The newest VARZ of this life.
    pub varz: Option<Arc<Varz>>,
    /// The newest ROUTEZ of this life.
    pub routez: Option<Arc<Routez>>,
    /// When that was asked for.
    #[serde(default)]
    pub routez_at: Option<Time>,
    /// The IDs of those of its cluster that live and that it has no route to, and since when in a row.
    #[serde(default)]
    pub lacks: BTreeMap<Name, Time>,
    /// Where more waits to be written to a peer than usual, by the peer's ID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub route_pressure: BTreeMap<Name, Pressure>,
    /// The newest STATSZ of this life.
    pub statsz: Option<Arc<Statsz>>,
    /// The newest ACCOUNT STATZ of this life.
    #[serde(default)]
    pub accountz: Option<Arc<Accountz>>,
    /// The newest JSZ of this life.
    #[serde(default)]
    pub jsz: Option<Arc<Jsz>>,
    /// The one before that, where it differs: while a leader is elected nobody leads.
    #[serde(default)]
    pub jsz_before: Option<Arc<Jsz>>,
    /// The newest interest modes of this life.
    #[serde(default)]
    pub interest: Option<Arc<Interest>>,
}

impl Server {
    /// The window in which heartbeats are counted: a server that is rejected at each dial, about once a
    /// second, sends one at each (`server/gateway.go`; measured).
    pub const HEARTBEAT_WINDOW: Duration = Duration::from_secs(5);

    /// The name of its cluster, empty where it has none.
    pub fn cluster(&self) -> &str {
        self.info.cluster.as_deref().unwrap_or_default()
    }

    /// Whether its process may still hold connections: one that said goodbye does until its peers have no route
    /// to it any more.
    pub fn may_run(&self) -> bool {
        match self.life {
            Life::Alive | Life::Unknown => true,
            Life::Left => !self.ended,
            Life::Gone => false,
        }
    }

    /// The last sign from itself, by whatever way.
    pub fn last_sign_at(&self) -> Option<Time> {
        self.heard_at.max(self.elsewhere_at)
    }

    /// How often it sends a heartbeat when nothing happens.
    pub fn heartbeat_interval(&self) -> Duration {
        heartbeat_interval(&self.info.ver)
    }
}

/// How often a server of this version sends a heartbeat when nothing happens: every 10 s since 2.10.21, every 30 s
/// before (measured).
pub(super) fn heartbeat_interval(ver: &str) -> Duration {
    Duration::from_secs(if version(ver) >= (2, 10, 21) { 10 } else { 30 })
}

/// `2.15.1-beta.2` as (2, 15, 1); zeros for what cannot be read.
pub fn version(text: &str) -> (u32, u32, u32) {
    let number = |part: Option<&str>| {
        part.map(|p| p.chars().take_while(char::is_ascii_digit).collect::<String>())
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0)
    };
    let mut parts = text.splitn(3, '.');
    (number(parts.next()), number(parts.next()), number(parts.next()))
}

/// One cluster, as this vantage sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cluster {
    /// The IDs of its servers that are known.
    pub servers: BTreeSet<Name>,
    /// How many of them answered in this look, by whatever way.
    pub answered: usize,
    /// The last sign from any of them.
    pub heard_at: Option<Time>,
    /// Since when some of them answer over the vantage's server, seconds of silence aside.
    #[serde(default)]
    pub answering_since: Option<Time>,
    /// The first look in a row that none of them answered over the vantage's server.
    pub dark_since: Option<Time>,
    /// The first look in a row that some of them answered by another way only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere_since: Option<Time>,
    /// The first look in a row in which the vantage's server has no gateway to it and nobody in the
    /// vantage's cluster has one from it: nothing can be asked of it, and nothing heard.
    pub severed_since: Option<Time>,
    /// When the last of its servers said goodbye, where all have.
    pub left_at: Option<Time>,
    /// Whether connections from it are listed in the vantage's cluster.
    pub hearable: bool,
    /// Servers of other clusters that answered now and have a connection to or from it: name by cluster.
    pub seen_by: BTreeMap<Name, Arc<BTreeSet<Name>>>,
    /// The clusters with a server that has it in its configuration.
    pub configured_by: BTreeSet<Name>,
    /// Whether a server of it was ever seen, or a connection with it: it is more than a name.
    #[serde(default)]
    pub existed: bool,
}

/// One server's outbound gateway to one remote cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Link {
    /// The cluster of the server that dials.
    pub cluster: Name,
    /// The name of the server that dials.
    pub server: Name,
    /// Its ID.
    pub server_id: Name,
    /// The remote cluster.
    pub remote: Name,
    /// Whether the server's own configuration lists the remote; none where that was not seen.
    pub configured: Option<bool>,
    /// In this look.
    pub state: LinkState,
    /// Whether `state` is the word of the server that dials, or what the far end's servers show.
    pub near: bool,
    /// The name or ID of the server at the far end, while connected.
    pub peer: Option<Name>,
    /// The first look in a row that it was absent.
    pub absent_since: Option<Time>,
    /// How many looks in a row showed it absent.
    pub absent_looks: u32,
    /// When it was last seen connected in this life of the server.
    pub connected_at: Option<Time>,
    /// The first look in a row that showed it connected.
    pub connected_since: Option<Time>,
    /// When a server of this name was last seen connected to the remote, in any life.
    pub ever_connected_at: Option<Time>,
    /// The newest refusal of this server's login by a server of the remote, since the link is absent.
    pub rejected: Option<Box<Rejection>>,
    /// Whether what is sent arrives, and how often the link was made anew.
    #[serde(default)]
    pub flow: Flow,
    /// Where more waits to be written than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Box<Pressure>>,
    /// Its round trip.
    #[serde(default)]
    pub rtt: Rtt,
}

impl Link {
    /// How links are ordered in a snapshot.
    pub(super) fn order(a: &Self, b: &Self) -> std::cmp::Ordering {
        (&a.cluster, &a.server, &a.remote, &a.server_id).cmp(&(
            &b.cluster,
            &b.server,
            &b.remote,
            &b.server_id,
        ))
    }
}

/// The state of a link in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LinkState {
    /// One end lists it.
    Connected,
    /// The server that dials does not list it; or it is alive and cannot be asked, and every server at the
    /// far end answered and lists no connection from it.
    Absent,
    /// Nobody who would know has answered.
    Unknown,
}

/// A login that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rejection {
    /// The name of the server that refused.
    pub by: Name,
    /// When we heard of it.
    pub at: Time,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How well the agent itself can see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Observer {
    /// What the server refused the agent's user.
    pub refused: BTreeSet<Refusal>,
    /// Replies of no use, by the ID of the server that they name; empty where they name none.
    pub complaints: BTreeMap<Name, Complaint>,
    /// Servers that were not taken in, for there are more than the roster holds.
    pub servers_over: u64,
    /// Clusters that were not taken in, for there are more than the roster holds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clusters_over: u64,
    /// Answers that were not taken in, for those that are held take up all the memory there is for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub answers_over: u64,
    /// Findings that did not open, for so many are open.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_over: u64,
    /// How late the last look began.
    pub behind: Duration,
    /// When messages last came faster than they were read, and some were not taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun_at: Option<Time>,
    /// What waits to be published.
    pub outbox: Outbox,
    /// What is wrong with where findings are kept.
    #[serde(default)]
    pub sink: Option<SinkTrouble>,
}

/// Findings cannot be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SinkTrouble {
    /// Since when.
    pub since: Time,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub todo: String,
    /// How many events wait.
    pub waiting: u64,
    /// How many were given up since the agent's start.
    pub dropped: u64,
}

/// A permission that the agent's user lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refusal {
    /// `publish`, `subscribe` or `look from`.
    pub operation: Name,
    /// The subject, or where the vantage is.
    pub subject: Name,
}

impl Refusal {
    /// The operation of an agent that a further vantage does not let in.
    pub const LOOK_FROM: &'static str = "look from";
}

/// Replies that could not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Complaint {
    /// The name and cluster of the server that the reply names, where it names one.
    pub server: Option<ServerInfo>,
    /// How many since the agent's start.
    pub count: u64,
    /// How many in a row, no two further apart than [`Self::APART`].
    pub recent: u64,
    /// What was wrong with the last.
    pub error: String,
    /// When the last came.
    pub at: Time,
}

impl Complaint {
    /// Two replies of no use further apart than this are not one trouble.
    pub const APART: Duration = Duration::from_secs(30);
}

/// What waits to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outbox {
    /// Events that the server has not confirmed.
    pub waiting: u64,
    /// Their size.
    pub waiting_bytes: u64,
    /// Events that were given up since the agent's start, for the bound was met.
    pub dropped: u64,
}

impl Snapshot {
    /// The known servers of `cluster`.
    pub fn servers_of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a Server> {
        self.clusters
            .get(cluster)
            .into_iter()
            .flat_map(|c| c.servers.iter())
            .filter_map(|id| self.servers.get(id))
    }

    /// Since when the agent's questions have had a way to `cluster`, as far as its own server tells or answers that
    /// come by another way; none while they have none.
    pub fn asked_since(&self, cluster: &str) -> Option<Time> {
        if self.vantage.cluster.as_deref() == Some(cluster) {
            return Some(self.began_at);
        }
        if let Some(since) = self.clusters.get(cluster).and_then(|c| c.elsewhere_since) {
            return Some(since);
        }
        let link = self.links_of(&self.vantage.server_id).find(|link| *link.remote == *cluster)?;
        link.connected_since.filter(|_| link.state == LinkState::Connected)
    }

    /// How much older than this look is what a server tells of its gateways.
    pub fn lag(&self, server_id: &str) -> Duration {
        let late_at = self.servers.get(server_id).and_then(|s| s.late_at);
        late_at.map_or(Duration::ZERO, |late_at| self.at.since(late_at))
    }

    /// The links of one server.
    pub fn links_of<'a>(&'a self, server_id: &'a str) -> impl Iterator<Item = &'a Link> {
        let cluster = self.servers.get(server_id).map(Server::cluster).unwrap_or_default();
        self.links_from(cluster).filter(move |l| *l.server_id == *server_id)
    }

    /// The links of the servers of one cluster.
    pub fn links_from<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a Link> {
        let begin = self.links.partition_point(|l| *l.cluster < *cluster);
        self.links.iter().skip(begin).take_while(move |l| *l.cluster == *cluster)
    }

    /// Who is silent, may live, and can be reached by a request: asked for a heartbeat, a server that lives sends
    /// one to everyone, and whoever receives it counts it.
    pub fn mute(&self) -> impl Iterator<Item = &Server> {
        let own = self.servers.get(&self.vantage.server_id).and_then(|s| s.gatewayz.as_ref());
        self.servers.values().filter(move |s| {
            let reached = s.info.cluster == self.vantage.cluster
                || own.is_some_and(|g| g.outbound.contains_key(s.cluster()));
            let fresh = s.silent_since.is_some_and(|since| self.at.since(since) < Self::MUTE_FOR);
            fresh && reached && !matches!(s.life, Life::Left | Life::Gone)
        })
    }

    /// The clusters of which no server answers over the vantage's server, though there is one: whether they live,
    /// and what they see, is worth asking by another way.
    pub fn dark(&self) -> impl Iterator<Item = &Name> {
        let own = self.vantage.cluster.as_ref();
        let dark = |c: &Cluster| c.existed && c.left_at.is_none() && c.dark_since.is_some();
        let dark = self.clusters.iter().filter(move |(name, c)| Some(*name) != own && dark(c));
        dark.map(|(name, _)| name).filter(|_| self.settled)
    }

    /// Those of them to which the vantage's server has a gateway, and of which the server at the other end was not
    /// heard since: whether it lives is worth asking by another way.
    pub fn dark_behind_a_gateway(&self) -> impl Iterator<Item = &Name> {
        let own = self.servers.get(&self.vantage.server_id).and_then(|s| s.gatewayz.as_ref());
        let outbound = own.into_iter().flat_map(|g| g.outbound.peers());
        outbound.filter_map(|(name, peer_id)| {
            let cluster = self.clusters.get(name).filter(|c| c.left_at.is_none())?;
            let since = cluster.dark_since.filter(|since| self.at.since(*since) < Self::MUTE_FOR)?;
            let peer = self.servers.get(peer_id);
            let heard = peer.and_then(|s| s.heard_at).is_some_and(|at| at > since.plus(Self::ON_ITS_WAY));
            (!heard).then_some(name)
        })
    }

    /// The neighbours of the vantage's server that have a gateway to `cluster`, by ID: who has one to the very
    /// server that the vantage's own leads to comes last, for that server may be what is ill.
    pub fn neighbours_towards(&self, cluster: &Name) -> Vec<Name> {
        let own = &self.vantage.server_id;
        let peer = |s: &Server| s.gatewayz.as_ref().and_then(|g| g.outbound.peer(cluster)).cloned();
        let own_peer = self.servers.get(own).and_then(peer);
        let of = self.vantage.cluster.as_ref().map(|c| self.servers_of(c)).into_iter().flatten();
        let others = of.filter(|s| s.info.id != *own && !s.elsewhere);
        let mut towards: Vec<(bool, &Name)> =
            others.filter_map(|s| peer(s).map(|p| (Some(p) == own_peer, &s.info.id))).collect();
        towards.sort();
        towards.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// What was sent before a way broke may still arrive so much later.
    pub const ON_ITS_WAY: Duration = Duration::from_millis(500);

    /// So long somebody who went silent is asked for a sign.
    const MUTE_FOR: Duration = Duration::from_secs(30);

    /// The IDs of the servers that ought to answer: all but those that left or are gone.
    pub fn expected(&self) -> impl Iterator<Item = &Server> {
        self.servers.values().filter(|s| s.life != Life::Left)
    }
}
