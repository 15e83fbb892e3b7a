//! What is amiss in a matrix, in words: the clusters that cannot be seen, then the links.

use std::collections::{BTreeMap, BTreeSet};

use super::{rate, shown, size};
use crate::model::{Cell, CellState, Matrix, Name, PRESSED_BYTES, Seat};

/// One thing that is amiss.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) state: CellState,
    /// What it is about: a cluster, or two with an arrow.
    pub(super) about: String,
    pub(super) what: String,
}

/// How each cluster is, without its links. One of which nobody answers is down, unless a link with it stands.
pub(super) fn of_clusters(matrix: &Matrix) -> BTreeMap<&Name, CellState> {
    let mut linked: BTreeSet<&Name> = BTreeSet::new();
    for (cluster, remote, _) in matrix.cells().filter(|(_, _, cell)| cell.connected > 0) {
        linked.extend([cluster, remote]);
    }
    let state = |name: &Name, seat: &Seat| match seat {
        Seat { answered: 0, .. } if linked.contains(name) => CellState::Unseen,
        Seat { answered: 0, .. } => CellState::Down,
        Seat { answered, servers, .. } if answered < servers => CellState::PartlySeen,
        _ => CellState::Whole,
    };
    matrix.clusters.iter().map(|(name, seat)| (name, state(name, seat))).collect()
}

/// The first line: `3 clusters, 9 servers, 18 links: all up`, or what is not.
pub(super) fn summary(matrix: &Matrix) -> String {
    const NAMED_MAX: usize = 3;
    let n = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let seats = || matrix.clusters.values();
    let (servers, answered): (usize, usize) =
        (seats().map(|s| s.servers).sum(), seats().map(|s| s.answered).sum());
    let (links, up) = matrix.links_expected_and_connected();
    let (servers_n, links_n) = (n(servers, "server"), n(links, "link"));
    let clusters = n(matrix.clusters.len(), "cluster");
    let dark: Vec<String> =
        matrix.clusters.iter().filter(|(_, s)| s.answered == 0).map(|(name, _)| shown(name)).collect();
    if answered == servers && up == links && dark.is_empty() {
        return format!("{clusters}, {servers_n}, {links_n}: all up");
    }
    let unseen: usize = matrix.cells().map(|(_, _, cell)| cell.unseen).sum();
    let unseen = if unseen > 0 { format!(" ({unseen} cannot be seen)") } else { String::new() };
    let rest = format!("{up} of {links_n} up{unseen}, {answered} of {servers_n} answered");
    let verb = if dark.len() == 1 { "does" } else { "do" };
    match dark.len() {
        0 => format!("{rest}, in {clusters}"),
        n if n <= NAMED_MAX => {
            format!("{n} of {clusters} {verb} not answer: {}; {rest}", dark.join(", "))
        }
        n => format!("{n} of {clusters} do not answer; {rest}"),
    }
}

/// All of it, the worst first.
pub(super) fn all(matrix: &Matrix) -> Vec<Trouble> {
    let mut out: Vec<Trouble> = of_clusters(matrix)
        .into_iter()
        .filter_map(|(name, state)| of_cluster(matrix, name, matrix.clusters.get(name)?, state))
        .collect();
    for (cluster, remote, cell) in matrix.cells() {
        let (state, near, far) = (cell.state(), matrix.clusters.get(cluster), matrix.clusters.get(remote));
        let dark = |seat: Option<&Seat>| seat.is_none_or(|s| s.answered == 0);
        // The cluster's own line says it.
        let told = match state {
            CellState::Whole | CellState::PartlySeen | CellState::Unseen => true,
            CellState::Down => dark(far) || dark(near),
            CellState::Pressed | CellState::Part => false,
        };
        if !told {
            let about = format!("{} → {}", shown(cluster), shown(remote));
            out.push(Trouble { state, about, what: of_cell(cell) });
        }
    }
    out.sort_by_key(|trouble| std::cmp::Reverse(trouble.state));
    out
}

fn of_cluster(matrix: &Matrix, name: &Name, seat: &Seat, state: CellState) -> Option<Trouble> {
    let missing = named(&seat.missing, seat.servers - seat.answered);
    let what = match state {
        CellState::Whole => return None,
        CellState::PartlySeen => {
            format!("{} of {} servers answered; {missing} did not", seat.answered, seat.servers)
        }
        _ => {
            let towards = matrix.links.values().filter_map(|row| row.get(name));
            let (expected, up, unseen) =
                towards.fold((0, 0, 0), |(e, u, n), c| (e + c.expected, u + c.connected, n + c.unseen));
            let unseen = if unseen > 0 { format!(", {unseen} cannot be seen") } else { String::new() };
            let who = match seat.servers {
                0 => "no server of it is seen".to_owned(),
                1 => "its one server did not answer".to_owned(),
                n => format!("none of its {n} servers answered"),
            };
            format!("{who}; {up} of {expected} links to it are up{unseen}")
        }
    };
    Some(Trouble { state, about: shown(name), what })
}

/// What is amiss with one cell.
pub(super) fn of_cell(cell: &Cell) -> String {
    let mut parts = Vec::new();
    if cell.absent() > 0 {
        parts.push(format!("{} of {} links up", cell.connected, cell.expected));
    }
    if cell.silent > 0 {
        parts.push(format!("nothing passes on {} of {} links", cell.silent, cell.connected));
    }
    if !cell.lost.is_empty() {
        parts.push(format!("lost by {}", named(&cell.lost, cell.absent() + cell.silent)));
    }
    if cell.pending_bytes >= PRESSED_BYTES {
        let sent = cell.bytes_per_s.map(|r| format!(", while {} are sent", rate(r))).unwrap_or_default();
        parts.push(format!("{} wait to be written{sent}", size(cell.pending_bytes)));
    }
    if cell.unseen > 0 {
        parts.push(format!("{} of {} cannot be seen", cell.unseen, cell.expected));
    }
    parts.join("; ")
}

/// Names, of which there are `total`.
fn named(names: &[Name], total: usize) -> String {
    let told = names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    match total.saturating_sub(names.len()) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// The worst of what has to do with each cluster: itself, its links, and those to it.
pub(super) fn by_cluster(matrix: &Matrix) -> BTreeMap<&Name, CellState> {
    let mut out = of_clusters(matrix);
    for (cluster, remote, cell) in matrix.cells() {
        for name in [cluster, remote] {
            if let Some(worst) = out.get_mut(name) {
                *worst = (*worst).max(cell.state());
            }
        }
    }
    out
}
