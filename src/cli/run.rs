//! `gatewatch run`: the agent.

use tokio::signal::unix::{SignalKind, signal};

use super::connection::ConnectionArgs;
use super::{Failure, load};
use crate::config::Flags;
use crate::connect::{connect, preflight};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent's name in subjects and events [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let config = load(&Flags { name: args.name, ..args.connection.into_flags() })?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);
    let start = async {
        let (client, mut events) = connect(&config.connect, &config.name).await?;
        let inbox_prefix = config.connect.inbox_prefix.as_deref().unwrap_or("_INBOX");
        let account = preflight(&client, &mut events, &config.prefix, inbox_prefix, config.timeout).await?;
        Ok::<_, Failure>((client, events, account))
    };
    let (_client, mut events, account) = tokio::select! {
        started = start => started?,
        () = &mut stop => return Ok(()),
    };
    for p in &account.missing {
        tracing::warn!("the user has no permission to {} `{}`: {}", p.operation, p.subject, p.reason);
    }
    // The agent's loop stands here: `crate::agent::run(config, client, events, account, stop).await`.
    loop {
        tokio::select! {
            event = events.recv() => if event.is_none() { return Ok(()) },
            () = &mut stop => return Ok(()),
        }
    }
}
