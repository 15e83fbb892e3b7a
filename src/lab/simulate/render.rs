//! What a server answers, field for field as a real one of that version writes it (samples of 2.10 to 2.15).
//!
//! The servers have no JetStream. Nothing is kept: every number follows from the link, the server and the time,
//! so that two ends of a link agree whenever they are asked.

use serde::Deserialize;

use super::chance::mix;
use super::text::Text;
use super::world::{HOST, Link, SECOND, Server, World};

/// The account in which all of this happens.
pub(super) const ACCOUNT: &str = "SIM";
const CLIENT_PORT: u64 = 4222;
const ROUTE_PORT: u64 = 6222;
const GATEWAY_PORT: u64 = 7222;
/// Routes between two servers: a pool of three, and one of the system account.
const ROUTES: u64 = 4;
const NO_STALE: &str = r#"{"clients":0,"routes":0,"gateways":0,"leafs":0}"#;

/// What can be asked of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Gatewayz,
    Varz,
    Statsz,
    Routez,
    Accountz,
    Jsz,
    Healthz,
    Idz,
}

impl Endpoint {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GATEWAYZ" => Self::Gatewayz,
            "VARZ" => Self::Varz,
            "STATSZ" => Self::Statsz,
            "ROUTEZ" => Self::Routez,
            "JSZ" => Self::Jsz,
            "HEALTHZ" => Self::Healthz,
            "IDZ" => Self::Idz,
            _ => return None,
        })
    }

    /// Heartbeats and identities are never compressed.
    pub(super) const fn is_compressed(self) -> bool {
        !matches!(self, Self::Statsz | Self::Idz)
    }
}

/// The body of a request: who is meant, and how much is to be told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    server_name: String,
    cluster: String,
    host: String,
    tags: Vec<String>,
    domain: String,
    exact_match: bool,
    name: String,
    accounts: bool,
    account_name: String,
}

impl Options {
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        if body.is_empty() { Ok(Self::default()) } else { serde_json::from_slice(body) }
    }

    /// Whether this server is meant. Before 2.12 a part of the name is always enough.
    pub(super) fn mean(&self, world: &World, server: &Server, release: Release) -> bool {
        let fits = |wanted: &str, has: &str| {
            wanted.is_empty()
                || if self.exact_match && release >= (2, 12, 0) { wanted == has } else { has.contains(wanted) }
        };
        let cluster = cluster_name(world, server.cluster);
        fits(&self.server_name, &server.name)
            && fits(&self.cluster, cluster)
            && fits(&self.host, &server.host)
            && self.tags.iter().all(|tag| tag.eq_ignore_ascii_case(&tag_of(cluster)))
            && self.domain.is_empty()
    }
}

/// Major, minor, patch.
pub(super) type Release = (u32, u32, u32);

/// Reads `2.15.1`.
pub(super) fn release(version: &str) -> Option<Release> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let release = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(release)
}

fn tag_of(cluster: &str) -> String {
    format!("region:{cluster}")
}

fn cluster_name(world: &World, cluster: usize) -> &str {
    world.clusters.get(cluster).map_or("", |c| &c.name)
}

/// Writes for servers of one version.
#[derive(Debug)]
pub(super) struct Renderer {
    pub(super) version: String,
    pub(super) release: Release,
    /// Where the nats-server listens.
    pub(super) client_port: u16,
}

impl Renderer {
    fn since(&self, release: Release) -> bool {
        self.release >= release
    }

    /// One reply, or heartbeat.
    pub(super) fn reply(
        &self,
        out: &mut Text,
        world: &World,
        server: &Server,
        endpoint: Endpoint,
        options: &Options,
        now: u64,
    ) {
        if endpoint == Endpoint::Idz {
            out.raw("{\"name\":").string(&server.name).raw(",\"host\":").string(&server.host);
            out.raw(",\"id\":").string(&server.id).raw("}");
            return;
        }
        out.raw("{\"server\":");
        self.server(out, world, server, now);
        out.raw(if endpoint == Endpoint::Statsz { ",\"statsz\":" } else { ",\"data\":" });
        match endpoint {
            Endpoint::Gatewayz => Self::gatewayz(out, world, server, options, now),
            Endpoint::Varz => self.varz(out, world, server, now),
            Endpoint::Statsz => self.statsz(out, world, server, now),
            Endpoint::Routez => self.routez(out, world, server, now),
            Endpoint::Accountz => self.accountz(out, world, server, now),
            Endpoint::Jsz => self.jsz(out, server, now),
            Endpoint::Healthz | Endpoint::Idz => drop(out.raw(r#"{"status":"ok","status_code":200}"#)),
        }
        out.raw("}");
    }

    /// A reply that refuses.
    pub(super) fn refusal(&self, out: &mut Text, world: &World, server: &Server, why: &str, now: u64) {
        out.raw("{\"server\":");
        self.server(out, world, server, now);
        let error = serde_json::json!({ "code": 400, "description": why });
        out.raw(",\"error\":").raw(&error.to_string()).raw("}");
    }

    /// The block that all replies begin with, and the whole of a goodbye.
    pub(super) fn server(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        out.raw("{\"name\":").string(&server.name).raw(",\"host\":").string(&server.host);
        out.raw(",\"id\":").string(&server.id);
        out.raw(",\"cluster\":").string(cluster_name(world, server.cluster));
        out.raw(",\"ver\":").string(&self.version).raw(",");
        self.labels(out, world, server);
        out.raw("\"jetstream\":false,");
        if self.since((2, 10, 0)) {
            out.raw("\"flags\":0,");
        }
        out.raw("\"seq\":").number(server.seq).raw(",\"time\":").time(now).raw("}");
    }

    fn labels(&self, out: &mut Text, world: &World, server: &Server) {
        out.raw("\"tags\":[").string(&tag_of(cluster_name(world, server.cluster))).raw("],");
        if self.since((2, 12, 0)) {
            out.raw("\"metadata\":{\"zone\":\"z").number(zone(server)).raw("\"},");
        }
        if self.since((2, 15, 0)) {
            out.raw("\"feature_flags\":{\"js_ack_fc_v2\":false,\"js_api_reply_v2\":false,");
            out.raw("\"js_raft_delete_range\":true,\"js_snapshot_sources\":false},");
        } else if self.since((2, 14, 0)) {
            out.raw("\"feature_flags\":{\"js_ack_fc_v2\":false,\"js_raft_delete_range\":true},");
        }
    }

    fn gatewayz(out: &mut Text, world: &World, server: &Server, options: &Options, now: u64) {
        let cluster = cluster_name(world, server.cluster);
        out.raw("{\"server_id\":").string(&server.id).raw(",\"now\":").time(now);
        out.raw(",\"name\":").string(cluster).raw(",\"host\":").string(&server.host);
        out.raw(",\"port\":").number(GATEWAY_PORT).raw(",\"outbound_gateways\":");
        let wanted = |name: &str| options.name.is_empty() || options.name == name;
        let with_accounts = options.accounts || !options.account_name.is_empty();
        let remotes = || world.clusters.iter().enumerate().filter(|(_, c)| wanted(&c.name));
        let index = world.index_of(server);
        let mut any = false;
        for (number, remote) in remotes() {
            let Some(link) = world.link(index, number) else { continue };
            out.raw(if any { "," } else { "{" }).string(&remote.name).raw(":{\"configured\":true,");
            any = true;
            connection(out, world, link, Near::Yes, now);
            accounts(out, with_accounts, true);
            out.raw("}");
        }
        out.raw(match (any, options.name.is_empty()) {
            (true, _) => "}",
            (false, true) => "{}",
            (false, false) => "null",
        });
        out.raw(",\"inbound_gateways\":{");
        for dialers in server.inbound.chunk_by(|a, b| a.0 == b.0) {
            let Some((number, _)) = dialers.first() else { continue };
            let name = cluster_name(world, *number);
            if !wanted(name) {
                continue;
            }
            out.string(name).raw(":[");
            for (_, dialer) in dialers {
                let Some(link) = world.link(*dialer, server.cluster) else { continue };
                out.raw("{\"configured\":false,");
                connection(out, world, link, Near::No(*dialer), now);
                accounts(out, with_accounts, false);
                out.raw("},");
            }
            out.no_comma().raw("],");
        }
        out.no_comma().raw("}}");
    }

    fn varz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        let cluster = cluster_name(world, server.cluster);
        let port = if is_host(world, server) { u64::from(self.client_port) } else { CLIENT_PORT };
        out.raw("{\"server_id\":").string(&server.id).raw(",\"server_name\":").string(&server.name);
        out.raw(",\"version\":").string(&self.version).raw(",\"proto\":1,\"git_commit\":\"b2fd3ef\",");
        out.raw("\"go\":\"go1.27.2\",\"host\":").string(&server.host).raw(",\"port\":").number(port);
        out.raw(",\"auth_required\":true,\"connect_urls\":[");
        let peers = || world.alive(server.cluster).filter_map(|index| world.server(index));
        for peer in peers() {
            let port = if is_host(world, peer) { u64::from(self.client_port) } else { CLIENT_PORT };
            address(out, peer, port);
        }
        out.no_comma().raw("],\"max_connections\":65536,\"ping_interval\":120000000000,\"ping_max\":2,");
        out.raw("\"http_host\":").string(&server.host).raw(",\"http_port\":0,\"http_base_path\":\"\",");
        out.raw("\"https_port\":0,\"auth_timeout\":2,\"max_control_line\":4096,\"max_payload\":1048576,");
        out.raw("\"max_pending\":67108864,\"cluster\":{\"name\":").string(cluster);
        out.raw(",\"addr\":").string(&server.host).raw(",\"cluster_port\":").number(ROUTE_PORT);
        out.raw(",\"auth_timeout\":2,\"urls\":[");
        for peer in peers().filter(|peer| peer.number != server.number) {
            address(out, peer, ROUTE_PORT);
        }
        out.no_comma().raw("],\"tls_timeout\":2");
        if self.since((2, 10, 0)) {
            out.raw(",\"pool_size\":3");
        }
        out.raw("},\"gateway\":{\"name\":").string(cluster).raw(",\"host\":").string(&server.host);
        out.raw(",\"port\":").number(GATEWAY_PORT).raw(",\"auth_timeout\":2,\"tls_timeout\":2,\"gateways\":[");
        for remote in &world.clusters {
            out.raw("{\"name\":").string(&remote.name).raw(",\"urls\":[");
            for peer in remote.servers.clone().filter_map(|index| world.server(index)) {
                address(out, peer, GATEWAY_PORT);
            }
            out.no_comma().raw("]},");
        }
        out.no_comma().raw("]},\"leaf\":{},\"mqtt\":{},\"websocket\":{},\"jetstream\":{},\"tls_timeout\":2,");
        self.totals(out, world, server, now);
    }

    /// The second half of VARZ.
    fn totals(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        let all = Totals::of(world, server, now);
        out.raw("\"write_deadline\":10000000000,\"start\":").time(server.start).raw(",\"now\":").time(now);
        out.raw(",\"uptime\":").uptime(now.saturating_sub(server.start)).raw(",\"mem\":").number(all.mem);
        out.raw(",\"cores\":8,\"gomaxprocs\":8,\"cpu\":2,\"connections\":").number(all.connections);
        out.raw(",\"total_connections\":").number(all.connections + 40).raw(",\"routes\":").number(all.routes);
        out.raw(",\"remotes\":").number(all.routes / ROUTES).raw(",\"leafnodes\":0,");
        let counters = [("in", all.received), ("out", all.sent)];
        for (direction, (msgs, bytes)) in counters {
            out.raw("\"").raw(direction).raw("_msgs\":").number(msgs).raw(",\"").raw(direction);
            out.raw("_bytes\":").number(bytes).raw(",");
            if self.tells_clients() {
                out.raw("\"").raw(direction).raw("_client_msgs\":").number(msgs / 2).raw(",\"");
                out.raw(direction).raw("_client_bytes\":").number(bytes / 2).raw(",");
            }
        }
        out.raw("\"slow_consumers\":0,");
        if self.since((2, 12, 0)) {
            out.raw("\"stale_connections\":0,\"stalled_clients\":0,");
        }
        out.raw("\"subscriptions\":").number(all.subscriptions).raw(",\"http_req_stats\":{},");
        out.raw("\"config_load_time\":").time(server.start).raw(",");
        if self.since((2, 11, 0)) {
            out.raw("\"config_digest\":\"sha256:");
            for part in 0..4 {
                out.raw(&format!("{:016x}", mix(salt(server) ^ part)));
            }
            out.raw("\",");
        }
        self.labels(out, world, server);
        out.raw("\"system_account\":").string(ACCOUNT);
        if self.since((2, 10, 0)) {
            out.raw(",\"slow_consumer_stats\":").raw(NO_STALE);
        }
        if self.since((2, 12, 0)) {
            out.raw(",\"stale_connection_stats\":").raw(NO_STALE);
        }
        if self.since((2, 14, 0)) {
            out.raw(",\"disk_io_wait_stats\":{\"waiters\":0,\"waits\":0,\"wait_time\":0,\"max_wait_time\":0}");
        }
        out.raw("}");
    }

    fn statsz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        let all = Totals::of(world, server, now);
        out.raw("{\"start\":").time(server.start).raw(",\"mem\":").number(all.mem).raw(",\"cores\":8,\"cpu\":2,");
        out.raw("\"connections\":").number(all.connections).raw(",\"total_connections\":");
        out.number(all.connections + 40).raw(",\"active_accounts\":2,\"subscriptions\":");
        out.number(all.subscriptions).raw(",");
        for (direction, clients, (msgs, bytes)) in
            [("sent", "sent_to_clients", all.sent), ("received", "received_from_clients", all.received)]
        {
            counted(out, direction, msgs, bytes).raw(",");
            if self.tells_clients() {
                counted(out, clients, msgs / 2, bytes / 2).raw(",");
            }
        }
        out.raw("\"slow_consumers\":0,\"routes\":[");
        for route in routes(world, server, now) {
            out.raw("{\"rid\":").number(route.rid).raw(",\"name\":").string(&route.peer.name).raw(",");
            counted(out, "sent", route.sent.0, route.sent.1).raw(",");
            counted(out, "received", route.received.0, route.received.1).raw(",\"pending\":0},");
        }
        out.no_comma().raw("],\"gateways\":[");
        let index = world.index_of(server);
        for (number, remote) in world.clusters.iter().enumerate() {
            let Some(link) = world.link(index, number) else { continue };
            let (msgs, bytes) = link.sent(now);
            out.raw("{\"gwid\":").number(u64::from(link.near_cid)).raw(",\"name\":").string(&remote.name).raw(",");
            counted(out, "sent", msgs, bytes).raw(",");
            let from = server.inbound.partition_point(|(cluster, _)| *cluster < number);
            let dialers = server.inbound.get(from..).unwrap_or_default().iter();
            let (mut msgs, mut bytes, mut connections) = (0, 0, 0);
            for (_, dialer) in dialers.take_while(|(cluster, _)| *cluster == number) {
                let Some(link) = world.link(*dialer, server.cluster) else { continue };
                let (m, b) = link.sent(now);
                (msgs, bytes, connections) = (msgs + m, bytes + b, connections + 1);
            }
            counted(out, "received", msgs, bytes).raw(",\"inbound_connections\":").number(connections).raw("},");
        }
        let heard = u64::try_from(world.heard(server.cluster)).unwrap_or_default();
        out.no_comma().raw("],\"active_servers\":").number(heard);
        if self.since((2, 11, 0)) {
            out.raw(",\"gomaxprocs\":8");
        }
        out.raw("}");
    }

    fn routez(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        out.raw("{\"server_id\":").string(&server.id);
        if self.since((2, 10, 0)) {
            out.raw(",\"server_name\":").string(&server.name);
        }
        out.raw(",\"now\":").time(now).raw(",\"num_routes\":");
        out.number(routes(world, server, now).count() as u64).raw(",\"routes\":[");
        for route in routes(world, server, now) {
            let idle = mix(route.salt ^ now / SECOND) % 9 * SECOND;
            out.raw("{\"rid\":").number(route.rid).raw(",\"remote_id\":").string(&route.peer.id);
            if self.since((2, 10, 0)) {
                out.raw(",\"remote_name\":").string(&route.peer.name);
            }
            let dials = server.number < route.peer.number;
            out.raw(",\"did_solicit\":").raw(if dials { "true" } else { "false" });
            out.raw(",\"is_configured\":true,\"ip\":").string(&route.peer.host).raw(",\"port\":");
            out.number(if dials { ROUTE_PORT } else { 32_768 + route.salt % 28_000 });
            out.raw(",\"start\":").time(route.start).raw(",\"last_activity\":").time(now.saturating_sub(idle));
            out.raw(",\"rtt\":").micros(120 + route.salt % 300);
            out.raw(",\"uptime\":").uptime(now.saturating_sub(route.start)).raw(",\"idle\":").uptime(idle);
            out.raw(",\"pending_size\":0,\"in_msgs\":").number(route.received.0);
            out.raw(",\"out_msgs\":").number(route.sent.0).raw(",\"in_bytes\":").number(route.received.1);
            out.raw(",\"out_bytes\":").number(route.sent.1).raw(",\"subscriptions\":");
            out.number(if route.system { 60 } else { 0 });
            if self.since((2, 10, 0)) {
                if route.system {
                    out.raw(",\"account\":").string(ACCOUNT);
                }
                out.raw(",\"compression\":\"off\"");
            }
            out.raw("},");
        }
        out.no_comma().raw("]}");
    }

    fn accountz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        out.raw("{\"server_id\":").string(&server.id).raw(",\"now\":").time(now).raw(",\"account_statz\":[");
        // What one server sends over its gateways comes in at the server of the same number in the next cluster.
        let next = if server.cluster == 0 { world.clusters.len() } else { server.cluster } - 1;
        let from = world.clusters.get(next).and_then(|c| world.server(c.servers.start + server.number));
        for (account, clients) in [("APP", 50), (ACCOUNT, 1)] {
            out.raw("{\"acc\":").string(account).raw(",");
            if self.since((2, 11, 0)) {
                out.raw("\"name\":").string(account).raw(",");
            }
            out.raw("\"conns\":").number(clients).raw(",\"leafnodes\":0,\"total_conns\":").number(clients);
            if self.since((2, 10, 0)) {
                out.raw(",\"num_subscriptions\":").number(clients * 5);
            }
            let published = published(server, clients, now);
            let crossed = published / 10;
            let came = from.map_or(0, |from| self::published(from, clients, now) / 10);
            for (direction, msgs, gateways) in
                [("sent", published + crossed, crossed), ("received", published + came, came)]
            {
                out.raw(",\"").raw(direction).raw("\":{\"msgs\":").number(msgs);
                out.raw(",\"bytes\":").number(msgs * 120);
                if self.since((2, 11, 10)) && self.release != (2, 12, 0) {
                    for (kind, msgs) in [("gateways", gateways), ("routes", 0), ("leafs", 0)] {
                        counted(out.raw(","), kind, msgs, msgs * 120);
                    }
                }
                out.raw("}");
            }
            out.raw(",\"slow_consumers\":0},");
        }
        out.no_comma().raw("]}");
    }

    fn jsz(&self, out: &mut Text, server: &Server, now: u64) {
        out.raw("{\"memory\":0,\"storage\":0,\"reserved_memory\":0,\"reserved_storage\":0,\"accounts\":0,");
        out.raw("\"ha_assets\":0,\"api\":{");
        if self.since((2, 11, 0)) {
            out.raw("\"level\":0,");
        }
        out.raw("\"total\":0,\"errors\":0},\"server_id\":").string(&server.id).raw(",\"now\":").time(now);
        out.raw(",\"disabled\":true,\"config\":{\"max_memory\":0,\"max_storage\":0},\"streams\":0,");
        out.raw("\"consumers\":0,\"messages\":0,\"bytes\":0");
        if self.since((2, 11, 0)) {
            out.raw(",\"total\":0");
        }
        out.raw("}");
    }

    fn tells_clients(&self) -> bool {
        self.since((2, 14, 1)) || (self.since((2, 12, 9)) && !self.since((2, 13, 0)))
    }
}

/// Which end of a link tells.
#[derive(Clone, Copy)]
enum Near {
    Yes,
    /// The far one, about this dialer.
    No(usize),
}

fn connection(out: &mut Text, world: &World, link: &Link, near: Near, now: u64) {
    let (is_near, other) = match near {
        Near::Yes => (true, link.to),
        Near::No(dialer) => (false, dialer),
    };
    let Some(other) = world.server(other) else { return };
    let (cid, port) =
        if is_near { (link.near_cid, GATEWAY_PORT) } else { (link.far_cid, u64::from(link.port)) };
    let (msgs, bytes) = link.sent(now);
    let last = link.last_activity(now);
    out.raw("\"connection\":{\"cid\":").number(u64::from(cid)).raw(",\"kind\":\"Gateway\",\"ip\":");
    out.string(&other.host).raw(",\"port\":").number(port).raw(",\"start\":").time(link.start);
    out.raw(",\"last_activity\":").time(last).raw(",\"rtt\":").micros(link.rtt_us(is_near));
    out.raw(",\"uptime\":").uptime(now.saturating_sub(link.start));
    out.raw(",\"idle\":").uptime(now.saturating_sub(last)).raw(",\"pending_bytes\":0,\"in_msgs\":");
    let zero_or = |counts: bool, number| if counts { number } else { 0 };
    out.number(zero_or(!is_near, msgs)).raw(",\"out_msgs\":").number(zero_or(is_near, msgs));
    out.raw(",\"in_bytes\":").number(zero_or(!is_near, bytes)).raw(",\"out_bytes\":");
    out.number(zero_or(is_near, bytes)).raw(",\"subscriptions\":");
    out.number(zero_or(is_near, 50 + link.salt % 40)).raw(",\"name\":").string(&other.id).raw("}");
}

fn accounts(out: &mut Text, wanted: bool, outbound: bool) {
    if !wanted {
        return;
    }
    out.raw(",\"accounts\":[");
    for (name, subscriptions) in [("APP", 4), ("$G", 0), (ACCOUNT, 54)] {
        out.raw("{\"name\":").string(name);
        out.raw(",\"interest_mode\":\"Interest-Only\",\"interest_only_threshold\":1000");
        if outbound && subscriptions > 0 {
            out.raw(",\"num_subs\":").number(subscriptions);
        }
        out.raw("},");
    }
    out.no_comma().raw("]");
}

fn counted<'a>(out: &'a mut Text, what: &str, msgs: u64, bytes: u64) -> &'a mut Text {
    out.raw("\"").raw(what).raw("\":{\"msgs\":").number(msgs).raw(",\"bytes\":").number(bytes).raw("}")
}

fn address(out: &mut Text, server: &Server, port: u64) {
    out.raw("\"").raw(&server.host).raw(":").number(port).raw("\",");
}

fn is_host(world: &World, server: &Server) -> bool {
    world.server(HOST).is_some_and(|host| host.id == server.id)
}

fn salt(server: &Server) -> u64 {
    mix(server.start ^ (server.number as u64) << 32)
}

fn zone(server: &Server) -> u64 {
    server.number as u64 % 3 + 1
}

/// Messages that an account's clients of one server published.
fn published(server: &Server, clients: u64, now: u64) -> u64 {
    let age_ms = now.saturating_sub(server.start) / 1_000_000;
    age_ms * clients / 100 + salt(server) % 1_000
}

struct Totals {
    mem: u64,
    connections: u64,
    routes: u64,
    subscriptions: u64,
    sent: (u64, u64),
    received: (u64, u64),
}

impl Totals {
    fn of(world: &World, server: &Server, now: u64) -> Self {
        let msgs = published(server, 50, now);
        Self {
            mem: 24_000_000 + mix(salt(server) ^ now / SECOND) % 4_000_000,
            connections: 51,
            routes: (world.alive(server.cluster).count() as u64).saturating_sub(1) * ROUTES,
            subscriptions: 300 + salt(server) % 50,
            sent: (msgs * 2, msgs * 250),
            received: (msgs * 2, msgs * 240),
        }
    }
}

struct Route<'a> {
    peer: &'a Server,
    rid: u64,
    system: bool,
    start: u64,
    salt: u64,
    sent: (u64, u64),
    received: (u64, u64),
}

fn routes<'a>(world: &'a World, server: &'a Server, now: u64) -> impl Iterator<Item = Route<'a>> {
    let peers = world.alive(server.cluster).filter_map(|index| world.server(index));
    peers.filter(|peer| peer.number != server.number).flat_map(move |peer| {
        (0..ROUTES).map(move |pool| {
            let start = server.start.max(peer.start) + 5_000_000 + pool * 1_000_000;
            let age_s = now.saturating_sub(start) / SECOND;
            let system = pool == ROUTES - 1;
            let rate = |from: &Server| if system { 1 + salt(from) % 3 } else { 0 };
            let sent = age_s * rate(server);
            let received = age_s * rate(peer);
            Route {
                peer,
                rid: 8 + peer.number as u64 * ROUTES + pool + u64::from(peer.lives) * 100_000,
                system,
                start,
                salt: mix(salt(server) ^ salt(peer) ^ pool),
                sent: (sent, sent * 400),
                received: (received, received * 400),
            }
        })
    })
}
