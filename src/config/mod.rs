//! The configuration: flag, variable, file, default, in this order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::checks::Settings;

/// How to reach NATS: one connection's address and credentials. Its `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Connect {
    /// URLs; a comma-separated list, as the `nats` CLI takes it.
    pub server: Option<String>,
    /// A creds file: a user JWT and its nkey seed.
    pub creds: Option<PathBuf>,
    /// A file with an nkey seed.
    pub nkey: Option<PathBuf>,
    /// A user name.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// A token.
    pub token: Option<String>,
    /// PEM files: authorities to trust, our certificate, its key.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate, for mutual TLS.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Start TLS before the server speaks.
    pub tls_first: bool,
    /// What replies are addressed to, instead of `_INBOX`.
    pub inbox_prefix: Option<String>,
}

/// Everything `gatewatch run` can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The system-account user.
    pub connect: Connect,
    /// The agent's name in subjects and events.
    pub name: String,
    /// The shortest time between two epochs.
    pub interval: Duration,
    /// The longest wait for a reply.
    pub timeout: Duration,
    /// The first token of every subject we publish on.
    pub prefix: String,
    /// Whether events carry CloudEvents headers.
    pub cloudevents: bool,
    /// How often an open finding is repeated.
    pub repeat_every: Duration,
    /// Where the ledger of open findings survives a restart.
    pub state_file: Option<PathBuf>,
    /// The settings of every check, by slug.
    pub checks: BTreeMap<&'static str, Settings>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("server", &self.server).finish_non_exhaustive()
    }
}
