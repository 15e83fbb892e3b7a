//! A few clusters, looked at again between two looks at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::links::Again;
use super::{Record, Roster};
use crate::model::{
    Cluster, Gatewayz, Link, LinkState, Name, Server, ServerInfo, Sight, Snapshot, Statsz, Time,
};

/// A server that hangs is listed for longer by those at the other ends of its gateways (30 to 45 s, measured), and then
/// still by its peers.
const HANGS_FOR: Duration = Duration::from_secs(25);

/// What was asked, and who answered.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// When.
    pub asked_at: Time,
    /// Which clusters.
    pub clusters: BTreeSet<Name>,
    /// The IDs of those who answered GATEWAYZ.
    pub answered: BTreeSet<Name>,
    /// The IDs of those whose answers come after a look is over, with when they were asked what they answered last.
    pub late: BTreeMap<Name, Time>,
}

impl Roster {
    /// The remotes to which a server tells other gateways than it answered; of a server of the cluster `own` also those
    /// from where more or fewer come than it told before. Who loses its gateway to our cluster is not heard in it any
    /// more.
    pub fn moved(&self, server: &ServerInfo, told: &Statsz, own: Option<&Name>) -> Vec<Name> {
        let Some(record) = self.records.get(&server.id) else { return Vec::new() };
        let answered = record.gatewayz.as_ref().map(|(_, answered)| answered.outbound.cids());
        let told_now = told.gateways.iter().map(|(remote, cid)| (remote, *cid));
        let mut remotes = answered.map(|answered| differing(answered, told_now)).unwrap_or_default();
        let is_own = server.cluster.is_some() && server.cluster.as_ref() == own;
        if let Some((_, before)) =
            record.statsz.as_ref().filter(|(_, s)| is_own && s.inbounds != told.inbounds)
        {
            let before: BTreeMap<&Name, u32> = before.inbounds().collect();
            remotes
                .extend(told.inbounds().filter(|(r, n)| before.get(r) != Some(n)).map(|(remote, _)| remote));
        }
        remotes.into_iter().cloned().collect()
    }

    /// Whether a server answered the gateways of this [`imprint`](super::super::imprint).
    pub fn answered(&self, server_id: &str, imprint: u64) -> bool {
        self.records.get(server_id).is_some_and(|record| record.imprint == Some(imprint))
    }

    /// The remotes to which a server answers other gateways than it did before; of a server of the cluster `own` also
    /// those from where others come.
    pub fn answers_anew(&self, server: &ServerInfo, told: &Gatewayz, own: Option<&Name>) -> Vec<Name> {
        let Some((_, held)) = self.records.get(&server.id).and_then(|r| r.gatewayz.as_ref()) else {
            return Vec::new();
        };
        let mut remotes = differing(held.outbound.cids(), told.outbound.cids());
        if server.cluster.is_some() && server.cluster.as_ref() == own {
            let [before, now] = [held, told].map(|g| g.inbound.peers().collect::<BTreeSet<_>>());
            remotes.extend(before.symmetric_difference(&now).map(|(remote, _)| *remote));
        }
        remotes.into_iter().cloned().collect()
    }

    /// A server of our own cluster tells who has a gateway to it.
    pub fn note_who_comes_no_more(&mut self, server: &ServerInfo, told: &Gatewayz, at: Time) {
        let Some((_, held)) = self.records.get(&server.id).and_then(|r| r.gatewayz.as_ref()) else { return };
        let held = std::sync::Arc::clone(held);
        if held.inbound.peers().eq(told.inbound.peers()) {
            return;
        }
        let now: BTreeSet<(&Name, &Name)> = told.inbound.peers().collect();
        for (_, id) in held.inbound.peers().filter(|peer| !now.contains(peer)) {
            if let Some(record) = self.records.get_mut(id) {
                record.shut_at.get_or_insert(at);
            }
        }
    }

    /// Our own cluster is another one now.
    pub fn forget_who_comes_no_more(&mut self) {
        self.records.values_mut().for_each(|record| record.shut_at = None);
    }

    /// Brings `snapshot`, which is of the last look at all, up to date by those who answered now, and gives the links
    /// between the clusters asked. What cannot be told by so little is unknown in them: a server that does not answer
    /// any more, or one that starts or left, is for the look at all to judge.
    pub fn glance(&mut self, snapshot: &mut Snapshot, glance: &Glance) -> Vec<Link> {
        let Snapshot { servers, clusters, links, vantage, .. } = snapshot;
        let mut fresh: BTreeSet<Name> = BTreeSet::new();
        let mut unsteady: BTreeSet<Name> = BTreeSet::new();
        for cluster in &glance.clusters {
            let known = clusters.get(cluster).map(|c| &c.servers);
            let ids: Vec<&Name> = known.into_iter().flatten().collect();
            // One that left before that look is out of it.
            let left_at = |id: &Name| servers.get(id).and_then(|s| s.left_at);
            let leaves = |id: &&Name| self.records.get(*id).is_none_or(|r| r.left_at != left_at(id));
            let starts = |(id, r): (&Name, &Record)| {
                r.info.cluster.as_ref() == Some(cluster) && r.introduced && !ids.contains(&id)
            };
            if ids.iter().any(leaves) || self.records.iter().any(starts) {
                unsteady.insert(cluster.clone());
            }
            for id in ids {
                if let (Some(server), Some(record)) = (servers.get_mut(id), self.records.get(id))
                    && matches!(server.sight, Sight::Answered | Sight::Unreachable)
                {
                    if glance.answered.contains(id) {
                        record.bring_up_to_date(server, glance.asked_at);
                        server.late_at = None;
                        fresh.insert(id.clone());
                    } else if let Some(told_at) = glance.late.get(id) {
                        record.bring_up_to_date(server, *told_at);
                        server.late_at = Some(*told_at);
                    }
                }
            }
        }
        let answers = |cluster: &Name| {
            clusters.get(cluster).is_some_and(|c| c.servers.iter().any(|id| fresh.contains(id)))
        };
        let steady: BTreeSet<&Name> =
            glance.clusters.iter().filter(|c| answers(c) && !unsteady.contains(*c)).collect();
        let own = vantage.cluster.as_ref().filter(|own| steady.contains(own)).and_then(|own| {
            let door = Door::of(clusters.get(own)?, servers, &fresh)?;
            Some((own, door))
        });
        for (_, id) in own.iter().flat_map(|(_, door)| &door.open) {
            if let Some(record) = self.records.get_mut(id) {
                record.shut_at = None;
            }
        }
        let mut between = Vec::new();
        for cluster in &glance.clusters {
            let begin = links.partition_point(|l| l.cluster < *cluster);
            let own_links = links.iter_mut().skip(begin).take_while(|l| l.cluster == *cluster);
            for link in own_links.filter(|l| glance.clusters.contains(&l.remote)) {
                let told_at = glance.late.get(&link.server_id);
                let again = |at| Again { at, rejections: &self.rejections };
                let door = own.as_ref().filter(|(own, door)| {
                    **own == link.remote
                        && steady.contains(cluster)
                        && door.is_shut_to(&link.server_id, cluster)
                });
                // What was told before the door was shut is of no use then.
                let tells = fresh.contains(&link.server_id) || told_at.is_some() && door.is_none();
                let near = servers.get(&link.server_id).filter(|_| tells);
                let known = steady.contains(&link.remote);
                if let Some(gatewayz) = near.and_then(|s| s.gatewayz.as_ref()).filter(|_| known) {
                    let peer_id = gatewayz.outbound.peer(&link.remote);
                    let peer = peer_id.map(|id| servers.get(id).map_or(id, |s| &s.info.name).clone());
                    let at = told_at.copied().unwrap_or(glance.asked_at);
                    self.links.look_again(link, peer, &again(at));
                } else if door.is_some()
                    && self.was_well_when_it_went(link, glance.asked_at)
                    && let Some(server) = servers.get_mut(&link.server_id)
                    && server.answered_at.is_some()
                    && let Some(named_by) = self.named_since(server, &fresh, glance.asked_at)
                {
                    // Its answers come over the link that is lost.
                    server.gatewayz = None;
                    server.late_at = None;
                    server.sight = Sight::Unreachable;
                    server.alive_at = Some(glance.asked_at);
                    server.named_by = named_by;
                    self.links.look_again(link, None, &again(glance.asked_at));
                    link.near = false;
                } else {
                    between.push(Link { state: LinkState::Unknown, near: false, ..link.clone() });
                    continue;
                }
                between.push(link.clone());
            }
        }
        between
    }

    /// Whether its gateway to our cluster, which is gone at `at`, can have gone by no hanging of its own.
    fn was_well_when_it_went(&self, link: &Link, at: Time) -> bool {
        let Some(record) = self.records.get(&link.server_id) else { return false };
        let went_at = link.absent_since.into_iter().chain(record.shut_at).min().unwrap_or(at);
        record.last_sign_at().is_some_and(|last_at| went_at.since(last_at) < HANGS_FOR)
    }

    /// Those of its cluster that answer, and told since `at` that they have a route to it; none where nobody did.
    fn named_since(&self, server: &Server, fresh: &BTreeSet<Name>, at: Time) -> Option<BTreeSet<Name>> {
        let has_route = |r: &Record| {
            r.info.cluster == server.info.cluster
                && r.routez.as_ref().is_some_and(|(told_at, routez)| {
                    *told_at >= at && routez.peers.contains_key(&server.info.id)
                })
        };
        let named = fresh.iter().filter_map(|id| self.records.get(id)).filter(|r| has_route(r));
        let named: BTreeSet<Name> = named.map(|r| r.info.name.clone()).collect();
        (!named.is_empty()).then_some(named)
    }
}

/// The gateways into the vantage's cluster, where all of its servers tell.
struct Door {
    open: BTreeSet<(Name, Name)>,
}

impl Door {
    fn of(own: &Cluster, servers: &BTreeMap<Name, Server>, fresh: &BTreeSet<Name>) -> Option<Self> {
        let mut open = BTreeSet::new();
        for server in own.servers.iter().filter_map(|id| servers.get(id)).filter(|s| s.may_run()) {
            let gatewayz = server.gatewayz.as_ref().filter(|_| fresh.contains(&server.info.id))?;
            open.extend(gatewayz.inbound.peers().map(|(cluster, id)| (cluster.clone(), id.clone())));
        }
        Some(Self { open })
    }

    fn is_shut_to(&self, id: &Name, cluster: &Name) -> bool {
        !self.open.contains(&(cluster.clone(), id.clone()))
    }
}

/// The remotes whose connections are not the same in both; each is in order.
fn differing<'a>(
    a: impl Iterator<Item = (&'a Name, u64)>,
    b: impl Iterator<Item = (&'a Name, u64)>,
) -> BTreeSet<&'a Name> {
    let (mut remotes, mut b) = (BTreeSet::new(), b.peekable());
    for (remote, cid) in a {
        remotes.extend(std::iter::from_fn(|| b.next_if(|(new, _)| *new < remote)).map(|(new, _)| new));
        if b.next_if(|(same, _)| *same == remote).is_none_or(|(_, now)| now != cid) {
            remotes.insert(remote);
        }
    }
    remotes.extend(b.map(|(new, _)| new));
    remotes
}

impl Record {
    fn bring_up_to_date(&self, server: &mut Server, at: Time) {
        server.gatewayz = self.gatewayz.as_ref().map(|(_, gatewayz)| std::sync::Arc::clone(gatewayz));
        server.sight = Sight::Answered;
        server.answered_at = self.answered_at;
        server.heard_at = self.heard_at;
        server.alive_at = server.alive_at.max(Some(at));
        let lately = |(heard_at, _): &&(Time, u64)| at.since(*heard_at) <= Server::HEARTBEAT_WINDOW;
        server.heartbeats = self.heartbeats.iter().filter(lately).count();
    }
}
