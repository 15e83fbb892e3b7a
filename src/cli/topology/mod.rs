//! `gatewatch topology`: what there is, and how the links between it are.

mod graph;
mod svg;
mod text;
mod trouble;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, EXIT_USAGE, Failure, answer, judge, load, load_checks, output, sweep};
use crate::checks::{Settings, Severity};
use crate::config::{Config, redact, topology};
use crate::findings;
use crate::model::{Cell, CellState, Cluster, Matrix, Name, Remotes, Seen, Snapshot, Topology};

/// A longer name is cut where it is not given away as data.
const NAME_CHARS_MAX: usize = 40;

// These comments are the text of `--help`, no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `gatewatch sweep` wrote, instead of a look now; `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to write it; `toml` is a file that `--expect` reads
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// With `--format text`: name the servers and remotes of each cluster too
    #[arg(long)]
    servers: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Mermaid,
    Dot,
    Svg,
    Toml,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let flags = args.connection.into_flags();
    if args.files.is_empty() {
        // What is seen does not depend on what is expected.
        let config = Config { expected: None, ..load(&flags)? };
        let settings = config.checks.clone();
        let sweep = sweep::look(config, Duration::ZERO).await?;
        let asked = Asked { format: args.format, servers: args.servers, settings, title: None };
        return show(&sweep.snapshot, &asked);
    }
    if args.files.len() > 1 && !matches!(args.format, Format::Text | Format::Json) {
        let help = "name one FILE; `--format text` and `--format json` take several";
        return Err(Failure::new(EXIT_USAGE, "one picture shows one file", Some(help.to_owned())));
    }
    let settings = load_checks(flags.config.as_deref())?;
    let mut asked = Asked { format: args.format, servers: args.servers, settings, title: None };
    let mut unseen = None;
    for path in &args.files {
        let snapshot = judge::read_snapshot(path)?;
        asked.title = (args.files.len() > 1).then(|| judge::shown(path));
        match show(&snapshot, &asked) {
            Err(e) if e.exit == EXIT_CANNOT_SEE => unseen = unseen.or(Some(e)),
            shown => shown?,
        }
    }
    unseen.map_or(Ok(()), Err)
}

/// What is wanted of a snapshot.
struct Asked {
    format: Format,
    servers: bool,
    settings: BTreeMap<&'static str, Settings>,
    title: Option<String>,
}

/// Each format, and a snapshot in it.
#[cfg(any(test, fuzzing))]
pub(super) fn in_every_format(
    snapshot: &Snapshot,
    settings: &BTreeMap<&'static str, Settings>,
) -> Vec<(&'static str, String)> {
    let formats = [
        ("topology --format text", Format::Text),
        ("topology --format json", Format::Json),
        ("topology --format mermaid", Format::Mermaid),
        ("topology --format dot", Format::Dot),
        ("topology --format svg", Format::Svg),
        ("topology --format toml", Format::Toml),
    ];
    let style = text::Style { width: 80, colour: false };
    let written = formats.into_iter().filter_map(|(name, format)| {
        let asked = Asked { format, servers: true, settings: settings.clone(), title: None };
        Some((name, written(snapshot, style, &asked).ok()?))
    });
    let toml = topology::write(&Topology::of(snapshot));
    written.chain([("topology --format toml", toml)]).collect()
}

fn show(snapshot: &Snapshot, asked: &Asked) -> Result<(), Failure> {
    let (blind, format) = (unseen(snapshot), asked.format);
    let style = text::Style { width: output::columns(), colour: output::colour(&io::stdout()) };
    output::print(&written(snapshot, style, asked)?)?;
    match blind {
        None => Ok(()),
        Some(why) => {
            let help = (format == Format::Toml)
                .then_some("nothing was written; `--format text` shows what was seen");
            Err(Failure::new(EXIT_CANNOT_SEE, format!("not all is seen: {why}"), help.map(str::to_owned)))
        }
    }
}

fn written(snapshot: &Snapshot, style: text::Style, asked: &Asked) -> Result<String, Failure> {
    Ok(match asked.format {
        Format::Text => text(snapshot, style, asked),
        Format::Json => {
            let json = serde_json::to_string_pretty(&Seen::of(snapshot));
            output::harmless(&json.map_err(|e| Failure::new(1, e, None))?).into_owned() + "\n"
        }
        Format::Mermaid => graph::mermaid(&Picture::of(snapshot)),
        Format::Dot => graph::dot(&Picture::of(snapshot)),
        Format::Svg => svg::svg(&Picture::of(snapshot)),
        Format::Toml => {
            let topology = Topology::of(snapshot);
            let names = names_only(snapshot, &topology);
            if !names.is_empty() {
                let names = names.join(", ");
                tracing::warn!("left out, for a configuration names it and nobody sees it: {names}");
            }
            // A file that lacks what could not be seen would call it unexpected.
            if unseen(snapshot).is_some() { String::new() } else { topology::write(&topology) }
        }
    })
}

/// Why there may be more than `snapshot` shows.
fn unseen(snapshot: &Snapshot) -> Option<String> {
    answer::unknown(snapshot).or_else(|| {
        let untold: Vec<_> = snapshot
            .expected()
            .filter(|s| s.gatewayz.is_some() && s.varz.is_none())
            .map(|s| redact::control(&s.info.name))
            .collect();
        (!untold.is_empty()).then(|| format!("no configuration of {}", untold.join(", ")))
    })
}

/// The clusters that are only a name in a configuration.
fn names_only(snapshot: &Snapshot, topology: &Topology) -> Vec<String> {
    let configured = |(_, c): &(&Name, &Cluster)| !c.configured_by.is_empty();
    let unseen = snapshot.clusters.iter().filter(configured).map(|(name, _)| name);
    unseen
        .filter(|name| !topology.clusters.contains_key(*name))
        .map(|name| redact::control(name).into())
        .collect()
}

fn text(snapshot: &Snapshot, style: text::Style, asked: &Asked) -> String {
    let mut out = asked.title.as_ref().map(|title| format!("{title}:\n")).unwrap_or_default();
    out += &text::text(snapshot, &Matrix::of(snapshot), style);
    if asked.servers {
        out.push('\n');
        out += &members(&Topology::of(snapshot), style.width);
    }
    // What is amiss and no link shows: a configuration that differs, a certificate that ends.
    let found = findings::judge(snapshot, &asked.settings);
    let of = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (critical, warnings) = (of(Severity::Critical), of(Severity::Warning));
    let told: Vec<String> = [(critical, "critical", "critical"), (warnings, "warning", "warnings")]
        .iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, more)| format!("{n} {}", if *n == 1 { one } else { more }))
        .collect();
    if !told.is_empty() {
        let told =
            format!("found: {}; `gatewatch check` says what is wrong, why, and what to do", told.join(", "));
        out.push('\n');
        out += &output::wrap(&told, 0, style.width);
    }
    out
}

/// The servers and remotes of each cluster, by name.
fn members(topology: &Topology, width: usize) -> String {
    let list = |names: &mut dyn Iterator<Item = &Name>| {
        let names: Vec<_> = names.map(|name| redact::control(name)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let remotes = |remotes: &Remotes| {
        let mut text = list(&mut remotes.configured.iter());
        if !remotes.implicit.is_empty() {
            let _ = write!(text, "; by gossip only: {}", list(&mut remotes.implicit.iter()));
        }
        text
    };
    let mut out = String::new();
    for (name, members) in &topology.clusters {
        let _ = writeln!(out, "{}", redact::control(name));
        let servers = format!("servers: {}", list(&mut members.servers.iter()));
        out += &output::wrap(&servers, 2, width);
        out += &output::wrap(&format!("remotes: {}", remotes(&members.remotes)), 2, width);
        for (server, own) in &members.except {
            let own = format!("remotes of {}: {}", redact::control(server), remotes(own));
            out += &output::wrap(&own, 2, width);
        }
    }
    out
}

/// What a picture is made of.
struct Picture<'a> {
    snapshot: &'a Snapshot,
    matrix: Matrix,
}

/// Two clusters and the links between them, both ways.
struct Pair<'a> {
    ends: [&'a Name; 2],
    /// From the first to the second, and back.
    cells: [Option<&'a Cell>; 2],
}

impl<'a> Picture<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, matrix: Matrix::of(snapshot) }
    }

    /// Every pair with a link, by name.
    fn pairs(&self) -> Vec<Pair<'_>> {
        let mut pairs = Vec::new();
        for (a, b, cell) in self.matrix.cells() {
            let back = self.matrix.cell(b, a);
            match (a < b, back) {
                (true, _) => pairs.push(Pair { ends: [a, b], cells: [Some(cell), back] }),
                (false, None) => pairs.push(Pair { ends: [b, a], cells: [None, Some(cell)] }),
                (false, Some(_)) => {}
            }
        }
        pairs.sort_by_key(|pair| pair.ends);
        pairs
    }
}

impl Pair<'_> {
    /// The worse of both ways.
    fn state(&self) -> CellState {
        self.cells.iter().flatten().map(|cell| cell.state()).max().unwrap_or(CellState::Whole)
    }

    /// Whether both ways are there and nothing is amiss: then one line tells of both.
    fn is_whole(&self) -> bool {
        self.state() == CellState::Whole && self.cells.iter().all(Option::is_some)
    }

    fn rtt_ms(&self) -> Option<f64> {
        self.cells.iter().flatten().filter_map(|cell| cell.rtt_ms).reduce(f64::max)
    }

    fn bytes_per_s(&self) -> Option<u64> {
        self.cells.iter().flatten().filter_map(|cell| cell.bytes_per_s).reduce(u64::saturating_add)
    }
}

/// From where and when: the second line.
fn seen_from(Snapshot { vantage, at, .. }: &Snapshot) -> String {
    let cluster = vantage.cluster.as_ref().map(|c| format!(" ({})", shown(c))).unwrap_or_default();
    format!("seen from {}{cluster} at {}", shown(&vantage.server), at.to_the_second())
}

/// A name as it may stand in a picture or a terminal.
fn shown(name: &str) -> String {
    cut(&redact::control(name), NAME_CHARS_MAX)
}

/// Its first `chars_max` characters.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// `0.3ms`, `12ms`, `14s`.
fn rtt(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => "<0.1ms".to_owned(),
        ms if ms < 9.95 => format!("{ms:.1}ms"),
        ms if ms < 9999.5 => format!("{ms:.0}ms"),
        ms => format!("{:.0}s", ms / 1000.0),
    }
}

/// `512B`, `17MiB`.
fn size(bytes: u64) -> String {
    scaled(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `512B/s`, `1.2MB/s`.
fn rate(bytes_per_s: u64) -> String {
    scaled(bytes_per_s, 1000.0, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

fn scaled(n: u64, step: f64, units: [&str; 5]) -> String {
    let (mut scaled, mut unit) = (n as f64, units[0]);
    for next in &units[1..] {
        if scaled.round() < step {
            break;
        }
        (scaled, unit) = (scaled / step, next);
    }
    if unit != units[0] && scaled < 9.95 {
        format!("{scaled:.1}{unit}")
    } else {
        format!("{scaled:.0}{unit}")
    }
}

#[cfg(test)]
mod tests;
