//! The supercluster as a picture: one SVG that needs nothing else, light or dark as the reader has it.
//!
//! Few clusters are cards on an ellipse, many are points on a circle. The same snapshot gives the same bytes.

use std::f64::consts::{FRAC_PI_2, TAU};
use std::fmt::Write as _;

use super::graph::{servers, thickness};
use super::trouble::{self, Trouble};
use super::{Pair, Picture, cut, rate, rtt, shown, size};
use crate::config::redact;
use crate::model::{Cell, CellState, Life, Name, PRESSED_BYTES, Seat, Server};

/// So many clusters are cards.
const CARDS_MAX: usize = 10;
/// Where there are more pairs, those with nothing amiss are not drawn.
const PAIRS_MAX: usize = 1500;
/// Where there are more lines with trouble than this, the rest is not drawn.
const TROUBLED_MAX: usize = 2000;
/// So many lines of trouble stand below.
const TROUBLE_MAX: usize = 8;
/// So many of them are labelled where the clusters are points.
const LABELS_MAX: usize = 16;
const WIDTH: f64 = 960.0;
const HEADER: f64 = 92.0;
const MARGIN: f64 = 28.0;
const CARD_HEIGHT: f64 = 76.0;
/// Where there are more lines, those with nothing amiss step back.
const MANY_LINES: usize = 12;
/// Dots of a card.
const DOTS: usize = 9;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;fill:#1f2328}\
.bg{fill:#fff;stroke:#d1d9e0}.h{font-size:20px;font-weight:600}.n{font-size:16px;font-weight:600}\
.p{font-size:11px;font-weight:500}.s{font-size:12.5px}.s,.f{fill:#59636e}.f,.r{font-size:11.5px}.r{fill:#59636e}\
.b{font-size:13px}.r{stroke:#fff;stroke-width:7px;stroke-linejoin:round;paint-order:stroke}\
.card{fill:#f6f8fa;stroke:#d1d9e0;stroke-width:1.5}.l{fill:none}\
.whole{stroke:#2da44e}.part,.down{stroke:#d1242f}.press{stroke:#bf8700}.unseen{stroke:#8250df}\
.down,.unseen{stroke-dasharray:7 6}.calm{opacity:.6}.faint{opacity:.28}\
.a-whole{fill:#2da44e}.a-part{fill:#d1242f}.a-press{fill:#bf8700}.a-unseen{fill:#8250df}\
.up{fill:#2da44e}.gone,.mute{fill:#fff;stroke-width:2}.gone{stroke:#d1242f}.mute{stroke:#8250df}\
.pill{stroke-width:1.2}.k-part{fill:#ffebe9;stroke:#d1242f}.k-press{fill:#fff8c5;stroke:#bf8700}\
.k-unseen{fill:#fbefff;stroke:#8250df}.c-part{fill:#a40e26}.c-press{fill:#7d4e00}.c-unseen{fill:#6639ba}\
.q{font-size:12px;font-weight:600;stroke:none}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.bg{fill:#0d1117;stroke:#30363d}.s,.f,.r{fill:#9198a1}\
.r{stroke:#0d1117}.card{fill:#161b22;stroke:#30363d}.whole{stroke:#3fb950}.part,.down{stroke:#f85149}\
.press{stroke:#d29922}.unseen{stroke:#a371f7}.a-whole{fill:#3fb950}.a-part{fill:#f85149}.a-press{fill:#d29922}\
.a-unseen{fill:#a371f7}.up{fill:#3fb950}.gone,.mute{fill:#161b22}.gone{stroke:#f85149}.mute{stroke:#a371f7}\
.k-part{fill:#3c1418;stroke:#f85149}.k-press{fill:#3b2300;stroke:#d29922}.k-unseen{fill:#271b4b;stroke:#a371f7}\
.c-part{fill:#ff9a92}.c-press{fill:#f2cc60}.c-unseen{fill:#d2a8ff}}";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    x: f64,
    y: f64,
}

impl Point {
    fn towards(self, other: Self, part: f64) -> Self {
        Self { x: self.x + (other.x - self.x) * part, y: self.y + (other.y - self.y) * part }
    }

    fn far(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// So far beside the middle of the way to `other`, on the left hand.
    fn beside(self, other: Self, by: f64) -> Self {
        let (middle, far) = (self.towards(other, 0.5), self.far(other).max(1.0));
        Self { x: middle.x + (other.y - self.y) / far * by, y: middle.y - (other.x - self.x) / far * by }
    }
}

/// A box, by its middle.
#[derive(Clone, Copy, Debug)]
struct Area {
    at: Point,
    width: f64,
    height: f64,
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        (self.at.x - other.at.x).abs() * 2.0 < self.width + other.width
            && (self.at.y - other.at.y).abs() * 2.0 < self.height + other.height
    }

    /// Where the way from its middle to `to` leaves it.
    fn edge(&self, to: Point) -> Point {
        let (dx, dy) = ((to.x - self.at.x).abs().max(0.001), (to.y - self.at.y).abs().max(0.001));
        let part = (self.width / 2.0 / dx).min(self.height / 2.0 / dy);
        self.at.towards(to, part.min(0.49))
    }
}

/// A line between two clusters: from one end, over a control point, to the other.
struct Line<'a> {
    ends: [&'a Name; 2],
    points: [Point; 3],
    state: CellState,
    arrow: bool,
    bytes_per_s: Option<u64>,
    label: String,
    title: String,
}

impl Line<'_> {
    fn at(&self, t: f64) -> Point {
        let [a, control, b] = self.points;
        a.towards(control, t).towards(control.towards(b, t), t)
    }
}

/// What lies on top of what.
#[derive(Default)]
struct Layers {
    lines: String,
    clusters: String,
    labels: String,
    /// What is taken: cards and labels.
    taken: Vec<Area>,
}

pub(super) fn svg(picture: &Picture<'_>) -> String {
    let drawn = if picture.matrix.clusters.len() <= CARDS_MAX { cards(picture) } else { ring(picture) };
    let Drawn { layers, size: (width, bottom), mut notes, states } = drawn;
    let mut y = bottom;
    let mut below = String::new();
    let troubles = trouble::all(&picture.matrix);
    for Trouble { state, about, what } in troubles.iter().take(TROUBLE_MAX) {
        let chars_max = chars(width, 6.9);
        let about = cut(about, chars_max / 2);
        let what = cut(what, chars_max.saturating_sub(about.chars().count()));
        let _ = writeln!(
            below,
            "<text class=\"b\" x=\"{MARGIN}\" y=\"{y:.0}\"><tspan class=\"c-{}\" font-weight=\"600\">{}</tspan>: {}</text>",
            class(*state),
            escaped(&about),
            escaped(&what)
        );
        y += 20.0;
    }
    if let Some(more @ 1..) = troubles.len().checked_sub(TROUBLE_MAX) {
        notes.insert(0, format!("and {more} more like these"));
    }
    for note in notes {
        let _ = writeln!(below, "<text class=\"s\" x=\"{MARGIN}\" y=\"{y:.0}\">{}</text>", escaped(&note));
        y += 20.0;
    }
    y += if y > bottom { 12.0 } else { 0.0 };
    let (legend, y) = legend(picture, &states, width, y);
    below += &legend;
    let height = y + 22.0;
    let summary = trouble::summary(&picture.matrix);
    // Which clusters are dark stands above, the figures below.
    let (title, figures) = summary.split_once("; ").unwrap_or((&summary, ""));
    let seen = super::seen_from(picture.snapshot);
    let second = if figures.is_empty() { seen } else { format!("{figures}; {seen}") };
    let (title, second) = (cut(title, chars(width, 11.6)), cut(&second, chars(width, 6.9)));
    let told: Vec<String> =
        troubles.iter().take(TROUBLE_MAX).map(|t| format!("{}: {}", t.about, t.what)).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"bg\" x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"10\"/>\n\
         <text class=\"h\" x=\"{MARGIN}\" y=\"40\">{}</text>\n\
         <text class=\"s\" x=\"{MARGIN}\" y=\"62\">{}</text>\n{}{}{}{below}</svg>\n",
        escaped(&summary),
        escaped(&told.join("; ")),
        width - 1.0,
        height - 1.0,
        escaped(&title),
        escaped(&second),
        layers.lines,
        layers.clusters,
        layers.labels,
    )
}

struct Drawn {
    layers: Layers,
    /// How wide it is, and where it ends.
    size: (f64, f64),
    notes: Vec<String>,
    /// Which there are of lines.
    states: Vec<CellState>,
}

/// What every state of lines is called in the style.
const fn class(state: CellState) -> &'static str {
    match state {
        CellState::Whole => "whole",
        CellState::PartlySeen | CellState::Unseen => "unseen",
        CellState::Pressed => "press",
        CellState::Part | CellState::Down => "part",
    }
}

const fn line_class(state: CellState) -> &'static str {
    match state {
        CellState::Down => "down",
        state => class(state),
    }
}

// ---- few clusters ----

fn cards(picture: &Picture<'_>) -> Drawn {
    let clusters = &picture.matrix.clusters;
    let n = clusters.len();
    let dots_max = clusters.values().map(|seat| seat.servers).max().unwrap_or(0).min(DOTS);
    let widest = clusters.keys().map(|name| shown(name).chars().count()).max().unwrap_or(0) as f64 * 9.4;
    let width = widest.max(dots_max as f64 * 16.0).max(104.0) + 32.0;
    let width = width.min(if n <= 4 { 250.0 } else { 180.0 });
    let rx = ((WIDTH - width) / 2.0 - MARGIN - 12.0).min(300.0 + n as f64 * 14.0);
    let ry = match n {
        0..=2 => 0.0,
        3 => 150.0,
        4..=6 => 185.0,
        7..=8 => 235.0,
        _ => 300.0,
    };
    let centre = Point { x: WIDTH / 2.0, y: HEADER + CARD_HEIGHT / 2.0 + ry };
    let turn = match n {
        2 => std::f64::consts::PI,
        4 => -FRAC_PI_2 - TAU / 8.0,
        _ => -FRAC_PI_2,
    };
    let place = |k: usize| {
        let angle = turn + TAU * k as f64 / n.max(1) as f64;
        let spread = if n == 1 { 0.0 } else { rx };
        Area {
            at: Point { x: centre.x + spread * angle.cos(), y: centre.y + ry * angle.sin() },
            width,
            height: CARD_HEIGHT,
        }
    };
    let areas: Vec<Area> = (0..n).map(place).collect();
    let bottom = areas.iter().map(|a| a.at.y).fold(0.0, f64::max) + CARD_HEIGHT / 2.0;
    let states = trouble::of_clusters(&picture.matrix);
    let mut layers = Layers { taken: areas.clone(), ..Layers::default() };
    for (((name, seat), state), area) in clusters.iter().zip(states.values()).zip(&areas) {
        layers.clusters += &card(picture, name, seat, *state, area);
    }
    let area_of = |name: &Name| {
        let place = clusters.keys().position(|other| other == name);
        place.and_then(|k| areas.get(k)).copied()
    };
    let dark = |name: &Name| clusters.get(name).is_none_or(|seat| seat.answered == 0);
    let mut lines = Vec::new();
    for pair in picture.pairs() {
        let [Some(a), Some(b)] = pair.ends.map(area_of) else { continue };
        // Grown, so that a line ends a little before the card.
        let grown = |area: Area| Area { width: area.width + 10.0, height: area.height + 10.0, ..area };
        let (a, b) = (grown(a), grown(b));
        if pair.is_whole() {
            lines.push(both_ways(&pair, [a.edge(b.at), a.at.towards(b.at, 0.5), b.edge(a.at)]));
            continue;
        }
        let told: Vec<(usize, &Cell)> = pair
            .cells
            .iter()
            .enumerate()
            .filter_map(|(way, cell)| Some((way, (*cell)?)))
            // What a cluster would say that says nothing is told by its card.
            .filter(|(way, cell)| {
                let dialer = pair.ends.get(*way).is_none_or(|name| dark(name));
                !(cell.state() == CellState::Unseen && dialer && pair.cells.iter().flatten().count() > 1)
            })
            .collect();
        let alone = told.len() == 1;
        for (way, cell) in told {
            let (from, to) = if way == 0 { (a, b) } else { (b, a) };
            let control = if alone { from.at.towards(to.at, 0.5) } else { bow([from, to], &areas) };
            lines.push(one_way(&pair, way, cell, [from.edge(control), control, to.edge(control)]));
        }
    }
    lines.sort_by_key(|line| line.state);
    let many = lines.len() > MANY_LINES;
    for line in &lines {
        layers.lines += &drawn(line, many && line.state == CellState::Whole, 0.8);
    }
    for line in lines.iter().rev() {
        layers.label(line, line.state != CellState::Whole);
    }
    let mut states: Vec<CellState> = lines.iter().map(|line| line.state).collect();
    states.dedup();
    Drawn { layers, size: (WIDTH, bottom + 40.0), notes: Vec::new(), states }
}

/// A control point for the way from one card to another, on its left hand: the one that passes behind the fewest
/// others.
fn bow([from, to]: [Area; 2], cards: &[Area]) -> Point {
    let passes = |control: &Point| {
        let (a, b) = (from.edge(*control), to.edge(*control));
        let point = |t: f64| a.towards(*control, t).towards(control.towards(b, t), t);
        let hits = |at: Point| {
            let spot = Area { at, width: 8.0, height: 8.0 };
            cards.iter().filter(|card| card.at != from.at && card.at != to.at && card.meets(&spot)).count()
        };
        (1..20).map(|step| hits(point(f64::from(step) / 20.0))).sum::<usize>()
    };
    let bows = [58.0, 34.0, 90.0, 18.0, 130.0].map(|by| from.at.beside(to.at, by));
    bows.into_iter().min_by_key(passes).unwrap_or(from.at)
}

fn card(picture: &Picture<'_>, name: &Name, seat: &Seat, state: CellState, area: &Area) -> String {
    let (left, top) = (area.at.x - area.width / 2.0, area.at.y - area.height / 2.0);
    let border = match state {
        CellState::Whole => "",
        CellState::Down => " down",
        _ => " unseen",
    };
    let chars_max = chars(area.width - 24.0, 9.4);
    let mut out = format!(
        "<g><title>{}: {}</title><rect class=\"card{border}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
         height=\"{:.1}\" rx=\"12\"/><text class=\"n\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        escaped(&shown(name)),
        servers(seat),
        area.width,
        area.height,
        top + 26.0,
        escaped(&cut(&shown(name), chars_max)),
        x = area.at.x,
    );
    let all = servers_of(picture, name);
    let told = if all.len() > DOTS { DOTS - 1 } else { all.len() };
    let room = if all.len() > DOTS { DOTS + 1 } else { told };
    for (k, server) in all.iter().take(told).enumerate() {
        let x = area.at.x + (k as f64 - (room as f64 - 1.0) / 2.0) * 16.0;
        out += &dot(server, Point { x, y: top + 43.0 }, 5.0);
    }
    if let Some(more @ 1..) = all.len().checked_sub(told) {
        let x = area.at.x + (told as f64 - (room as f64 - 1.0) / 2.0) * 16.0 - 5.0;
        let _ = write!(out, "<text class=\"f\" x=\"{x:.1}\" y=\"{:.1}\">+{more}</text>", top + 47.0);
    }
    let colour = if state == CellState::Whole { "f" } else { "f c-part" };
    let colour =
        if matches!(state, CellState::PartlySeen | CellState::Unseen) { "f c-unseen" } else { colour };
    let _ = writeln!(
        out,
        "<text class=\"{colour}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></g>",
        area.at.x,
        top + if all.is_empty() { 50.0 } else { 66.0 },
        servers(seat)
    );
    out
}

/// The servers that ought to be there, by name.
fn servers_of<'a>(picture: &Picture<'a>, cluster: &'a str) -> Vec<&'a Server> {
    let expected = |s: &&Server| s.life != Life::Left;
    let mut servers: Vec<&Server> = picture.snapshot.servers_of(cluster).filter(expected).collect();
    servers.sort_by_key(|s| &s.info.name);
    servers
}

fn dot(server: &Server, Point { x, y }: Point, radius: f64) -> String {
    let (class, said) = match (server.gatewayz.is_some(), server.life) {
        (true, _) => ("up", "answered"),
        (false, Life::Gone) => ("gone", "gone: its peers have no route to it"),
        (false, Life::Alive) => ("mute", "runs, and did not answer"),
        (false, _) => ("gone", "did not answer"),
    };
    let name = escaped(&shown(&server.info.name));
    // A ring is drawn around its radius.
    let radius = if class == "up" { radius } else { radius - 0.8 };
    format!(
        "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{name}: {said}</title></circle>"
    )
}

// ---- many clusters ----

fn ring(picture: &Picture<'_>) -> Drawn {
    let clusters = &picture.matrix.clusters;
    let n = clusters.len();
    let font = if n > 90 { 8.5 } else { 11.5 };
    let radius = (n as f64 * (font + 3.0) / TAU).max(285.0);
    let dots_max = clusters.values().map(|seat| seat.servers).max().unwrap_or(0).min(6);
    let (step, first) = (font * 0.9, 14.0);
    let names_at = first + dots_max as f64 * step + 5.0;
    let names = clusters.keys().map(|name| shown(name).chars().count().min(22)).max().unwrap_or(0) as f64;
    let outer = radius + names_at + names * font * 0.6;
    let width = (2.0 * (outer + MARGIN)).max(WIDTH);
    let centre = Point { x: width / 2.0, y: HEADER - 8.0 + outer };
    let angle = |k: usize| -FRAC_PI_2 + TAU * k as f64 / n as f64;
    let on = |k: usize, radius: f64| Point {
        x: centre.x + radius * angle(k).cos(),
        y: centre.y + radius * angle(k).sin(),
    };
    let states = trouble::of_clusters(&picture.matrix);
    let worst = trouble::by_cluster(&picture.matrix);
    let mut layers = Layers::default();
    for (k, ((name, seat), (state, worst))) in
        clusters.iter().zip(states.values().zip(worst.values())).enumerate()
    {
        let kind = if *state == CellState::Whole { "whole" } else { class((*worst).max(*state)) };
        let Point { x, y } = on(k, radius);
        let _ = write!(
            layers.clusters,
            "<g><title>{}: {}</title><circle class=\"a-{kind}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>",
            escaped(&shown(name)),
            servers(seat),
            font * 0.5,
        );
        let all = servers_of(picture, name);
        for (j, server) in all.iter().take(6).enumerate() {
            layers.clusters += &dot(server, on(k, radius + first + j as f64 * step), font * 0.28);
        }
        // On the left half a name would stand upside down.
        let left = angle(k).cos() < -0.001;
        let Point { x, y } = on(k, radius + names_at);
        let degrees = angle(k).to_degrees() + if left { 180.0 } else { 0.0 };
        let ink = if *state == CellState::Whole { String::new() } else { format!(" c-{}", class(*state)) };
        let _ = writeln!(
            layers.clusters,
            "<text class=\"p{ink}\" style=\"font-size:{font}px\" text-anchor=\"{}\" \
             transform=\"translate({x:.1} {y:.1}) rotate({degrees:.2})\" dy=\".35em\">{}</text></g>",
            if left { "end" } else { "start" },
            escaped(&cut(&shown(name), 22)),
        );
    }
    let place = |name: &Name| clusters.keys().position(|other| other == name);
    let inner = radius - font * 0.5 - 3.0;
    let pairs = picture.pairs();
    let crowded = pairs.len() > PAIRS_MAX;
    let dark = |name: &Name| clusters.get(name).is_none_or(|seat| seat.answered == 0);
    let (mut lines, mut whole, mut troubled) = (Vec::new(), 0, 0);
    for pair in &pairs {
        let [Some(a), Some(b)] = pair.ends.map(place) else { continue };
        let (from, to) = (on(a, inner), on(b, inner));
        let control = from.towards(to, 0.5).towards(centre, 0.35);
        if pair.is_whole() {
            whole += 1;
            if !crowded {
                lines.push(both_ways(pair, [from, control, to]));
            }
            continue;
        }
        let worst = pair.cells.iter().enumerate().filter_map(|(way, cell)| Some((way, (*cell)?)));
        let Some((way, cell)) = worst.max_by_key(|(_, cell)| cell.state()) else { continue };
        troubled += 1;
        if troubled <= TROUBLED_MAX {
            let points = if way == 0 { [from, control, to] } else { [to, control, from] };
            let mut line = one_way(pair, way, cell, points);
            // What is said of the cluster need not be said of each of its lines.
            if pair.ends.iter().any(|name| dark(name)) {
                line.label.clear();
                line.arrow = false;
            }
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| line.state);
    let many = lines.len() > MANY_LINES * MANY_LINES;
    for line in &lines {
        layers.lines += &drawn(line, line.state == CellState::Whole, if many { 0.6 } else { 0.8 });
    }
    let labelled = lines.iter().rev().filter(|l| l.state != CellState::Whole && !l.label.is_empty());
    for line in labelled.take(LABELS_MAX) {
        layers.label(line, true);
    }
    let mut notes = Vec::new();
    if crowded && whole > 0 {
        notes.push(format!("not drawn: {whole} pairs of clusters with every link up"));
    }
    if let Some(more @ 1..) = usize::checked_sub(troubled, TROUBLED_MAX) {
        notes.push(format!("not drawn: {more} more pairs of clusters with trouble"));
    }
    let mut states: Vec<CellState> = lines.iter().map(|line| line.state).collect();
    states.dedup();
    Drawn { layers, size: (width, centre.y + outer + 34.0), notes, states }
}

// ---- both ----

fn both_ways<'a>(pair: &Pair<'a>, points: [Point; 3]) -> Line<'a> {
    let sent = pair.bytes_per_s();
    let busy = sent.filter(|sent| *sent >= 10_000).map(rate);
    let label: Vec<String> = pair.rtt_ms().map(rtt).into_iter().chain(busy).collect();
    Line {
        ends: pair.ends,
        points,
        state: CellState::Whole,
        arrow: false,
        bytes_per_s: sent,
        label: label.join(" · "),
        title: titles(pair),
    }
}

fn one_way<'a>(pair: &Pair<'a>, way: usize, cell: &Cell, points: [Point; 3]) -> Line<'a> {
    let [a, b] = pair.ends;
    let state = cell.state();
    let label = match state {
        CellState::Whole => cell.rtt_ms.map(rtt).unwrap_or_default(),
        CellState::Unseen => format!("{} not seen", cell.expected),
        CellState::PartlySeen => format!("{} of {} not seen", cell.unseen, cell.expected),
        CellState::Pressed => format!("{} wait", size(cell.pending_bytes)),
        CellState::Part if cell.absent() == 0 => format!("{} of {} silent", cell.silent, cell.expected),
        CellState::Part | CellState::Down => format!("{} of {} up", cell.connected, cell.expected),
    };
    Line {
        ends: if way == 0 { [a, b] } else { [b, a] },
        points,
        state,
        arrow: true,
        bytes_per_s: cell.bytes_per_s,
        label,
        title: titles(pair),
    }
}

/// What is known of both ways, for who points at the line.
fn titles(pair: &Pair<'_>) -> String {
    let [a, b] = pair.ends;
    let way = |from: &Name, to: &Name, cell: &Cell| {
        let mut text = format!("{} → {}: {} of {} up", shown(from), shown(to), cell.connected, cell.expected);
        for more in [cell.rtt_ms.map(rtt), cell.bytes_per_s.map(rate)].into_iter().flatten() {
            text += ", ";
            text += &more;
        }
        if cell.pending_bytes >= PRESSED_BYTES {
            let _ = write!(text, ", {} wait", size(cell.pending_bytes));
        }
        text
    };
    let ways = [(a, b), (b, a)].into_iter().zip(pair.cells);
    ways.filter_map(|((from, to), cell)| Some(way(from, to, cell?))).collect::<Vec<_>>().join("\n")
}

fn drawn(line: &Line<'_>, calm: bool, narrower: f64) -> String {
    let [a, control, mut b] = line.points;
    let mut width = thickness(line.bytes_per_s, line.state);
    if calm {
        width *= narrower;
    }
    let mut arrow = String::new();
    if line.arrow {
        // The line ends where its head begins.
        let length = 7.0 + width * 1.5;
        let base = b.towards(control, (length / b.far(control).max(1.0)).min(0.5));
        let side = Point { x: (b.y - base.y) * 0.45, y: (base.x - b.x) * 0.45 };
        let _ = write!(
            arrow,
            "<path class=\"a-{}\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}z\"/>",
            class(line.state),
            b.x,
            b.y,
            base.x + side.x,
            base.y + side.y,
            base.x - side.x,
            base.y - side.y
        );
        b = base;
    }
    let faint = match (calm, narrower) {
        (false, _) => "",
        (true, narrower) if narrower < 0.7 => " faint",
        (true, _) => " calm",
    };
    format!(
        "<g><title>{}</title><path class=\"l {}{faint}\" stroke-width=\"{width:.1}\" \
         d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\"/>{arrow}</g>\n",
        escaped(&line.title),
        line_class(line.state),
        a.x,
        a.y,
        control.x,
        control.y,
        b.x,
        b.y,
    )
}

impl Layers {
    /// Writes the label of a line where nothing else is; where there is no such place only what has to be told.
    fn label(&mut self, line: &Line<'_>, must: bool) {
        if line.label.is_empty() {
            return;
        }
        let width = line.label.chars().count() as f64 * 6.7 + if must { 18.0 } else { 6.0 };
        let area = |t: f64| Area { at: line.at(t), width, height: if must { 24.0 } else { 17.0 } };
        let free = |area: &Area| !self.taken.iter().any(|taken| taken.meets(area));
        let places = [0.5, 0.42, 0.58, 0.35, 0.65, 0.28, 0.72, 0.22, 0.78];
        let mut found = places.iter().map(|t| area(*t)).find(free);
        if must && found.is_none() {
            // Beside the line, then; and over something else where there is no room at all.
            let aside = [1.0, -1.0, 2.0, -2.0, 3.0, -3.0].into_iter().map(|rows| {
                let Area { at: Point { x, y }, width, height } = area(0.5);
                Area { at: Point { x, y: y + rows * (height + 2.0) }, width, height }
            });
            found = aside.into_iter().find(free).or_else(|| Some(area(0.5)));
        }
        let Some(area) = found else { return };
        self.taken.push(area);
        let Point { x, y } = area.at;
        let text = escaped(&line.label);
        let _ = if must {
            let kind = class(line.state);
            writeln!(
                self.labels,
                "<g><title>{} → {}</title><rect class=\"pill k-{kind}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"22\" rx=\"11\"/><text class=\"q c-{kind}\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{text}</text></g>",
                escaped(&shown(line.ends[0])),
                escaped(&shown(line.ends[1])),
                x - width / 2.0,
                y - 11.0,
                y + 4.2,
            )
        } else {
            writeln!(
                self.labels,
                "<text class=\"r\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                y + 4.0
            )
        };
    }
}

/// What the marks mean that are there.
fn legend(picture: &Picture<'_>, states: &[CellState], width: f64, y: f64) -> (String, f64) {
    type Mark = fn(&str, f64, f64) -> String;
    const CIRCLE: Mark =
        |class, x, y| format!("<circle class=\"{class}\" cx=\"{:.0}\" cy=\"{y:.0}\" r=\"4.6\"/>", x + 11.0);
    const LINE: Mark =
        |class, x, y| format!("<path class=\"l {class}\" stroke-width=\"2.5\" d=\"M{x:.0} {y:.0}h22\"/>");
    const THICK: Mark =
        |class, x, y| format!("<path class=\"l {class}\" stroke-width=\"5\" d=\"M{x:.0} {y:.0}h22\"/>");
    let mut out = String::new();
    let (mut x, mut y) = (MARGIN, y);
    let mut entry = |mark: Mark, class: &str, text: &str| {
        let room = 30.0 + text.chars().count() as f64 * 6.4 + 18.0;
        if x + room > width {
            (x, y) = (MARGIN, y + 20.0);
        }
        let (text_x, text_y) = (x + 30.0, y + 4.0);
        let mark = mark(class, x, y);
        let _ = writeln!(out, "{mark}<text class=\"f\" x=\"{text_x:.0}\" y=\"{text_y:.0}\">{text}</text>");
        x += room;
        y
    };
    let mut end = entry(CIRCLE, "up", "server that answered");
    let silent = |life: &dyn Fn(Life) -> bool| {
        let mut servers = picture.snapshot.servers.values();
        servers.any(|s| s.gatewayz.is_none() && s.life != Life::Left && life(s.life))
    };
    if silent(&|life| life == Life::Alive) {
        end = entry(CIRCLE, "mute", "runs, did not answer");
    }
    if silent(&|life| life != Life::Alive) {
        end = entry(CIRCLE, "gone", "did not answer");
    }
    for (state, class, text) in [
        (CellState::Whole, "whole", "all links up"),
        (CellState::Part, "part", "some links lost"),
        (CellState::Down, "down", "no link up"),
        (CellState::Pressed, "press", "bytes wait to be sent"),
        (CellState::PartlySeen, "unseen", "not all seen"),
        (CellState::Unseen, "unseen", "not seen"),
    ] {
        if states.contains(&state) {
            end = entry(LINE, class, text);
        }
    }
    if picture.matrix.cells().any(|(_, _, cell)| cell.bytes_per_s.is_some_and(|sent| sent >= 10_000)) {
        end = entry(THICK, "whole", "much traffic");
    }
    (out, end)
}

/// How many characters so wide have room.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a picture is small, and never less than 0"
)]
fn chars(room: f64, each: f64) -> usize {
    (room / each).max(1.0) as usize
}

/// As text of XML, in an attribute too. What XML cannot hold is left out.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' => out += "&#10;",
            c if redact::hostile(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
        out
    })
}
