//! What one look costs behind the decoder: taking the answers in, the snapshot, the checks, the ledger.
//!
//! `cargo bench --bench judge -- [SERVERS [CLUSTERS]]`, 1,000 in 100 where nothing is said.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark that cannot go on ends"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gatewatch::checks::{self, Settings, Watched};
use gatewatch::findings::{Judgement, Ledger};
use gatewatch::model::{
    Connection, Fact, GatewayConfig, Gatewayz, Look, Name, Observer, Outbound, Roster, RoutePeer, Routez,
    ServerInfo, Statsz, Time, Vantage, Varz,
};

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

struct World {
    clusters: Vec<Name>,
    /// By cluster: name and ID.
    servers: Vec<Vec<(Name, Name)>>,
    start: Time,
    seq: u64,
}

impl World {
    fn new(clusters: usize, each: usize) -> Self {
        let servers = (0..clusters)
            .map(|c| {
                let of = (0..each).map(|s| (format!("c{c:03}-{s}").into(), id(c, s)));
                of.collect()
            })
            .collect();
        let clusters = (0..clusters).map(|c| format!("c{c:03}").into()).collect();
        Self { clusters, servers, start: Time::from_millis(1_700_000_000_000), seq: 0 }
    }

    fn info(&self, c: usize, s: usize) -> ServerInfo {
        let (name, id) = self.servers[c][s].clone();
        ServerInfo {
            name,
            id,
            cluster: Some(self.clusters[c].clone()),
            ver: "2.15.1".into(),
            seq: self.seq,
            ..ServerInfo::default()
        }
    }

    /// Which member of `to` a server dials.
    fn dials(&self, c: usize, s: usize, to: usize) -> usize {
        (c * 31 + s * 17 + to * 7) % self.servers[to].len()
    }

    fn connection(&self, peer: &Name, cid: usize) -> Connection {
        let count = self.seq * 3;
        Connection {
            cid: cid as u64,
            peer_id: peer.clone(),
            start: Some(self.start),
            rtt: Some(Duration::from_micros(300)),
            in_msgs: count,
            in_bytes: count * 1000,
            out_msgs: count,
            out_bytes: count * 1000,
            stalls: Some(0),
            ..Connection::default()
        }
    }

    fn gatewayz(&self, c: usize, s: usize) -> Gatewayz {
        let others = || (0..self.clusters.len()).filter(|to| *to != c);
        let outbound = others()
            .map(|to| {
                let peer = &self.servers[to][self.dials(c, s, to)].1;
                let connection = self.connection(peer, to);
                (self.clusters[to].clone(), Outbound { configured: true, connection })
            })
            .collect();
        let inbound = others()
            .filter_map(|from| {
                let dialers = (0..self.servers[from].len()).filter(|d| self.dials(from, *d, c) == s);
                let connections: Vec<Connection> =
                    dialers.map(|d| self.connection(&self.servers[from][d].1, from * 100 + d)).collect();
                (!connections.is_empty()).then(|| (self.clusters[from].clone(), connections))
            })
            .collect();
        Gatewayz { name: Some(self.clusters[c].clone()), outbound, inbound, ..Gatewayz::default() }
    }

    fn varz(&self, c: usize) -> Varz {
        let remotes = (0..self.clusters.len())
            .filter(|to| *to != c)
            .map(|to| ((*self.clusters[to]).into(), [format!("c{to:03}.example:7222").into()].into()))
            .collect();
        let gateway = GatewayConfig { name: self.clusters[c].clone(), remotes, ..GatewayConfig::default() };
        Varz { start: Some(self.start), gateway: Some(gateway), ..Varz::default() }
    }

    fn statsz(&self, c: usize) -> Statsz {
        let others = (0..self.clusters.len()).filter(|to| *to != c);
        Statsz {
            start: Some(self.start),
            active_servers: Some(self.servers.iter().map(|s| s.len() as u64).sum()),
            gateways: others.map(|to| (self.clusters[to].clone(), to as u64)).collect(),
            ..Statsz::default()
        }
    }

    fn routez(&self, c: usize, s: usize) -> Routez {
        let peers = self.servers[c].iter().enumerate().filter(|(other, _)| *other != s);
        let peer =
            |name: &Name| RoutePeer { name: Some(name.clone()), connections: 4, ..RoutePeer::default() };
        Routez { peers: peers.map(|(_, (name, id))| (id.clone(), peer(name))).collect() }
    }
}

fn id(c: usize, s: usize) -> Name {
    // Drawn as a server's is: 56 characters of which the first ones differ.
    let mut state = (c as u64) << 32 | s as u64 | 1 << 63;
    let mut text = String::from("N");
    while text.len() < 56 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(b'A' + (state >> 59) as u8 % 26));
    }
    text.into()
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let servers = numbers.next().unwrap_or(1000);
    let clusters = numbers.next().unwrap_or(100);
    let mut world = World::new(clusters, servers / clusters);
    let settings: BTreeMap<&'static str, Settings> =
        checks::REGISTRY.iter().map(|check| (check.manual().slug, Settings::of(*check))).collect();
    let mut roster = Roster::default();
    let mut ledger = Ledger::default();
    let all: Vec<(usize, usize)> =
        (0..clusters).flat_map(|c| (0..servers / clusters).map(move |s| (c, s))).collect();
    let vantage = Vantage {
        cluster: Some(world.clusters[0].clone()),
        server: world.servers[0][0].0.clone(),
        server_id: world.servers[0][0].1.clone(),
        ..Vantage::default()
    };
    println!("{servers} servers, {clusters} clusters; at the start {:.1} MiB", resident_mib());
    let mut kept: Option<gatewatch::model::Snapshot> = None;
    for look in 0..12u64 {
        let at = world.start.plus(Duration::from_millis(10_000 + look * 500));
        world.seq = look + 1;
        let mut took = Duration::ZERO;
        for (c, s) in &all {
            let facts = [
                Some(Fact::Gatewayz(world.gatewayz(*c, *s))),
                (look == 0).then(|| Fact::Varz(Box::new(world.varz(*c)))),
                (look == 0).then(|| Fact::Routez(world.routez(*c, *s))),
                (look % 10 == 0).then(|| Fact::Statsz(world.statsz(*c))),
            ];
            let info = world.info(*c, *s);
            let begin = Instant::now();
            for fact in facts.into_iter().flatten() {
                roster.answer(info.clone(), fact, at).unwrap();
            }
            took += begin.elapsed();
        }
        // As the agent does.
        if let Some(shown) = kept.take() {
            roster.take_back(shown);
        }
        let begin = Instant::now();
        let snapshot = roster.snapshot(Look {
            epoch: look,
            asked_at: at,
            settled: true,
            vantage: vantage.clone(),
            answered: all.iter().map(|(c, s)| world.servers[*c][*s].1.clone()).collect(),
            elsewhere: BTreeSet::new(),
            late: BTreeMap::new(),
            observer: Observer::default(),
            lasts: Duration::ZERO,
            asked: BTreeMap::new(),
        });
        let built = begin.elapsed();
        let begin = Instant::now();
        let mut each: Vec<(Duration, &str)> = checks::REGISTRY
            .iter()
            .map(|check| {
                let slug = check.manual().slug;
                let begin = Instant::now();
                drop(check.evaluate(&snapshot, &settings[slug], &Watched::default()));
                (begin.elapsed(), slug)
            })
            .collect();
        let alone = begin.elapsed();
        let begin = Instant::now();
        let verdicts = checks::evaluate(&snapshot, &settings, &ledger.watched());
        let judged = begin.elapsed();
        let n = verdicts.len();
        let begin = Instant::now();
        let changes = ledger.step(Judgement {
            at,
            seen_at: at,
            is_glance: false,
            epoch: look,
            verdicts,
            settings: &settings,
            repeat_every: Duration::from_secs(3600),
        });
        let stepped = begin.elapsed();
        each.sort_by(|a, b| b.cmp(a));
        println!(
            "look {look}: taken in {took:.1?}, snapshot {built:.1?}, judged {judged:.1?} ({alone:.1?}), {n} verdicts, \
             ledger {stepped:.1?}, {} changes, {:.1} MiB",
            changes.len(),
            resident_mib()
        );
        if look == 11 {
            for (took, slug) in each.iter().take(12) {
                println!("    {took:>10.1?} {slug}");
            }
            for change in changes.iter().take(3) {
                println!("    {}", change.finding.summary);
            }
        }
        kept = Some(snapshot);
    }
    drop(kept);
}
