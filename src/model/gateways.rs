//! The connections of one server as they are kept: two to each link, of which there may be a hundred thousand.
//!
//! A connection takes some thirty bytes here, and four times as many where it is worked with.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize, Serializer};

use super::packed::{Bytes, parts, put};
use super::{Connection, Name, Outbound, Time};

/// Outbound gateways by remote cluster.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<Name, Outbound>")]
pub struct Outbounds(Rows);

/// Inbound gateway connections by remote cluster, of which there are none without a connection.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<Name, Vec<Connection>>")]
pub struct Inbounds(Rows);

impl Outbounds {
    /// The remotes, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Name> + Clone {
        self.0.rows.iter().map(|row| &row.remote)
    }

    /// Whether there is one to `remote`.
    pub fn contains_key(&self, remote: &str) -> bool {
        self.peer(remote).is_some()
    }

    /// The ID of the server at the other end.
    pub fn peer(&self, remote: &str) -> Option<&Name> {
        self.0.of(remote).first().map(|row| &row.peer_id)
    }

    /// Each remote, and the ID of the server at the other end.
    pub fn peers(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.peers()
    }

    /// Each remote, and the connection's ID.
    pub fn cids(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.0.rows.iter().map(|row| (&row.remote, self.0.cid(row)))
    }

    /// The one to `remote`.
    pub fn get(&self, remote: &str) -> Option<Outbound> {
        self.0.of(remote).first().map(|row| self.0.read(row))
    }

    /// All of them, in the order of the remotes.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Outbound)> {
        self.0.rows.iter().map(|row| (&row.remote, self.0.read(row)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.rows.is_empty()
    }
}

impl Inbounds {
    /// The remotes, in order and once.
    pub fn keys(&self) -> impl Iterator<Item = &Name> {
        self.0.rows.chunk_by(|a, b| a.remote == b.remote).filter_map(|of| Some(&of.first()?.remote))
    }

    /// The IDs of the servers of `remote` that have one here.
    pub fn peers_of(&self, remote: &str) -> impl ExactSizeIterator<Item = &Name> {
        self.0.of(remote).iter().map(|row| &row.peer_id)
    }

    /// Each remote, and the ID of the server at the other end.
    pub fn peers(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.peers()
    }

    /// Those that a server of `remote` has here.
    pub fn from_peer(&self, remote: &str, peer_id: &Name) -> impl Iterator<Item = Connection> {
        self.0.of_peer(self.0.of(remote), peer_id)
    }

    /// As [`Self::from_peer`], found soonest where `place` is that of the remote before it; then it is that of `remote`.
    pub(super) fn of_peer_near(
        &self,
        remote: &str,
        peer_id: &Name,
        place: &Cell<usize>,
    ) -> impl Iterator<Item = Connection> {
        let of = self.0.of_begin(remote, self.0.begin_near(remote, place.get()));
        place.set(of.start);
        self.0.of_peer(self.0.rows.get(of).unwrap_or_default(), peer_id)
    }

    /// All of them, in the order of the remotes.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Connection)> {
        self.0.rows.iter().map(|row| (&row.remote, self.0.read(row).connection))
    }
}

impl FromIterator<(Name, Outbound)> for Outbounds {
    /// Of two to one remote the last counts.
    fn from_iter<I: IntoIterator<Item = (Name, Outbound)>>(outbounds: I) -> Self {
        let outbounds = outbounds.into_iter().map(|(remote, one)| (remote, one.configured, [one.connection]));
        Self(Rows::from_list(outbounds.collect()))
    }
}

impl FromIterator<(Name, Vec<Connection>)> for Inbounds {
    fn from_iter<I: IntoIterator<Item = (Name, Vec<Connection>)>>(inbounds: I) -> Self {
        Self(Rows::from_list(inbounds.into_iter().map(|(remote, of)| (remote, false, of)).collect()))
    }
}

impl From<BTreeMap<Name, Outbound>> for Outbounds {
    fn from(outbounds: BTreeMap<Name, Outbound>) -> Self {
        outbounds.into_iter().collect()
    }
}

impl From<BTreeMap<Name, Vec<Connection>>> for Inbounds {
    fn from(inbounds: BTreeMap<Name, Vec<Connection>>) -> Self {
        inbounds.into_iter().collect()
    }
}

impl Serialize for Outbounds {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl Serialize for Inbounds {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut of: BTreeMap<&Name, Vec<Connection>> = BTreeMap::new();
        self.iter().for_each(|(remote, connection)| of.entry(remote).or_default().push(connection));
        of.serialize(s)
    }
}

impl fmt::Debug for Outbounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Inbounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What remotes and the IDs of the connections to them come to, in whatever order: the same where none is another one.
pub fn imprint<'a>(cids: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    cids.map(|cid| {
        let mut hasher = DefaultHasher::new();
        cid.hash(&mut hasher);
        hasher.finish()
    })
    .fold(0, u64::wrapping_add)
}

/// Connections in the order of the remotes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rows {
    rows: Box<[Row]>,
    bytes: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    remote: Name,
    peer_id: Name,
    /// Where the rest of it begins.
    at: u32,
}

impl Rows {
    /// Of what stands under one remote twice the last counts.
    fn from_list<L>(mut list: Vec<(Name, bool, L)>) -> Self
    where
        L: IntoIterator<Item = Connection> + AsRef<[Connection]>,
    {
        list.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let room = list.iter().map(|(.., of)| of.as_ref().len()).sum();
        let (mut rows, mut bytes) = (Vec::with_capacity(room), Vec::with_capacity(room * 40));
        let mut list = list.into_iter().peekable();
        while let Some((remote, configured, connections)) = list.next() {
            if list.peek().is_some_and(|(next, ..)| *next == remote) {
                continue;
            }
            for connection in connections {
                let at = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                write(&mut bytes, configured, &connection);
                rows.push(Row { remote: remote.clone(), peer_id: connection.peer_id, at });
            }
        }
        // A copy, for memory that is cut to size leaves a piece behind that fits nothing.
        Self { rows: rows.into(), bytes: bytes.as_slice().into() }
    }

    /// Where the rows of `remote` begin, or would.
    fn begin(&self, remote: &str) -> usize {
        self.rows.partition_point(|row| *row.remote < *remote)
    }

    /// As [`Self::begin`], at once where that is `place` or follows it closely.
    fn begin_near(&self, remote: &str, place: usize) -> usize {
        const CLOSE: usize = 4;
        let is_before = |at: usize| self.rows.get(at).is_some_and(|row| *row.remote < *remote);
        let known = place.checked_sub(1).is_none_or(is_before);
        let near = known.then(|| (place..place + CLOSE).find(|at| !is_before(*at))).flatten();
        near.unwrap_or_else(|| self.begin(remote))
    }

    /// The rows of `remote`, which begin there if there are any.
    fn of_begin(&self, remote: &str, begin: usize) -> std::ops::Range<usize> {
        let rest = self.rows.get(begin..).unwrap_or_default();
        begin..begin + rest.iter().take_while(|row| *row.remote == *remote).count()
    }

    fn of(&self, remote: &str) -> &[Row] {
        self.rows.get(self.of_begin(remote, self.begin(remote))).unwrap_or_default()
    }

    fn of_peer(&self, rows: &[Row], peer_id: &Name) -> impl Iterator<Item = Connection> {
        let from = rows.iter().filter(move |row| row.peer_id == *peer_id);
        from.map(|row| self.read(row).connection)
    }

    fn peers(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.rows.iter().map(|row| (&row.remote, &row.peer_id))
    }

    fn cid(&self, row: &Row) -> u64 {
        let at = usize::try_from(row.at).unwrap_or(usize::MAX);
        let mut bytes = Bytes(self.bytes.get(at..).unwrap_or_default());
        bytes.byte();
        bytes.number()
    }

    fn read(&self, row: &Row) -> Outbound {
        let at = usize::try_from(row.at).unwrap_or(usize::MAX);
        let mut bytes = Bytes(self.bytes.get(at..).unwrap_or_default());
        let flags = bytes.byte();
        let has = |bit: u8| flags >> bit & 1 == 1;
        let mut connection = Connection { cid: bytes.number(), ..Connection::default() };
        connection.peer_id = row.peer_id.clone();
        connection.start = has(1).then(|| Time::from_nanos(bytes.number()));
        connection.rtt = has(2).then(|| bytes.duration());
        connection.idle = has(3).then(|| bytes.duration());
        connection.stalls = has(4).then(|| bytes.number());
        if has(5) {
            connection.pending_bytes = bytes.number();
        }
        if has(6) {
            (connection.in_msgs, connection.in_bytes) = (bytes.number(), bytes.number());
        }
        if has(7) {
            (connection.out_msgs, connection.out_bytes) = (bytes.number(), bytes.number());
        }
        Outbound { configured: has(0), connection }
    }
}

/// As [`Rows::read`] reads it: which parts there are, then those.
fn write(bytes: &mut Vec<u8>, configured: bool, c: &Connection) {
    let has = [
        configured,
        c.start.is_some(),
        c.rtt.is_some(),
        c.idle.is_some(),
        c.stalls.is_some(),
        c.pending_bytes > 0,
        c.in_msgs > 0 || c.in_bytes > 0,
        c.out_msgs > 0 || c.out_bytes > 0,
    ];
    bytes.push(has.iter().rev().fold(0, |flags, has| flags << 1 | u8::from(*has)));
    let [.., pending, received, sent] = has;
    let numbers = std::iter::once(c.cid)
        .chain(c.start.map(Time::as_nanos))
        .chain(c.rtt.into_iter().chain(c.idle).flat_map(parts))
        .chain(c.stalls)
        .chain(pending.then_some(c.pending_bytes))
        .chain(received.then_some([c.in_msgs, c.in_bytes]).into_iter().flatten())
        .chain(sent.then_some([c.out_msgs, c.out_bytes]).into_iter().flatten());
    numbers.for_each(|number| put(bytes, number));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connection(n: u64) -> Connection {
        Connection { cid: n, peer_id: format!("N{n}").into(), ..Connection::default() }
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX) + 1, u64::MAX - 1, u64::MAX] {
            let lasts = Some(Duration::new(n, 999_999_999));
            let at = Some(Time::from_nanos(n));
            for connection in [
                connection(n),
                Connection { start: at, rtt: lasts, ..connection(n) },
                Connection { idle: lasts, stalls: Some(n), ..connection(n) },
                Connection { pending_bytes: n, in_msgs: n, ..connection(n) },
                Connection { in_bytes: n, out_msgs: n, ..connection(n) },
                Connection {
                    out_bytes: n,
                    start: at,
                    rtt: lasts,
                    idle: lasts,
                    stalls: Some(n),
                    ..connection(n)
                },
            ] {
                let outbounds = ["b", "a", "c"].map(|remote| {
                    (remote.into(), Outbound { configured: remote == "b", connection: connection.clone() })
                });
                let kept: Outbounds = outbounds.iter().cloned().collect();
                assert_eq!(kept.keys().map(|key| &**key).collect::<Vec<_>>(), ["a", "b", "c"]);
                for (remote, outbound) in outbounds {
                    assert_eq!(kept.get(&remote), Some(outbound));
                }
                let inbounds: Inbounds = [("a".into(), vec![connection.clone(); 2])].into_iter().collect();
                assert!(inbounds.iter().all(|(remote, one)| &**remote == "a" && one == connection));
                assert_eq!(inbounds.iter().count(), 2);
            }
        }
    }

    #[test]
    fn each_is_found_under_its_remote_and_no_other() {
        let inbounds: Inbounds =
            [("us", vec![3, 1]), ("eu", vec![2]), ("none", vec![]), ("us", vec![5, 4, 5])]
                .map(|(remote, of)| (remote.into(), of.into_iter().map(connection).collect()))
                .into_iter()
                .collect();
        assert_eq!(inbounds.keys().map(|key| &**key).collect::<Vec<_>>(), ["eu", "us"]);
        let of = |remote| inbounds.peers_of(remote).map(|id| &**id).collect::<Vec<_>>();
        assert_eq!(of("us"), ["N5", "N4", "N5"], "of two the last counts");
        assert_eq!((of("eu"), of("ap"), of("none")), (vec!["N2"], vec![], vec![]));
        assert_eq!(inbounds.from_peer("us", &"N5".into()).count(), 2);
        assert_eq!(inbounds.from_peer("eu", &"N5".into()).count(), 0);
        for (place, remote) in (0..7).flat_map(|at| ["", "ap", "eu", "us", "zz"].map(|r| (Cell::new(at), r)))
        {
            let near = inbounds.of_peer_near(remote, &"N5".into(), &place).count();
            assert_eq!(near, inbounds.from_peer(remote, &"N5".into()).count(), "{remote} near {place:?}");
            assert_eq!(place.get(), inbounds.0.begin(remote), "{remote}");
        }
        let written = serde_json::to_string(&inbounds).unwrap();
        assert_eq!(serde_json::from_str::<Inbounds>(&written).unwrap(), inbounds);
        let outbounds = [("eu", 1), ("ap", 2), ("eu", 3)].map(|(remote, n)| {
            (Name::from(remote), Outbound { configured: true, connection: connection(n) })
        });
        let outbounds: Outbounds = outbounds.into_iter().collect();
        assert_eq!(outbounds.peer("eu").map(|id| &**id), Some("N3"));
        assert_eq!((outbounds.len(), outbounds.get("us")), (2, None));
    }
}
