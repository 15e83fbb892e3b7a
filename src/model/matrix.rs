//! The links summed up by cluster and remote: what a person looks at first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Life, Link, LinkState, Name, PRESSED_BYTES, Server, Snapshot, Topology};

/// How many servers are named where some are amiss.
const NAMED_MAX: usize = 8;
/// So long nothing of what was sent must have arrived: less is what is on its way.
const SILENT_FOR: Duration = Duration::from_secs(3);

/// Who is there, and how the links between them are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// By name alone.
    #[serde(flatten)]
    pub topology: Topology,
    /// The links.
    #[serde(default)]
    pub matrix: Matrix,
}

impl Seen {
    /// What `snapshot` shows.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { topology: Topology::of(snapshot), matrix: Matrix::of(snapshot) }
    }
}

/// Clusters by clusters. There is a cell where a link is expected, and none elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Those that ought to be there, and those that are only a name in a configuration.
    pub clusters: BTreeMap<Name, Seat>,
    /// The cells: by the cluster that dials, then by the remote.
    pub links: BTreeMap<Name, BTreeMap<Name, Cell>>,
    /// How many cells are not told, for there are too many; those with trouble are left out last.
    #[serde(default, skip_serializing_if = "LeftOut::is_none")]
    pub left_out: LeftOut,
}

/// Cells that are not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// With every link up.
    pub whole: usize,
    /// The others.
    pub troubled: usize,
}

impl LeftOut {
    /// Whether all are told.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// How many servers it ought to have: all but those that said goodbye. Zero of a cluster that is only a name.
    pub servers: usize,
    /// How many of them answered.
    pub answered: usize,
    /// The names of the others, the first few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Name>,
    /// How many links its servers ought to have to other clusters.
    pub links_expected: usize,
    /// How many of them are up.
    pub links_connected: usize,
}

impl Seat {
    /// Whether there is no more of it than its name in a configuration.
    pub const fn is_a_name(&self) -> bool {
        self.servers == 0
    }
}

/// The links of one cluster's servers to one remote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// How many ought to be there.
    pub expected: usize,
    /// How many of them are up.
    pub connected: usize,
    /// How many of them nobody told about who would know.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: usize,
    /// Of those that are up, over how many nothing passes, as both ends tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub silent: usize,
    /// The servers whose link is absent or silent, the first few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Name>,
    /// The longest round trip, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// The most that waits to be written on one of them.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub pending_bytes: u64,
    /// What all of them send, where two looks tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_nothing(n: &u64) -> bool {
    *n == 0
}

/// What a cell is, from well to ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellState {
    /// Every link is up, and nothing waits.
    Whole,
    /// Every link that can be seen is up, and some cannot be seen.
    PartlySeen,
    /// None can be seen.
    Unseen,
    /// Every link is up, and more waits to be written on one of them than does on a healthy one.
    Pressed,
    /// Some are absent, or nothing passes.
    Part,
    /// None is up, and some are absent.
    Down,
}

impl Cell {
    /// Whether at least one of the links can be seen.
    pub const fn is_seen(&self) -> bool {
        self.unseen < self.expected
    }

    /// How many links are absent, as somebody who knows tells.
    pub const fn absent(&self) -> usize {
        self.expected.saturating_sub(self.connected).saturating_sub(self.unseen)
    }

    /// The worst that is true of it.
    pub fn state(&self) -> CellState {
        if self.absent() > 0 && self.connected == 0 {
            CellState::Down
        } else if self.absent() > 0 || self.silent > 0 {
            CellState::Part
        } else if self.pending_bytes >= PRESSED_BYTES {
            CellState::Pressed
        } else if !self.is_seen() {
            CellState::Unseen
        } else if self.unseen > 0 {
            CellState::PartlySeen
        } else {
            CellState::Whole
        }
    }

    fn add(&mut self, snapshot: &Snapshot, link: &Link) {
        self.expected += 1;
        match link.state {
            LinkState::Connected => self.connected += 1,
            LinkState::Unknown => self.unseen += 1,
            LinkState::Absent => {}
        }
        let stuck = |since| link.flow.both_ends && snapshot.at.since(since) >= SILENT_FOR;
        let silent = link.state == LinkState::Connected && link.flow.stuck_since.is_some_and(stuck);
        self.silent += usize::from(silent);
        if (silent || link.state == LinkState::Absent) && self.lost.len() < NAMED_MAX {
            self.lost.push(link.server.clone());
        }
        let server = snapshot.servers.get(&link.server_id);
        let connection = server
            .and_then(|s| s.gatewayz.as_ref()?.outbound.get(&link.remote))
            .map(|outbound| outbound.connection);
        // What a jam does to a round trip is left out there, where there is another.
        let told = connection.as_ref().and_then(|c| c.rtt).filter(|rtt| !rtt.is_zero());
        if let Some(rtt) = link.rtt.last().or(told).filter(|_| link.state == LinkState::Connected) {
            let ms = (rtt.as_secs_f64() * 1_000_000.0).round() / 1000.0;
            self.rtt_ms = Some(self.rtt_ms.map_or(ms, |worst| worst.max(ms)));
        }
        let pending = connection.map(|c| c.pending_bytes);
        let pending = pending.or_else(|| link.pressure.as_ref().map(|p| p.pending_bytes));
        self.pending_bytes = self.pending_bytes.max(pending.unwrap_or(0));
        // Behind a jam answers come late; what is told of one goes by when they were made.
        let pressed = link.pressure.as_ref().and_then(|p| p.inflow_bytes_per_s);
        if let Some(rate) = pressed.or(link.flow.bytes_per_s()) {
            self.bytes_per_s = Some(self.bytes_per_s.unwrap_or(0).saturating_add(rate));
        }
    }
}

impl Matrix {
    /// What `snapshot` shows.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut matrix = Self::default();
        let mut names = BTreeSet::new();
        for link in snapshot.links.iter().filter(|link| is_expected(snapshot, link)) {
            let cell = matrix.links.entry(link.cluster.clone()).or_default();
            cell.entry(link.remote.clone()).or_default().add(snapshot, link);
            names.insert(&link.remote);
        }
        for name in snapshot.clusters.keys() {
            let expected = |s: &&Server| s.life != Life::Left;
            let mut seat = Seat::default();
            for server in snapshot.servers_of(name).filter(expected) {
                seat.servers += 1;
                if server.gatewayz.is_some() {
                    seat.answered += 1;
                } else if seat.missing.len() < NAMED_MAX {
                    seat.missing.push(server.info.name.clone());
                }
            }
            for cell in matrix.links.get(name).into_iter().flat_map(BTreeMap::values) {
                seat.links_expected += cell.expected;
                seat.links_connected += cell.connected;
            }
            seat.missing.sort();
            if seat.servers > 0 || names.contains(name) {
                matrix.clusters.insert(name.clone(), seat);
            }
        }
        matrix
    }

    /// The cell of `cluster` towards `remote`.
    pub fn cell(&self, cluster: &str, remote: &str) -> Option<&Cell> {
        self.links.get(cluster)?.get(remote)
    }

    /// Every cell, with the cluster that dials and the remote.
    pub fn cells(&self) -> impl Iterator<Item = (&Name, &Name, &Cell)> {
        self.links.iter().flat_map(|(cluster, row)| row.iter().map(move |(r, cell)| (cluster, r, cell)))
    }

    /// How many links there ought to be, and how many are up; also of cells that are not told.
    pub fn links_expected_and_connected(&self) -> (usize, usize) {
        let seats = self.clusters.values();
        seats.fold((0, 0), |(expected, up), s| (expected + s.links_expected, up + s.links_connected))
    }

    /// Leaves out so many cells that the others take no more than `bytes_max` as JSON; those with trouble last.
    pub fn fit(&mut self, bytes_max: usize) {
        // For the names of the rows, and what stands between.
        const FRAME_BYTES: usize = 8;
        let size = |name: &Name, cell: &Cell| {
            let written = |len: Result<String, serde_json::Error>| len.map_or(usize::MAX / 4, |s| s.len());
            written(serde_json::to_string(&**name))
                .saturating_add(written(serde_json::to_string(cell)))
                .saturating_add(FRAME_BYTES)
        };
        let mut sizes: Vec<(CellState, Name, Name, usize)> =
            self.cells().map(|(c, r, cell)| (cell.state(), c.clone(), r.clone(), size(r, cell))).collect();
        let rows: usize = self.links.keys().map(|name| name.len() * 2 + FRAME_BYTES).sum();
        let mut left = bytes_max.saturating_sub(rows);
        if sizes.iter().fold(0, |sum: usize, cell| sum.saturating_add(cell.3)) <= left {
            return;
        }
        sizes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2))));
        let mut full = false;
        for (state, cluster, remote, bytes) in sizes {
            full |= bytes > left;
            if !full {
                left -= bytes;
                continue;
            }
            if let Some(row) = self.links.get_mut(&cluster) {
                row.remove(&remote);
            }
            match state {
                CellState::Whole => self.left_out.whole += 1,
                _ => self.left_out.troubled += 1,
            }
        }
        self.links.retain(|_, row| !row.is_empty());
    }
}

/// Whether the link ought to be there now. One to a cluster that said goodbye, or that a server had once and nobody
/// lists or sees any more, is only remembered.
fn is_expected(snapshot: &Snapshot, link: &Link) -> bool {
    if link.state == LinkState::Connected {
        return true;
    }
    let remote = snapshot.clusters.get(&link.remote);
    let left = remote.is_some_and(|c| c.left_at.is_some());
    !left && (link.configured == Some(true) || remote.is_some_and(|c| c.existed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::{World, secs};

    #[test]
    fn a_healthy_supercluster_has_every_link_of_every_pair() {
        let matrix = Matrix::of(World::seen_from("eu-0").view());
        assert_eq!(matrix.cells().count(), 6);
        for (cluster, remote, cell) in matrix.cells() {
            assert_eq!((cell.expected, cell.connected), (3, 3), "{cluster} to {remote}");
            assert_eq!((cell.state(), cell.is_seen()), (CellState::Whole, true));
            assert!(cell.rtt_ms.is_some_and(|ms| ms > 0.0), "{cell:?}");
        }
        let seat = Seat { servers: 3, answered: 3, links_expected: 6, links_connected: 6, ..Seat::default() };
        assert!(matrix.clusters.values().all(|s| *s == seat), "{:?}", matrix.clusters);
        assert_eq!(matrix.links_expected_and_connected(), (18, 18));
        let text = serde_json::to_string(&matrix).unwrap();
        assert_eq!(serde_json::from_str::<Matrix>(&text).unwrap(), matrix, "{text}");
    }

    #[test]
    fn a_lost_link_is_in_its_cell_with_the_server_that_lost_it() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "ap");
        world.run(secs(5));
        let matrix = Matrix::of(world.view());
        let cell = matrix.cell("us", "ap").unwrap();
        assert_eq!((cell.expected, cell.connected, cell.state()), (3, 2, CellState::Part));
        assert_eq!(cell.lost, ["us-1".into()]);
        let others = matrix.cells().filter(|(_, _, cell)| cell.state() != CellState::Whole);
        assert_eq!(others.count(), 1);
    }

    #[test]
    fn of_a_cluster_that_is_down_nothing_is_seen_and_nothing_leads_to_it() {
        let mut world = World::seen_from("eu-0");
        world.kill_cluster("us");
        world.run(secs(5));
        let matrix = Matrix::of(world.view());
        let state = |from: &str, to: &str| matrix.cell(from, to).unwrap().state();
        assert_eq!((state("eu", "us"), state("ap", "us")), (CellState::Down, CellState::Down));
        assert_eq!((state("us", "eu"), state("eu", "ap")), (CellState::Unseen, CellState::Whole));
        assert!(!matrix.cell("us", "ap").unwrap().is_seen());
        let us = &matrix.clusters["us"];
        assert_eq!((us.servers, us.answered, us.missing.len()), (3, 0, 3));
    }

    #[test]
    fn a_cluster_that_said_goodbye_is_not_expected() {
        let mut world = World::seen_from("eu-0");
        for server in ["us-0", "us-1", "us-2"] {
            world.shut_down(server);
        }
        world.run(secs(5));
        let matrix = Matrix::of(world.view());
        assert!(!matrix.clusters.contains_key("us"), "{matrix:?}");
        assert!(matrix.cells().all(|(from, to, _)| &**from != "us" && &**to != "us"));
    }

    #[test]
    fn what_waits_shows_and_what_is_sent_is_counted() {
        let mut world = World::seen_from("eu-0");
        world.jam("us-1", "ap", 4_000_000, 1_000_000);
        world.run(secs(8));
        let cell = Matrix::of(world.view()).cell("us", "ap").cloned().unwrap();
        assert_eq!(cell.state(), CellState::Pressed, "{cell:?}");
        assert!(cell.pending_bytes > 10_000_000, "{cell:?}");
        let rate = cell.bytes_per_s.unwrap();
        assert!((3_500_000..4_500_000).contains(&rate), "4 MB a second are sent: {rate}");
    }

    #[test]
    fn what_is_too_much_is_counted_and_trouble_is_told_first() {
        let sizes: Vec<(String, usize)> = (0..12).map(|n| (format!("c{n}"), 1)).collect();
        let sizes: Vec<(&str, usize)> = sizes.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let mut world = World::of(&sizes, "c0-0", 1);
        world.cut("c9-0", "c8");
        world.run(secs(5));
        let all = Matrix::of(world.view());
        let mut some = all.clone();
        some.fit(usize::MAX);
        assert_eq!(some, all);
        for bytes_max in [0, 500, 2000, 4000] {
            let mut some = all.clone();
            some.fit(bytes_max);
            assert!(serde_json::to_string(&some.links).unwrap().len() <= bytes_max.max(2));
            assert_eq!(some.cells().count() + some.left_out.whole + some.left_out.troubled, 132);
            assert_eq!(some.cell("c9", "c8").is_some(), bytes_max > 0);
            assert_eq!(some.links_expected_and_connected(), (132, 131), "the sums stay");
        }
    }
}
