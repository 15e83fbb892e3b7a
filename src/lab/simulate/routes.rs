//! ROUTEZ: everybody in a cluster is connected to everybody.

use super::chance::mix;
use super::render::{ACCOUNT, ROUTE_PORT, Renderer, salt};
use super::text::Text;
use super::world::{SECOND, Server, World};

/// Routes between two servers: a pool of three, and one of the system account.
pub(super) const ROUTES: u64 = 4;

impl Renderer {
    pub(super) fn routez(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
        out.raw("{\"server_id\":").string(&server.id);
        if self.since((2, 10, 0)) {
            out.raw(",\"server_name\":").string(&server.name);
        }
        out.raw(",\"now\":").time(now).raw(",\"num_routes\":");
        out.number(routes(world, server, now).count() as u64).raw(",\"routes\":[");
        for route in routes(world, server, now) {
            let idle = mix(route.salt ^ (now / SECOND)) % 9 * SECOND;
            out.raw("{\"rid\":").number(route.rid).raw(",\"remote_id\":").string(&route.peer.id);
            if self.since((2, 10, 0)) {
                out.raw(",\"remote_name\":").string(&route.peer.name);
            }
            let dials = server.number < route.peer.number;
            out.raw(",\"did_solicit\":").raw(if dials { "true" } else { "false" });
            out.raw(",\"is_configured\":true,\"ip\":").string(&route.peer.host).raw(",\"port\":");
            out.number(if dials { ROUTE_PORT } else { 32_768 + route.salt % 28_000 });
            out.raw(",\"start\":")
                .time(route.start)
                .raw(",\"last_activity\":")
                .time(now.saturating_sub(idle));
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
}

pub(super) struct Route<'a> {
    pub(super) peer: &'a Server,
    pub(super) rid: u64,
    system: bool,
    start: u64,
    salt: u64,
    pub(super) sent: (u64, u64),
    pub(super) received: (u64, u64),
}

pub(super) fn routes<'a>(world: &'a World, server: &'a Server, now: u64) -> impl Iterator<Item = Route<'a>> {
    let peers = world.alive(server.cluster).filter_map(|index| world.server(index));
    peers.filter(|peer| peer.number != server.number).flat_map(move |peer| {
        (0..ROUTES).map(move |pool| {
            let start = server.start.max(peer.start) + 5_000_000 + pool * 1_000_000;
            let system = pool == ROUTES - 1;
            let sent_by = |from: &Server| {
                let age_s = from.sends_until(now).saturating_sub(start) / SECOND;
                if system { age_s * (1 + salt(from) % 3) } else { 0 }
            };
            let (sent, received) = (sent_by(server), sent_by(peer));
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
