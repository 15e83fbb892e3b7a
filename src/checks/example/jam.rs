//! Gateways over which less passes than is sent: what waits grows, and everything behind it comes late.

use super::*;

/// 150 MB were measured; then the producers are held back.
const PENDING_BYTES_MAX: u64 = 150_000_000;
/// An answer that is later than this comes when its look is over.
pub(super) const IN_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Jam {
    in_bytes_per_s: u64,
    out_bytes_per_s: u64,
    pending_bytes: u64,
    sent_bytes: u64,
    at: Time,
}

/// What is on its way.
#[derive(Debug)]
pub(super) enum Late {
    Reply(ServerInfo, Fact, Time),
    Signal(ServerInfo, Signal, Time),
}

impl World {
    /// From now on so much is sent on a gateway, and so much of it passes.
    pub(crate) fn jam(&mut self, server: &str, remote: &str, in_bytes_per_s: u64, out_bytes_per_s: u64) {
        let key = (Name::from(server), Name::from(remote));
        let (pending_bytes, sent_bytes) =
            self.jams.get(&key).map_or((0, 0), |jam| (jam.pending_bytes, jam.sent_bytes));
        let jam = Jam { in_bytes_per_s, out_bytes_per_s, pending_bytes, sent_bytes, at: self.now };
        self.jams.insert(key, jam);
    }

    /// The way between a server or a cluster and another cluster is so long, there and back.
    pub(crate) fn delay(&mut self, end: &str, cluster: &str, rtt: Duration) {
        self.far.insert((end.into(), cluster.into()), rtt);
    }

    /// Each server measures each of its gateways every 15 s.
    fn ping(&mut self) {
        let now = self.now;
        let mut measured = Vec::new();
        for node in self.nodes.values().filter(|n| n.power == Power::Up) {
            for (remote, dial) in &node.dials {
                let Some((peer, _)) = &dial.up else { continue };
                let key = (node.name.clone(), remote.clone());
                let phase = ms(dial.cid % 13 * 1000);
                let due = match self.rtts.get(&key) {
                    Some((cid, at, _)) if *cid == dial.cid => now.since(*at) >= secs(15),
                    _ => now.since(dial.start) >= phase,
                };
                if due {
                    let ends = [
                        (&node.name, remote),
                        (&node.cluster, remote),
                        (peer, &node.cluster),
                        (remote, &node.cluster),
                    ];
                    let way = ends.iter().find_map(|(a, b)| self.far.get(&((*a).clone(), (*b).clone())));
                    measured.push((key, dial.cid, *way.unwrap_or(&ms(1)) + self.late_by(&node.name, remote)));
                }
            }
        }
        for (key, cid, rtt) in measured {
            let odd = Duration::from_nanos(self.pick(90_000) as u64);
            self.rtts.insert(key, (cid, now, rtt + odd));
        }
    }

    /// Its answers to ROUTEZ are what the test gives the roster, and no others.
    pub(crate) fn mute_routes(&mut self, server: &str) {
        self.muted.insert(server.into());
    }

    /// What waits on it.
    pub(crate) fn pending(&self, server: &str, remote: &str) -> u64 {
        self.jams.get(&(server.into(), remote.into())).map_or(0, |jam| jam.pending_bytes)
    }

    pub(super) fn load(&self, connection: Connection, server: &Name, remote: &Name) -> Connection {
        let key = (server.clone(), remote.clone());
        let rtt = self.rtts.get(&key).filter(|(cid, ..)| *cid == connection.cid).map(|(.., rtt)| *rtt);
        let connection = Connection { rtt, ..connection };
        match self.jams.get(&key) {
            Some(jam) => {
                Connection { pending_bytes: jam.pending_bytes, out_bytes: jam.sent_bytes, ..connection }
            }
            None => connection,
        }
    }

    /// How late what `server` sends to `cluster` comes.
    pub(super) fn late_by(&self, server: &str, cluster: &Name) -> Duration {
        self.jams
            .get(&(server.into(), cluster.clone()))
            .map_or(Duration::ZERO, |jam| ms(jam.pending_bytes * 1000 / jam.out_bytes_per_s.max(1)))
    }

    /// Whether it comes after its look is over; then it is kept until it does.
    pub(super) fn is_stuck(&mut self, info: &ServerInfo, fact: &Fact, vantage: &Name) -> bool {
        let own = self.nodes[vantage].cluster.clone();
        let there = self.late_by(vantage, info.cluster.as_ref().expect("it has one"));
        let late = there + self.late_by(&info.name, &own);
        if late > IN_TIME {
            let made_at = self.now.plus(there);
            self.stuck.push((self.now.plus(late), Late::Reply(info.clone(), fact.clone(), made_at)));
        }
        late > IN_TIME
    }

    pub(super) fn flow(&mut self) {
        self.ping();
        let now = self.now;
        let mut moved = Vec::new();
        for ((server, remote), jam) in &mut self.jams {
            let millis = u64::try_from(now.since(jam.at).as_millis()).unwrap_or(0);
            jam.at = now;
            let room = PENDING_BYTES_MAX.saturating_sub(jam.pending_bytes);
            let passes = jam.out_bytes_per_s * millis / 1000;
            let sent = (jam.in_bytes_per_s * millis / 1000).min(room + passes);
            jam.sent_bytes += sent;
            jam.pending_bytes = (jam.pending_bytes + sent).saturating_sub(passes);
            if passes > 0 {
                moved.push((server.clone(), remote.clone()));
            }
        }
        for (server, remote) in moved {
            self.send(&server, &remote);
        }
        let (due, later) = std::mem::take(&mut self.stuck).into_iter().partition(|(at, _)| *at <= now);
        self.stuck = later;
        let due: Vec<(Time, Late)> = due;
        for (_, late) in due {
            let _ = match late {
                Late::Reply(info, fact, made_at) => self.roster.answer(info, fact, made_at),
                Late::Signal(info, signal, made_at) => self.roster.hear(info, signal, made_at),
            };
        }
    }
}
