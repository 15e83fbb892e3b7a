//! The connection to NATS: credentials read anew at each connect, reconnecting for ever, and what happens to
//! the link as [`LinkEvent`]s.
//!
//! `async-nats` does the work. What it leaves to its user is done here: user and password of a URL, the
//! difference between a server that is down (wait) and a login that is wrong (say so and stop), a reason for
//! each failed attempt, permission violations as data.

mod credentials;
mod event;
mod inbox;
pub mod permissions;
mod preflight;
mod probe;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::rustls;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerError};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use credentials::CredentialsError;
pub use event::{Denied, LinkEvent, Operation};
pub use inbox::{Inbox, Incoming, MESSAGES_MAX};
pub use preflight::{Account, PreflightError, USER_INFO, preflight, who_am_i};

use crate::config::{Complaint, Connect, DEFAULT_SERVER, Mistake, redact, split_userinfo};
use crate::model::Name;
use credentials::Credentials;
use event::Link;

/// An idle link is asked this often whether it lives; `async-nats` gives it up at the third ask without an
/// answer. So a server that died without a word is noticed within three times this.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// One server's greeting, TLS and login: several round trips, also to another continent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest pause between two attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
/// The first pause after a link is lost; doubled at each further attempt.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
/// So many addresses are tried for a way by another server.
const ELSEWHERE_MAX: usize = 16;
/// Events that wait for the agent. Beyond it `async-nats` waits too.
const EVENTS_MAX: usize = 256;

/// Why there will be no connection, however long we try.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URLs are no URLs.
    #[error("{}", .0.what)]
    Address(Complaint),
    /// A file with credentials cannot be used.
    #[error("cannot use {login}")]
    Credentials {
        /// Which file.
        login: String,
        /// Where in it.
        mistake: Option<Box<Mistake>>,
        /// Why not.
        source: CredentialsError,
    },
    /// A TLS file cannot be read.
    #[error("cannot read {what} {}", path.display())]
    TlsFile {
        /// What is in the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The server does not let us in.
    #[error("{servers} refused the login with {login}: {reason}")]
    Rejected {
        /// Where we asked.
        servers: String,
        /// Who we said we are; no secret.
        login: String,
        /// The server's words.
        reason: String,
        /// The line that mends it.
        help: String,
    },
    /// No server could be reached in the time that was given.
    #[error("cannot connect to {reason}")]
    Unreachable {
        /// Where we asked, and what happened there.
        reason: String,
        /// The line that mends it.
        help: String,
    },
    /// No client can log in there, ever.
    #[error("cannot connect to {reason}")]
    WrongPort {
        /// Where we asked, and what is there.
        reason: String,
        /// The line that mends it.
        help: String,
    },
    /// No TLS session with the server.
    #[error("no TLS session with {servers}: {reason}")]
    Tls {
        /// Where we asked.
        servers: String,
        /// What rustls says.
        reason: String,
        /// The line that mends it.
        help: String,
    },
}

impl ConnectError {
    /// What to do about it, where that can be said.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Rejected { help, .. }
            | Self::Tls { help, .. }
            | Self::Unreachable { help, .. }
            | Self::WrongPort { help, .. } => Some(help),
            Self::Address(complaint) => complaint.help.as_deref(),
            Self::Credentials { source: CredentialsError::Read(e), .. }
                if e.kind() == io::ErrorKind::NotFound =>
            {
                Some(
                    "check the path: --creds, --nkey, NATS_CREDS, NATS_NKEY, a context or [connect] names it",
                )
            }
            Self::Credentials { .. } => Some(credentials::FRESH),
            Self::TlsFile { .. } => {
                Some("check the path: --tlsca, --tlscert, --tlskey, a context or [connect] names it")
            }
        }
    }
}

/// Connects as `name` (the connection's name on the server is `gatewatch/<version> <name>`).
///
/// When this returns the link is up; that first [`LinkEvent::Connected`] is not among the events.
///
/// Waits as long as no server can be reached, and says so in the log every few seconds; returns an error when
/// waiting would not help: wrong credentials, no TLS session, a file that is not there. After the first
/// success nothing ends the attempts to reconnect, since credentials may be rotated. Cancel-safe.
pub async fn connect(
    connect: &Connect,
    name: &str,
) -> Result<(Client, mpsc::Receiver<LinkEvent>), ConnectError> {
    connect_within(connect, name, None).await
}

/// As [`connect`], and gives up when no attempt that began within `patience` reached a server.
pub async fn connect_within(
    connect: &Connect,
    name: &str,
    patience: Option<Duration>,
) -> Result<(Client, mpsc::Receiver<LinkEvent>), ConnectError> {
    let began = Instant::now();
    let (servers, userinfo) =
        split_userinfo(connect.server.as_deref().unwrap_or(DEFAULT_SERVER)).map_err(ConnectError::Address)?;
    let credentials = Arc::new(Credentials::of(connect, userinfo));
    readable(connect)?;
    let (link, mut events) = Link::new(EVENTS_MAX);
    let link = Arc::new(link);
    let options = options(connect, name, &credentials, &link);
    let addresses: Vec<&str> = servers.split(',').collect();
    let mut attempt = 1;
    loop {
        // Read before each attempt only to have the reason: the callback's own error loses its chain.
        credentials.read(&[]).map_err(|source| ConnectError::Credentials {
            login: credentials.describe(),
            mistake: match &source {
                CredentialsError::Read(_) => None,
                e => credentials.mistake(e).map(Box::new),
            },
            source,
        })?;
        match options.clone().connect(addresses.as_slice()).await {
            Ok(client) => {
                // Events begin with what happens to the link from here on.
                while events.recv().await.is_some_and(|e| e != LinkEvent::Connected) {}
                return Ok((client, events));
            }
            Err(e) => {
                if let Some(fatal) = fatal(&e, connect, &servers, &credentials) {
                    // The port for leaf nodes refuses a client in the words for a wrong login.
                    if e.kind() == ConnectErrorKind::AuthorizationViolation
                        && let (reason, help, true) = unreached(&e, &servers).await
                    {
                        return Err(ConnectError::WrongPort { reason, help });
                    }
                    return Err(fatal);
                }
                let spent = patience.is_some_and(|most| began.elapsed() >= most);
                // Who stands there is looked at once, and not while somebody waits for an answer that it has.
                if spent || attempt == 1 {
                    let told = unreached(&e, &servers).await;
                    match told {
                        (reason, help, true) => return Err(ConnectError::WrongPort { reason, help }),
                        (reason, help, false) if spent => {
                            return Err(ConnectError::Unreachable { reason, help });
                        }
                        (reason, help, false) if patience.is_none() => {
                            link.retrying(&format!("{reason}; {help}"));
                        }
                        _ => {}
                    }
                } else if patience.is_none() {
                    link.retrying(&format!("{servers}: {}", short(&e)));
                }
            }
        }
        attempt += 1;
        let rest = patience.map_or(Duration::MAX, |most| most.saturating_sub(began.elapsed()));
        tokio::time::sleep(retry_delay(attempt).min(rest)).await;
    }
}

/// Where no server could be reached and why, what mends it, and whether waiting never will.
async fn unreached(e: &async_nats::ConnectError, servers: &str) -> (String, String, bool) {
    let (unknown_host, why) = (e.kind() == ConnectErrorKind::Dns, short(e));
    let refused = io_error(e).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if !unknown_host && !refused {
        let found = join_all(servers.split(',').take(ELSEWHERE_MAX).filter_map(|url| {
            let address: async_nats::ServerAddr = url.parse().ok()?;
            Some(async move {
                let host = address.host().to_owned();
                (url, probe::at(&host, address.port()).await, host)
            })
        }))
        .await;
        let wrong = found.iter().all(|(_, found, _)| found.is_wrong_port());
        let told: Vec<_> = found
            .iter()
            .filter_map(|(url, found, host)| {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                found.told(&host).map(|(what, help)| (format!("{url}: {what}"), help))
            })
            .collect();
        if let Some((_, help)) = told.first() {
            let reasons: Vec<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
            return (reasons.join("; "), help.clone(), wrong);
        }
    }
    let help = if unknown_host {
        "is the host's name right, and known on this machine? -s nats://HOST:PORT"
    } else if servers == DEFAULT_SERVER {
        "say where the servers are: -s nats://HOST:4222, NATS_URL, or --context NAME"
    } else {
        "is the server running, and is that its client port (4222 by default)? -s nats://HOST:PORT"
    };
    (format!("{servers}: {why}"), help.to_owned(), false)
}

/// Why an attempt failed, as one says it.
fn short(e: &async_nats::ConnectError) -> String {
    match io_error(e).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there (connection refused)".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "the connection was reset".to_owned(),
        _ if e.kind() == ConnectErrorKind::Dns => "there is no such host".to_owned(),
        _ => redact::control(&e.to_string()).into_owned(),
    }
}

fn io_error(e: &async_nats::ConnectError) -> Option<&io::Error> {
    e.source()?.downcast_ref()
}

/// Connects to one of the servers with the IDs `wanted`: of `known`, addresses that a server tells its clients, and
/// of those that are configured. None when none of them was found there. What is returned beside the client
/// completes when the connection is lost; it is not made again.
pub async fn connect_to(
    connect: &Connect,
    known: &[String],
    wanted: &BTreeSet<Name>,
) -> Option<(Client, oneshot::Receiver<()>)> {
    let (servers, userinfo) = split_userinfo(connect.server.as_deref().unwrap_or(DEFAULT_SERVER)).ok()?;
    let credentials = Arc::new(Credentials::of(connect, userinfo));
    let (link, _) = Link::new(EVENTS_MAX);
    let options = options(connect, "elsewhere", &credentials, &Arc::new(link)).max_reconnects(Some(1));
    for address in known.iter().map(String::as_str).chain(servers.split(',')).take(ELSEWHERE_MAX) {
        let (lost, is_lost) = oneshot::channel();
        let lost = Arc::new(Mutex::new(Some(lost)));
        // What happens to it is no news of the agent's own connection.
        let options = options.clone().event_callback(move |event| {
            let lost = lost.clone();
            async move {
                if matches!(event, async_nats::Event::Disconnected | async_nats::Event::Closed) {
                    drop(lost.lock().unwrap_or_else(PoisonError::into_inner).take());
                }
            }
        });
        let Ok(Ok(client)) = tokio::time::timeout(CONNECT_TIMEOUT, options.connect(address)).await else {
            continue;
        };
        if wanted.contains(client.server_info().server_id.as_str()) {
            return Some((client, is_lost));
        }
    }
    None
}

fn options(
    connect: &Connect,
    name: &str,
    credentials: &Arc<Credentials>,
    link: &Arc<Link>,
) -> ConnectOptions {
    let (login, on_event, on_retry) = (credentials.clone(), link.clone(), link.clone());
    let refused_login = credentials.clone();
    let connected_once = Arc::new(AtomicBool::new(false));
    let had_one = connected_once.clone();
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let auth = login.read(&nonce).map_err(|e| async_nats::AuthError::new(chain(&e)));
        async move { auth }
    })
    .name(format!("gatewatch/{} {name}", env!("CARGO_PKG_VERSION")))
    .ping_interval(PING_INTERVAL)
    .connection_timeout(CONNECT_TIMEOUT)
    .max_reconnects(None)
    .subscription_capacity(MESSAGES_MAX)
    .event_callback(move |event| {
        if matches!(event, async_nats::Event::Connected) {
            connected_once.store(true, Ordering::Relaxed);
        }
        let link = on_event.clone();
        async move { link.event(event).await }
    })
    // The first attempt of all has nothing to wait for.
    .reconnect_delay_callback(move |attempts| {
        if had_one.load(Ordering::Relaxed) { retry_delay(attempts) } else { Duration::ZERO }
    })
    // Chooses nothing; it is the one place where `async-nats` tells why the last attempts failed.
    .reconnect_to_server_callback(move |pool, _| {
        let reasons: Vec<String> = pool
            .iter()
            .filter_map(|s| {
                let reason = s.last_error.as_deref().filter(|_| s.failed_attempts > 0)?;
                Some(format!("{}: {reason}", redact::urls(s.addr.as_url_str())))
            })
            .collect();
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            let lower = reasons.to_ascii_lowercase();
            // Only somebody else can mend that, and who connects for the first time is told how.
            let refused = lower.contains("authorization violation") || lower.contains("authentication ");
            let help =
                || format!("{reasons}; it was with {}: {}", refused_login.describe(), refused_login.help());
            on_retry.retrying(&if refused { help() } else { reasons.clone() });
        }
        async { None }
    });
    if let Some(prefix) = &connect.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(ca) = &connect.tls_ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&connect.tls_cert, &connect.tls_key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    // Who names an authority or a certificate does not want to send a password in the clear.
    options = options.require_tls(connect.tls_ca.is_some() || connect.tls_cert.is_some());
    if connect.tls_first {
        options = options.tls_first();
    }
    options
}

/// Doubles from attempt to attempt up to the longest pause; half of it is chance, so that many agents do not
/// come back at once.
fn retry_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let most = RETRY_DELAY_MIN.saturating_mul(1 << doublings).min(RETRY_DELAY_MAX);
    // A fresh `RandomState` is seeded by the operating system.
    let chance = u32::try_from(RandomState::new().build_hasher().finish() % 1000).unwrap_or(0);
    most / 2 + most / 2 * chance / 1000
}

/// TLS files are read at each connect, deep inside `async-nats`; here is where their absence has a name.
fn readable(connect: &Connect) -> Result<(), ConnectError> {
    let files = [
        ("the TLS authority", &connect.tls_ca),
        ("the TLS certificate", &connect.tls_cert),
        ("the TLS key", &connect.tls_key),
    ];
    for (what, path) in files {
        if let Some(path) = path {
            std::fs::File::open(path).map_err(|source| ConnectError::TlsFile {
                what,
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// The error that waiting does not mend, if `e` is one.
fn fatal(
    e: &async_nats::ConnectError,
    connect: &Connect,
    servers: &str,
    credentials: &Credentials,
) -> Option<ConnectError> {
    let refused = |reason: String| ConnectError::Rejected {
        servers: servers.to_owned(),
        login: credentials.describe(),
        reason,
        help: credentials.help(),
    };
    let tls = |reason: String, help: String| ConnectError::Tls { servers: servers.to_owned(), reason, help };
    match e.kind() {
        ConnectErrorKind::AuthorizationViolation => {
            return Some(refused("authorization violation".to_owned()));
        }
        ConnectErrorKind::ServerParse => return Some(ConnectError::Address(chain(e).into())),
        _ => {}
    }
    if let Some(e) = tls_error(e) {
        let (reason, help) = tls_told(e, connect, servers);
        return Some(tls(reason, help));
    }
    if e.kind() == ConnectErrorKind::Tls {
        return Some(tls(
            e.source().map(ToString::to_string).unwrap_or_default(),
            "check the TLS files".to_owned(),
        ));
    }
    match e.source().and_then(|s| s.downcast_ref::<ServerError>()) {
        // `User Authentication Expired`, `Account Authentication Expired`, `User Authentication Revoked`.
        // Not `Authentication Timeout`: that is a slow server.
        Some(ServerError::Other(text)) => {
            let lower = text.to_ascii_lowercase();
            let ends = ["authentication expired", "authentication revoked"];
            ends.iter().any(|end| lower.ends_with(end)).then(|| refused(lower))
        }
        _ => None,
    }
}

/// The TLS library's error, which travels inside an I/O error.
fn tls_error(e: &async_nats::ConnectError) -> Option<&rustls::Error> {
    io_error(e)?.get_ref()?.downcast_ref()
}

/// What a TLS error means, and what mends it.
fn tls_told(e: &rustls::Error, connect: &Connect, servers: &str) -> (String, String) {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    let mut reason = redact::control(&e.to_string()).into_owned();
    let help = match e {
        // With the name of an authority and without its key: another of that name signed it.
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "nobody that we trust signed the server's certificate".clone_into(&mut reason);
            if connect.tls_ca.is_some() {
                "the authority of --tlsca did not sign it; name the one that did: --tlsca FILE"
            } else {
                "name the authority that signed the server's certificate: --tlsca FILE (NATS_CA)"
            }
        }
        Error::InvalidCertificate(Certificate::NotValidForNameContext { presented, .. }) => {
            "the server's certificate is for another host name".clone_into(&mut reason);
            // As rustls writes them: `DnsName("a")`, `IpAddress(…)`.
            let names: Vec<&str> = presented.iter().filter_map(|n| n.split('"').nth(1)).take(4).collect();
            let fits = |n: &&str| n.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
            let port = servers.rsplit_once(':').map_or("4222", |(_, port)| port);
            if !names.is_empty() {
                reason = format!("{reason}: {}", redact::control(&names.join(", ")));
            }
            let help = names.iter().copied().find(fits).map_or_else(
                || "connect by a host name that the server's certificate carries".to_owned(),
                |name| format!("connect by that name: -s tls://{name}:{port}"),
            );
            return (reason, help);
        }
        Error::InvalidCertificate(Certificate::NotValidForName) => {
            "connect by a host name that the server's certificate carries"
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the server needs a new certificate; a reload takes it: `nats-server --signal reload`"
        }
        // Self-signed, as a first try often is.
        Error::InvalidCertificate(_) if reason.contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority as its own".clone_into(&mut reason);
            "give the server a certificate that an authority signed, and name the authority: --tlsca FILE"
        }
        Error::InvalidCertificate(_) => "the server needs another certificate",
        Error::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure,
        ) if connect.tls_cert.is_none() => {
            "the server asks for a client certificate: --tlscert FILE --tlskey FILE (NATS_CERT, NATS_KEY)"
        }
        Error::AlertReceived(_) => "the server did not accept the certificate of --tlscert",
        Error::InvalidMessage(_) if connect.tls_first => {
            "its answer is not TLS".clone_into(&mut reason);
            "the server does not start with TLS; leave out --tlsfirst"
        }
        Error::InvalidMessage(_) => {
            "its answer is not TLS".clone_into(&mut reason);
            "the server has no TLS on this port; connect to another, or leave out --tlsca and --tlscert"
        }
        _ => "check the TLS settings of both ends",
    };
    (reason, help.to_owned())
}

/// `e` and what it comes from, in one line.
fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut next = e.source();
    while let Some(e) = next {
        out.push_str(": ");
        out.push_str(&e.to_string());
        next = e.source();
    }
    out
}

/// What is said of a port that greets like this, and of a file with credentials that holds it.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) -> Vec<(&'static str, String)> {
    let mut texts = credentials::fuzz(data);
    for found in probe::fuzz(data) {
        texts.extend(
            found.told("HOST").into_iter().flat_map(|(what, help)| [("a port", what), ("a port", help)]),
        );
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        for (attempt, most) in [(1, 50), (2, 100), (3, 200), (7, 2000), (1000, 2000), (usize::MAX, 2000)] {
            let d = retry_delay(attempt).as_millis();
            assert!(d >= most / 2 && d <= most, "attempt {attempt}: {d} ms");
        }
        let first = retry_delay(9);
        assert!((0..100).any(|_| retry_delay(9) != first), "no jitter");
    }
}
