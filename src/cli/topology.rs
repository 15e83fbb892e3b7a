//! `gatewatch topology`: what there is, by name.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;

use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, Failure, judge, load, output, sweep};
use crate::config::{Config, redact, topology};
use crate::model::{Cluster, Name, Remotes, Seen, Snapshot, Topology};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to write it; `toml` is a file that `--expect` reads
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Toml,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    // What is seen does not depend on what is expected.
    let config = Config { expected: None, ..load(&args.connection.into_flags())? };
    let sweep = sweep::look(config, Duration::ZERO).await?;
    let topology = Topology::of(&sweep.snapshot);
    let blind = unseen(&sweep.snapshot);
    let names = names_only(&sweep.snapshot, &topology);
    if !names.is_empty() {
        tracing::warn!("left out, for a configuration names it and nobody sees it: {}", names.join(", "));
    }
    let text = match args.format {
        Format::Text => text(&topology),
        Format::Json => {
            serde_json::to_string_pretty(&Seen::of(&sweep.snapshot)).map_err(|e| Failure::new(1, e, None))?
                + "\n"
        }
        // A file that lacks what could not be seen would call it unexpected.
        Format::Toml if blind.is_some() => String::new(),
        Format::Toml => topology::write(&topology),
    };
    output::print(&text)?;
    match blind {
        None => Ok(()),
        Some(why) => {
            let help = (args.format == Format::Toml)
                .then_some("nothing was written; `--format text` shows what was seen");
            Err(Failure::new(EXIT_CANNOT_SEE, format!("not all is seen: {why}"), help.map(str::to_owned)))
        }
    }
}

/// Why there may be more than `snapshot` shows.
fn unseen(snapshot: &Snapshot) -> Option<String> {
    judge::unknown(snapshot).or_else(|| {
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

fn text(topology: &Topology) -> String {
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
    let width = output::width();
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
    let servers: usize = topology.clusters.values().map(|c| c.servers.len()).sum();
    let _ = writeln!(out, "{} clusters, {servers} servers", topology.clusters.len());
    out
}
