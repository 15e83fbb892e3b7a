//! What is seen of each cluster in a look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::witness::Home;
use super::{ABSENCE_GAP, CLUSTERS_MAX, Look, Roster};
use crate::model::sorted::union;
use crate::model::{Cluster, Life, Name, Server};

impl Roster {
    pub(super) fn clusters(
        &mut self,
        look: &Look,
        servers: &BTreeMap<Name, Server>,
    ) -> BTreeMap<Name, Cluster> {
        let mut clusters: BTreeMap<Name, Cluster> = BTreeMap::new();
        for (name, memory) in &self.clusters {
            if memory.existed {
                clusters.entry(name.clone()).or_default();
            }
        }
        for server in servers.values() {
            let Some(own) = &server.info.cluster else { continue };
            let Some(cluster) = place(&mut clusters, own) else { continue };
            cluster.servers.insert(server.info.id.clone());
            cluster.answered += usize::from(look.hears(&server.info.id));
            cluster.heard_at = cluster.heard_at.max(server.last_sign_at());
        }
        self.note_who_sees_whom(servers, &mut clusters);
        let home = Home::of(look, servers);
        for (name, cluster) in &mut clusters {
            let of = |id: &Name| servers.get(id);
            let all_left = !cluster.servers.is_empty()
                && cluster.servers.iter().filter_map(of).all(|s| s.life == Life::Left);
            cluster.left_at = all_left
                .then(|| cluster.servers.iter().filter_map(of).filter_map(|s| s.left_at).max())
                .flatten();
            let memory = self.clusters.entry(name.clone()).or_default();
            let here = cluster.servers.iter().any(|id| look.answered.contains(id));
            // When it is back, patience starts anew.
            if std::mem::replace(&mut memory.left, all_left) && !all_left {
                memory.dark_since = None;
                memory.severed_since = None;
            }
            if here || cluster.answered == 0 {
                memory.elsewhere_since = None;
            } else {
                memory.elsewhere_since.get_or_insert(look.asked_at);
            }
            if here {
                // Shorter, and only the vantage's gateway to it was made anew.
                let was_dark = memory.dark_since.take();
                if was_dark.is_some_and(|since| look.asked_at.since(since) > ABSENCE_GAP) {
                    memory.answering_since = None;
                }
                memory.answering_since.get_or_insert(look.asked_at);
            } else if look.settled {
                memory.dark_since.get_or_insert(look.asked_at);
            }
            let (asks, hears) = home.reach(name);
            // A lame duck says nothing over the gateways that it holds.
            let speaks = |s: &Server| s.hearable && s.life != Life::Left;
            cluster.hearable = hears == Some(true) && cluster.servers.iter().filter_map(of).any(speaks);
            match (asks, hears) {
                (Some(false), Some(false)) if cluster.answered == 0 => {
                    if look.settled {
                        memory.severed_since.get_or_insert(look.asked_at);
                    }
                }
                (None, _) | (_, None) => {}
                _ => memory.severed_since = None,
            }
            cluster.existed = memory.existed;
            cluster.answering_since = memory.answering_since;
            cluster.dark_since = memory.dark_since;
            cluster.elsewhere_since = memory.elsewhere_since;
            cluster.severed_since = memory.severed_since;
        }
        // What is only a name in a configuration is forgotten with it.
        self.clusters.retain(|name, memory| memory.existed || clusters.contains_key(name));
        clusters
    }

    /// Which servers have a connection to or from a cluster, and which clusters have it in their configuration.
    fn note_who_sees_whom(
        &mut self,
        servers: &BTreeMap<Name, Server>,
        clusters: &mut BTreeMap<Name, Cluster>,
    ) {
        let mut members: BTreeMap<&Name, Vec<&Server>> = BTreeMap::new();
        for server in servers.values() {
            if let Some(own) = &server.info.cluster {
                members.entry(own).or_default().push(server);
            }
        }
        for (own, members) in members {
            let mut configured: Vec<&Name> = Vec::new();
            for server in members.iter().filter(|s| s.life != Life::Left) {
                let config = server.varz.as_ref().and_then(|v| v.gateway.as_ref());
                let listed = config.into_iter().flat_map(|g| g.remotes.keys());
                if !configured.iter().copied().eq(listed.clone()) {
                    configured = union(configured.into_iter(), listed);
                }
            }
            for remote in configured {
                if let Some(cluster) = place(clusters, remote) {
                    cluster.configured_by.insert(own.clone());
                }
            }
            for (remote, names) in seen_by(&members) {
                if self.has_existed(remote)
                    && let Some(cluster) = place(clusters, remote)
                {
                    cluster.seen_by.insert(own.clone(), names);
                }
            }
        }
    }
}

/// The cluster of this name; none where there are too many already.
fn place<'a>(clusters: &'a mut BTreeMap<Name, Cluster>, name: &Name) -> Option<&'a mut Cluster> {
    if clusters.len() >= CLUSTERS_MAX && !clusters.contains_key(name) {
        return None;
    }
    Some(clusters.entry(name.clone()).or_default())
}

/// The names of the servers that have a connection to or from each cluster.
fn seen_by<'a>(members: &[&'a Server]) -> BTreeMap<&'a Name, Arc<BTreeSet<Name>>> {
    let ends = members.iter().filter_map(|server| {
        let gatewayz = server.gatewayz.as_ref()?;
        Some((&server.info.name, union(gatewayz.outbound.keys(), gatewayz.inbound.keys())))
    });
    // Most often all see the same, and share one set.
    let mut alike: BTreeMap<Vec<&Name>, BTreeSet<Name>> = BTreeMap::new();
    for (name, remotes) in ends {
        alike.entry(remotes).or_default().insert(name.clone());
    }
    let mut seen: BTreeMap<&Name, Arc<BTreeSet<Name>>> = BTreeMap::new();
    for (remotes, names) in alike {
        let names = Arc::new(names);
        for remote in remotes {
            seen.entry(remote)
                .and_modify(|known| Arc::make_mut(known).extend(names.iter().cloned()))
                .or_insert_with(|| Arc::clone(&names));
        }
    }
    seen
}
