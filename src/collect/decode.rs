//! From the bytes of a reply or an advisory to what it says.
//!
//! Tolerant where servers differ: fields we do not know are skipped, absent ones are known to be absent.
//! Strict where something is wrong: a field of another type spoils that reply, and nothing else.

mod duration;
mod inflate;
mod names;
mod scan;
mod wire;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

pub use self::duration::go_duration;
use self::inflate::Inflater;
use self::names::Names;
use self::wire::Str;
use crate::model::{
    Account, Accountz, Connection, Fact, GatewayConfig, Gatewayz, Interest, InterestModes, Jsz, Led, Name,
    Outbound, RoutePeer, Routez, ServerInfo, Signal, Statsz, Time, Traffic, TrafficOf, Varz, imprint,
};

/// The largest reply that is looked at, before and after inflating, in bytes. The largest real one known is
/// 1.5 MB: 3,000 connections with all details.
pub const REPLY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The longest name that is taken in, in bytes: of a server, a cluster, an account, a stream, an address. What servers
/// call themselves is read by people, and kept a thousand times.
pub const NAME_BYTES_MAX: usize = 1024;
/// Of the tags and of the metadata of a server so many are kept.
const TAGS_MAX: usize = 64;

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
    /// Nothing of it is taken in.
    #[error("a name of {bytes} bytes is longer than the {NAME_BYTES_MAX} that are taken in")]
    LongName {
        /// The longest one.
        bytes: usize,
    },
}

/// A reply that could not be used, with its sender where that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Garbled {
    /// Who sent it, as far as it says.
    pub server: Option<ServerInfo>,
    /// What is wrong with it.
    pub error: DecodeError,
}

/// Reads what servers send, and keeps what they send again: memory, and the names that stand in every answer.
#[derive(Debug, Default)]
pub struct Decoder {
    inflater: Inflater,
    names: Names,
    /// What is left of a body.
    others: Vec<u8>,
}

impl Decoder {
    /// Reads one reply to `endpoint`.
    ///
    /// # Errors
    /// A reply that is damaged, of another shape, refused or not of the server it claims.
    pub fn reply(
        &mut self,
        endpoint: Endpoint,
        encoding: Option<&str>,
        payload: &[u8],
    ) -> Result<(ServerInfo, Fact), Box<Garbled>> {
        let nameless = |error| Box::new(Garbled { server: None, error });
        let json = match encoding {
            None | Some("identity") => payload,
            Some("snappy") => self.inflater.inflate(payload).map_err(nameless)?,
            Some(other) => return Err(nameless(DecodeError::Encoding(clip(other)))),
        };
        within_bounds(json, &mut self.names, |names| match endpoint {
            Endpoint::Gatewayz => match scan::gatewayz(json, names) {
                Some((server, gatewayz)) => Ok((server, Fact::Gatewayz(gatewayz))),
                None => open::<wire::Gatewayz<'_>>(endpoint, json, names),
            },
            Endpoint::Varz => varz(json, names, &mut self.others),
            Endpoint::Routez => open::<wire::Routez<'_>>(endpoint, json, names),
            Endpoint::Statsz => statsz(json, names, &mut self.others, |_, _| false),
            Endpoint::Accountz => open::<wire::Accountz<'_>>(endpoint, json, names),
            Endpoint::Jsz => open::<wire::Jsz<'_>>(endpoint, json, names),
            Endpoint::Interest => open::<wire::Interest<'_>>(endpoint, json, names),
        })
    }

    /// Reads one heartbeat. `is_known` tells of a server whether it is known to have the gateways of this [`imprint`]:
    /// those are left out.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub fn heartbeat(
        &mut self,
        payload: &[u8],
        is_known: impl FnOnce(&ServerInfo, u64) -> bool,
    ) -> Result<(ServerInfo, Signal), Box<Garbled>> {
        let others = &mut self.others;
        match within_bounds(payload, &mut self.names, |names| statsz(payload, names, others, is_known))? {
            (server, Fact::Statsz(statsz)) => Ok((server, Signal::Heartbeat(statsz))),
            (server, _) => Err(Box::new(Garbled { server: Some(server), error: DecodeError::Nameless })),
        }
    }
}

/// Where in a heartbeat stands what nobody reads, and most of it where a cluster is large: the routes.
pub fn unread(heartbeat: &[u8]) -> Range<usize> {
    scan::routes(heartbeat)
}

/// What is read of `json`, unless that is too large, or a name in it too long.
fn within_bounds(
    json: &[u8],
    names: &mut Names,
    read: impl FnOnce(&mut Names) -> Result<(ServerInfo, Fact), Box<Garbled>>,
) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    if json.len() > REPLY_BYTES_MAX {
        let error = DecodeError::TooLarge { bytes: json.len() };
        return Err(Box::new(Garbled { server: None, error }));
    }
    names.take_longest();
    let read = read(names);
    let longest = names.take_longest();
    if longest <= NAME_BYTES_MAX {
        return read;
    }
    let server = read.map_or_else(|garbled| garbled.server, |(server, _)| Some(server)).and_then(introduced);
    Err(Box::new(Garbled { server, error: DecodeError::LongName { bytes: longest } }))
}

/// How long its longest name is, in bytes.
fn longest_of(server: &ServerInfo) -> usize {
    let own = [&server.name, &server.host, &server.id, &server.ver].into_iter();
    own.chain(&server.cluster).chain(&server.domain).map(|name| name.len()).max().unwrap_or_default()
}

/// The server, if its names are not too long; without the tags and the metadata that are.
pub(crate) fn introduced(mut server: ServerInfo) -> Option<ServerInfo> {
    let short = |name: &str| name.len() <= NAME_BYTES_MAX;
    if longest_of(&server) > NAME_BYTES_MAX {
        return None;
    }
    server.tags.retain(|tag| short(tag));
    server.tags.truncate(TAGS_MAX);
    server.metadata.retain(|key, value| short(key) && short(value));
    while server.metadata.len() > TAGS_MAX {
        server.metadata.pop_last();
    }
    Some(server)
}

/// Who says something unasked.
fn speaker(server: ServerInfo) -> Result<ServerInfo, Box<Garbled>> {
    let fail = |error| Err(Box::new(Garbled { server: None, error }));
    if server.id.is_empty() {
        return fail(DecodeError::Nameless);
    }
    let bytes = longest_of(&server);
    introduced(server).map_or_else(|| fail(DecodeError::LongName { bytes }), Ok)
}

/// Reads the bare server block of a SHUTDOWN or LAMEDUCK advisory.
///
/// # Errors
/// As [`Decoder::reply`].
pub fn goodbye(payload: &[u8]) -> Result<ServerInfo, Box<Garbled>> {
    parse::<ServerInfo>("a goodbye", payload).and_then(speaker)
}

/// Reads an AUTH.ERR advisory; none when it is not about a gateway.
///
/// # Errors
/// As [`Decoder::reply`].
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
    let Advisory { server, client, reason } = parse::<Advisory>("AUTH.ERR", payload)?;
    let server = speaker(server)?;
    if client.name.len() > NAME_BYTES_MAX {
        let error = DecodeError::LongName { bytes: client.name.len() };
        return Err(Box::new(Garbled { server: Some(server), error }));
    }
    // Who was too slow to log in was not refused.
    let refused = !reason.contains("Timeout");
    Ok((refused && &*client.kind == "Gateway" && !client.name.is_empty())
        .then_some((server, Signal::GatewayRejected { dialer_id: client.name })))
}

fn parse<'a, T: Deserialize<'a>>(endpoint: &'static str, json: &'a [u8]) -> Result<T, Box<Garbled>> {
    serde_json::from_slice(json).map_err(|error| {
        #[derive(Deserialize)]
        struct Head {
            server: ServerInfo,
        }
        Box::new(Garbled {
            server: serde_json::from_slice::<Head>(json).ok().and_then(|h| introduced(h.server)),
            error: DecodeError::Json { endpoint, error: clip(&error.to_string()) },
        })
    })
}

fn open<'a, B: Body<'a>>(
    endpoint: Endpoint,
    json: &'a [u8],
    names: &mut Names,
) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    let wire::Envelope { server, data, statsz, error } =
        parse::<wire::Envelope<'a, B>>(endpoint.as_str(), json)?;
    let server = server.into_info(names);
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
        Some(id) if *id != *server.id => {
            let error = DecodeError::TwoServers { envelope: server.id.clone(), body: clip(id).into() };
            fail(server, error)
        }
        _ => {
            let fact = body.into_fact(&server, names);
            Ok((server, fact))
        }
    }
}

fn statsz(
    json: &[u8],
    names: &mut Names,
    others: &mut Vec<u8>,
    is_known: impl FnOnce(&ServerInfo, u64) -> bool,
) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    if let Some((server, mut gateways)) = scan::statsz(json, names, others)
        && let Ok(body) = serde_json::from_slice::<wire::Statsz<'_>>(others)
        && let Fact::Statsz(statsz) = body.into_fact(&server, names)
    {
        if is_known(&server, imprint(gateways.iter().map(|(remote, cid, _)| (*remote, *cid)))) {
            gateways.clear();
        }
        let named = |(remote, cid, inbounds)| (names.get(remote), cid, inbounds);
        let gateways = gateways.into_iter().map(named).collect();
        return Ok((server, Fact::Statsz(statsz.with_gateways(gateways))));
    }
    open::<wire::Statsz<'_>>(Endpoint::Statsz, json, names)
}

fn varz(json: &[u8], names: &mut Names, others: &mut Vec<u8>) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    if let Some((server, remotes)) = scan::varz(json, names, others)
        && let Ok(body) = serde_json::from_slice::<wire::Varz<'_>>(others)
        && body.server_id.as_ref().is_none_or(|id| **id == *server.id)
        && let Fact::Varz(mut varz) = body.into_fact(&server, names)
        && let Some(gateway) = &mut varz.gateway
    {
        gateway.remotes = remotes;
        return Ok((server, Fact::Varz(varz)));
    }
    open::<wire::Varz<'_>>(Endpoint::Varz, json, names)
}

/// A piece of somebody's text, short enough for a log line.
fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

/// What stands in an envelope.
trait Body<'a>: Deserialize<'a> {
    fn server_id(&self) -> Option<&str>;
    fn into_fact(self, server: &ServerInfo, names: &mut Names) -> Fact;
}

/// A name that says something.
fn some(name: Option<Str<'_>>, names: &mut Names) -> Option<Name> {
    name.filter(|name| !name.is_empty()).map(|name| names.get(&name))
}

fn time(text: Option<&Str<'_>>) -> Option<Time> {
    text.and_then(|text| Time::parse(text))
}

fn duration(text: Option<&Str<'_>>) -> Option<Duration> {
    text.and_then(|text| go_duration(text))
}

impl wire::Server<'_> {
    fn into_info(self, names: &mut Names) -> ServerInfo {
        let short = |text: &str| text.len() <= NAME_BYTES_MAX;
        ServerInfo {
            name: names.get(&self.name),
            host: names.get(&self.host),
            id: names.get(&self.id),
            cluster: self.cluster.map(|cluster| names.get(&cluster)),
            domain: self.domain.map(|domain| names.get(&domain)),
            ver: names.get(&self.ver),
            // These are the operator's own words: what is too much of them spoils no reply.
            tags: self
                .tags
                .iter()
                .filter(|tag| short(tag))
                .take(TAGS_MAX)
                .map(|tag| names.get(tag))
                .collect(),
            metadata: self
                .metadata
                .into_iter()
                .filter(|(key, value)| short(key) && short(value))
                .take(TAGS_MAX)
                .map(|(key, value)| (names.get(&key), names.get(&value)))
                .collect(),
            jetstream: self.jetstream,
            seq: self.seq,
            time: self.time,
        }
    }
}

impl<'a> Body<'a> for wire::Gatewayz<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let outbound = self.outbound_gateways.unwrap_or_default().into_iter().map(|(remote, r)| {
            let outbound = Outbound { configured: r.configured, connection: r.connection.read(names) };
            (names.get(&remote), outbound)
        });
        let outbound = outbound.collect();
        let inbound = self.inbound_gateways.unwrap_or_default().into_iter().map(|(remote, rs)| {
            let connections = rs.unwrap_or_default().iter().map(|r| r.connection.read(names)).collect();
            (names.get(&remote), connections)
        });
        let inbound = inbound.collect();
        Fact::Gatewayz(Gatewayz {
            name: some(self.name, names),
            host: some(self.host, names),
            port: self.port,
            outbound,
            inbound,
        })
    }
}

impl wire::Connection<'_> {
    fn read(&self, names: &mut Names) -> Connection {
        Connection {
            cid: self.cid,
            peer_id: names.get(&self.name),
            start: time(self.start.as_ref()),
            rtt: duration(self.rtt.as_ref()).filter(|d| !d.is_zero()),
            pending_bytes: self.pending_bytes,
            in_msgs: self.in_msgs,
            in_bytes: self.in_bytes,
            out_msgs: self.out_msgs,
            out_bytes: self.out_bytes,
            idle: duration(self.idle.as_ref()),
            stalls: self.stalls,
        }
    }
}

impl<'a> Body<'a> for wire::Varz<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let block = self.gateway;
        let gateway = some(block.name, names).map(|name| {
            // A cluster may list itself, so that one file serves all; the server skips it too.
            let remotes = block.gateways.iter().filter(|remote| *remote.name != *name);
            let remotes = remotes.map(|remote| {
                let mut urls = remote.urls.iter().flatten().map(|url| &**url).collect();
                let remote = names.get(&remote.name);
                let urls = names.urls(&remote, &mut urls);
                (remote, urls)
            });
            let remotes = remotes.collect();
            let remotes = names.configured(&name, remotes);
            GatewayConfig {
                host: block.host.map(|host| names.get(&host)),
                port: block.port,
                tls_required: block.tls_required,
                tls_verify: block.tls_verify,
                advertise: some(block.advertise, names),
                connect_retries: block.connect_retries,
                reject_unknown: block.reject_unknown,
                remotes,
                tls_cert_not_after: time(block.tls_cert_not_after.as_ref()),
                name,
            }
        });
        Fact::Varz(Box::new(Varz {
            start: time(self.start.as_ref()),
            config_load_time: time(self.config_load_time.as_ref()),
            client_host: names.get(&self.host),
            client_port: self.port,
            gateway,
            system_account: some(self.system_account, names),
            slow_consumers: self.slow_consumer_stats,
            stale_connections: self.stale_connection_stats,
        }))
    }
}

impl<'a> Body<'a> for wire::Routez<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let mut peers: BTreeMap<Name, RoutePeer> = BTreeMap::new();
        for route in self.routes.unwrap_or_default().into_iter().filter(|r| !r.remote_id.is_empty()) {
            let peer = peers.entry(names.get(&route.remote_id)).or_default();
            peer.name = route.remote_name.map(|name| names.get(&name)).or(peer.name.take());
            peer.ip = route.ip.map(|ip| names.get(&ip)).or(peer.ip.take());
            peer.connections += 1;
            peer.pending_bytes = peer.pending_bytes.saturating_add(route.pending_size);
            peer.rtt = peer.rtt.max(duration(route.rtt.as_ref()).filter(|d| !d.is_zero()));
            peer.in_msgs = peer.in_msgs.saturating_add(route.in_msgs);
            peer.out_msgs = peer.out_msgs.saturating_add(route.out_msgs);
            peer.out_bytes = peer.out_bytes.saturating_add(route.out_bytes);
        }
        Fact::Routez(Routez { peers: peers.into() })
    }
}

impl<'a> Body<'a> for wire::Statsz<'a> {
    fn server_id(&self) -> Option<&str> {
        None
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let inbounds = |g: &wire::Gateway<'_>| u32::try_from(g.inbound_connections).unwrap_or(u32::MAX);
        let gateways = self.gateways.unwrap_or_default();
        let gateways = gateways.iter().map(|g| (names.get(&g.name), g.gwid, inbounds(g))).collect();
        let statsz = Statsz {
            start: time(self.start.as_ref()),
            active_servers: self.active_servers,
            slow_consumers: self.slow_consumer_stats,
            stale_connections: self.stale_connection_stats,
            ..Statsz::default()
        };
        Fact::Statsz(statsz.with_gateways(gateways))
    }
}

impl<'a> Body<'a> for wire::Accountz<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let accounts = self.account_statz.unwrap_or_default().into_iter().map(|a| {
            let account = Account {
                name: some(a.name, names),
                connections: a.conns,
                leafnodes: a.leafnodes,
                sent: a.sent.into(),
                received: a.received.into(),
            };
            (names.get(&a.acc), account)
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

impl<'a> Body<'a> for wire::Jsz<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    /// A stream with one replica on a server without a cluster names no leader: it is led where it lies.
    fn into_fact(self, server: &ServerInfo, names: &mut Names) -> Fact {
        let mut leads: BTreeMap<Name, Led> = BTreeMap::new();
        for account in self.account_details.unwrap_or_default() {
            let id = names.get(&account.id.filter(|id| !id.is_empty()).unwrap_or(account.name));
            for stream in account.stream_detail.unwrap_or_default() {
                let leader = stream.cluster.and_then(|c| c.leader);
                if leader.is_some_and(|leader| *leader != *server.name) {
                    continue;
                }
                let led = leads.entry(id.clone()).or_default();
                led.total += 1;
                if led.names.len() < Led::NAMES_MAX {
                    led.names.insert(names.get(&stream.name));
                }
            }
        }
        Fact::Jsz(Jsz { leads })
    }
}

impl<'a> Body<'a> for wire::Interest<'a> {
    fn server_id(&self) -> Option<&str> {
        self.server_id.as_deref()
    }

    fn into_fact(self, _server: &ServerInfo, names: &mut Names) -> Fact {
        let modes = |accounts: Vec<wire::AccountInterest<'_>>, names: &mut Names| {
            let mut modes = InterestModes { accounts: accounts.len() as u64, ..InterestModes::default() };
            for account in accounts.into_iter().filter(|a| &*a.interest_mode == "Optimistic") {
                modes.optimistic_total += 1;
                if modes.optimistic.len() < InterestModes::NAMES_MAX {
                    modes.optimistic.insert(names.get(&account.name));
                }
            }
            modes
        };
        let remotes = self.outbound_gateways.unwrap_or_default().into_iter();
        let remotes =
            remotes.map(|(remote, r)| (names.get(&remote), modes(r.accounts.unwrap_or_default(), names)));
        Fact::Interest(Interest { remotes: remotes.collect() })
    }
}

/// Reads a reply the general way, where there is a short one too.
#[cfg(any(test, fuzzing))]
pub(crate) fn generally(endpoint: Endpoint, json: &[u8]) -> Result<(ServerInfo, Fact), Box<Garbled>> {
    within_bounds(json, &mut Names::default(), |names| match endpoint {
        Endpoint::Gatewayz => open::<wire::Gatewayz<'_>>(endpoint, json, names),
        Endpoint::Statsz => open::<wire::Statsz<'_>>(endpoint, json, names),
        Endpoint::Varz => open::<wire::Varz<'_>>(endpoint, json, names),
        _ => Decoder::default().reply(endpoint, None, json),
    })
}

#[cfg(test)]
mod tests;
