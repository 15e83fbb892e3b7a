//! The peers of one server as they are kept: in clusters of a hundred there are a million.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::packed::{Bytes, parts, put};
use super::{Name, RoutePeer};

/// Peers by their ID.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<Name, RoutePeer>")]
pub struct RoutePeers {
    rows: Box<[Row]>,
    bytes: Box<[u8]>,
}

#[derive(Clone, PartialEq)]
struct Row {
    id: Name,
    name: Option<Name>,
    ip: Option<Name>,
    /// Where the rest of it begins.
    at: u32,
}

impl RoutePeers {
    /// The IDs, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.rows.iter().map(|row| &row.id)
    }

    /// Whether there is one of this ID.
    pub fn contains_key(&self, id: &str) -> bool {
        self.row(id).is_some()
    }

    /// The one of this ID.
    pub fn get(&self, id: &str) -> Option<RoutePeer> {
        self.row(id).map(|row| self.read(row))
    }

    /// All of them, in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, RoutePeer)> {
        self.rows.iter().map(|row| (&row.id, self.read(row)))
    }

    /// Their IDs, and their names, where those are told.
    pub fn names(&self) -> impl Iterator<Item = (&Name, Option<&Name>)> {
        self.rows.iter().map(|row| (&row.id, row.name.as_ref()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row(&self, id: &str) -> Option<&Row> {
        self.rows.get(self.rows.binary_search_by(|row| (*row.id).cmp(id)).ok()?)
    }

    fn read(&self, row: &Row) -> RoutePeer {
        let at = usize::try_from(row.at).unwrap_or(usize::MAX);
        let mut bytes = Bytes(self.bytes.get(at..).unwrap_or_default());
        RoutePeer {
            name: row.name.clone(),
            ip: row.ip.clone(),
            rtt: (bytes.byte() == 1).then(|| bytes.duration()),
            connections: bytes.number(),
            pending_bytes: bytes.number(),
            in_msgs: bytes.number(),
            out_msgs: bytes.number(),
            out_bytes: bytes.number(),
        }
    }
}

impl From<BTreeMap<Name, RoutePeer>> for RoutePeers {
    fn from(peers: BTreeMap<Name, RoutePeer>) -> Self {
        let (mut rows, mut bytes) = (Vec::with_capacity(peers.len()), Vec::with_capacity(peers.len() * 24));
        for (id, peer) in peers {
            let at = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            bytes.push(u8::from(peer.rtt.is_some()));
            let counted = [peer.connections, peer.pending_bytes, peer.in_msgs, peer.out_msgs, peer.out_bytes];
            peer.rtt.into_iter().flat_map(parts).chain(counted).for_each(|number| put(&mut bytes, number));
            rows.push(Row { id, name: peer.name, ip: peer.ip, at });
        }
        // A copy, for memory that is cut to size leaves a piece behind that fits nothing.
        Self { rows: rows.into(), bytes: bytes.as_slice().into() }
    }
}

impl<const N: usize> From<[(Name, RoutePeer); N]> for RoutePeers {
    fn from(peers: [(Name, RoutePeer); N]) -> Self {
        peers.into_iter().collect()
    }
}

impl FromIterator<(Name, RoutePeer)> for RoutePeers {
    fn from_iter<I: IntoIterator<Item = (Name, RoutePeer)>>(peers: I) -> Self {
        Self::from(BTreeMap::from_iter(peers))
    }
}

impl Serialize for RoutePeers {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl fmt::Debug for RoutePeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let peer = |n: u64| RoutePeer {
            name: n.is_multiple_of(2).then(|| format!("eu-{n}").into()),
            ip: n.is_multiple_of(3).then(|| "127.0.0.1".into()),
            connections: n,
            pending_bytes: n / 2,
            rtt: (n > 0).then(|| Duration::new(n, 999_999_999)),
            in_msgs: n / 3,
            out_msgs: n / 5,
            out_bytes: n / 7,
        };
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX) + 1, u64::MAX - 1, u64::MAX];
        let peers: BTreeMap<Name, RoutePeer> =
            numbers.into_iter().map(|n| (format!("N{n}").into(), peer(n))).collect();
        let kept = RoutePeers::from(peers.clone());
        assert!(kept.iter().map(|(id, peer)| (id.clone(), peer)).eq(peers.clone()));
        assert!(kept.keys().eq(peers.keys()) && kept.len() == peers.len());
        for (id, peer) in &peers {
            assert_eq!(kept.get(id).as_ref(), Some(peer));
        }
        assert!(kept.get("N2").is_none() && !kept.contains_key("") && RoutePeers::default().is_empty());
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(text, serde_json::to_string(&peers).unwrap());
        assert_eq!(serde_json::from_str::<RoutePeers>(&text).unwrap(), kept);
    }
}
