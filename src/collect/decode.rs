//! From the bytes of a reply or an advisory to what it says.
//!
//! Tolerant where servers differ: fields we do not know are skipped, absent ones are known to be absent.
//! Strict where something is wrong: a field of another type spoils that reply, and nothing else.

mod wire;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::model::{
    Account, Accountz, Connection, Fact, GatewayConfig, Gatewayz, Interest, InterestModes, Jsz, Led, Name,
    Outbound, RoutePeer, Routez, ServerInfo, Signal, Statsz, Time, Traffic, TrafficOf, Varz,
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
    /// What each account has and moves.
    Accountz,
    /// The streams that a server leads.
    Jsz,
    /// The interest modes of the accounts: a costly GATEWAYZ.
    Interest,
}

impl Endpoint {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Gatewayz, Self::Varz, Self::Routez, Self::Statsz, Self::Accountz, Self::Jsz, Self::Interest];

    /// Our name for it: in the subject of the replies, and in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gatewayz => "GATEWAYZ",
            Self::Varz => "VARZ",
            Self::Routez => "ROUTEZ",
            Self::Statsz => "STATSZ",
            Self::Accountz => "ACCOUNT_STATZ",
            Self::Jsz => "JSZ",
            Self::Interest => "GATEWAYZ_ACCOUNTS",
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
        Endpoint::Accountz => open::<wire::Accountz>(endpoint, json),
        Endpoint::Jsz => open::<wire::Jsz>(endpoint, json),
        Endpoint::Interest => open::<wire::Interest>(endpoint, json),
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
        #[serde(default)]
        reason: Name,
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
    // Who was too slow to log in was not refused.
    let refused = !advisory.reason.contains("Timeout");
    Ok((refused && &*advisory.client.kind == "Gateway" && !advisory.client.name.is_empty())
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
        _ => {
            let fact = body.into_fact(&server);
            Ok((server, fact))
        }
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
    fn into_fact(self, server: &ServerInfo) -> Fact;
}

impl Body<'_> for wire::Gatewayz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
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
            idle: c.idle.as_deref().and_then(go_duration),
            stalls: c.stalls,
        }
    }
}

impl Body<'_> for wire::Varz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
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
            system_account: self.system_account.filter(|name| !name.is_empty()),
            slow_consumers: self.slow_consumer_stats,
            stale_connections: self.stale_connection_stats,
        }))
    }
}

impl Body<'_> for wire::Routez {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
        let mut peers: BTreeMap<Name, RoutePeer> = BTreeMap::new();
        for route in self.routes.unwrap_or_default().into_iter().filter(|r| !r.remote_id.is_empty()) {
            let peer = peers.entry(route.remote_id).or_default();
            peer.name = route.remote_name.or(peer.name.take());
            peer.ip = route.ip.or(peer.ip.take());
            peer.connections += 1;
            peer.pending_bytes = peer.pending_bytes.saturating_add(route.pending_size);
            peer.rtt = peer.rtt.max(route.rtt.as_deref().and_then(go_duration).filter(|d| !d.is_zero()));
            peer.in_msgs = peer.in_msgs.saturating_add(route.in_msgs);
            peer.out_msgs = peer.out_msgs.saturating_add(route.out_msgs);
            peer.out_bytes = peer.out_bytes.saturating_add(route.out_bytes);
        }
        Fact::Routez(Routez { peers })
    }
}

impl Body<'_> for wire::Statsz {
    fn server_id(&self) -> Option<&Name> {
        None
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
        Fact::Statsz(Statsz {
            start: self.start.as_deref().and_then(Time::parse),
            active_servers: self.active_servers,
            gateways: self
                .gateways
                .unwrap_or_default()
                .into_iter()
                .map(|g| (g.name, g.gwid))
                .collect::<BTreeMap<_, _>>(),
            slow_consumers: self.slow_consumer_stats,
            stale_connections: self.stale_connection_stats,
        })
    }
}

impl Body<'_> for wire::Accountz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
        let accounts = self.account_statz.unwrap_or_default().into_iter().map(|a| {
            let account = Account {
                name: a.name.filter(|name| !name.is_empty()),
                connections: a.conns,
                leafnodes: a.leafnodes,
                sent: a.sent.into(),
                received: a.received.into(),
            };
            (a.acc, account)
        });
        Fact::Accountz(Accountz { accounts: accounts.collect() })
    }
}

impl From<wire::Traffic> for Traffic {
    fn from(t: wire::Traffic) -> Self {
        let of = t.gateways.zip(t.routes).zip(t.leafs).map(|((gateways, routes), leafs)| TrafficOf {
            gateways: gateways.bytes,
            routes: routes.bytes,
            leafs: leafs.bytes,
        });
        Self { bytes: t.bytes, of }
    }
}

impl Body<'_> for wire::Jsz {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    /// A stream with one replica on a server without a cluster names no leader: it is led where it lies.
    fn into_fact(self, server: &ServerInfo) -> Fact {
        let mut leads: BTreeMap<Name, Led> = BTreeMap::new();
        for account in self.account_details.unwrap_or_default() {
            let id = account.id.filter(|id| !id.is_empty()).unwrap_or(account.name);
            for stream in account.stream_detail.unwrap_or_default() {
                let leader = stream.cluster.and_then(|c| c.leader);
                if leader.is_some_and(|leader| leader != server.name) {
                    continue;
                }
                let led = leads.entry(id.clone()).or_default();
                led.total += 1;
                if led.names.len() < Led::NAMES_MAX {
                    led.names.insert(stream.name);
                }
            }
        }
        Fact::Jsz(Jsz { leads })
    }
}

impl Body<'_> for wire::Interest {
    fn server_id(&self) -> Option<&Name> {
        self.server_id.as_ref()
    }

    fn into_fact(self, _server: &ServerInfo) -> Fact {
        let modes = |accounts: Vec<wire::AccountInterest>| {
            let mut modes = InterestModes { accounts: accounts.len() as u64, ..InterestModes::default() };
            for account in accounts.into_iter().filter(|a| &*a.interest_mode == "Optimistic") {
                modes.optimistic_total += 1;
                if modes.optimistic.len() < InterestModes::NAMES_MAX {
                    modes.optimistic.insert(account.name);
                }
            }
            modes
        };
        let remotes = self.outbound_gateways.unwrap_or_default().into_iter();
        Fact::Interest(Interest {
            remotes: remotes.map(|(remote, r)| (remote, modes(r.accounts.unwrap_or_default()))).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
