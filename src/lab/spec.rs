//! What a lab is to be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A supercluster to start. `Spec::default()` is the demo's: `eu`, `us`, `ap` of three servers each.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Each cluster's name and its number of servers. Cluster `eu` has the servers `eu-0`, `eu-1`, ….
    pub clusters: Vec<(String, usize)>,
    /// The nats-server to run where `binaries` names no other. Without it: see [`super::nats_server`].
    pub binary: Option<PathBuf>,
    /// Other nats-servers, by server name or by cluster name.
    pub binaries: BTreeMap<String, PathBuf>,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Where everything is kept: configurations, logs, stores. Without it: a temporary directory, which is
    /// removed at the end unless the thread panics.
    pub dir: Option<PathBuf>,
    /// Whether `APP`, and each of `accounts`, has `JetStream`.
    pub jetstream: bool,
    /// More accounts than those of `auth`, each with a user of the same name; only with [`Auth::Users`].
    pub accounts: Vec<String>,
    /// `max_payload` of every server, in bytes, where not the default of 1 MiB.
    pub max_payload_bytes: Option<usize>,
    /// Changes a server's gateway block before its first start.
    pub gateways: BTreeMap<String, GatewaySpec>,
    /// How long the supercluster may take to be whole.
    pub start_within: Duration,
}

impl Default for Spec {
    fn default() -> Self {
        Self::new(&["eu", "us", "ap"], 3)
    }
}

impl Spec {
    /// Clusters of equal size.
    pub fn new(clusters: &[&str], servers: usize) -> Self {
        Self {
            clusters: clusters.iter().map(|name| ((*name).to_owned(), servers)).collect(),
            binary: None,
            binaries: BTreeMap::new(),
            auth: Auth::Operator { dir: None },
            dir: None,
            jetstream: false,
            accounts: Vec::new(),
            max_payload_bytes: None,
            gateways: BTreeMap::new(),
            start_within: Duration::from_secs(30),
        }
    }
}

/// How clients prove who they are. The accounts are `SYS` and `APP`, the users `sys`, `gatewatch`, `app`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// An operator's JWTs. `dir` is the directory of the credentials, which are made there if absent;
    /// without it they are made anew for this lab.
    Operator {
        /// Such as `creds`.
        dir: Option<PathBuf>,
    },
    /// Users and passwords in the servers' own configuration.
    Users,
}

/// One server's gateway block. The default is the healthy one.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySpec {
    /// Whether there is a block at all.
    pub enabled: bool,
    /// The cluster's name in place of the right one. nats-server wants one name for cluster and gateway.
    pub name: Option<String>,
    /// A loopback address in place of 127.0.0.1, for servers that share a port.
    pub host: Option<Ipv4Addr>,
    /// A port in place of the lab's choice; see [`super::Lab::free_port`].
    pub port: Option<u16>,
    /// The remotes in place of all other clusters.
    pub remotes: Option<Vec<RemoteSpec>>,
    /// TLS, required and mutual.
    pub tls: Option<TlsSpec>,
    /// `reject_unknown_cluster`.
    pub reject_unknown: bool,
    /// `connect_retries`.
    pub connect_retries: Option<u32>,
    /// `advertise`, as `host:port`.
    pub advertise: Option<String>,
    /// The password that this server wants of remotes, in place of the lab's.
    pub password: Option<Secret>,
    /// The server's name in place of its own, which the lab goes on to call it by. It stands outside of the
    /// block, and is what others know the gateway's server by.
    pub server_name: Option<String>,
}

impl Default for GatewaySpec {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            host: None,
            port: None,
            remotes: None,
            tls: None,
            reject_unknown: false,
            connect_retries: None,
            advertise: None,
            password: None,
            server_name: None,
        }
    }
}

/// One remote in a server's gateway block.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RemoteSpec {
    /// The remote cluster's name, right or wrong.
    pub name: String,
    /// The cluster whose servers the URLs lead to, where that is not `name`: for a misspelt name.
    pub leads_to: Option<String>,
    /// The URLs in place of this server's proxies for that cluster.
    pub urls: Option<Vec<String>>,
    /// The password to present, in place of the right one.
    pub password: Option<Secret>,
}

impl RemoteSpec {
    /// A remote as it should be.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// A gateway's TLS. The lab makes an authority and a certificate for `127.0.0.1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsSpec {
    /// The certificate is good for so long.
    EndsIn(Duration),
    /// It ceased to be good so long ago.
    EndedBefore(Duration),
}

impl Default for TlsSpec {
    fn default() -> Self {
        Self::EndsIn(Duration::from_secs(90 * 24 * 3600))
    }
}

/// A password. It is not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(pub(super) String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
