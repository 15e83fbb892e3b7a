//! The supercluster as text that other programs draw: Mermaid and Graphviz.

use std::fmt::Write as _;

use super::{Pair, Picture, rate, rtt, shown, trouble};
use crate::model::{Cell, CellState, Name, Seat};

/// Mermaid draws no more edges than this unless it is told to.
const MERMAID_EDGES_MAX: usize = 500;
/// Where there are more, what is whole is left out.
const DOT_EDGES_MAX: usize = 2000;

/// One line of a graph: who dials, the remote, and whether it tells of both ways.
struct Edge<'a> {
    ends: [&'a Name; 2],
    both: bool,
    state: CellState,
    label: String,
    bytes_per_s: Option<u64>,
}

/// Those that are drawn, the worst first where there are too many; and how many are not.
fn edges<'a>(pairs: &[Pair<'a>], max: usize) -> (Vec<Edge<'a>>, usize) {
    let mut edges = Vec::new();
    for pair in pairs {
        if pair.is_whole() {
            let label = pair.rtt_ms().map(rtt).unwrap_or_default();
            let bytes_per_s = pair.bytes_per_s();
            edges.push(Edge { ends: pair.ends, both: true, state: CellState::Whole, label, bytes_per_s });
            continue;
        }
        let [a, b] = pair.ends;
        for (ends, cell) in [[a, b], [b, a]].into_iter().zip(pair.cells) {
            let Some(cell) = cell else { continue };
            let (state, bytes_per_s) = (cell.state(), cell.bytes_per_s);
            edges.push(Edge { ends, both: false, state, label: label(cell), bytes_per_s });
        }
    }
    let mut left_out = 0;
    if edges.len() > max {
        edges.sort_by_key(|edge| std::cmp::Reverse(edge.state));
        let told = edges.iter().take_while(|edge| edge.state != CellState::Whole).count().min(max);
        left_out = edges.len() - told;
        edges.truncate(told);
    }
    (edges, left_out)
}

/// `2/3 12ms`
fn label(cell: &Cell) -> String {
    let links = match cell.state() {
        CellState::Unseen => format!("?/{}", cell.expected),
        _ => format!("{}/{}", cell.connected, cell.expected),
    };
    let rtt = cell.rtt_ms.map(|ms| format!(" {}", rtt(ms))).unwrap_or_default();
    let pressed = cell.state() == CellState::Pressed;
    let pending = if pressed { format!(" {} wait", super::size(cell.pending_bytes)) } else { String::new() };
    let silent = if cell.silent > 0 { format!(" {} silent", cell.silent) } else { String::new() };
    links + &rtt + &pending + &silent
}

pub(super) fn servers(seat: &Seat) -> String {
    match seat {
        Seat { servers: 0, .. } => "no server seen".to_owned(),
        Seat { servers: 1, answered: 1, .. } => "1 server".to_owned(),
        Seat { servers, answered, .. } if answered == servers => format!("{servers} servers"),
        Seat { servers, answered, .. } => format!("{answered} of {servers} answered"),
    }
}

const fn hue(state: CellState) -> &'static str {
    match state {
        CellState::Whole => "#1a7f37",
        CellState::PartlySeen | CellState::Unseen => "#8250df",
        CellState::Pressed => "#bf8700",
        CellState::Part | CellState::Down => "#cf222e",
    }
}

const fn is_dashed(state: CellState) -> bool {
    matches!(state, CellState::Down | CellState::PartlySeen | CellState::Unseen)
}

pub(super) fn mermaid(picture: &Picture<'_>) -> String {
    let mut out = format!(
        "%% {}\n%% {}\nflowchart LR\n",
        comment(&trouble::summary(&picture.matrix)),
        comment(&super::seen_from(picture.snapshot))
    );
    let clusters = &picture.matrix.clusters;
    let id = |name: &Name| clusters.keys().position(|other| other == name).unwrap_or(clusters.len());
    let states = trouble::of_clusters(&picture.matrix).into_values();
    for (n, ((name, seat), state)) in clusters.iter().zip(states).enumerate() {
        let class = match state {
            CellState::Whole => "whole",
            CellState::Down => "down",
            _ => "part",
        };
        let (name, servers) = (entities(&shown(name)), servers(seat));
        let _ = writeln!(out, "  c{n}[\"<b>{name}</b><br/>{servers}\"]:::{class}");
    }
    let pairs = picture.pairs();
    let (edges, left_out) = edges(&pairs, MERMAID_EDGES_MAX);
    for Edge { ends: [from, to], both, state, label, .. } in &edges {
        let arrow = match (both, is_dashed(*state)) {
            (true, _) => "<-->",
            (false, true) => "-.->",
            (false, false) => "-->",
        };
        let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", entities(label)) };
        let _ = writeln!(out, "  c{} {arrow}{label} c{}", id(from), id(to));
    }
    if left_out > 0 {
        let _ = writeln!(out, "  %% not drawn, for there are too many: {left_out}");
    }
    for state in [CellState::Whole, CellState::Unseen, CellState::Pressed, CellState::Part] {
        let of: Vec<String> = edges
            .iter()
            .enumerate()
            .filter(|(_, edge)| hue(edge.state) == hue(state))
            .map(|(n, _)| n.to_string())
            .collect();
        if !of.is_empty() {
            let width = if state == CellState::Whole { 1 } else { 3 };
            let _ =
                writeln!(out, "  linkStyle {} stroke:{},stroke-width:{width}px", of.join(","), hue(state));
        }
    }
    for (class, state) in
        [("whole", CellState::Whole), ("part", CellState::PartlySeen), ("down", CellState::Down)]
    {
        let dash = if class == "down" { ",stroke-dasharray:5 4" } else { "" };
        let _ = writeln!(out, "  classDef {class} stroke:{},stroke-width:2px{dash}", hue(state));
    }
    out
}

pub(super) fn dot(picture: &Picture<'_>) -> String {
    let mut out = format!(
        "// {}\n// {}\ndigraph supercluster {{\n  \
         graph [layout=circo, splines=true, mindist=3.5, fontname=\"Helvetica\"];\n  \
         node [shape=box, style=rounded, fontname=\"Helvetica\", penwidth=2, margin=\"0.2,0.12\"];\n  \
         edge [fontname=\"Helvetica\", fontsize=11, arrowsize=0.7];\n",
        comment(&trouble::summary(&picture.matrix)),
        comment(&super::seen_from(picture.snapshot)),
    );
    let states = trouble::of_clusters(&picture.matrix).into_values();
    for ((name, seat), state) in picture.matrix.clusters.iter().zip(states) {
        let style = if state == CellState::Down { "rounded,dashed" } else { "rounded" };
        let _ = writeln!(
            out,
            "  {} [label=\"{}\\n{}\", color=\"{}\", style=\"{style}\"];",
            quoted(name),
            inside(&shown(name)),
            servers(seat),
            hue(state)
        );
    }
    let pairs = picture.pairs();
    let (edges, left_out) = edges(&pairs, DOT_EDGES_MAX);
    for Edge { ends: [from, to], both, state, label, bytes_per_s } in &edges {
        let _ = write!(out, "  {} -> {} [", quoted(from), quoted(to));
        if *both {
            out += "dir=both, ";
        }
        let style = if is_dashed(*state) { ", style=dashed" } else { "" };
        let width = thickness(*bytes_per_s, *state);
        let _ = write!(out, "color=\"{}\", penwidth={width:.1}{style}", hue(*state));
        if !label.is_empty() {
            let _ = write!(out, ", label=\"{}\"", inside(label));
        }
        if *state != CellState::Whole {
            let _ = write!(out, ", fontcolor=\"{}\"", hue(*state));
        }
        if let Some(sent) = bytes_per_s {
            let _ = write!(out, ", tooltip=\"{}\"", inside(&rate(*sent)));
        }
        out += "];\n";
    }
    if left_out > 0 {
        let _ = writeln!(out, "  // not drawn, for there are too many: {left_out}");
    }
    out + "}\n"
}

/// How thick a line is: 1.5 where nothing is sent, and so much more each time that it is ten times as much.
pub(super) fn thickness(bytes_per_s: Option<u64>, state: CellState) -> f64 {
    let sent = bytes_per_s.unwrap_or(0) as f64;
    // What is below 10 kB/s is what servers say to each other.
    let grown = (sent / 10_000.0).max(1.0).log10().min(5.0) * 1.3;
    let least = if state == CellState::Whole { 1.5 } else { 2.5 };
    least + grown
}

/// One line, which ends nothing.
fn comment(text: &str) -> String {
    text.chars().filter(|c| !crate::config::redact::hostile(*c)).collect()
}

/// A string of Graphviz, whole.
fn quoted(name: &str) -> String {
    let name = crate::config::redact::control(name);
    format!("\"{}\"", inside(&name))
}

fn inside(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A label of Mermaid: whatever could be markup or an end of the label as its code.
fn entities(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_alphanumeric() || " -_./".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
        out
    })
}
