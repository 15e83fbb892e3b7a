//! From the bytes of a reply or an advisory to what it says.
//!
//! Tolerant where servers differ: fields we do not know are skipped, absent ones are known to be absent.
//! Strict where something is wrong: a field of another type spoils that reply, and nothing else.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::model::{
    Connection, Fact, GatewayConfig, Gatewayz, Name, Outbound, RoutePeer, Routez, ServerInfo, Signal, Statsz,
    Time, Varz,
};

/// The largest reply that is looked at, before and after inflating, in bytes. The largest real one known is
/// 1.5 MB: 3,000 connections with all details.
pub const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is asked of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// The gateway connections that are up.
    Gatewayz,
    /// Configuration and totals.
    Varz,
    /// Routes inside the cluster.
    Routez,
    /// What the heartbeat carries.
    Statsz,
}

impl Endpoint {
    /// Its name in subjects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gatewayz => "GATEWAYZ",
            Self::Varz => "VARZ",
            Self::Routez => "ROUTEZ",
            Self::Statsz => "STATSZ",
        }
    }
}

/// Why a reply is of no use.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DecodeError {
    /// Nothing was read of it.
    #[error("reply of {bytes} bytes is larger than the {REPLY_BYTES_MAX} that are read")]
    TooLarge {
        /// At least this many.
        bytes: usize,
    },
    /// An encoding that was not asked for.
    #[error("reply is encoded as {0:?}, which was not asked for")]
    Encoding(String),
    /// Cut short or damaged.
    #[error("reply does not inflate: {0}")]
    Inflate(String),
    /// Not JSON, or a field has another type than every known server gives it.
    #[error("reply is not what {endpoint} answers: {error}")]
    Json {
        /// What was asked.
        endpoint: &'static str,
        /// Where and what, as the parser tells.
        error: String,
    },
    /// The envelope and the body name different servers.
    #[error("reply of server {envelope} carries the body of server {body}")]
    TwoServers {
        /// In the `server` block.
        envelope: Name,
        /// In `data.server_id`.
        body: Name,
    },
    /// The server refused.
    #[error("server answered with error {code}: {description}")]
    Refused {
        /// As in HTTP.
        code: i64,
        /// The server's own words.
        description: String,
    },
    /// No ID to know it by.
    #[error("reply names no server")]
    Nameless,
}

/// A reply that could not be used, with its sender where that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Garbled {
    /// Who sent it, as far as it says.
    pub server: Option<ServerInfo>,
    /// What is wrong with it.
    pub error: DecodeError,
}

/// Reads one reply to `endpoint`.
///
/// # Errors
/// A reply that is damaged, of another shape, refused or not of the server it claims.
pub fn reply(
    endpoint: Endpoint,
    encoding: Option<&str>,
    payload: &[u8],
) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    let nameless = |error| Box::new(Garbled { server: None, error });
    let inflated;
    let json = match encoding {
        None | Some("identity") => payload,
        Some("snappy") => {
            inflated = inflate(payload).map_err(nameless)?;
            &inflated
        }
        Some(other) => return Err(nameless(DecodeError::Encoding(clip(other)))),
    };
    if json.len() > REPLY_BYTES_MAX {
        return Err(nameless(DecodeError::TooLarge { bytes: json.len() }));
    }
    match endpoint {
        Endpoint::Gatewayz => open::<wire::Gatewayz>(endpoint, json),
        Endpoint::Varz => open::<wire::Varz>(endpoint, json),
        Endpoint::Routez => open::<wire::Routez>(endpoint, json),
        Endpoint::Statsz => open::<wire::Statsz>(endpoint, json),
    }
}

/// Reads one heartbeat.
///
/// # Errors
/// As [`reply`].
pub fn heartbeat(payload: &[u8]) -> Result<(ServerInfo, Signal), Box<Garbled>> {
    match reply(Endpoint::Statsz, None, payload)? {
        (server, Fact::Statsz(statsz)) => Ok((server, Signal::Heartbeat(statsz))),
        (server, _) => Err(Box::new(Garbled { server: Some(server), error: DecodeError::Nameless })),
    }
}

/// Reads the bare server block of a SHUTDOWN or LAMEDUCK advisory.
///
/// # Errors
/// As [`reply`].
pub fn goodbye(payload: &[u8]) -> Result<ServerInfo, Box<Garbled>> {
    parse::<ServerInfo>("a goodbye", payload).and_then(|server| {
        if server.id.is_empty() {
            return Err(Box::new(Garbled { server: None, error: DecodeError::Nameless }));
        }
        Ok(server)
    })
}

/// Reads an AUTH.ERR advisory; none when it is not about a gateway.
///
/// # Errors
/// As [`reply`].
pub fn auth_error(payload: &[u8]) -> Result<Option<(ServerInfo, Signal)>, Box<Garbled>> {
    #[derive(Deserialize)]
    struct Advisory {
        server: ServerInfo,
        client: Client,
    }
    #[derive(Deserialize)]
    struct Client {
        #[serde(default)]
        kind: Name,
        #[serde(default)]
        name: Name,
    }
    let advisory = parse::<Advisory>("AUTH.ERR", payload)?;
    if advisory.server.id.is_empty() {
        return Err(Box::new(Garbled { server: None, error: DecodeError::Nameless }));
    }
    Ok((&*advisory.client.kind == "Gateway" && !advisory.client.name.is_empty())
        .then_some((advisory.server, Signal::GatewayRejected { dialer_id: advisory.client.name })))
}

fn parse<'a, T: Deserialize<'a>>(endpoint: &'static str, json: &'a [u8]) -> Result<T, Box<Garbled>> {
    serde_json::from_slice(json).map_err(|error| {
        #[derive(Deserialize)]
        struct Head {
            server: ServerInfo,
        }
        Box::new(Garbled {
            server: serde_json::from_slice::<Head>(json).ok().map(|h| h.server),
            error: DecodeError::Json { endpoint, error: clip(&error.to_string()) },
        })
    })
}

fn open<'a, B: Body<'a>>(endpoint: Endpoint, json: &'a [u8]) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    let wire::Envelope { server, data, statsz, error } = parse::<wire::Envelope<B>>(endpoint.as_str(), json)?;
    let fail = |server: ServerInfo, error| Err(Box::new(Garbled { server: Some(server), error }));
    if server.id.is_empty() {
        return fail(server, DecodeError::Nameless);
    }
    if let Some(wire::Refusal { code, description }) = error {
        return fail(server, DecodeError::Refused { code, description: clip(&description) });
    }
    let Some(body) = data.or(statsz) else {
        let error = DecodeError::Json { endpoint: endpoint.as_str(), error: "it has no body".into() };
        return fail(server, error);
    };
    match body.server_id() {
        Some(id) if **id != *server.id => {
            let error = DecodeError::TwoServers { envelope: server.id.clone(), body: id.clone() };
            fail(server, error)
        }
        _ => Ok((server, body.into_fact())),
    }
}

/// A piece of somebody's text, short enough for a log line.
fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

fn inflate(payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(payload.len().saturating_mul(3).min(1 << 20));
    let limit = u64::try_from(REPLY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    snap::read::FrameDecoder::new(payload)
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|e| DecodeError::Inflate(clip(&e.to_string())))?;
    if out.len() > REPLY_BYTES_MAX {
        return Err(DecodeError::TooLarge { bytes: out.len() });
    }
    Ok(out)
}

/// Reads a duration as Go prints it: `1h2m3.5s`, `198µs`. None when it is not one.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ns = 0.0_f64;
    if rest == "0s" || rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total_ns += number.parse::<f64>().ok()? * unit_ns;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total_ns / 1e9).ok()).flatten()
}

/// What stands in an envelope.
trait Body<'a>: Deserialize<'a> {
    fn server_id(&self) -> Option<&Name>;
    fn into_fact(self) -> Fact;
}

impl Body<'_> for wire::Gatewayz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self) -> Fact {
        let some = |name: Name| (!name.is_empty()).then_some(name);
        Fact::Gatewayz(Gatewayz {
            name: self.name.and_then(some),
            host: self.host.and_then(some),
            port: self.port,
            outbound: self
                .outbound_gateways
                .unwrap_or_default()
                .into_iter()
                .map(|(remote, r)| {
                    (remote, Outbound { configured: r.configured, connection: r.connection.into() })
                })
                .collect(),
            inbound: self
                .inbound_gateways
                .unwrap_or_default()
                .into_iter()
                .map(|(remote, rs)| {
                    let connections =
                        rs.unwrap_or_default().into_iter().map(|r| r.connection.into()).collect();
                    (remote, connections)
                })
                .collect(),
        })
    }
}

impl From<wire::Connection> for Connection {
    fn from(c: wire::Connection) -> Self {
        Self {
            cid: c.cid,
            peer_id: c.name,
            start: c.start.as_deref().and_then(Time::parse),
            rtt: c.rtt.as_deref().and_then(go_duration).filter(|d| !d.is_zero()),
            pending_bytes: c.pending_bytes,
            in_msgs: c.in_msgs,
            in_bytes: c.in_bytes,
            out_msgs: c.out_msgs,
            out_bytes: c.out_bytes,
        }
    }
}

impl Body<'_> for wire::Varz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self) -> Fact {
        let gateway = self.gateway.name.filter(|name| !name.is_empty()).map(|name| GatewayConfig {
            host: self.gateway.host,
            port: self.gateway.port,
            tls_required: self.gateway.tls_required,
            tls_verify: self.gateway.tls_verify,
            advertise: self.gateway.advertise.filter(|a| !a.is_empty()),
            connect_retries: self.gateway.connect_retries,
            reject_unknown: self.gateway.reject_unknown,
            // A cluster may list itself, so that one file serves all; the server skips it too.
            remotes: self
                .gateway
                .gateways
                .into_iter()
                .filter(|remote| remote.name != name)
                .map(|remote| (remote.name, remote.urls.unwrap_or_default().into_iter().collect()))
                .collect(),
            tls_cert_not_after: self.gateway.tls_cert_not_after.as_deref().and_then(Time::parse),
            name,
        });
        Fact::Varz(Box::new(Varz {
            start: self.start.as_deref().and_then(Time::parse),
            config_load_time: self.config_load_time.as_deref().and_then(Time::parse),
            client_host: self.host,
            client_port: self.port,
            gateway,
        }))
    }
}

impl Body<'_> for wire::Routez {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self) -> Fact {
        let peers = self
            .routes
            .unwrap_or_default()
            .into_iter()
            .filter(|route| !route.remote_id.is_empty())
            .map(|route| (route.remote_id, RoutePeer { name: route.remote_name, ip: route.ip }))
            .collect();
        Fact::Routez(Routez { peers })
    }
}

impl Body<'_> for wire::Statsz {
    fn server_id(&self) -> Option<&Name> {
        None
    }

    fn into_fact(self) -> Fact {
        Fact::Statsz(Statsz {
            start: self.start.as_deref().and_then(Time::parse),
            active_servers: self.active_servers,
            gateways: self
                .gateways
                .unwrap_or_default()
                .into_iter()
                .map(|g| (g.name, g.gwid))
                .collect::<BTreeMap<_, _>>(),
        })
    }
}

/// The replies as servers write them.
mod wire {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use crate::model::{Name, ServerInfo};

    #[derive(Deserialize)]
    pub(super) struct Envelope<B> {
        pub(super) server: ServerInfo,
        #[serde(default = "Option::default")]
        pub(super) data: Option<B>,
        #[serde(default = "Option::default")]
        pub(super) statsz: Option<B>,
        #[serde(default)]
        pub(super) error: Option<Refusal>,
    }

    #[derive(Deserialize)]
    pub(super) struct Refusal {
        #[serde(default)]
        pub(super) code: i64,
        #[serde(default)]
        pub(super) description: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Gatewayz {
        pub(super) server_id: Option<Name>,
        pub(super) name: Option<Name>,
        pub(super) host: Option<Name>,
        pub(super) port: Option<u16>,
        pub(super) outbound_gateways: Option<BTreeMap<Name, Remote>>,
        pub(super) inbound_gateways: Option<BTreeMap<Name, Option<Vec<Remote>>>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Remote {
        #[serde(default)]
        pub(super) configured: bool,
        pub(super) connection: Connection,
    }

    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    pub(super) struct Connection {
        pub(super) cid: u64,
        pub(super) name: Name,
        pub(super) start: Option<String>,
        pub(super) rtt: Option<String>,
        pub(super) pending_bytes: u64,
        pub(super) in_msgs: u64,
        pub(super) in_bytes: u64,
        pub(super) out_msgs: u64,
        pub(super) out_bytes: u64,
    }

    #[derive(Deserialize)]
    pub(super) struct Varz {
        pub(super) server_id: Option<Name>,
        #[serde(default)]
        pub(super) host: Name,
        #[serde(default)]
        pub(super) port: u16,
        pub(super) start: Option<String>,
        pub(super) config_load_time: Option<String>,
        #[serde(default)]
        pub(super) gateway: GatewayBlock,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    pub(super) struct GatewayBlock {
        pub(super) name: Option<Name>,
        pub(super) host: Option<Name>,
        pub(super) port: Option<u16>,
        pub(super) tls_required: bool,
        pub(super) tls_verify: bool,
        pub(super) advertise: Option<Name>,
        pub(super) connect_retries: u64,
        pub(super) reject_unknown: bool,
        pub(super) gateways: Vec<RemoteConfig>,
        pub(super) tls_cert_not_after: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct RemoteConfig {
        pub(super) name: Name,
        pub(super) urls: Option<Vec<Name>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Routez {
        pub(super) server_id: Option<Name>,
        pub(super) routes: Option<Vec<Route>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Route {
        #[serde(default)]
        pub(super) remote_id: Name,
        pub(super) remote_name: Option<Name>,
        pub(super) ip: Option<Name>,
    }

    #[derive(Deserialize)]
    pub(super) struct Statsz {
        pub(super) start: Option<String>,
        pub(super) active_servers: Option<u64>,
        pub(super) gateways: Option<Vec<Gateway>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Gateway {
        #[serde(default)]
        pub(super) gwid: u64,
        pub(super) name: Name,
    }
}
