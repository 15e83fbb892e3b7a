//! The link matrix in a terminal.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::super::output;
use super::trouble::{self, Trouble};
use super::{cut, rate, rtt, shown, size};
use crate::model::{Cell, CellState, Matrix, Name, PRESSED_BYTES, Seat, Snapshot};

/// So many lines of trouble are told.
const TROUBLE_MAX: usize = 12;
/// So many clusters are told where the matrix is too wide; those with trouble first.
const ROWS_MAX: usize = 16;
/// Wider names are cut.
const NAME_MAX: usize = 24;
/// Between two columns.
const GAP: usize = 2;

/// How to write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) width: usize,
    pub(super) colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        let told = text.trim_end();
        if self.colour && !told.is_empty() {
            // What is blank at the end stays so, for a line is trimmed.
            format!("\u{1b}[{code}m{told}\u{1b}[0m{}", " ".repeat(text.len() - told.len()))
        } else {
            text.to_owned()
        }
    }

    fn of(self, state: CellState, text: &str) -> String {
        let code = match state {
            CellState::Whole => "32",
            CellState::PartlySeen | CellState::Unseen => "35",
            CellState::Pressed => "33",
            CellState::Part | CellState::Down => "1;31",
        };
        self.paint(code, text)
    }

    fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

pub(super) fn text(snapshot: &Snapshot, matrix: &Matrix, style: Style) -> String {
    let mut out = head(snapshot, matrix, style);
    if matrix.clusters.len() > 1 {
        out.push('\n');
        out += &table(matrix, style);
    }
    let troubles = trouble::all(matrix);
    if !troubles.is_empty() {
        out.push('\n');
    }
    for Trouble { state, about, what } in troubles.iter().take(TROUBLE_MAX) {
        let line = output::wrap(&format!("{about}: {what}"), 2, style.width);
        let line = line.strip_prefix("  ").unwrap_or(&line);
        let rest = line.strip_prefix(about.as_str());
        out += &rest.map_or_else(|| line.to_owned(), |rest| style.of(*state, about) + rest);
    }
    if let Some(more @ 1..) = troubles.len().checked_sub(TROUBLE_MAX) {
        let _ = writeln!(out, "and {more} more like these");
    }
    out
}

/// Whether it is whole, and who says so.
fn head(snapshot: &Snapshot, matrix: &Matrix, style: Style) -> String {
    let cells = matrix.cells().map(|(_, _, cell)| cell.state());
    let worst = cells.chain(trouble::of_clusters(matrix).into_values()).max();
    let worst = worst.unwrap_or(CellState::Whole);
    let said = output::wrap(&trouble::summary(matrix), 0, style.width);
    let said: String = said.lines().map(|line| style.of(worst, line) + "\n").collect();
    let seen = output::wrap(&super::seen_from(snapshot), 0, style.width);
    said + &seen.lines().map(|line| style.faint(line) + "\n").collect::<String>()
}

/// What of a cell is shown.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    rtt: bool,
    rate: bool,
    /// The round trip stands below the links, and what waits below that.
    high: bool,
    /// A column has its number above it, and not its name.
    numbered: bool,
}

/// From the one that tells most to the one that takes least room.
const SHAPES: &[Shape] = &[
    Shape { rtt: true, rate: true, high: false, numbered: false },
    Shape { rtt: true, rate: false, high: false, numbered: false },
    Shape { rtt: true, rate: false, high: true, numbered: false },
    Shape { rtt: true, rate: false, high: false, numbered: true },
    Shape { rtt: true, rate: false, high: true, numbered: true },
    Shape { rtt: false, rate: false, high: false, numbered: true },
];

fn table(matrix: &Matrix, style: Style) -> String {
    // Where nobody knows what is sent, nothing is lost without it.
    let rates = matrix.cells().any(|(_, _, cell)| cell.bytes_per_s.is_some());
    SHAPES
        .iter()
        .filter(|shape| rates || !shape.rate)
        .find_map(|shape| grid(matrix, *shape, style))
        .unwrap_or_else(|| rows(matrix, style))
}

/// A piece of a line: its state, where it has one, else it is faint; and its text.
type Part = (Option<CellState>, String);
/// A cell: the links; its round trip and what waits beside them, or below.
type Lines = [Vec<Part>; 3];

/// The lines of one cell.
fn parts(cell: Option<&Cell>, own: bool, dark: bool, shape: Shape) -> Lines {
    let Some(cell) = cell else {
        let text = if own {
            "·"
        } else if dark {
            "?"
        } else {
            "-"
        };
        return [vec![(None, text.to_owned())], Vec::new(), Vec::new()];
    };
    let state = cell.state();
    let up = (Some(state), links(cell));
    let rtt = shape.rtt.then(|| (None, cell.rtt_ms.map(rtt).unwrap_or_default()));
    let rate = shape.rate.then(|| (None, cell.bytes_per_s.map(rate).unwrap_or_default()));
    let pressed = shape.rtt && cell.pending_bytes >= PRESSED_BYTES;
    let pending = pressed.then(|| (Some(CellState::Pressed), size(cell.pending_bytes) + "!"));
    if shape.high {
        return [vec![up], rtt.into_iter().collect(), pending.into_iter().collect()];
    }
    [[Some(up), rtt, rate, pending].into_iter().flatten().collect(), Vec::new(), Vec::new()]
}

/// `2/3!`: so many of so many are up, and a mark where that is not well.
fn links(cell: &Cell) -> String {
    let Cell { expected, connected, .. } = cell;
    match cell.state() {
        CellState::Whole => format!("{connected}/{expected} "),
        CellState::Unseen => format!("?/{expected} "),
        CellState::PartlySeen => format!("{connected}/{expected}?"),
        CellState::Pressed | CellState::Part | CellState::Down => format!("{connected}/{expected}!"),
    }
}

fn of_servers(seat: &Seat) -> String {
    match seat {
        Seat { servers: 0, .. } => "none".to_owned(),
        Seat { servers, answered, .. } if answered == servers => format!("{answered}/{servers} "),
        Seat { servers, answered, .. } => format!("{answered}/{servers}!"),
    }
}

/// The matrix in `shape`; none where it is too wide for that.
fn grid(matrix: &Matrix, shape: Shape, style: Style) -> Option<String> {
    let names: Vec<&Name> = matrix.clusters.keys().collect();
    // No cell is narrower than this: wherever it cannot fit, nothing is formatted.
    if names.len() * (3 + GAP) > style.width {
        return None;
    }
    let dark = |name: &Name| matrix.clusters.get(name).is_none_or(|s| s.servers == 0);
    let cells: Vec<Vec<Lines>> = names
        .iter()
        .map(|from| {
            names.iter().map(|to| parts(matrix.cell(from, to), from == to, dark(from), shape)).collect()
        })
        .collect();
    // The parts of the cells of one column stand below each other.
    let columns = |row: &[Part], widths: &mut Vec<usize>| {
        for (n, (_, text)) in row.iter().enumerate() {
            let wide = columns(text);
            match widths.get_mut(n) {
                Some(width) => *width = wide.max(*width),
                None => widths.push(wide),
            }
        }
    };
    let mut widths = vec![[const { Vec::new() }; 3]; names.len()];
    for row in &cells {
        for (cell, width) in row.iter().zip(&mut widths) {
            for (line, width) in cell.iter().zip(width) {
                columns(line, width);
            }
        }
    }
    let number = names.len().to_string().len();
    let label = |n: usize, name: &Name| {
        let name = cut(&shown(name), NAME_MAX);
        if shape.numbered { format!("{:>number$} {name}", n + 1) } else { name }
    };
    let heads: Vec<String> = names
        .iter()
        .enumerate()
        .map(
            |(n, name)| {
                if shape.numbered { format!("→ {}", n + 1) } else { format!("→ {}", label(n, name)) }
            },
        )
        .collect();
    let sum =
        |parts: &Vec<usize>| parts.iter().filter(|w| **w > 0).map(|w| w + 1).sum::<usize>().saturating_sub(1);
    let column: Vec<usize> = heads
        .iter()
        .zip(&widths)
        .map(|(head, width)| self::columns(head).max(width.iter().map(sum).max().unwrap_or(0)))
        .collect();
    let labels: Vec<String> = names.iter().enumerate().map(|(n, name)| label(n, name)).collect();
    let first = labels.iter().map(|l| self::columns(l)).max().unwrap_or(0).max("from".len());
    let seats: Vec<String> = matrix.clusters.values().map(of_servers).collect();
    let second = seats.iter().map(String::len).max().unwrap_or(0).max("servers".len());
    let all = first + GAP + second + column.iter().map(|w| GAP + w).sum::<usize>();
    if all > style.width {
        return None;
    }
    let gap = " ".repeat(GAP);
    let mut header = pad("from", first) + &gap + &pad("servers", second);
    for (head, width) in heads.iter().zip(&column) {
        header += &gap;
        header += &pad(head, *width);
    }
    let states = trouble::of_clusters(matrix);
    let mut out = style.faint(header.trim_end()) + "\n";
    for (((row, label), state), text) in cells.iter().zip(&labels).zip(states.into_values()).zip(&seats) {
        for line in 0..3 {
            let told =
                row.iter().any(|c| c.get(line).is_some_and(|l| l.iter().any(|(_, text)| !text.is_empty())));
            if !told {
                continue;
            }
            let mut painted = if line == 0 {
                pad(label, first) + &gap + &style.of(state, &pad(text, second))
            } else {
                " ".repeat(first + GAP + second)
            };
            for ((cell, widths), width) in row.iter().zip(&widths).zip(&column) {
                painted += &gap;
                if let (Some(parts), Some(widths)) = (cell.get(line), widths.get(line)) {
                    painted += &piece(parts, widths, *width, style);
                }
            }
            out += painted.trim_end();
            out.push('\n');
        }
    }
    Some(out)
}

/// The parts of one cell, each as wide as the widest of its column.
fn piece(parts: &[Part], widths: &[usize], width: usize, style: Style) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for (n, ((state, text), wide)) in parts.iter().zip(widths).enumerate() {
        if *wide == 0 {
            continue;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        // The links to the left, what is measured to the right.
        let blank = " ".repeat(wide.saturating_sub(columns(text)));
        let padded = if n == 0 { format!("{text}{blank}") } else { format!("{blank}{text}") };
        out += &state.map_or_else(|| style.faint(&padded), |state| style.of(state, &padded));
        used += wide;
    }
    out + &" ".repeat(width.saturating_sub(used))
}

/// What has to do with one cluster, in one row.
struct Row<'a> {
    name: &'a Name,
    seat: &'a Seat,
    state: CellState,
    /// Of the cluster alone.
    own: CellState,
    up_in: usize,
    expected_in: usize,
    rtt_ms: Option<(f64, &'a Name)>,
    pending_bytes: u64,
}

/// For a matrix that is too wide: a row for each cluster, those with trouble first, and the count of the rest.
fn rows(matrix: &Matrix, style: Style) -> String {
    let mut rows: Vec<Row<'_>> = trouble::by_cluster(matrix)
        .into_iter()
        .zip(trouble::of_clusters(matrix).into_values())
        .filter_map(|((name, state), own)| {
            let seat = matrix.clusters.get(name)?;
            Some(Row { name, seat, state, own, up_in: 0, expected_in: 0, rtt_ms: None, pending_bytes: 0 })
        })
        .collect();
    for (cluster, remote, cell) in matrix.cells() {
        if let Ok(n) = rows.binary_search_by(|row| row.name.cmp(remote))
            && let Some(row) = rows.get_mut(n)
        {
            row.up_in += cell.connected;
            row.expected_in += cell.expected;
        }
        if let Ok(n) = rows.binary_search_by(|row| row.name.cmp(cluster))
            && let Some(row) = rows.get_mut(n)
        {
            row.pending_bytes = row.pending_bytes.max(cell.pending_bytes);
            let longer = |ms: &f64| row.rtt_ms.is_none_or(|(worst, _)| *ms > worst);
            if let Some(ms) = cell.rtt_ms.filter(longer) {
                row.rtt_ms = Some((ms, remote));
            }
        }
    }
    let lacks = |row: &Row<'_>| {
        (row.seat.links_expected + row.expected_in).saturating_sub(row.seat.links_connected + row.up_in)
    };
    // Who lacks most is what the others lack.
    rows.sort_by_key(|row| (Reverse(row.state), Reverse(lacks(row))));
    let most = ROWS_MAX.min(rows.len());
    let (told, rest) = rows.split_at(most);
    let mut lines =
        vec![["cluster", "servers", "links from", "links to", "longest rtt", "pending"].map(str::to_owned)];
    lines.extend(told.iter().map(|row| {
        let of = |up: usize, all: usize| format!("{up}/{all}{}", if up == all { " " } else { "!" });
        let rtt = row.rtt_ms.map(|(ms, to)| format!("{} → {}", rtt(ms), cut(&shown(to), NAME_MAX / 2)));
        [
            cut(&shown(row.name), NAME_MAX),
            of_servers(row.seat),
            of(row.seat.links_connected, row.seat.links_expected),
            of(row.up_in, row.expected_in),
            rtt.unwrap_or_default(),
            if row.pending_bytes >= PRESSED_BYTES { size(row.pending_bytes) + "!" } else { String::new() },
        ]
    }));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, text) in widths.iter_mut().zip(line) {
            *width = columns(text).max(*width);
        }
    }
    // Where nothing waits there is no column of it; what tells least goes first where there is no room.
    let waits = told.iter().any(|row| row.pending_bytes >= PRESSED_BYTES);
    let mut kept: Vec<usize> = (0..widths.len()).filter(|column| waits || *column != 5).collect();
    for last in [4, 5, 3] {
        let room: usize = kept.iter().filter_map(|column| widths.get(*column)).map(|w| w + GAP).sum();
        if room > style.width + GAP {
            kept.retain(|column| *column != last);
        }
    }
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        let row = n.checked_sub(1).and_then(|n| told.get(n));
        let mut painted = String::new();
        for (column, (text, width)) in line.iter().zip(widths).enumerate().filter(|(n, _)| kept.contains(n)) {
            let text = pad(text, width);
            painted += &match (row, column) {
                (None, _) | (_, 4) => style.faint(&text),
                (_, 0) => text,
                (Some(row), 1) => style.of(row.own, &text),
                (Some(_), _) if text.contains('!') => {
                    style.of(if column == 5 { CellState::Pressed } else { CellState::Part }, &text)
                }
                (Some(_), _) => style.of(CellState::Whole, &text),
            };
            painted += &" ".repeat(GAP);
        }
        out += painted.trim_end();
        out.push('\n');
    }
    if !rest.is_empty() {
        let ill = rest.iter().filter(|row| row.state != CellState::Whole).count();
        let well = rest.len() - ill;
        let told = match (ill, well) {
            (0, well) => format!("and {well} more, all whole"),
            (ill, 0) => format!("and {ill} more with links that are not all up"),
            (ill, well) => format!("and {ill} more with links that are not all up, and {well} whole"),
        };
        for line in output::wrap(&told, 0, style.width).lines() {
            out += &style.faint(line);
            out.push('\n');
        }
    }
    out
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// How many columns `text` takes in a terminal: the scripts of East Asia take two a letter.
fn columns(text: &str) -> usize {
    let wide = |c: char| {
        matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}'
            | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
    };
    text.chars().map(|c| 1 + usize::from(wide(c))).sum()
}
