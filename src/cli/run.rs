//! `gatewatch run`: the agent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::connection::ConnectionArgs;
use super::{Failure, load};
use crate::agent;
use crate::config::{Config, Flags};
use crate::connect::{Account, LinkEvent, connect_within, preflight};
use crate::publish::sign::Signer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent's name in subjects and events [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The topology that is expected: a file as `gatewatch topology --format toml` writes it
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Connects as the agent does, and learns what its user may do. Gives up where no server is reached within
/// `patience`.
pub(super) async fn start(
    config: &Config,
    patience: Option<Duration>,
) -> Result<(Client, mpsc::Receiver<LinkEvent>, Account), Failure> {
    let (client, mut events) = connect_within(&config.connect, &config.name, patience).await?;
    let inbox_prefix = config.connect.inbox_prefix.as_deref().unwrap_or("_INBOX");
    let account = preflight(&client, &mut events, &config.prefix, inbox_prefix, config.timeout).await?;
    Ok((client, events, account))
}

/// Ends when the process is told to end; from here on it does not end by itself.
pub(super) fn stop() -> io::Result<impl Future<Output = &'static str>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut config = load(&Flags { name: args.name, expect: args.expect, ..args.connection.into_flags() })?;
    if let Some(file) = &config.sign {
        let signer = Signer::load(file)?;
        tracing::info!(key = signer.public_key(), "what is published is signed");
        config.signer = Some(Arc::new(signer));
    }
    let stop = stop()?;
    tokio::pin!(stop);
    let (client, events, account) = tokio::select! {
        started = start(&config, None) => started?,
        _ = &mut stop => return Ok(()),
    };
    agent::run(config, client, events, account, stop).await.map_err(|e| Failure::new(1, e, None))?;
    Ok(())
}
