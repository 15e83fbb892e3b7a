//! What a server says of itself, as far as a check reads it.
//!
//! A field that a version does not have is `None`, never a default that could be taken for a fact.
//! Sources: `server/monitor.go` and `server/events.go` of nats-server, measured on 2.9.10 to 2.15.1.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Inbounds, Name, Outbounds, RoutePeers, Shared, Time};

/// The block that heads each reply and each advisory: who speaks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerInfo {
    /// The server's name; its ID where none is configured.
    pub name: Name,
    /// The address it listens on.
    #[serde(default)]
    pub host: Name,
    /// New at each start.
    pub id: Name,
    /// The gateway's name where there is one, else the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// Its `JetStream` domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Name>,
    /// `2.15.1`
    #[serde(default)]
    pub ver: Name,
    /// Lower-cased by the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Name>,
    /// Since 2.12.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<Name, Name>,
    /// Whether `JetStream` is on.
    #[serde(default)]
    pub jetstream: bool,
    /// Counts what this server has sent since its start.
    #[serde(default)]
    pub seq: u64,
    /// When it sent this, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// One gateway connection, seen from one of its ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connection {
    /// Connection ID on this server; another one after a reconnect.
    pub cid: u64,
    /// The ID of the server at the other end.
    pub peer_id: Name,
    /// When it was made, by this server's clock.
    pub start: Option<Time>,
    /// None until the first PING was answered; refreshed about every 15 s.
    pub rtt: Option<Duration>,
    /// What waits to be written; only an outbound connection has any.
    pub pending_bytes: u64,
    /// Moves on inbound connections only.
    pub in_msgs: u64,
    /// Moves on inbound connections only.
    pub in_bytes: u64,
    /// Moves on outbound connections only.
    pub out_msgs: u64,
    /// Moves on outbound connections only.
    pub out_bytes: u64,
    /// How long it was idle, in whole seconds. At the end that accepted it, only what arrives counts (measured on
    /// 2.10.26 to 2.15.1). Of a look alone, and no part of its file.
    #[serde(skip)]
    pub idle: Option<Duration>,
    /// How often a producer had to wait for this connection; since 2.12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalls: Option<u64>,
}

/// An outbound gateway: this server's one connection to a remote cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Outbound {
    /// Stands in this server's own configuration; else learned by gossip.
    pub configured: bool,
    /// The connection itself.
    pub connection: Connection,
}

/// GATEWAYZ: the gateway connections that are up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gatewayz {
    /// The gateway's name; none on a server without a gateway block.
    pub name: Option<Name>,
    /// The address that other clusters are told.
    pub host: Option<Name>,
    /// The port of that address.
    pub port: Option<u16>,
    /// By remote cluster. A remote that is down is absent.
    #[cfg_attr(test, schemars(with = "BTreeMap<Name, Outbound>"))]
    pub outbound: Outbounds,
    /// By remote cluster. Empty on many a healthy server.
    #[cfg_attr(test, schemars(with = "BTreeMap<Name, Vec<Connection>>"))]
    pub inbound: Inbounds,
}

/// The gateway block of VARZ: what is configured. The servers do not tell passwords, nor which of a
/// remote's URLs are configured and which were discovered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GatewayConfig {
    /// The cluster's name in the supercluster.
    pub name: Name,
    /// The configured listen address.
    pub host: Option<Name>,
    /// The configured listen port.
    pub port: Option<u16>,
    /// Whether other servers must use TLS.
    pub tls_required: bool,
    /// Whether they must show a certificate.
    pub tls_verify: bool,
    /// The address that is told to others, where one is configured.
    pub advertise: Option<Name>,
    /// How often an implicit remote is tried before it is forgotten.
    pub connect_retries: u64,
    /// Whether clusters that are not configured are refused.
    pub reject_unknown: bool,
    /// The configured remotes without itself, with configured and discovered URLs.
    #[cfg_attr(test, schemars(with = "BTreeMap<Name, BTreeSet<Name>>"))]
    pub remotes: Configured,
    /// When the gateway's certificate ends; since 2.11.12, 2.12.4, 2.14.0.
    pub tls_cert_not_after: Option<Time>,
}

/// The remote clusters of a configuration, and their addresses: the servers of a cluster have the same ones.
pub type Configured = Shared<BTreeMap<Name, Urls>>;

/// A thing with a name, and the room that a tree has for more.
const ENTRY: usize = 128;

impl Configured {
    /// As [`Fact::bytes`].
    pub(super) fn bytes(&self) -> usize {
        const URL: usize = 16;
        let urls: usize = self.values().map(|urls| urls.len()).sum();
        self.len().saturating_mul(ENTRY).saturating_add(urls.saturating_mul(URL))
    }
}

/// The addresses of a remote cluster: all servers list nearly the same ones.
pub type Urls = Shared<BTreeSet<Name>>;

/// VARZ, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Varz {
    /// When the process started, by its own clock.
    pub start: Option<Time>,
    /// When the configuration was last read.
    pub config_load_time: Option<Time>,
    /// Where clients connect.
    pub client_host: Name,
    /// Where clients connect.
    pub client_port: u16,
    /// None on a server without a gateway block.
    pub gateway: Option<GatewayConfig>,
    /// The name of the system account; its public key in operator mode.
    #[serde(default)]
    pub system_account: Option<Name>,
    /// Write deadlines that were missed; since 2.10.
    #[serde(default)]
    pub slow_consumers: Option<ByKind>,
    /// Connections that were closed for they did not answer; since 2.12.
    #[serde(default)]
    pub stale_connections: Option<ByKind>,
}

/// A counter of the server since its start, for the kinds of connections that are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ByKind {
    /// Routes.
    #[serde(default)]
    pub routes: u64,
    /// Gateways.
    #[serde(default)]
    pub gateways: u64,
}

/// ROUTEZ: the peers this server has a route to, by ID. A pool of routes is one peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Routez {
    /// Names are told since 2.10.
    #[cfg_attr(test, schemars(with = "BTreeMap<Name, RoutePeer>"))]
    pub peers: RoutePeers,
}

/// The other end of one or more routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoutePeer {
    /// Its server name; since 2.10.
    pub name: Option<Name>,
    /// The address at the other end.
    pub ip: Option<Name>,
    /// How many connections there are to it: a pool, and one for each account with a route of its own.
    #[serde(default)]
    pub connections: u64,
    /// What waits to be written, on all of them.
    #[serde(default)]
    pub pending_bytes: u64,
    /// The longest round trip of them.
    #[serde(default)]
    pub rtt: Option<Duration>,
    /// What came from it, on those that are there now.
    #[serde(default)]
    pub in_msgs: u64,
    /// What was sent to it, on those that are there now.
    #[serde(default)]
    pub out_msgs: u64,
    /// What was sent to it, on those that are there now.
    #[serde(default)]
    pub out_bytes: u64,
}

/// STATSZ, asked for or as the heartbeat, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Statsz {
    /// When the process started, by its own clock.
    pub start: Option<Time>,
    /// How many servers this one hears, itself included.
    pub active_servers: Option<u64>,
    /// The outbound gateways' connection IDs, by remote cluster.
    pub gateways: BTreeMap<Name, u64>,
    /// How many servers of each of these remotes have a gateway to this one, in the same order.
    #[serde(default, skip_serializing_if = "<[u32]>::is_empty")]
    pub inbounds: Box<[u32]>,
    /// Write deadlines that were missed, where there are any; since 2.11.
    #[serde(default)]
    pub slow_consumers: Option<ByKind>,
    /// Connections that were closed for they did not answer, where there are any; since 2.12.
    #[serde(default)]
    pub stale_connections: Option<ByKind>,
}

/// One of the gateways of STATSZ: the remote, the connection's ID, and how many servers come from there.
pub type ToldGateway<N = Name> = (N, u64, u32);

impl Statsz {
    /// With these gateways.
    #[must_use]
    pub fn with_gateways(mut self, mut gateways: Vec<ToldGateway>) -> Self {
        gateways.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        gateways.dedup_by(|(a, ..), (b, ..)| a == b);
        self.inbounds = gateways.iter().map(|(_, _, inbounds)| *inbounds).collect();
        self.gateways = gateways.into_iter().map(|(remote, cid, _)| (remote, cid)).collect();
        self
    }

    /// How many servers of each remote have a gateway to this one.
    pub fn inbounds(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.gateways.keys().zip(self.inbounds.iter().copied())
    }
}

/// ACCOUNT STATZ: what each account has on this server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Accountz {
    /// By account: the name, or the public key in operator mode.
    pub accounts: BTreeMap<Name, Account>,
}

/// One account on one server, counted since the server started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Account {
    /// What the operator calls it; since 2.11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Clients that are connected here now.
    pub connections: u64,
    /// Leaf nodes that are connected here now.
    pub leafnodes: u64,
    /// Deliveries, to whomever.
    pub sent: Traffic,
    /// Before 2.11.10 what clients and leaf nodes published; since then also what came by routes and gateways.
    pub received: Traffic,
}

/// Payload bytes, headers included, protocol not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// All of it.
    pub bytes: u64,
    /// The parts that are told apart since 2.11.10 and 2.12.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<TrafficOf>,
}

/// The parts of [`Traffic::bytes`] that did not go to or come from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrafficOf {
    /// Gateways.
    pub gateways: u64,
    /// Routes.
    pub routes: u64,
    /// Leaf nodes.
    pub leafs: u64,
}

/// JSZ: the streams that this server leads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Jsz {
    /// By account.
    pub leads: BTreeMap<Name, Led>,
}

/// The streams of one account that one server leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Led {
    /// How many.
    pub total: u64,
    /// Their names, the first [`Self::NAMES_MAX`] of them.
    pub names: BTreeSet<Name>,
}

impl Led {
    /// So many names are kept.
    pub const NAMES_MAX: usize = 32;
}

/// GATEWAYZ with accounts: how each remote cluster is told what an account's subscribers want.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interest {
    /// By remote cluster, of the outbound gateways.
    pub remotes: BTreeMap<Name, InterestModes>,
}

/// The accounts of one outbound gateway by their mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InterestModes {
    /// How many there are.
    pub accounts: u64,
    /// Those that send everything until they are told not to, the first [`Self::NAMES_MAX`] of them.
    pub optimistic: BTreeSet<Name>,
    /// How many of those there are.
    pub optimistic_total: u64,
}

impl InterestModes {
    /// So many names are kept.
    pub const NAMES_MAX: usize = 256;
}

/// What one reply tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Answer to GATEWAYZ.
    Gatewayz(Gatewayz),
    /// Answer to VARZ.
    Varz(Box<Varz>),
    /// Answer to ROUTEZ.
    Routez(Routez),
    /// Answer to STATSZ.
    Statsz(Statsz),
    /// Answer to ACCOUNT STATZ.
    Accountz(Accountz),
    /// Answer to JSZ.
    Jsz(Jsz),
    /// Answer to GATEWAYZ with accounts.
    Interest(Interest),
}

impl Fact {
    /// How many kinds there are.
    pub const KINDS: usize = 7;

    /// Which one it is, below [`Self::KINDS`].
    pub const fn kind(&self) -> usize {
        match self {
            Self::Gatewayz(_) => 0,
            Self::Varz(_) => 1,
            Self::Routez(_) => 2,
            Self::Statsz(_) => 3,
            Self::Accountz(_) => 4,
            Self::Jsz(_) => 5,
            Self::Interest(_) => 6,
        }
    }

    /// About how much memory it takes, in bytes, for who has to keep within a bound; without what is shared.
    pub fn bytes(&self) -> usize {
        // With the room that a tree has for more.
        const CONNECTION: usize = 256;
        let entries = |count: usize| count.saturating_mul(ENTRY);
        let text = match self {
            Self::Gatewayz(g) => (g.outbound.len() + g.inbound.iter().count()).saturating_mul(CONNECTION),
            Self::Varz(_) => 0,
            Self::Routez(routez) => routez.peers.len().saturating_mul(CONNECTION),
            Self::Statsz(statsz) => entries(statsz.gateways.len()),
            Self::Accountz(accountz) => accountz.accounts.len().saturating_mul(CONNECTION),
            // The answer before the last is held too.
            Self::Jsz(jsz) => entries(jsz.leads.values().map(|led| 1 + led.names.len()).sum::<usize>()) * 2,
            Self::Interest(i) => entries(i.remotes.values().map(|modes| 1 + modes.optimistic.len()).sum()),
        };
        text.saturating_add(ENTRY)
    }
}

/// What is heard without asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// The heartbeat.
    Heartbeat(Statsz),
    /// The server stops now.
    Shutdown,
    /// The server sends its clients away, then stops; from now on it says and answers nothing.
    LameDuck,
    /// This server refused a login of a gateway.
    GatewayRejected {
        /// The ID of the server that dialled.
        dialer_id: Name,
    },
}
