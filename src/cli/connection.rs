//! The connection flags: those of the `nats` CLI, with its variables.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{COMMAND_LINE, Flags, Layer};

// These comments are the text of `--help`, no Markdown.
#[allow(clippy::doc_markdown)]
#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// The configuration file [env: GATEWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// URLs of servers, separated by commas [env: NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(short, long, value_name = "URL")]
    server: Option<String>,
    /// A user's creds file: JWT and nkey seed [env: NATS_CREDS]
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// A file with a user's nkey seed [env: NATS_NKEY]
    #[arg(long, value_name = "FILE")]
    nkey: Option<PathBuf>,
    /// A user name, or without a password a token [env: NATS_USER]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The user's password [env: NATS_PASSWORD]
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// A token [env: NATS_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Our TLS certificate [env: NATS_CERT]
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its key [env: NATS_KEY]
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// The TLS authority that signed the servers' certificates [env: NATS_CA]
    #[arg(long, value_name = "FILE")]
    tlsca: Option<PathBuf>,
    /// Start TLS before the server's greeting
    #[arg(long)]
    tlsfirst: bool,
    /// A context of the `nats` CLI, instead of the selected one [env: NATS_CONTEXT]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// What replies are addressed to [default: _INBOX]
    #[arg(long, value_name = "PREFIX")]
    inbox_prefix: Option<String>,
    /// The longest wait for a reply [env: NATS_TIMEOUT] [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

// Passwords are arguments here; what prints the arguments must not print them.
impl std::fmt::Debug for ConnectionArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionArgs").finish_non_exhaustive()
    }
}

impl ConnectionArgs {
    pub(super) fn into_flags(self) -> Flags {
        Flags {
            config: self.config,
            connect: Layer {
                origin: COMMAND_LINE.to_owned(),
                server: self.server,
                creds: self.creds,
                nkey: self.nkey,
                user: self.user,
                password: self.password,
                token: self.token,
                tls_ca: self.tlsca,
                tls_cert: self.tlscert,
                tls_key: self.tlskey,
                tls_first: self.tlsfirst.then_some(true),
                inbox_prefix: self.inbox_prefix,
                context: self.context,
            },
            timeout: self.timeout,
            name: None,
            prefix: None,
            expect: None,
        }
    }
}
