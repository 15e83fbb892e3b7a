//! The links as a table of clusters by clusters: what stands where, and the words of a cell.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::data::clean;
use crate::model::{Cell, CellState, Matrix, Name};

/// What stands first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By name where all of it can be seen at once, else what has trouble.
    #[default]
    AsFits,
    Trouble,
    Name,
}

impl Order {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::AsFits => Self::Trouble,
            Self::Trouble => Self::Name,
            Self::Name => Self::AsFits,
        }
    }

    /// Whether names decide, given whether all can be seen at once.
    pub(super) fn by_name(self, fits: bool) -> bool {
        self == Self::Name || (self == Self::AsFits && fits)
    }
}

/// The clusters in their order.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) rows: Vec<&'a Name>,
    pub(super) columns: Vec<&'a Name>,
}

/// How bad it is: the worst, and how many cells are not well.
type Trouble = (Option<CellState>, usize);

impl<'a> Table<'a> {
    /// Of rows only those whose name has `filter` in it.
    pub(super) fn of(matrix: &'a Matrix, filter: &str, by_name: bool) -> Self {
        let (mut rows, mut columns) = (BTreeMap::<&Name, Trouble>::new(), BTreeMap::<&Name, Trouble>::new());
        let names: BTreeSet<&Name> = matrix.clusters.keys().chain(matrix.links.keys()).collect();
        for name in names {
            rows.insert(name, Trouble::default());
            columns.insert(name, Trouble::default());
        }
        for (cluster, remote, cell) in matrix.cells() {
            let state = Some(cell.state()).filter(|s| *s != CellState::Whole);
            for (worst, count) in rows.get_mut(cluster).into_iter().chain(columns.get_mut(remote)) {
                *worst = (*worst).max(state);
                *count += usize::from(state.is_some());
            }
        }
        let filter = filter.to_lowercase();
        rows.retain(|name, _| filter.is_empty() || name.to_lowercase().contains(&filter));
        let ordered = |of: BTreeMap<&'a Name, Trouble>| {
            let mut of: Vec<_> = of.into_iter().collect();
            if !by_name {
                of.sort_by_key(|(_, trouble)| Reverse(*trouble));
            }
            of.into_iter().map(|(name, _)| name).collect()
        };
        Self { rows: ordered(rows), columns: ordered(columns) }
    }
}

/// A cell in a few signs.
pub(super) fn brief(cell: &Cell) -> String {
    let mark = match cell.state() {
        CellState::Whole => ' ',
        CellState::PartlySeen | CellState::Unseen => '?',
        CellState::Pressed => '^',
        CellState::Part => '!',
        CellState::Down => 'X',
    };
    let mut text = if cell.is_seen() {
        format!("{mark}{}/{}", cell.connected, cell.expected)
    } else {
        format!("{mark}-/{}", cell.expected)
    };
    if let Some(ms) = cell.rtt_ms {
        let _ = write!(text, " {}", millis(ms));
    }
    if cell.state() == CellState::Pressed {
        let _ = write!(text, " {}", bytes(cell.pending_bytes));
    }
    text
}

/// A cell in words.
pub(super) fn words(from: &str, to: &str, cell: Option<&Cell>) -> String {
    let (from, to) = (clean(from), clean(to));
    let Some(cell) = cell else { return format!("{from} to {to}: no link is expected") };
    let mut text = format!("{from} to {to}: {} of {} links up", cell.connected, cell.expected);
    if cell.unseen > 0 {
        let _ = write!(text, ", {} cannot be seen", cell.unseen);
    }
    if !cell.lost.is_empty() {
        let lost: Vec<String> = cell.lost.iter().map(|name| clean(name)).collect();
        let _ = write!(text, "; lost: {}", lost.join(", "));
    }
    if let Some(ms) = cell.rtt_ms {
        let _ = write!(text, "; RTT {}", millis(ms));
    }
    if cell.pending_bytes > 0 {
        let _ = write!(text, "; {} waits", bytes(cell.pending_bytes));
    }
    if let Some(rate) = cell.bytes_per_s {
        let _ = write!(text, "; sends {}/s", bytes(rate));
    }
    text
}

/// `0.4ms`, `12ms`, `1.2s`.
fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

/// `12B`, `1.2kB`, `34MB`.
fn bytes(bytes: u64) -> String {
    let (mut value, mut units) = (bytes as f64, ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter());
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 10.0 && unit != "B" { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::example::{World, secs};

    #[test]
    fn what_has_trouble_stands_first_where_not_all_can_be_seen() {
        let mut world = World::seen_from("eu-0");
        world.cut("us-1", "eu");
        world.run(secs(5));
        let matrix = Matrix::of(world.view());
        let names = |of: &[&Name]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let table = Table::of(&matrix, "", true);
        assert_eq!((names(&table.rows), names(&table.columns)), ("ap eu us".into(), "ap eu us".into()));
        let table = Table::of(&matrix, "", false);
        assert_eq!((names(&table.rows), names(&table.columns)), ("us ap eu".into(), "eu ap us".into()));
        let table = Table::of(&matrix, "A", false);
        assert_eq!((names(&table.rows), table.columns.len()), ("ap".into(), 3));
        assert!(
            Order::AsFits.by_name(true) && !Order::AsFits.by_name(false) && !Order::Trouble.by_name(true)
        );
    }

    #[test]
    fn a_cell_says_without_colour_how_it_is() {
        let whole = Cell { expected: 3, connected: 3, rtt_ms: Some(0.42), ..Cell::default() };
        let cases = [
            (whole.clone(), " 3/3 0.4ms"),
            (Cell { connected: 2, ..whole.clone() }, "!2/3 0.4ms"),
            (Cell { connected: 0, rtt_ms: None, ..whole.clone() }, "X0/3"),
            (Cell { connected: 0, unseen: 3, rtt_ms: None, ..whole.clone() }, "?-/3"),
            (Cell { connected: 2, unseen: 1, ..whole.clone() }, "?2/3 0.4ms"),
            (Cell { pending_bytes: 1_234_567, rtt_ms: Some(1234.0), ..whole.clone() }, "^3/3 1.2s 1.2MB"),
        ];
        for (cell, text) in cases {
            assert_eq!(brief(&cell), text);
        }
        let lost =
            Cell { connected: 2, lost: vec!["eu\u{1b}-1".into()], bytes_per_s: Some(999_600), ..whole };
        assert_eq!(
            words("eu", "us", Some(&lost)),
            "eu to us: 2 of 3 links up; lost: eu\\u{1b}-1; RTT 0.4ms; sends 1.0MB/s"
        );
        assert_eq!([0, 999, 1000, 12_345].map(bytes), ["0B", "999B", "1.0kB", "12kB"]);
    }
}
