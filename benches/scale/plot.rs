//! The picture of how cost grows with servers.

use std::fmt::Write as _;

use super::Row;

const CLUSTERS: usize = 100;
const PANEL: (f64, f64) = (232.0, 180.0);
const STEP: f64 = 306.0;
const TOP: f64 = 78.0;
const LEFT: f64 = 54.0;
const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
.bg{fill:#fff;stroke:#d1d9e0}.h{font-size:14px;font-weight:600}.f{fill:#59636e}.g{stroke:#d1d9e0}\
.l{fill:none;stroke:#0969da;stroke-width:2}.d{stroke:#59636e;stroke-dasharray:3 4}.p{fill:#0969da}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.bg{fill:#0d1117;stroke:#3d444d}.f{fill:#9198a1}.g{stroke:#3d444d}\
.l{stroke:#4493f8}.d{stroke:#9198a1}.p{fill:#4493f8}}";

/// Title, and what of which row it shows.
type Panel = (&'static str, fn(&Row) -> Option<f64>);

const PANELS: [Panel; 3] = [
    ("one look at all, CPU seconds", |row| row.what.starts_with("one look").then_some(row.cpu_s)),
    ("the agent at rest, % of a core", |row| row.budget.and(row.core_percent)),
    ("the agent's memory (RSS), MiB", |row| row.budget.map(|_| row.rss_mib)),
];

/// An SVG that reads on light and on dark ground. Of agents with several budgets the smallest counts.
pub(crate) fn draw(rows: &[Row]) -> String {
    let rows = || rows.iter().filter(|row| row.clusters == CLUSTERS);
    let budget = rows().filter_map(|row| row.budget).min();
    let servers_max = rows().map(|row| row.servers).max().unwrap_or(1) as f64;
    let (width, height) = (STEP * 3.0 + 14.0, TOP + PANEL.1 + 46.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>What watching costs, by the number of servers in \
         {CLUSTERS} clusters</title>\n<style>{STYLE}</style>\n\
         <rect class=\"bg\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n\
         <text class=\"f\" x=\"18\" y=\"28\">by the number of servers in {CLUSTERS} clusters; dashed: a straight line \
         from the first point to the last</text>\n",
        width - 1.0,
        height - 1.0
    );
    for (number, (title, value)) in PANELS.into_iter().enumerate() {
        let shown = rows().filter(|row| row.budget.is_none() || row.budget == budget);
        let mut points: Vec<(f64, f64)> =
            shown.filter_map(|row| Some((row.servers as f64, value(row)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
        panel(&mut svg, LEFT + STEP * number as f64, title, &points, (servers_max, round_up(most)));
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, title: &str, points: &[(f64, f64)], (x_max, y_max): (f64, f64)) {
    let place = |(x, y): (f64, f64)| (left + x / x_max * PANEL.0, TOP + PANEL.1 * (1.0 - y / y_max));
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(svg, "{text}").expect("a string takes all");
    line(format_args!("<text class=\"h\" x=\"{left}\" y=\"{}\">{title}</text>", TOP - 18.0));
    for part in [0.0, 0.5, 1.0] {
        let ((x, y), value) = (place((0.0, y_max * part)), y_max * part);
        line(format_args!("<path class=\"g\" d=\"M{x} {y:.1}h{}\"/>", PANEL.0));
        line(format_args!(
            "<text class=\"f\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            x - 6.0,
            y + 4.0
        ));
        let (x, y) = place((x_max * part, 0.0));
        let servers = x_max * part;
        line(format_args!(
            "<text class=\"f\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{servers}</text>",
            y + 20.0
        ));
    }
    let [Some(first), Some(last)] = [points.first(), points.last()].map(|p| p.copied().map(place)) else {
        return;
    };
    line(format_args!(
        "<path class=\"d\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
        first.0, first.1, last.0, last.1
    ));
    let way: Vec<String> =
        points.iter().map(|point| place(*point)).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    line(format_args!("<path class=\"l\" d=\"M{}\"/>", way.join("L")));
    for point in points {
        let (x, y) = place(*point);
        line(format_args!(
            "<circle class=\"p\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{} servers: {:.2}</title></circle>",
            point.0, point.1
        ));
    }
}

/// 1, 2, 4 or 6 of a power of ten: half of it is a short number too.
fn round_up(most: f64) -> f64 {
    let power = 10_f64.powf(most.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= most).unwrap_or(most)
}
