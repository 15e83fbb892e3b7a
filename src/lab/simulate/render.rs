//! What a server answers, field for field as a real one of that version writes it (samples of 2.10 to 2.15).
//!
//! The servers have no `JetStream`. Nothing is kept: every number follows from the link, the server and the time,
//! so that two ends of a link agree whenever they are asked.

use super::ask::{Endpoint, Options, Release};
use super::chance::mix;
use super::link::{Link, Sent};
use super::text::Text;
use super::world::{HOST, Server, World};

/// The account in which all of this happens.
pub(super) const ACCOUNT: &str = "SIM";
pub(super) const CLIENT_PORT: u64 = 4222;
pub(super) const ROUTE_PORT: u64 = 6222;
pub(super) const GATEWAY_PORT: u64 = 7222;

pub(super) fn tag_of(cluster: &str) -> String {
    format!("region:{cluster}")
}

pub(super) fn cluster_name(world: &World, cluster: usize) -> &str {
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
    pub(super) fn since(&self, release: Release) -> bool {
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

    pub(super) fn labels(&self, out: &mut Text, world: &World, server: &Server) {
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
            connection(out, world, server, link, true, now);
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
                let Some(dialer) = world.server(*dialer) else { continue };
                out.raw("{\"configured\":false,");
                connection(out, world, dialer, link, false, now);
                accounts(out, with_accounts, false);
                out.raw("},");
            }
            out.no_comma().raw("],");
        }
        out.no_comma().raw("}}");
    }
}

/// A link as one of its ends tells it: the near one is the dialer.
fn connection(out: &mut Text, world: &World, dialer: &Server, link: &Link, is_near: bool, now: u64) {
    let Some(other) = (if is_near { world.server(link.to) } else { Some(dialer) }) else { return };
    let (cid, port) =
        if is_near { (link.near_cid, GATEWAY_PORT) } else { (link.far_cid, u64::from(link.port)) };
    let Sent { msgs, bytes, last_at: last } = world.sent(dialer, link, now);
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

pub(super) fn counted<'a>(out: &'a mut Text, what: &str, msgs: u64, bytes: u64) -> &'a mut Text {
    out.raw("\"").raw(what).raw("\":{\"msgs\":").number(msgs).raw(",\"bytes\":").number(bytes).raw("}")
}

pub(super) fn address(out: &mut Text, server: &Server, port: u64) {
    out.raw("\"").raw(&server.host).raw(":").number(port).raw("\",");
}

pub(super) fn is_host(world: &World, server: &Server) -> bool {
    world.server(HOST).is_some_and(|host| host.id == server.id)
}

pub(super) fn salt(server: &Server) -> u64 {
    mix(server.start ^ (server.number as u64) << 32)
}

fn zone(server: &Server) -> u64 {
    server.number as u64 % 3 + 1
}
