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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    const VERSIONS: [&str; 6] = ["2.9.10", "2.10.27", "2.11.11", "2.12.8", "2.14.6", "2.15.1"];

    /// Answers and advisories of real servers: version, file name, text.
    fn samples() -> Vec<(&'static str, String, Vec<u8>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
        let mut all = Vec::new();
        for version in VERSIONS {
            let folder = root.join(version);
            let mut names: Vec<String> = std::fs::read_dir(&folder)
                .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert!(names.len() > 12, "samples of {version} are missing");
            for name in names {
                let text = std::fs::read(folder.join(&name)).unwrap();
                all.push((version, name, text));
            }
        }
        all
    }

    fn endpoint(name: &str) -> Option<Endpoint> {
        [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez, Endpoint::Statsz]
            .into_iter()
            .find(|e| name.starts_with(e.as_str()))
    }

    fn snappy(text: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(text).unwrap();
        encoder.into_inner().unwrap()
    }

    fn server() -> Value {
        json!({ "name": "eu-0", "host": "h", "id": "NEU0", "cluster": "eu", "ver": "2.15.1", "jetstream": false,
                "seq": 7, "time": "2026-11-20T19:45:19Z" })
    }

    fn envelope(data: &Value) -> Vec<u8> {
        json!({ "server": server(), "data": data }).to_string().into_bytes()
    }

    fn gatewayz(payload: &[u8]) -> Gatewayz {
        match reply(Endpoint::Gatewayz, None, payload) {
            Ok((_, Fact::Gatewayz(gatewayz))) => gatewayz,
            other => panic!("no GATEWAYZ: {other:?}"),
        }
    }

    fn names(value: &Value) -> BTreeSet<String> {
        value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }

    #[test]
    fn every_answer_of_every_version_is_read_plain_and_compressed() {
        for (version, name, text) in samples() {
            let Some(endpoint) = endpoint(&name) else { continue };
            if name.contains("badjson") {
                continue;
            }
            let (info, fact) =
                reply(endpoint, None, &text).unwrap_or_else(|e| panic!("{version} {name}: {e:?}"));
            let raw: Value = serde_json::from_slice(&text).unwrap();
            let head = &raw["server"];
            assert_eq!(&*info.id, head["id"].as_str().unwrap(), "{version} {name}");
            assert_eq!(&*info.ver, version, "{name}");
            assert_eq!(info.cluster.as_deref(), head["cluster"].as_str(), "{version} {name}");
            assert_eq!(info.seq, head["seq"].as_u64().unwrap(), "{version} {name}");
            assert_eq!(info.time, Time::parse(head["time"].as_str().unwrap()), "{version} {name}");
            assert_eq!(info.tags.len(), head["tags"].as_array().map_or(0, Vec::len), "{version} {name}");
            match &fact {
                Fact::Gatewayz(g) => same_gatewayz(g, &raw["data"]),
                Fact::Varz(v) => same_varz(v, &raw["data"]),
                Fact::Routez(r) => {
                    let ids: BTreeSet<&str> = raw["data"]["routes"]
                        .as_array()
                        .map(|routes| routes.iter().filter_map(|r| r["remote_id"].as_str()).collect())
                        .unwrap_or_default();
                    assert_eq!(
                        r.peers.keys().map(|k| &**k).collect::<BTreeSet<_>>(),
                        ids,
                        "{version} {name}"
                    );
                    assert!(!ids.is_empty());
                    let named = r.peers.values().all(|p| p.name.is_some());
                    assert_eq!(named, version != "2.9.10", "names of routes are told since 2.10");
                }
                Fact::Statsz(s) => {
                    let raw = &raw["statsz"];
                    assert_eq!(s.active_servers, raw["active_servers"].as_u64(), "{version} {name}");
                    assert_eq!(s.start, Time::parse(raw["start"].as_str().unwrap()));
                    for gateway in raw["gateways"].as_array().into_iter().flatten() {
                        let name = gateway["name"].as_str().unwrap();
                        assert_eq!(s.gateways.get(name).copied(), gateway["gwid"].as_u64());
                    }
                    assert!(!s.gateways.is_empty());
                }
            }
            let compressed = reply(endpoint, Some("snappy"), &snappy(&text));
            assert_eq!(compressed, Ok((info, fact)), "{version} {name} reads the same when it is compressed");
        }
    }

    fn same_gatewayz(g: &Gatewayz, raw: &Value) {
        assert_eq!(g.name.as_deref(), raw["name"].as_str());
        assert_eq!(g.port.map(u64::from), raw["port"].as_u64());
        assert_eq!(
            g.outbound.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
            names(&raw["outbound_gateways"])
        );
        assert_eq!(
            g.inbound.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
            names(&raw["inbound_gateways"])
        );
        let same = |c: &Connection, raw: &Value| {
            assert_eq!(Some(c.cid), raw["cid"].as_u64());
            assert_eq!(&*c.peer_id, raw["name"].as_str().unwrap());
            assert_eq!(c.start, Time::parse(raw["start"].as_str().unwrap()));
            let rtt = raw["rtt"].as_str().and_then(go_duration).filter(|d| !d.is_zero());
            assert_eq!(c.rtt, rtt, "a round trip that was not measured yet is none, not zero");
            let counters = [c.pending_bytes, c.in_msgs, c.in_bytes, c.out_msgs, c.out_bytes];
            let keys = ["pending_bytes", "in_msgs", "in_bytes", "out_msgs", "out_bytes"];
            assert_eq!(counters, keys.map(|key| raw[key].as_u64().unwrap_or(0)));
        };
        for (remote, outbound) in &g.outbound {
            let raw = &raw["outbound_gateways"][&**remote];
            assert_eq!(Some(outbound.configured), raw["configured"].as_bool());
            same(&outbound.connection, &raw["connection"]);
        }
        for (remote, connections) in &g.inbound {
            let raw = raw["inbound_gateways"][&**remote].as_array().unwrap();
            assert_eq!(connections.len(), raw.len());
            for (connection, raw) in connections.iter().zip(raw) {
                same(connection, &raw["connection"]);
            }
        }
    }

    fn same_varz(v: &Varz, raw: &Value) {
        assert_eq!(v.start, Time::parse(raw["start"].as_str().unwrap()));
        assert_eq!(v.config_load_time, Time::parse(raw["config_load_time"].as_str().unwrap()));
        assert_eq!(u64::from(v.client_port), raw["port"].as_u64().unwrap());
        let raw = &raw["gateway"];
        let gateway = v.gateway.as_ref().expect("each of them has a gateway block");
        assert_eq!(Some(&*gateway.name), raw["name"].as_str());
        assert_eq!(gateway.port.map(u64::from), raw["port"].as_u64());
        let remotes: BTreeSet<&str> =
            raw["gateways"].as_array().into_iter().flatten().filter_map(|g| g["name"].as_str()).collect();
        assert_eq!(gateway.remotes.keys().map(|k| &**k).collect::<BTreeSet<_>>(), remotes);
        assert!(gateway.remotes.values().all(|urls| !urls.is_empty()), "each has URLs");
    }

    #[test]
    fn every_advisory_of_every_version_is_read() {
        let mut heard = BTreeSet::new();
        for (version, name, text) in samples() {
            if name.ends_with(".ID.STATSZ.json") {
                let (info, signal) = heartbeat(&text).unwrap();
                assert!(matches!(&signal, Signal::Heartbeat(s) if s.active_servers.is_some()), "{signal:?}");
                assert_eq!(&*info.ver, version);
                heard.insert("STATSZ");
            } else if name.ends_with("SHUTDOWN.json") || name.ends_with("LAMEDUCK.json") {
                let info = goodbye(&text).unwrap();
                assert_eq!((&*info.ver, info.id.len()), (version, 56), "{name}");
                heard.insert(if name.ends_with("SHUTDOWN.json") { "SHUTDOWN" } else { "LAMEDUCK" });
            } else if name.ends_with("AUTH.ERR.json") {
                assert_eq!(auth_error(&text), Ok(None), "{version}: these are of clients, not gateways");
                let mut gateway: Value = serde_json::from_slice(&text).unwrap();
                gateway["client"]["kind"] = "Gateway".into();
                gateway["client"]["name"] = "NDIALER".into();
                let (info, signal) = auth_error(gateway.to_string().as_bytes()).unwrap().unwrap();
                assert_eq!(signal, Signal::GatewayRejected { dialer_id: "NDIALER".into() });
                assert_eq!(info.cluster.as_deref(), Some("B"), "{version}");
                heard.insert("AUTH.ERR");
            }
        }
        assert_eq!(heard.len(), 4, "the samples lack some: {heard:?}");
    }

    #[test]
    fn a_refused_request_is_told_in_the_servers_own_words() {
        for (version, name, text) in samples() {
            if name.contains("badjson") {
                let garbled = reply(Endpoint::Gatewayz, None, &text).unwrap_err();
                assert_eq!(&*garbled.server.unwrap().ver, version);
                let told = garbled.error.to_string();
                assert!(told.starts_with("server answered with error 400: invalid character"), "{told}");
            }
        }
    }

    #[test]
    fn an_answer_cut_at_any_byte_is_refused_and_never_a_half_truth() {
        for (version, name, text) in samples().into_iter().filter(|(v, ..)| *v == "2.15.1" || *v == "2.9.10")
        {
            let Some(endpoint) = endpoint(&name) else { continue };
            let end = text.iter().rposition(|b| *b == b'}').unwrap();
            for cut in 0..end {
                let garbled = reply(endpoint, None, &text[..cut]).expect_err("a cut answer");
                let told = garbled.error.to_string();
                assert!(told.starts_with("reply is not what"), "{version} {name} cut at {cut}: {told}");
            }
            let packed = snappy(&text);
            for cut in 0..packed.len() {
                // A cut between two frames leaves a shorter text, never another one.
                assert!(
                    reply(endpoint, Some("snappy"), &packed[..cut]).is_err(),
                    "{version} {name} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_cut_advisory_is_refused() {
        for (_, name, text) in
            samples().into_iter().filter(|(v, n, _)| *v == "2.15.1" && n.starts_with("EVENT"))
        {
            for cut in 0..text.iter().rposition(|b| *b == b'}').unwrap() {
                let part = &text[..cut];
                let read = heartbeat(part).is_ok() || goodbye(part).is_ok() || auth_error(part).is_ok();
                assert!(!read, "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_a_clear_word() {
        let odd: [&[u8]; 9] = [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"nonsense",
            b"\xff\xfe",
            b"{\"server\":1}",
            b"\0",
            b"{\"server\":null}",
        ];
        for text in odd {
            for endpoint in [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez, Endpoint::Statsz] {
                let told = reply(endpoint, None, text).unwrap_err().error.to_string();
                assert!(
                    told.starts_with(&format!("reply is not what {} answers: ", endpoint.as_str())),
                    "{told}"
                );
            }
            assert!(
                heartbeat(text).is_err() && goodbye(text).is_err() && auth_error(text).is_err(),
                "{text:?}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(reply(Endpoint::Varz, None, deep.as_bytes()).is_err(), "nesting has a bound");
    }

    #[test]
    fn a_field_of_another_type_spoils_its_reply_and_names_its_sender() {
        let others =
            [json!(null), json!(true), json!(-1), json!(1.5), json!("x"), json!([1]), json!({ "a": 1 })];
        for (_, name, text) in samples().into_iter().filter(|(v, ..)| *v == "2.15.1") {
            let Some(endpoint) = endpoint(&name) else { continue };
            let good: Value = serde_json::from_slice(&text).unwrap();
            let mut paths = Vec::new();
            every_path(&good, &mut Vec::new(), &mut paths);
            for path in paths {
                for other in &others {
                    let mut bad = good.clone();
                    *at(&mut bad, &path) = other.clone();
                    let read = reply(endpoint, None, bad.to_string().as_bytes());
                    if let Err(garbled) = read {
                        assert!(garbled.error.to_string().len() < 400, "{name} {path:?}: too long a word");
                        let head = path.first().is_some_and(|p| p == "server") || path.is_empty();
                        assert!(
                            head || garbled.server.is_some(),
                            "{name} {path:?} {other}: who sent it is known"
                        );
                    }
                }
            }
        }
    }

    fn every_path(value: &Value, here: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
        out.push(here.clone());
        let children: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(list) => list.iter().take(1).map(|v| ("0".to_owned(), v)).collect(),
            _ => Vec::new(),
        };
        for (key, child) in children {
            here.push(key);
            every_path(child, here, out);
            here.pop();
        }
    }

    fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
        path.iter().fold(value, |value, key| match value {
            Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
            other => &mut other[key.as_str()],
        })
    }

    #[test]
    fn the_body_of_another_server_is_refused() {
        for endpoint in [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Routez] {
            let garbled = reply(endpoint, None, &envelope(&json!({ "server_id": "NOTHER" }))).unwrap_err();
            assert_eq!(garbled.error.to_string(), "reply of server NEU0 carries the body of server NOTHER");
            assert_eq!(&*garbled.server.unwrap().name, "eu-0");
        }
    }

    #[test]
    fn a_reply_without_body_or_without_id_is_refused() {
        let bare = json!({ "server": server() }).to_string();
        let told = reply(Endpoint::Gatewayz, None, bare.as_bytes()).unwrap_err().error.to_string();
        assert_eq!(told, "reply is not what GATEWAYZ answers: it has no body");
        let mut nobody = server();
        nobody["id"] = "".into();
        let texts = [
            json!({ "server": nobody, "data": {} }),
            json!({ "server": nobody, "statsz": {} }),
            json!({ "server": nobody, "client": { "kind": "Gateway", "name": "N" } }),
        ];
        for text in texts.map(|t| t.to_string()) {
            let text = text.as_bytes();
            let errors = [
                reply(Endpoint::Gatewayz, None, text).err(),
                heartbeat(text).err(),
                auth_error(text).err(),
                goodbye(nobody.to_string().as_bytes()).err(),
            ];
            assert!(errors.into_iter().flatten().any(|g| g.error == DecodeError::Nameless));
        }
        assert_eq!(DecodeError::Nameless.to_string(), "reply names no server");
    }

    #[test]
    fn an_encoding_that_was_not_asked_for_is_refused_by_its_name() {
        let told = reply(Endpoint::Varz, Some("gzip"), b"x").unwrap_err().error.to_string();
        assert_eq!(told, "reply is encoded as \"gzip\", which was not asked for");
        let plain = envelope(&json!({}));
        assert!(reply(Endpoint::Gatewayz, Some("identity"), &plain).is_ok(), "plain, and says so");
        let told = reply(Endpoint::Gatewayz, Some("snappy"), &plain).unwrap_err().error.to_string();
        assert!(told.starts_with("reply does not inflate: "), "{told}");
        let mut packed = snappy(&plain);
        let last = packed.len() - 1;
        packed[last] ^= 0xff;
        assert!(reply(Endpoint::Gatewayz, Some("snappy"), &packed).is_err(), "a flipped byte is noticed");
    }

    #[test]
    fn a_large_answer_is_read_and_a_bomb_is_not() {
        let accounts: Vec<Value> =
            (0..1000).map(|n| json!({ "name": format!("{n}-{}", "x".repeat(10_000)) })).collect();
        let large = envelope(&json!({ "server_id": "NEU0", "name": "eu", "accounts": accounts }));
        assert!(large.len() > 10_000_000);
        assert_eq!(gatewayz(&large).name.as_deref(), Some("eu"), "10 MB are read");

        let bomb = snappy(&vec![b' '; REPLY_BYTES_MAX + 2]);
        assert!(bomb.len() < REPLY_BYTES_MAX / 10, "it is small on the wire");
        let told = reply(Endpoint::Gatewayz, Some("snappy"), &bomb).unwrap_err().error.to_string();
        assert!(told.contains("is larger than the 33554432 that are read"), "{told}");
        let plain = vec![b' '; REPLY_BYTES_MAX + 1];
        assert!(matches!(
            reply(Endpoint::Gatewayz, None, &plain).unwrap_err().error,
            DecodeError::TooLarge { .. }
        ));
    }

    #[test]
    fn names_are_taken_as_they_are() {
        let long = "n".repeat(4096);
        for name in ["a.b c", "x\ny", "*", ">", "\u{0}", "ä\u{202e}", "\"}{", &long] {
            let data = json!({ "server_id": "NEU0", "name": name,
                "outbound_gateways": { name: { "connection": { "cid": 1, "name": name } } },
                "inbound_gateways": { name: [{ "connection": { "name": name } }], "none": null } });
            let read = gatewayz(&envelope(&data));
            assert_eq!(read.name.as_deref(), Some(name));
            assert_eq!(&*read.outbound[name].connection.peer_id, name);
            assert!(!read.outbound[name].configured, "what is not told is not configured");
            assert!(read.inbound["none"].is_empty());
        }
    }

    #[test]
    fn numbers_beyond_their_field_are_refused_and_the_largest_are_not() {
        let connection = |value: Value| json!({ "outbound_gateways": { "us": { "connection": { "name": "N", "out_bytes": value } } } });
        let read = gatewayz(&envelope(&connection(json!(u64::MAX))));
        assert_eq!(read.outbound["us"].connection.out_bytes, u64::MAX);
        let texts = [
            r#"{"server":{"name":"a","id":"N"},"data":{"port":70000}}"#,
            r#"{"server":{"name":"a","id":"N"},"data":{"port":1e400}}"#,
            r#"{"server":{"name":"a","id":"N"},"data":{"port":-1}}"#,
            r#"{"server":{"name":"a","id":"N","seq":99999999999999999999999},"data":{}}"#,
        ];
        for text in texts {
            assert!(reply(Endpoint::Gatewayz, None, text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_without_a_gateway_block_and_a_filter_without_a_match_are_read_as_such() {
        let none = gatewayz(&envelope(&json!({ "outbound_gateways": null, "inbound_gateways": {} })));
        assert_eq!(none, Gatewayz::default());
        let none = gatewayz(&envelope(&json!({ "name": "", "host": "" })));
        assert_eq!((none.name, none.host), (None, None), "an empty name is none");
        let (_, fact) = reply(Endpoint::Varz, None, &envelope(&json!({ "gateway": {} }))).unwrap();
        assert!(matches!(fact, Fact::Varz(v) if v.gateway.is_none()));
    }

    #[test]
    fn a_cluster_that_lists_itself_is_no_remote_of_its_own() {
        let data = json!({ "gateway": { "name": "eu", "advertise": "", "gateways": [
            { "name": "eu", "urls": ["h:1"] }, { "name": "us" } ] } });
        let (_, fact) = reply(Endpoint::Varz, None, &envelope(&data)).unwrap();
        let Fact::Varz(varz) = fact else { panic!("{fact:?}") };
        let gateway = varz.gateway.unwrap();
        assert_eq!(gateway.remotes.keys().map(|k| &**k).collect::<Vec<_>>(), ["us"]);
        assert_eq!(gateway.advertise, None, "an empty address is none");
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let table = [
            ("0s", Some(0)),
            ("0", Some(0)),
            ("1ns", Some(1)),
            ("645µs", Some(645_000)),
            ("645μs", Some(645_000)),
            ("645us", Some(645_000)),
            ("1.12155ms", Some(1_121_550)),
            ("14.373793017s", Some(14_373_793_017)),
            ("1m0s", Some(60_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("2562047h47m16s", Some(9_223_372_036_000_000_000)),
            ("", None),
            ("s", None),
            ("5", None),
            ("5 s", None),
            ("5x", None),
            ("-5s", None),
            ("1.2.3s", None),
            (".", None),
            ("1e9s", None),
            ("NaNs", None),
        ];
        for (text, ns) in table {
            let read = go_duration(text).map(|d| d.as_nanos());
            // A float in between: exact to a microsecond in an hour.
            let close = match (read, ns) {
                (Some(a), Some(b)) => a.abs_diff(b) <= 1 + b / 1_000_000_000,
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(close, "{text:?} reads as {read:?}, and is {ns:?}");
        }
        assert_eq!(go_duration(&format!("{}h", "9".repeat(400))), None, "more than a duration holds");
    }
}
