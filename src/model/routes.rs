//! Which servers lack a route to a peer of their cluster, and since when.

use std::collections::BTreeMap;

use super::{Life, Name, Server, Time};

/// How many lacking routes of one server are remembered: those who lack more are cut off, and told as such.
const LACKS_MAX: usize = 64;

/// What is remembered of each server's list of routes, by its ID.
#[derive(Debug, Default)]
pub(super) struct Meshes(BTreeMap<Name, Mesh>);

#[derive(Debug, Default)]
struct Mesh {
    told_at: Option<Time>,
    lacks: BTreeMap<Name, Time>,
}

impl Meshes {
    /// Compares what the servers told of their routes with who lives in their cluster.
    pub(super) fn fill(&mut self, servers: &mut BTreeMap<Name, Server>) {
        let mut members: BTreeMap<Name, Vec<(Name, Life, Time)>> = BTreeMap::new();
        for (id, server) in servers.iter() {
            if let (Some(cluster), Life::Alive | Life::Unknown) = (&server.info.cluster, server.life) {
                let list = members.entry(cluster.clone()).or_default();
                list.push((id.clone(), server.life, server.first_seen_at));
            }
        }
        self.0.retain(|id, _| servers.contains_key(id));
        for (id, server) in servers.iter_mut() {
            let (Some(routez), Some(told_at)) = (&server.routez, server.routez_at) else { continue };
            let mesh = self.0.entry(id.clone()).or_default();
            if mesh.told_at == Some(told_at) && mesh.lacks.is_empty() {
                continue;
            }
            let before = std::mem::take(&mut mesh.lacks);
            mesh.told_at = Some(told_at);
            let peers = server.info.cluster.as_ref().and_then(|c| members.get(c)).into_iter().flatten();
            for (peer, life, first_seen_at) in peers {
                if peer == id || routez.peers.contains_key(peer) {
                    continue;
                }
                // Of one that came after this list was made it says nothing.
                let new = *life == Life::Alive && *first_seen_at <= told_at;
                if let Some(since) = before.get(peer).copied().or(new.then_some(told_at)) {
                    mesh.lacks.insert(peer.clone(), since);
                }
                if mesh.lacks.len() >= LACKS_MAX {
                    break;
                }
            }
            server.lacks.clone_from(&mesh.lacks);
        }
    }

    /// The IDs of the servers that lack one.
    pub(super) fn incomplete(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter(|(_, mesh)| !mesh.lacks.is_empty()).map(|(id, _)| id)
    }

    /// Nobody looked for a while: patience begins anew.
    pub(super) fn blink(&mut self) {
        self.0.clear();
    }
}
