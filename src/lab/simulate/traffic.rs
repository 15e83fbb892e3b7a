//! What accounts move: ACCOUNT STATZ, and JSZ of servers without streams.

use super::render::{ACCOUNT, Renderer, counted, salt};
use super::text::Text;
use super::world::{Server, World};

impl Renderer {
    pub(super) fn accountz(&self, out: &mut Text, world: &World, server: &Server, now: u64) {
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

    pub(super) fn jsz(&self, out: &mut Text, server: &Server, now: u64) {
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
}

/// Messages that an account's clients of one server published.
pub(super) fn published(server: &Server, clients: u64, now: u64) -> u64 {
    let age_ms = now.saturating_sub(server.start) / 1_000_000;
    age_ms * clients / 100 + salt(server) % 1_000
}
