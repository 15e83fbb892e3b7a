//! What is remembered of each link, and its view in a look.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::witness::{Known, Seen, dialled, ends, far_end};
use super::{ABSENCE_GAP, Look, SERVERS_MAX};
use crate::model::flow::FlowMemory;
use crate::model::index::Index;
use crate::model::packed::{Keys, Pack, Packed, Packer, Packet};
use crate::model::pressure::{Loads, RttMemory};
use crate::model::sorted::{Cursor, found, make_room, union};
use crate::model::{Cluster, Life, Link, Name, Rejection, Server, Time};

/// How many links are remembered. One more is judged by what the look shows, and by nothing before it.
const LINKS_MAX: usize = 1_000_000;
/// A link that ends with the last answer of its server is seen to be gone so soon after it.
const FELL_SILENT: Duration = Duration::from_secs(1);

/// Every link that was seen.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Those of each server, by its ID, in the order of the remotes.
    of: BTreeMap<Name, Packed<LinkMemory>>,
    /// The remotes of those that were seen last.
    keys: Keys,
    remembered: usize,
    /// For the next view: to let go of so much memory at once, and ask for it again, leaves a hole where it was.
    room: Vec<Link>,
    /// When a server of this cluster and name was last connected to each remote, in any life.
    history: BTreeMap<(Name, Name), Packed<Time>>,
    histories: usize,
    /// How far apart two looks may be for an absence to go on.
    gap: Duration,
}

#[derive(Debug, Default)]
struct LinkMemory {
    absent_since: Option<Time>,
    absent_looks: u32,
    /// Only the far end told of the absence so far, and nobody that the server lives.
    is_doubtful: bool,
    looked_at: Option<Time>,
    connected_at: Option<Time>,
    connected_since: Option<Time>,
    flow: FlowMemory,
}

impl Pack for LinkMemory {
    fn pack(&self, to: &mut Packer) {
        to.time(self.absent_since);
        to.number(self.absent_looks);
        to.number(u32::from(self.is_doubtful));
        to.time(self.looked_at);
        to.time(self.connected_at);
        to.time(self.connected_since);
        self.flow.pack(to);
    }

    fn unpack(from: &mut Packet<'_>) -> Self {
        Self {
            absent_since: from.time(),
            absent_looks: u32::try_from(from.number()).unwrap_or(u32::MAX),
            is_doubtful: from.number() != 0,
            looked_at: from.time(),
            connected_at: from.time(),
            connected_since: from.time(),
            flow: FlowMemory::unpack(from),
        }
    }
}

impl LinkMemory {
    fn is_absent_no_more(&mut self) {
        self.absent_since = None;
        self.absent_looks = 0;
        self.is_doubtful = false;
    }

    /// Whether it was seen since `at`.
    fn is_newer_than(&self, at: Time) -> bool {
        self.looked_at.max(self.connected_at).is_some_and(|seen_at| seen_at > at)
    }

    /// Since when it is known to be absent, and in how many looks.
    fn absent(&self) -> (Option<Time>, u32) {
        if self.is_doubtful { (None, 0) } else { (self.absent_since, self.absent_looks) }
    }

    /// What is gone begins with the silence of its server, or it is no news: one that hung for long loses its links, and
    /// dials again as soon as it goes on.
    fn weigh(&self, seen: Seen, fell_silent: bool) -> Seen {
        let begins = fell_silent && self.absent_since.is_none();
        if seen == Seen::Gone && !begins && !self.is_doubtful { Seen::Unknown } else { seen }
    }

    /// Counts how long a link has been in its state. While the remote `is_away` with a goodbye nothing is amiss; when
    /// it is back, patience starts anew. Looks further apart than `gap` do not join into one absence; with none nothing
    /// is counted. What is `Gone` counts as soon as it is known that its server lives: then it did all the time.
    fn note(&mut self, seen: Seen, is_away: bool, at: Time, gap: Option<Duration>) {
        match seen {
            Seen::Connected => {
                self.is_absent_no_more();
                self.looked_at = None;
                self.connected_at = self.connected_at.max(Some(at));
                self.connected_since.get_or_insert(at);
            }
            Seen::Absent | Seen::Gone => {
                self.connected_since = None;
                if is_away {
                    self.is_absent_no_more();
                } else if let Some(gap) = gap {
                    if self.looked_at.is_none_or(|looked_at| at.since(looked_at) > gap) {
                        self.is_absent_no_more();
                    }
                    let is_new = self.absent_since.is_none();
                    self.is_doubtful = seen == Seen::Gone && (is_new || self.is_doubtful);
                    if is_new || self.looked_at < Some(at) {
                        self.absent_since.get_or_insert(at);
                        self.absent_looks += 1;
                        self.looked_at = Some(at);
                    }
                }
            }
            Seen::Unknown if self.is_doubtful => self.is_absent_no_more(),
            Seen::Unknown => {}
        }
    }
}

/// A link that is looked at again between two looks.
pub(super) struct Again<'a> {
    pub(super) at: Time,
    pub(super) rejections: &'a Rejections,
}

/// One look, as far as links are seen by it.
struct Scene<'a> {
    look: &'a Look,
    servers: &'a BTreeMap<Name, Server>,
    by_id: Index<'a, Known<'a>>,
    clusters: &'a BTreeMap<Name, Cluster>,
    loads: &'a Loads,
    rejections: &'a Rejections,
    gap: Option<Duration>,
}

impl Links {
    /// Makes known that a server of this name had a gateway to `remote` at `at`.
    pub(super) fn recall(&mut self, cluster: Name, server: Name, remote: &Name, at: Time) {
        if self.histories < SERVERS_MAX {
            let key = (cluster, server);
            let mut history = self.history.get(&key).map(Packed::open).unwrap_or_default();
            self.histories += usize::from(set(&mut history, remote, at, true));
            self.history.insert(key, Packed::of(&history, at, &mut self.keys));
        }
    }

    /// What was counted in looks begins anew.
    pub(super) fn blink(&mut self) {
        for packed in self.of.values_mut() {
            let mut memories = packed.open();
            for (_, memory) in &mut memories {
                memory.is_absent_no_more();
            }
            *packed = Packed::of(&memories, packed.at(), &mut self.keys);
        }
    }

    /// The next view is made in the room of one that nobody needs any more.
    pub(super) fn take_back(&mut self, mut links: Vec<Link>) {
        links.clear();
        self.room = links;
    }

    /// That life of a server is over.
    pub(super) fn forget(&mut self, server_id: &Name) {
        self.remembered -= self.of.remove(server_id).map_or(0, |links| links.len());
    }

    /// Brings `link` up to date by what the server that dials says of it now.
    pub(super) fn look_again(&mut self, link: &mut Link, peer: Option<Name>, again: &Again<'_>) {
        let seen = if peer.is_some() { Seen::Connected } else { Seen::Absent };
        let Some(packed) = self.of.get_mut(&link.server_id) else { return };
        let mut memories = packed.open();
        // One that there was no room for is judged by whole looks.
        let Some((_, memory)) = memories.iter_mut().find(|(remote, _)| *remote == link.remote) else {
            return;
        };
        memory.note(seen, false, again.at, Some(self.gap));
        link.state = seen.state();
        link.near = true;
        link.peer = peer;
        (link.absent_since, link.absent_looks) = memory.absent();
        link.connected_at = memory.connected_at;
        link.connected_since = memory.connected_since;
        if seen == Seen::Connected {
            link.ever_connected_at = Some(again.at);
        }
        link.rejected =
            link.absent_since.and_then(|_| rejected(again.rejections, &link.server_id, &link.remote));
        *packed = Packed::of(&memories, packed.at(), &mut self.keys);
    }

    /// Every link that exists or is expected in this look, in the order of a snapshot.
    pub(super) fn view(
        &mut self,
        look: &Look,
        servers: &BTreeMap<Name, Server>,
        clusters: &BTreeMap<Name, Cluster>,
        loads: &Loads,
        rejections: &Rejections,
    ) -> Vec<Link> {
        let places = vec![Cell::default(); servers.len()];
        let known = servers.iter().zip(&places).map(|((id, server), place)| Known { id, server, place });
        let by_id = Index::of(known.map(|known| (&**known.id, known)));
        self.gap = ABSENCE_GAP.max(look.lasts * 3);
        let gap = look.settled.then_some(self.gap);
        let scene = Scene { look, servers, by_id, clusters, loads, rejections, gap };
        let mut of_clusters: BTreeMap<&Name, Vec<&Server>> = BTreeMap::new();
        for server in servers.values().filter(|s| !matches!(s.life, Life::Left | Life::Gone)) {
            if let Some(cluster) = &server.info.cluster {
                of_clusters.entry(cluster).or_default().push(server);
            }
        }
        let mut links = std::mem::take(&mut self.room);
        let listed = servers.values().filter_map(|s| Some(s.gatewayz.as_ref()?.outbound.len())).sum();
        links.reserve_exact(self.remembered.max(listed));
        for (cluster, mut members) in of_clusters {
            members.sort_by_key(|s| (&s.info.name, &s.info.id));
            let shared = scene.remotes_of_all(cluster);
            let begin = links.len();
            let mut again = false;
            let mut before = None;
            for server in members {
                again |= before.replace(&server.info.name) == Some(&server.info.name);
                self.view_server(&scene, cluster, server, &shared, &mut links);
            }
            // Two lives of one name stand beside each other at each remote.
            if let (true, Some(own)) = (again, links.get_mut(begin..)) {
                own.sort_by(Link::order);
            }
        }
        links
    }

    /// The links to all remotes that a server has, is configured for, ever had under its name, or that a peer has.
    fn view_server(
        &mut self,
        scene: &Scene<'_>,
        cluster: &Name,
        server: &Server,
        shared: &[&Name],
        links: &mut Vec<Link>,
    ) {
        let (id, name) = (&server.info.id, &server.info.name);
        let asked_at = server.late_at.or_else(|| scene.look.asked.get(cluster).copied());
        let config = server.varz.as_ref().map(|v| v.gateway.as_ref());
        let remotes_configured = config.flatten().map(|g| &*g.remotes);
        let key = (cluster.clone(), name.clone());
        let mut history = self.history.remove(&key).map(|packed| packed.open()).unwrap_or_default();
        let fell_silent =
            server.silent_since.is_some_and(|since| scene.look.asked_at.since(since) <= FELL_SILENT);
        let remotes: Vec<Name> = {
            let known = union(shared.iter().copied(), history.iter().map(|(remote, _)| remote));
            let known = union(known.into_iter(), remotes_configured.into_iter().flat_map(BTreeMap::keys));
            known.into_iter().filter(|remote| *remote != cluster).cloned().collect()
        };
        let mut memories = self.of.remove(id).map(|packed| packed.open()).unwrap_or_default();
        self.remembered += make_room(&mut memories, remotes.iter(), LINKS_MAX - self.remembered);
        let mut kept = memories.iter_mut().peekable();
        let mut configured = Cursor::new(remotes_configured);
        let mut clusters = Cursor::new(Some(scene.clusters));
        let rtts = scene.loads.rtts_of(id);
        let mut outbound = server.gatewayz.iter().flat_map(|g| g.outbound.iter()).peekable();
        for remote in remotes {
            let mut unkept = LinkMemory::default();
            while kept.next_if(|(known, _)| *known < remote).is_some() {}
            let memory =
                kept.next_if(|(known, _)| *known == remote).map_or(&mut unkept, |(_, memory)| memory);
            while outbound.next_if(|(to, _)| **to < remote).is_some() {}
            let near = outbound.next_if(|(to, _)| **to == remote).map(|(_, o)| o.connection);
            let (seen, peer_id) = match (&server.gatewayz, &near) {
                (Some(_), Some(connection)) => (Seen::Connected, Some(connection.peer_id.clone())),
                (Some(_), None) => (Seen::Absent, None),
                (None, _) => {
                    far_end(server, cluster, scene.servers_of(&remote), memory.connected_at, scene.look)
                }
            };
            let far = peer_id.as_ref().and_then(|id| scene.by_id.get(id));
            let ends = ends(server, cluster, near.as_ref(), far, scene.look);
            if seen == Seen::Connected {
                let room = self.histories < LINKS_MAX;
                self.histories += usize::from(set(&mut history, &remote, scene.look.asked_at, room));
            }
            let seen =
                if server.late_at.is_some_and(|at| memory.is_newer_than(at)) { Seen::Unknown } else { seen };
            let is_away = clusters.seek(&remote).is_some_and(|c| c.left_at.is_some());
            let at = asked_at.filter(|_| server.gatewayz.is_some()).unwrap_or(scene.look.asked_at);
            memory.note(memory.weigh(seen, fell_silent), is_away, at, scene.gap);
            let (absent_since, absent_looks) = memory.absent();
            let alive = |id: &Name| scene.by_id.get(id).is_some_and(|far| far.server.life == Life::Alive);
            let flow = memory.flow.look(&ends, scene.look.asked_at, alive);
            links.push(Link {
                cluster: cluster.clone(),
                server: name.clone(),
                server_id: id.clone(),
                configured: config.map(|_| configured.seek(&remote).is_some()),
                state: seen.state(),
                near: server.gatewayz.is_some(),
                peer: far.map(|far| far.server.info.name.clone()).or(peer_id),
                absent_since,
                absent_looks,
                connected_at: memory.connected_at,
                connected_since: memory.connected_since,
                ever_connected_at: found(&history, &remote).copied(),
                rejected: absent_since.and_then(|_| rejected(scene.rejections, id, &remote)),
                flow,
                pressure: scene.loads.of_link(server, &remote),
                rtt: found(&rtts, &remote).map(RttMemory::rtt).unwrap_or_default(),
                remote,
            });
        }
        if !memories.is_empty() {
            self.of.insert(id.clone(), Packed::of(&memories, scene.look.asked_at, &mut self.keys));
        }
        if !history.is_empty() {
            self.history.insert(key, Packed::of(&history, scene.look.asked_at, &mut self.keys));
        }
    }
}

/// Sets what is in order; whether `remote` is new there, for which there must be `room`.
fn set(history: &mut Vec<(Name, Time)>, remote: &Name, at: Time, room: bool) -> bool {
    let place = history.binary_search_by(|(known, _)| known.cmp(remote));
    match place {
        Ok(known) => history.get_mut(known).into_iter().for_each(|(_, known_at)| *known_at = at),
        Err(place) if room => history.insert(place, (remote.clone(), at)),
        Err(_) => {}
    }
    place.is_err() && room
}

impl<'a> Scene<'a> {
    fn servers_of(&self, cluster: &Name) -> impl Iterator<Item = &'a Server> {
        let ids = self.clusters.get(cluster).into_iter().flat_map(|c| &c.servers);
        ids.filter_map(|id| self.servers.get(id))
    }

    /// The remotes that any server of the cluster has; those that have a gateway to it, where none of it answers.
    fn remotes_of_all(&self, cluster: &Name) -> Vec<&'a Name> {
        let mut all: Vec<&Name> = Vec::new();
        for gatewayz in self.servers_of(cluster).filter_map(|s| s.gatewayz.as_ref()) {
            if !all.iter().copied().eq(gatewayz.outbound.keys()) {
                all = union(all.into_iter(), gatewayz.outbound.keys());
            }
        }
        if self.clusters.get(cluster).is_none_or(|c| c.answered == 0) {
            let dialled: BTreeSet<&Name> = dialled(self.servers, cluster);
            let known = dialled.into_iter().filter_map(|by| Some(self.clusters.get_key_value(by)?.0));
            all = union(all.into_iter(), known);
        }
        all
    }
}

pub(super) type Rejections = BTreeMap<Name, VecDeque<(Name, Rejection)>>;

fn rejected(rejections: &Rejections, id: &Name, remote: &Name) -> Option<Box<Rejection>> {
    let list = rejections.get(id)?;
    list.iter().rev().find(|(by_cluster, _)| by_cluster == remote).map(|(_, r)| Box::new(r.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::Roster;
    use super::super::tests::{at, info, look, to};
    use super::*;
    use crate::model::{Connection, Fact, Gatewayz, LinkState, RoutePeer, Routez};

    #[test]
    fn links_that_there_is_no_room_for_are_judged_by_the_look_alone() {
        let mut roster = Roster::default();
        roster.links.remembered = LINKS_MAX - 1;
        roster.links.histories = LINKS_MAX - 1;
        let mut since = Vec::new();
        for (seq, millis) in [(1, 0), (2, 500), (3, 1000)] {
            let told = Fact::Gatewayz(to(&[("us", "U0"), ("zz", "Z0")]));
            roster.answer(info("eu-0", "E0", "eu", seq), told, at(millis)).unwrap();
            let links = roster.snapshot(look(millis, &["E0"])).links;
            let of = links.into_iter().filter(|link| &*link.server == "eu-0");
            since = of.map(|link| (link.remote, link.state, link.connected_since)).collect();
        }
        let connected = |remote: &str, millis| (remote.into(), LinkState::Connected, Some(at(millis)));
        assert_eq!(since, [connected("us", 0), connected("zz", 1000)]);
        assert_eq!((roster.links.remembered, roster.links.histories), (LINKS_MAX, LINKS_MAX));
    }

    /// A look at which two of a cluster of three answer whose gateways end at `eu-0`; `doors` of them are there.
    fn seen_at(roster: &mut Roster, millis: u64, answer: &[&str], doors: &[&str], routes: bool) -> Link {
        let door = |id: &&str| Connection { cid: 1, peer_id: (*id).into(), ..Connection::default() };
        let inbound = BTreeMap::from([("us".into(), doors.iter().map(door).collect::<Vec<_>>())]);
        let own = Gatewayz { inbound: inbound.into(), ..to(&[("us", "U1")]) };
        roster.answer(info("eu-0", "E0", "eu", millis), Fact::Gatewayz(own), at(millis)).unwrap();
        for id in answer {
            let other = info(&id.to_lowercase(), id, "us", millis);
            roster.answer(other.clone(), Fact::Gatewayz(to(&[("eu", "E0")])), at(millis)).unwrap();
            if routes {
                let peers = [("U0".into(), RoutePeer::default())].into();
                roster.answer(other, Fact::Routez(Routez { peers }), at(millis)).unwrap();
            }
        }
        let answered: Vec<&str> = answer.iter().copied().chain(["E0"]).collect();
        let links = roster.snapshot(look(millis, &answered)).links;
        links.into_iter().find(|link| &*link.server_id == "U0" && &*link.remote == "eu").unwrap()
    }

    #[test]
    fn a_link_that_went_with_the_answers_of_its_server_is_absent_since_then() {
        let mut roster = Roster::default();
        seen_at(&mut roster, 0, &["U0", "U1"], &["U0", "U1"], false);
        let link = seen_at(&mut roster, 500, &["U1"], &["U1"], false);
        assert_eq!((link.state, link.absent_since), (LinkState::Unknown, None), "it may have died");
        let link = seen_at(&mut roster, 1000, &["U1"], &["U1"], true);
        assert_eq!((link.state, link.absent_since), (LinkState::Absent, Some(at(500))));
        assert_eq!(link.absent_looks, 2);
        let link = seen_at(&mut roster, 1500, &["U0", "U1"], &["U0", "U1"], true);
        assert_eq!((link.state, link.absent_since), (LinkState::Connected, None));
    }

    #[test]
    fn one_that_hung_before_its_link_went_is_given_time_to_dial_again() {
        let mut roster = Roster::default();
        seen_at(&mut roster, 0, &["U0", "U1"], &["U0", "U1"], false);
        for millis in [500, 1000, 1500] {
            seen_at(&mut roster, millis, &["U1"], &["U0", "U1"], false);
        }
        for millis in [2000, 2500, 5000] {
            seen_at(&mut roster, millis, &["U1"], &["U1"], false);
        }
        let link = seen_at(&mut roster, 5500, &["U1"], &["U1"], true);
        assert_eq!((link.state, link.absent_since), (LinkState::Absent, Some(at(5500))));
    }

    #[test]
    fn what_was_seen_again_meanwhile_was_not_absent() {
        let mut roster = Roster::default();
        seen_at(&mut roster, 0, &["U0", "U1"], &["U0", "U1"], false);
        seen_at(&mut roster, 500, &["U1"], &["U1"], false);
        seen_at(&mut roster, 1000, &["U1"], &["U0", "U1"], false);
        let link = seen_at(&mut roster, 1500, &["U1"], &["U1"], true);
        assert_eq!((link.state, link.absent_since), (LinkState::Absent, Some(at(1500))));
    }
}
