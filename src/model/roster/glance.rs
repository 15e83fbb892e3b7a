//! A few clusters, looked at again between two looks at all.

use std::collections::BTreeSet;

use super::links::Again;
use super::{Record, Roster};
use crate::model::{Link, LinkState, Name, Server, Sight, Snapshot, Statsz, Time};

/// What was asked, and who answered.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    /// When.
    pub asked_at: Time,
    /// Which clusters.
    pub clusters: BTreeSet<Name>,
    /// The IDs of those who answered GATEWAYZ.
    pub answered: BTreeSet<Name>,
}

impl Roster {
    /// The remotes to which a server's gateways are other ones than it told before.
    pub fn moved(&self, id: &str, told: &Statsz) -> Vec<Name> {
        let Some((_, before)) = self.records.get(id).and_then(|r| r.statsz.as_ref()) else {
            return Vec::new();
        };
        if before.gateways == told.gateways {
            return Vec::new();
        }
        let differs =
            |(remote, cid): &(&Name, &u64), other: &Statsz| other.gateways.get(*remote) != Some(*cid);
        let new = told.gateways.iter().filter(|link| differs(link, before));
        let old = before.gateways.iter().filter(|link| differs(link, told));
        let remotes: BTreeSet<&Name> = new.chain(old).map(|(remote, _)| remote).collect();
        remotes.into_iter().cloned().collect()
    }

    /// Brings `snapshot`, which is of the last look at all, up to date by those who answered now, and gives the links
    /// between the clusters asked. What cannot be told by so little is unknown in them: a server that does not answer
    /// any more, or one that starts or left, is for the look at all to judge.
    pub fn glance(&mut self, snapshot: &mut Snapshot, glance: &Glance) -> Vec<Link> {
        let Snapshot { servers, clusters, links, .. } = snapshot;
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
                    && server.sight == Sight::Answered
                    && glance.answered.contains(id)
                {
                    record.bring_up_to_date(server, glance.asked_at);
                    fresh.insert(id.clone());
                }
            }
        }
        let answers = |cluster: &Name| {
            clusters.get(cluster).is_some_and(|c| c.servers.iter().any(|id| fresh.contains(id)))
        };
        let steady: BTreeSet<&Name> =
            glance.clusters.iter().filter(|c| answers(c) && !unsteady.contains(*c)).collect();
        let mut between = Vec::new();
        for cluster in &glance.clusters {
            let begin = links.partition_point(|l| l.cluster < *cluster);
            let own = links.iter_mut().skip(begin).take_while(|l| l.cluster == *cluster);
            for link in own.filter(|l| glance.clusters.contains(&l.remote)) {
                let near = servers.get(&link.server_id).filter(|s| fresh.contains(&s.info.id));
                let known = steady.contains(&link.remote);
                let Some(gatewayz) = near.and_then(|s| s.gatewayz.as_ref()).filter(|_| known) else {
                    between.push(Link { state: LinkState::Unknown, near: false, ..link.clone() });
                    continue;
                };
                let peer_id = gatewayz.outbound.peer(&link.remote);
                let peer = peer_id.map(|id| servers.get(id).map_or(id, |s| &s.info.name).clone());
                self.links.look_again(
                    link,
                    peer,
                    &Again { at: glance.asked_at, rejections: &self.rejections },
                );
                between.push(link.clone());
            }
        }
        between
    }
}

impl Record {
    fn bring_up_to_date(&self, server: &mut Server, at: Time) {
        server.gatewayz = self.gatewayz.as_ref().map(|(_, gatewayz)| std::sync::Arc::clone(gatewayz));
        server.answered_at = self.answered_at;
        server.heard_at = self.heard_at;
        server.alive_at = Some(at);
        let lately = |(heard_at, _): &&(Time, u64)| at.since(*heard_at) <= Server::HEARTBEAT_WINDOW;
        server.heartbeats = self.heartbeats.iter().filter(lately).count();
    }
}
