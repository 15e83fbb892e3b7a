//! `gatewatch sweep`: what is seen now, as a file that `gatewatch judge` reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, Failure, load, output, run};
use crate::agent;
use crate::connect::Operation;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Look at least this long: some checks count over a time, such as traffic and reconnects
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    at_least: Option<Duration>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = load(&args.connection.into_flags())?;
    let (client, events, account) = run::start(&config).await?;
    let own = format!("{}.>", config.prefix);
    let missing = account
        .missing
        .iter()
        // Nothing is published here.
        .filter(|p| p.operation != Operation::Publish || p.subject != own)
        .map(|p| (p.operation.as_str().to_owned(), p.subject.clone()))
        .collect();
    let seen = agent::sweep(config, client, events, missing, args.at_least.unwrap_or_default())
        .await
        .map_err(|e| Failure::new(1, e, None))?;
    let Some(sweep) = seen else {
        return Err(Failure::new(EXIT_CANNOT_SEE, "the connection was lost before anything was seen", None));
    };
    let text = sweep.snapshot.to_file().map_err(|e| Failure::new(1, e, None))?;
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Failure::new(1, format!("cannot write {}: {e}", path.display()), None))?,
        None => output::print(&text)?,
    }
    if !sweep.snapshot.settled {
        return Err(Failure::new(
            EXIT_CANNOT_SEE,
            "written, but the connection never stood long enough to judge by what was seen",
            None,
        ));
    }
    if !sweep.conclusive {
        tracing::warn!("written while something was still about to show: look longer with --for");
    }
    Ok(())
}
