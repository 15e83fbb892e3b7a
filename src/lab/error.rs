use std::io;
use std::path::PathBuf;

/// Why the lab could not do what it was asked. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no nats-server to run.
    #[error("found no nats-server: set NATS_SERVER to one, or run scripts/nats-server ({0})")]
    NoNatsServer(String),
    /// A name that no server has.
    #[error("there is no server {name}; the names are {}", known.join(", "))]
    UnknownServer {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A name that neither a server nor a cluster has.
    #[error("there is no server or cluster {name}; the names are {}", known.join(", "))]
    UnknownName {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A server is asked for a link to itself.
    #[error("{from} has no link to {to}")]
    NoLink {
        /// The dialer.
        from: String,
        /// The target.
        to: String,
    },
    /// A cluster's specification makes no sense.
    #[error("{0}")]
    Spec(String),
    /// A server runs already, or does not run.
    #[error("{server} {state}")]
    State {
        /// Its name.
        server: String,
        /// What it does or does not.
        state: &'static str,
    },
    /// A server ended instead of serving.
    #[error("{server} ended at once; its log {} ends with:\n{tail}", log.display())]
    Exited {
        /// Its name.
        server: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// Something that was waited for did not come.
    #[error("{what} did not happen within {within_ms} ms; last seen: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        within_ms: u128,
        /// What was there instead.
        last: String,
    },
    /// A server did not answer a request.
    #[error("{server} does not answer: {reason}")]
    NoAnswer {
        /// Its name.
        server: String,
        /// Why.
        reason: String,
    },
    /// A file, a socket or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The credentials.
    #[error(transparent)]
    Creds(#[from] super::creds::CredsError),
    /// The certificates.
    #[error("cannot make certificates: {0}")]
    Certificates(#[from] rcgen::Error),
}

impl LabError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
