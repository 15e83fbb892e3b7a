//! `gatewatch sweep`: what is seen now, as a file that `gatewatch judge` reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connection::ConnectionArgs;
use super::{EXIT_CANNOT_SEE, Failure, load, output, run};
use crate::agent::{self, Enough, Sweep};
use crate::config::Config;

/// Who looks once waits this long for a server: it may be about to come back, and somebody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Look at least this long: some checks count over a time, such as traffic and reconnects. Ctrl-C ends it
    /// sooner, and what was seen until then is written
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    at_least: Option<Duration>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Looks as the agent does and publishes nothing: at least so long, until it has seen enough or is told to end.
pub(super) async fn look(config: Config, at_least: Duration) -> Result<Sweep, Failure> {
    look_for(config, Enough { at_least, ..Enough::default() }, |_| {}).await
}

/// The same for as long as is `enough`; `tell` hears of each look.
pub(super) async fn look_for(
    config: Config,
    enough: Enough,
    tell: impl FnMut(&Sweep),
) -> Result<Sweep, Failure> {
    let stop = run::stop()?;
    tokio::pin!(stop);
    let blind = || Failure::new(EXIT_CANNOT_SEE, "it ended before anything was seen", None);
    let (client, events, account) = tokio::select! {
        started = run::start(&config, Some(PATIENCE)) => started?,
        _ = &mut stop => return Err(blind()),
    };
    let seen = agent::sweep(config, client, events, account, enough, stop, tell).await;
    seen.map_err(|e| Failure::new(1, e, None))?.ok_or_else(blind)
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = load(&args.connection.into_flags())?;
    let sweep = look(config, args.at_least.unwrap_or_default()).await?;
    let text = sweep.snapshot.to_file().map_err(|e| Failure::new(1, e, None))?;
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Failure::new(1, format!("cannot write {}: {e}", path.display()), None))?,
        None => output::print(&output::harmless(&text))?,
    }
    if !sweep.snapshot.settled {
        return Err(Failure::new(
            EXIT_CANNOT_SEE,
            "written, but the connection never stood long enough to judge by what was seen",
            None,
        ));
    }
    if sweep.waits_for.is_some() {
        tracing::warn!("written while something was still about to show: look longer with --for");
    }
    Ok(())
}
