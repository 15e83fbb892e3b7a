//! VARZ and STATSZ: what a server sums up.

use super::chance::mix;
use super::render::{
    ACCOUNT, CLIENT_PORT, GATEWAY_PORT, ROUTE_PORT, Renderer, address, cluster_name, counted, is_host, salt,
};
use super::routes::{ROUTES, routes};
use super::text::Text;
use super::traffic::published;
use super::world::{SECOND, Server, World};

const NO_STALE: &str = r#"{"clients":0,"routes":0,"gateways":0,"leafs":0}"#;

impl Renderer {
    /// All clusters with the addresses of their gateways: the largest part of VARZ, and the same for all servers.
    pub(super) fn shared(world: &World) -> Vec<u8> {
        let mut all = Text::default();
        let out = &mut all;
        for remote in &world.clusters {
            out.raw("{\"name\":").string(&remote.name).raw(",\"urls\":[");
            for peer in remote.servers.clone().filter_map(|index| world.server(index)) {
                address(out, peer, GATEWAY_PORT);
            }
            out.no_comma().raw("]},");
        }
        all.no_comma();
        all.0
    }

    pub(super) fn varz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
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
        out.raw(",\"port\":")
            .number(GATEWAY_PORT)
            .raw(",\"auth_timeout\":2,\"tls_timeout\":2,\"gateways\":[");
        out.shared_here();
        out.raw("]},\"leaf\":{},\"mqtt\":{},\"websocket\":{},\"jetstream\":{},\"tls_timeout\":2,");
        self.totals(out, world, server, now);
    }

    /// The second half of VARZ.
    pub(super) fn totals(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        let all = Totals::of(world, server, now);
        out.raw("\"write_deadline\":10000000000,\"start\":").time(server.start).raw(",\"now\":").time(now);
        out.raw(",\"uptime\":").uptime(now.saturating_sub(server.start)).raw(",\"mem\":").number(all.mem);
        out.raw(",\"cores\":8,\"gomaxprocs\":8,\"cpu\":2,\"connections\":").number(all.connections);
        out.raw(",\"total_connections\":")
            .number(all.connections + 40)
            .raw(",\"routes\":")
            .number(all.routes);
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
            out.raw(
                ",\"disk_io_wait_stats\":{\"waiters\":0,\"waits\":0,\"wait_time\":0,\"max_wait_time\":0}",
            );
        }
        out.raw("}");
    }

    pub(super) fn statsz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        let all = Totals::of(world, server, now);
        out.raw("{\"start\":")
            .time(server.start)
            .raw(",\"mem\":")
            .number(all.mem)
            .raw(",\"cores\":8,\"cpu\":2,");
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
            let sent = world.sent(server, link, now);
            out.raw("{\"gwid\":")
                .number(u64::from(link.near_cid))
                .raw(",\"name\":")
                .string(&remote.name)
                .raw(",");
            counted(out, "sent", sent.msgs, sent.bytes).raw(",");
            let from = server.inbound.partition_point(|(cluster, _)| *cluster < number);
            let dialers = server.inbound.get(from..).unwrap_or_default().iter();
            let (mut msgs, mut bytes, mut connections) = (0, 0, 0);
            for (_, dialer) in dialers.take_while(|(cluster, _)| *cluster == number) {
                let Some(link) = world.link(*dialer, server.cluster) else { continue };
                let Some(dialer) = world.server(*dialer) else { continue };
                let came = world.sent(dialer, link, now);
                (msgs, bytes, connections) = (msgs + came.msgs, bytes + came.bytes, connections + 1);
            }
            counted(out, "received", msgs, bytes)
                .raw(",\"inbound_connections\":")
                .number(connections)
                .raw("},");
        }
        let heard = u64::try_from(world.heard(server.cluster)).unwrap_or_default();
        out.no_comma().raw("],\"active_servers\":").number(heard);
        if self.since((2, 11, 0)) {
            out.raw(",\"gomaxprocs\":8");
        }
        out.raw("}");
    }

    fn tells_clients(&self) -> bool {
        self.since((2, 14, 1)) || (self.since((2, 12, 9)) && !self.since((2, 13, 0)))
    }
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
            mem: 24_000_000 + mix(salt(server) ^ (now / SECOND)) % 4_000_000,
            connections: 51,
            routes: (world.alive(server.cluster).count() as u64).saturating_sub(1) * ROUTES,
            subscriptions: 300 + salt(server) % 50,
            sent: (msgs * 2, msgs * 250),
            received: (msgs * 2, msgs * 240),
        }
    }
}
