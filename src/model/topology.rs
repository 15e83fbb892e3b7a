//! Which clusters, servers and remotes there are, by name: what is reviewed, kept, and held against reality.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Life, Name, Server, Snapshot};

/// A longer name is left out: it would be no name that somebody reviews.
pub const NAME_BYTES_MAX: usize = 256;

/// A supercluster by its names. Equal superclusters make equal values: no ID, no address, no time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Topology {
    /// By name.
    pub clusters: BTreeMap<Name, Members>,
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Members {
    /// The names of its servers. Those that are named by their ID are not among them.
    pub servers: BTreeSet<Name>,
    /// What each of its servers has, but for those in `except`.
    #[serde(flatten)]
    pub remotes: Remotes,
    /// The servers that have other remotes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub except: BTreeMap<Name, Remotes>,
}

/// The remote clusters of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Remotes {
    /// Those that its configuration lists.
    #[serde(rename = "remotes")]
    pub configured: BTreeSet<Name>,
    /// Those that it is connected to by gossip only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub implicit: BTreeSet<Name>,
}

/// How a server has a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Its configuration lists it.
    Configured,
    /// It is connected, and its configuration does not list it.
    Implicit,
    /// Neither.
    None,
}

impl Remotes {
    /// How `remote` is had.
    pub fn tie(&self, remote: &str) -> Tie {
        if self.configured.contains(remote) {
            Tie::Configured
        } else if self.implicit.contains(remote) {
            Tie::Implicit
        } else {
            Tie::None
        }
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.configured.iter().chain(&self.implicit)
    }

    /// What `server` has, of the clusters in `there`; none where that was not seen.
    fn of(server: &Server, there: &BTreeSet<&Name>) -> Option<Self> {
        let (varz, gatewayz) = (server.varz.as_ref()?, server.gatewayz.as_ref()?);
        let listed = varz.gateway.iter().flat_map(|g| g.remotes.keys());
        let exists = |name: &&Name| there.contains(name) && server.info.cluster.as_ref() != Some(*name);
        let configured: BTreeSet<Name> = listed.filter(exists).cloned().collect();
        let connected = gatewayz.outbound.keys().filter(exists);
        let implicit = connected.filter(|name| !configured.contains(*name)).cloned().collect();
        Some(Self { configured, implicit })
    }
}

impl Members {
    /// What `server` has.
    pub fn remotes_of(&self, server: &str) -> &Remotes {
        self.except.get(server).unwrap_or(&self.remotes)
    }
}

impl Topology {
    /// What `snapshot` shows. A remote that is no cluster, but only a name in a configuration, is left out.
    pub fn of(snapshot: &Snapshot) -> Self {
        let runs = |s: &&Server| matches!(s.life, Life::Alive | Life::Unknown);
        let there: BTreeSet<&Name> = snapshot
            .clusters
            .iter()
            .filter(|(name, c)| {
                is_name(name) && (!c.seen_by.is_empty() || snapshot.servers_of(name).any(|s| runs(&s)))
            })
            .map(|(name, _)| name)
            .collect();
        let members = |name: &Name| {
            let servers: Vec<&Server> =
                snapshot.servers_of(name).filter(runs).filter(|s| s.is_named()).collect();
            let seen: BTreeMap<&Name, Remotes> =
                servers.iter().filter_map(|s| Some((&s.info.name, Remotes::of(s, &there)?))).collect();
            let remotes = most(seen.values());
            let except = seen.into_iter().filter(|(_, own)| *own != remotes);
            Members {
                except: except.map(|(name, own)| (name.clone(), own)).collect(),
                servers: servers.iter().map(|s| s.info.name.clone()).collect(),
                remotes,
            }
        };
        Self { clusters: there.iter().map(|name| ((*name).clone(), members(name))).collect() }
    }
}

/// What most have; of two that as many have, the first in their order.
fn most<'a>(all: impl Iterator<Item = &'a Remotes>) -> Remotes {
    let mut votes: BTreeMap<&Remotes, usize> = BTreeMap::new();
    for one in all {
        *votes.entry(one).or_default() += 1;
    }
    let best = votes.into_iter().rev().max_by_key(|(_, count)| *count);
    best.map(|(remotes, _)| remotes.clone()).unwrap_or_default()
}

/// Whether `name` can stand in a topology.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

impl Server {
    /// Whether it has a name that outlives a restart. One that has none configured is named by its ID, and so
    /// is one that others know by its ID alone.
    pub fn is_named(&self) -> bool {
        self.info.name != self.info.id && is_name(&self.info.name)
    }
}
