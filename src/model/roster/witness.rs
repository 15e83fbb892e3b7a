//! What can be told of one server by what the others answer.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Look, ROUTES_FRESH, Record, TOGETHER, peers};
use crate::model::flow::Ends;
use crate::model::index::Index;
use crate::model::{Cluster, Connection, Gatewayz, Life, LinkState, Name, Routez, Server, Sight, Time};

/// What those who answered say about who else lives.
pub(super) struct Witness {
    /// ID of a server that does not answer to the names of those that have a connection to it.
    pub(super) named: BTreeMap<Name, BTreeSet<Name>>,
    /// IDs of servers with a gateway connection into the vantage's cluster.
    pub(super) hearable: BTreeSet<Name>,
    /// Cluster to the fresh route lists of its servers: name, when, IDs.
    pub(super) routes: BTreeMap<Name, Vec<(Name, Time, Arc<Routez>)>>,
}

impl Witness {
    pub(super) fn of(records: &BTreeMap<Name, Record>, look: &Look) -> Self {
        let mut witness = Self { named: BTreeMap::new(), hearable: BTreeSet::new(), routes: BTreeMap::new() };
        // Whom a late answer names may have died since.
        let tells = |id: &Name| look.hears(id) && !look.is_late(id);
        let (answering, silent): (Vec<_>, Vec<_>) = records.iter().partition(|(id, _)| tells(id));
        let silent = Index::of(silent.into_iter().map(|(id, _)| (&**id, ())));
        for (_, record) in answering {
            let mut name = |id: &Name| {
                if silent.get(id).is_some() {
                    witness.named.entry(id.clone()).or_default().insert(record.info.name.clone());
                }
            };
            if let Some((_, gatewayz)) = &record.gatewayz {
                if record.info.cluster == look.vantage.cluster {
                    witness.hearable.extend(gatewayz.inbound.peers().map(|(_, id)| id.clone()));
                }
                if !silent.is_empty() {
                    peers(gatewayz).for_each(|(_, id)| name(id));
                }
            }
            let Some((at, routez)) = &record.routez else { continue };
            if look.asked_at.since(*at) > ROUTES_FRESH {
                continue;
            }
            routez.peers.keys().for_each(&mut name);
            if let Some(cluster) = &record.info.cluster {
                let list = witness.routes.entry(cluster.clone()).or_default();
                list.push((record.info.name.clone(), *at, Arc::clone(routez)));
            }
        }
        witness.hear_the_silent(records, look);
        witness
    }

    /// A server without a route to ours takes those along whose gateway to our cluster ends there: they live,
    /// as their peers tell, and fell silent with it. Had it died, they would have dialled another within a
    /// second or two.
    pub(super) fn hear_the_silent(&mut self, records: &BTreeMap<Name, Record>, look: &Look) {
        let Some(own) = &look.vantage.cluster else { return };
        let mut doors: Vec<(Name, Name)> = Vec::new();
        let ours = look.answered.get(&look.vantage.server_id).and_then(|id| records.get(id));
        let ours = ours.and_then(|r| r.gatewayz.as_ref()).map(|(_, g)| g);
        // Whom our own server has no gateway to is silent for that.
        let asked = |r: &Record| {
            ours.zip(r.info.cluster.as_ref()).is_some_and(|(g, cluster)| g.outbound.contains_key(cluster))
        };
        // By name and cluster: of whom some life answers.
        let mut answering = BTreeSet::new();
        if records.values().any(|r| r.silent_since.is_some()) {
            let heard = records.iter().filter(|(id, _)| look.hears(id));
            answering.extend(heard.map(|(_, r)| (&r.info.name, &r.info.cluster)));
        }
        for (id, record) in records.iter().filter(|(_, r)| asked(r)) {
            let Some(since) = record.silent_since.filter(|_| self.names(id) && record.left_at.is_none())
            else {
                continue;
            };
            let last = record.gatewayz.as_ref().and_then(|(_, g)| g.outbound.peer(own));
            let Some(door) = last else { continue };
            // Whose next life answers is no door any more.
            let reborn = |door: &Record| answering.contains(&(&door.info.name, &door.info.cluster));
            // Whose own gateways are gone at far ends that answer is dead: only those fell silent with it that
            // they end at, too.
            let lost = |door: &Record| {
                let mut peers = door.gatewayz.iter().flat_map(|(_, g)| g.outbound.peers());
                peers.any(|(_, peer)| look.hears(peer))
            };
            let door_since = records
                .get(door)
                .filter(|r| !reborn(r) && !lost(r))
                .and_then(|r| r.silent_since.zip(r.heard_at));
            let near = |a: Time, b: Time| a.since(b).max(b.since(a)) <= TOGETHER;
            // Not only since we look from another server: they were last heard together too.
            if door_since.is_some_and(|(silent, heard)| {
                near(silent, since) && record.heard_at.is_some_and(|at| near(heard, at))
            }) {
                doors.push((door.clone(), record.info.name.clone()));
            }
        }
        for (door, name) in doors {
            self.named.entry(door).or_default().insert(name);
        }
    }

    pub(super) fn names(&self, id: &Name) -> bool {
        self.named.contains_key(id)
    }

    /// Who of its cluster answered after it went silent and has no route to it.
    pub(super) fn denied(&self, record: &Record) -> BTreeSet<Name> {
        let since = record.silent_since.or(record.heard_at).unwrap_or(record.first_seen_at);
        record
            .info
            .cluster
            .as_ref()
            .and_then(|cluster| self.routes.get(cluster))
            .into_iter()
            .flatten()
            .filter(|(_, at, routez)| *at >= since && !routez.peers.contains_key(&record.info.id))
            .map(|(name, _, _)| name.clone())
            .collect()
    }
}

/// What a look shows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Connected,
    Absent,
    /// No far end has it any more, and nobody tells whether its server lives.
    Gone,
    Unknown,
}

impl Seen {
    pub(super) fn state(self) -> LinkState {
        match self {
            Self::Connected => LinkState::Connected,
            Self::Absent => LinkState::Absent,
            Self::Gone | Self::Unknown => LinkState::Unknown,
        }
    }
}

/// What the servers at the far end show of the outbound of a server that cannot be asked.
pub(super) fn far_end<'a>(
    server: &Server,
    cluster: &Name,
    far: impl Iterator<Item = &'a Server>,
    was_connected_at: Option<Time>,
    look: &Look,
) -> (Seen, Option<Name>) {
    let (mut all, mut any) = (true, false);
    for end in far.filter(|s| s.may_run()) {
        let Some(gatewayz) = end.gatewayz.as_ref().filter(|_| !look.is_late(&end.info.id)) else {
            all = false;
            continue;
        };
        any = true;
        if gatewayz.inbound.peers_of(cluster).any(|id| *id == server.info.id) {
            return (Seen::Connected, Some(end.info.id.clone()));
        }
    }
    // Who was only heard before the link went may have gone with it.
    let lives = server.life == Life::Alive
        && (!server.named_by.is_empty() || server.last_sign_at() > was_connected_at);
    let seen = match any && all {
        true if lives => Seen::Absent,
        true => Seen::Gone,
        false => Seen::Unknown,
    };
    (seen, None)
}

/// A server, as it is found by its ID.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) id: &'a Name,
    pub(super) server: &'a Server,
    /// Where what came in from the cluster that was asked for last is: clusters are asked for in order.
    pub(super) place: &'a Cell<usize>,
}

/// Both ends of a link, as far as they answered in this look; `far` is the server at the other end. What is told of two
/// moments is not compared.
pub(super) fn ends<'a>(
    server: &Server,
    cluster: &Name,
    near: Option<&'a Connection>,
    far: Option<Known<'a>>,
    look: &Look,
) -> Ends<'a> {
    if look.is_late(&server.info.id) || far.is_some_and(|far| look.is_late(far.id)) {
        return Ends::default();
    }
    let Some((Known { id, place, .. }, gatewayz)) =
        far.and_then(|far| Some((far, far.server.gatewayz.as_ref()?)))
    else {
        return Ends { near, ..Ends::default() };
    };
    let far = gatewayz.inbound.of_peer_near(cluster, &server.info.id, place).max_by_key(|c| c.cid);
    Ends { near, unmatched: near.is_some() && far.is_none(), far: far.map(|c| (id, c)) }
}

/// The clusters that have a gateway to `cluster`. Who is dialled dials back.
pub(super) fn dialled<'a>(servers: &'a BTreeMap<Name, Server>, cluster: &Name) -> BTreeSet<&'a Name> {
    let has = |s: &&Server| s.gatewayz.as_ref().is_some_and(|g| g.outbound.contains_key(cluster));
    servers.values().filter(has).filter_map(|s| s.info.cluster.as_ref()).collect()
}

/// The vantage's own cluster, as the ways to other clusters are seen from there.
pub(super) struct Home<'a> {
    own: Option<&'a Arc<Gatewayz>>,
    cluster: Option<&'a Name>,
    neighbours: Vec<&'a Server>,
}

impl<'a> Home<'a> {
    pub(super) fn of(look: &'a Look, servers: &'a BTreeMap<Name, Server>) -> Self {
        let cluster = look.vantage.cluster.as_ref();
        // A lame duck keeps its gateways, and says nothing, until it ends.
        let neighbours = servers.values().filter(|s| s.info.cluster.as_ref() == cluster && s.may_run());
        let own = servers.get(&look.vantage.server_id).and_then(|own| own.gatewayz.as_ref());
        Self { own, cluster, neighbours: neighbours.collect() }
    }

    /// Whether the vantage's server has a gateway to `cluster`, and whether a server of the vantage's cluster has
    /// one from it. None where that cannot be told.
    pub(super) fn reach(&self, cluster: &Name) -> (Option<bool>, Option<bool>) {
        let asks = self.own.map(|g| self.cluster == Some(cluster) || g.outbound.contains_key(cluster));
        let (mut all, mut any) = (true, false);
        for neighbour in &self.neighbours {
            match &neighbour.gatewayz {
                Some(g) => any |= g.inbound.peers_of(cluster).len() > 0,
                None => all = false,
            }
        }
        let hears = if any { Some(true) } else { all.then_some(false) };
        (asks, hears)
    }
}

pub(super) fn sight(
    server: &Server,
    look: &Look,
    clusters: &BTreeMap<Name, Cluster>,
    own_lacks: &BTreeMap<Name, Time>,
) -> Sight {
    if server.gatewayz.is_some() {
        return Sight::Answered;
    }
    if server.life == Life::Left {
        return Sight::Left;
    }
    if server.answered_at.is_none() && server.last_sign_at().is_none() {
        return Sight::Named;
    }
    let own = server.info.cluster == look.vantage.cluster;
    // A route is one hop too: without one from our own server, a peer of it cannot be asked.
    if own && own_lacks.contains_key(&server.info.id) {
        return Sight::Unreachable;
    }
    let asked = own
        || server.info.cluster.as_ref().and_then(|c| clusters.get(c)).is_some_and(|c| {
            if c.elsewhere_since.is_some() {
                return true;
            }
            let vantage = look.vantage.cluster.as_ref();
            vantage.and_then(|v| c.seen_by.get(v)).is_some_and(|names| names.contains(&look.vantage.server))
        });
    if asked && (own || server.hearable) { Sight::Silent } else { Sight::Unreachable }
}
