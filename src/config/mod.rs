//! The configuration: flag, variable, file, default, in this order.
//!
//! Connection settings come in [`Layer`]s, laid over each other by [`Connect::of`]; everything else stands
//! in one TOML file. A file is refused as a whole, with every problem and its place.

mod checks;
mod context;
mod mistake;
mod reader;
pub mod redact;
pub mod topology;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use checks::show_value;
pub use mistake::{Complaint, Mistake, Mistakes};
pub use reader::nearest;

use crate::checks::{Check, Settings};
use crate::model::Topology;
use crate::publish::sign::Signer;
use reader::{Document, Section};

/// Where the `nats` CLI looks when nobody says otherwise.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// What a poll interval may be. Shorter would only hear the same answers again.
const INTERVAL_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// What a wait for replies may be.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// How often an open finding may be repeated.
const REPEAT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
/// What the servers may be asked to send, bytes per second.
const BUDGET_RANGE: (u64, u64) = (10_000, 10_000_000_000);
/// How many questions the servers may be asked to answer in a second; each that answers counts.
const REQUESTS_RANGE: (u64, u64) = (10, 1_000_000);
/// A hundred is one processor, and more never slows a round.
const PERCENT_RANGE: (u64, u64) = (1, 100);

/// How to reach NATS: one connection's address and credentials. Its `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Connect {
    /// URLs; a comma-separated list, as the `nats` CLI takes it. Else [`DEFAULT_SERVER`].
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
    /// What the servers may be asked to send, bytes per second.
    pub budget_bytes_per_s: u64,
    /// How many questions the servers may be asked to answer in a second; each that answers counts.
    pub budget_requests_per_s: u64,
    /// What the agent may take up of a processor, in percent, where a supercluster is too large to be asked at once.
    pub budget_cpu_percent: u64,
    /// The first token of every subject we publish on.
    pub prefix: String,
    /// Whether events carry `CloudEvents` headers.
    pub cloudevents: bool,
    /// The file with the seed that signs what is published.
    pub sign: Option<PathBuf>,
    /// Who signs it: read from that file by who publishes, and by nobody else.
    pub signer: Option<Arc<Signer>>,
    /// How often an open finding is repeated.
    pub repeat_every: Duration,
    /// Where the ledger of open findings survives a restart.
    pub state_file: Option<PathBuf>,
    /// Where findings are kept.
    pub sink: Option<Sink>,
    /// Further places to look from.
    pub vantages: Vec<Connect>,
    /// The topology that is expected.
    pub expected: Option<Arc<Topology>>,
    /// The settings of every check, by slug.
    pub checks: BTreeMap<&'static str, Settings>,
    /// What the user should know before we start: settings without effect, one sentence each.
    pub warnings: Vec<String>,
}

/// A connection to an account of the user's, and what findings are kept in there.
#[derive(Clone, Debug)]
pub struct Sink {
    /// A user of that account.
    pub connect: Connect,
    /// The stream that keeps every event.
    pub stream: Option<String>,
    /// The KV bucket that holds each open finding.
    pub bucket: Option<String>,
}

/// Connection settings from one place: the flags, the environment, a file, a context.
#[derive(Clone, Default)]
pub struct Layer {
    /// What the user calls that place.
    pub origin: String,
    /// As in [`Connect`].
    pub server: Option<String>,
    /// As in [`Connect`].
    pub creds: Option<PathBuf>,
    /// As in [`Connect`].
    pub nkey: Option<PathBuf>,
    /// As in [`Connect`]; from a flag or a variable and without any password, a token.
    pub user: Option<String>,
    /// As in [`Connect`].
    pub password: Option<String>,
    /// As in [`Connect`].
    pub token: Option<String>,
    /// As in [`Connect`].
    pub tls_ca: Option<PathBuf>,
    /// As in [`Connect`].
    pub tls_cert: Option<PathBuf>,
    /// As in [`Connect`].
    pub tls_key: Option<PathBuf>,
    /// As in [`Connect`].
    pub tls_first: Option<bool>,
    /// As in [`Connect`].
    pub inbox_prefix: Option<String>,
    /// The name of a context of the `nats` CLI that fills what is not set.
    pub context: Option<String>,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The connection flags.
    pub connect: Layer,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--name`.
    pub name: Option<String>,
    /// `--prefix`.
    pub prefix: Option<String>,
    /// `--expect`.
    pub expect: Option<PathBuf>,
}

/// The process environment, as a function, so that a test can bring its own.
pub struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

/// Why a configuration is refused. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// `the configuration`, `the context`, `the expected topology`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is wrong with a file, each with its line.
    #[error("{0}")]
    File(Mistakes),
    /// A file is larger than what is read.
    #[error("{} is larger than the {bytes_max} bytes that are read of {what}", path.display())]
    Large {
        /// What it is taken for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is read.
        bytes_max: u64,
    },
    /// A flag or a variable has a value that it does not take.
    #[error("{origin}: {}", complaint.what)]
    Value {
        /// The flag, variable or section.
        origin: String,
        /// What is wrong, and what is accepted.
        complaint: Complaint,
    },
    /// There is no such context.
    #[error("there is no context `{name}`{}", directory.as_ref().map(|d| format!(" in {}", d.display())).unwrap_or_default())]
    NoContext {
        /// The name asked for.
        name: String,
        /// Where contexts are looked for.
        directory: Option<PathBuf>,
        /// The contexts there are.
        known: Vec<String>,
        /// The one that was likely meant.
        near: Option<String>,
    },
    /// A context says something that we cannot do.
    #[error("context `{name}` sets `{key}`, which gatewatch does not support ({})", path.display())]
    ContextKey {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
}

impl ConfigError {
    /// What to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoContext { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NoContext { known, .. } if known.is_empty() => {
                Some("there are none; `nats context add NAME` makes one".to_owned())
            }
            Self::NoContext { known, .. } => Some(format!("there are: {}", known.join(", "))),
            Self::ContextKey { key: "nsc" | "user_jwt", .. } => {
                Some("write the user's credentials to a file and set `creds` to its path".to_owned())
            }
            Self::Value { complaint, .. } => complaint.help.clone(),
            Self::Read { what, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some(match *what {
                    "the configuration" => {
                        "--config FILE and GATEWATCH_CONFIG name it; without one there are defaults"
                            .to_owned()
                    }
                    "the expected topology" => {
                        "`gatewatch topology --format toml > FILE` writes one of what is there now".to_owned()
                    }
                    _ => return None,
                })
            }
            _ => None,
        }
    }
}

impl<'a> Environment<'a> {
    /// An environment that asks `get`.
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(get)
    }

    /// A variable; an empty one is as good as none, as for the `nats` CLI.
    fn get(&self, key: &str) -> Option<String> {
        (self.0)(key).filter(|v| !v.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// `path` with a leading `~` replaced by the home directory.
    fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.home()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    fn layer(&self) -> Layer {
        let path = |key| self.get(key).map(|p| self.expand(Path::new(&p)));
        Layer {
            origin: ENVIRONMENT.to_owned(),
            server: self.get("NATS_URL"),
            creds: path("NATS_CREDS"),
            nkey: path("NATS_NKEY"),
            user: self.get("NATS_USER"),
            password: self.get("NATS_PASSWORD"),
            token: self.get("NATS_TOKEN"),
            tls_ca: path("NATS_CA"),
            tls_cert: path("NATS_CERT"),
            tls_key: path("NATS_KEY"),
            tls_first: None,
            inbox_prefix: None,
            context: self.get("NATS_CONTEXT"),
        }
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.server.as_deref().map(redact::urls);
        f.debug_struct("Connect")
            .field("server", &server)
            .field("creds", &self.creds)
            .field("nkey", &self.nkey)
            .field("user", &self.user)
            .field("tls_ca", &self.tls_ca)
            .field("tls_cert", &self.tls_cert)
            .field("tls_first", &self.tls_first)
            .field("inbox_prefix", &self.inbox_prefix)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads and resolves everything: `flags`, the environment, the file that one of them names, the context.
    pub fn load(flags: &Flags, env: &Environment<'_>, registry: &[&dyn Check]) -> Result<Self, ConfigError> {
        let file = FileConfig::find(flags.config.as_deref(), env, registry)?;
        let mut warnings = file.warnings;
        let connect = connection(flags, env, file.connect, &mut warnings)?;
        let sink = match file.sink {
            Some((layer, stream, bucket)) => {
                Some(Sink { connect: own_connection(layer, env, &mut warnings)?, stream, bucket })
            }
            None => None,
        };
        let vantages = file
            .vantages
            .into_iter()
            .map(|layer| own_connection(layer, env, &mut warnings))
            .collect::<Result<_, _>>()?;
        let timeout = match flags.timeout {
            Some(t) => Some(in_range("--timeout", t)?),
            None => env.get("NATS_TIMEOUT").map(|t| variable_duration("NATS_TIMEOUT", &t)).transpose()?,
        };
        let expect = flags.expect.as_deref().map(|path| env.expand(path)).or(file.expect);
        if let Some(prefix) = &flags.prefix {
            check_prefix(prefix)
                .map_err(|complaint| ConfigError::Value { origin: "--prefix".to_owned(), complaint })?;
        }
        if let Some(name) = &flags.name {
            check_name(name)
                .map_err(|complaint| ConfigError::Value { origin: "--name".to_owned(), complaint })?;
        }
        Ok(Self {
            connect,
            name: flags.name.clone().or(file.name).unwrap_or_else(|| host_name(env)),
            interval: file.interval.unwrap_or(Duration::from_secs(1)),
            timeout: timeout.or(file.timeout).unwrap_or(Duration::from_secs(2)),
            budget_bytes_per_s: file.budget_bytes_per_s.unwrap_or(2_000_000),
            budget_requests_per_s: file.budget_requests_per_s.unwrap_or(1000),
            budget_cpu_percent: file.budget_cpu_percent.unwrap_or(3),
            prefix: flags.prefix.clone().or(file.prefix).unwrap_or_else(|| "gatewatch".to_owned()),
            cloudevents: file.cloudevents.unwrap_or(false),
            sign: file.sign,
            signer: None,
            repeat_every: file.repeat_every.unwrap_or(Duration::from_secs(3600)),
            state_file: file.state_file,
            sink,
            vantages,
            expected: expect.map(|path| topology::read(&path)).transpose()?.map(Arc::new),
            checks: file.checks,
            warnings,
        })
    }

    /// Reads what a file says, and names what has no effect.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<String>, ConfigError> {
        let env = Environment::new(&|_| None);
        let file = FileConfig::parse(path, text, &env, crate::checks::REGISTRY)?;
        let mut warnings = file.warnings;
        let layers = file.connect.into_iter().chain(file.sink.map(|(layer, ..)| layer)).chain(file.vantages);
        for layer in layers {
            Connect::of(vec![layer], &mut warnings)?;
        }
        Ok(warnings)
    }

    /// The settings of every check, for who judges without a connection: the file that is named by `file` or the
    /// environment. The whole file must be right; contexts and variables of a connection are not looked at.
    pub fn load_checks(
        file: Option<&Path>,
        env: &Environment<'_>,
        registry: &[&dyn Check],
    ) -> Result<BTreeMap<&'static str, Settings>, ConfigError> {
        Ok(FileConfig::find(file, env, registry)?.checks)
    }
}

/// The connection of the agent: flags and variables, then a context that one of them names, then the file,
/// then the context that the file names or else the selected one.
fn connection(
    flags: &Flags,
    env: &Environment<'_>,
    file: Option<Layer>,
    warnings: &mut Vec<String>,
) -> Result<Connect, ConfigError> {
    let mut from_flags = flags.connect.clone();
    for path in [
        &mut from_flags.creds,
        &mut from_flags.nkey,
        &mut from_flags.tls_ca,
        &mut from_flags.tls_cert,
        &mut from_flags.tls_key,
    ] {
        *path = path.as_deref().map(|p| env.expand(p));
    }
    let from_env = env.layer();
    let named = from_flags.context.clone().or_else(|| from_env.context.clone());
    let fallback = file.as_ref().and_then(|f| f.context.clone());
    let mut layers = vec![from_flags, from_env];
    if let Some(name) = named {
        layers.push(context::load(&name, env)?);
        layers.extend(file);
    } else {
        layers.extend(file);
        if let Some(name) = fallback.or_else(|| context::selected(env)) {
            layers.push(context::load(&name, env)?);
        }
    }
    Connect::of(layers, warnings)
}

/// The connection of a sink or a vantage: what its own section says, and a context that it names. Flags and
/// variables are about the agent's user, who is another.
fn own_connection(
    layer: Layer,
    env: &Environment<'_>,
    warnings: &mut Vec<String>,
) -> Result<Connect, ConfigError> {
    let context = layer.context.clone().map(|name| context::load(&name, env)).transpose()?;
    Connect::of(std::iter::once(layer).chain(context).collect(), warnings)
}

/// The ways to log in, in the order in which the `nats` CLI prefers them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    User,
    Creds,
    Nkey,
    Token,
}

/// What a [`Layer`] of flags calls its place.
pub const COMMAND_LINE: &str = "the command line";
/// What a [`Layer`] of variables calls its place.
const ENVIRONMENT: &str = "the environment";

impl Layer {
    /// What of this place holds a setting, for who has to mend it.
    fn named<'n>(&'n self, flag: &'n str, variable: &'n str) -> &'n str {
        match self.origin.as_str() {
            COMMAND_LINE => flag,
            ENVIRONMENT => variable,
            other => other,
        }
    }

    fn methods(&self) -> Vec<(Method, &'static str)> {
        [
            (self.user.is_some(), Method::User, "user"),
            (self.creds.is_some(), Method::Creds, "creds"),
            (self.nkey.is_some(), Method::Nkey, "nkey"),
            (self.token.is_some(), Method::Token, "token"),
        ]
        .into_iter()
        .filter_map(|(set, method, name)| set.then_some((method, name)))
        .collect()
    }

    /// Moves user and password out of the URLs, so that nothing that prints a URL prints them.
    fn take_userinfo(&mut self) -> Result<(), ConfigError> {
        let Some(list) = &self.server else { return Ok(()) };
        let fail = |complaint| ConfigError::Value {
            origin: self.named("--server", "NATS_URL").to_owned(),
            complaint,
        };
        let (bare, userinfo) = split_userinfo(list).map_err(fail)?;
        self.server = Some(bare);
        if let Some((user, password)) = userinfo
            && self.methods().is_empty()
        {
            match password {
                Some(password) => {
                    self.user = Some(user);
                    self.password = Some(password);
                }
                None => self.token = Some(user),
            }
        }
        Ok(())
    }
}

impl Connect {
    /// Lays `layers` over each other, the first on top. The first that names a way to log in decides which
    /// way that is; lower layers only add to that way, so that credentials are never mixed.
    pub fn of(mut layers: Vec<Layer>, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        for layer in &mut layers {
            layer.take_userinfo()?;
        }
        let deciding = layers.iter().find(|l| !l.methods().is_empty());
        let method = deciding.and_then(|l| l.methods().first().copied());
        if let (Some(layer), Some((_, used))) = (deciding, method) {
            for (_, unused) in layer.methods().iter().skip(1) {
                warnings.push(format!("{} sets `{used}` and `{unused}`; `{used}` is used", layer.origin));
            }
        }
        let method = method.map(|(m, _)| m);
        let when = |wanted| method == Some(wanted);
        let mut user = first(&layers, |l| &l.user).filter(|_| when(Method::User));
        let password = first(&layers, |l| &l.password).filter(|_| when(Method::User));
        let mut token = first(&layers, |l| &l.token).filter(|_| when(Method::Token));
        if user.is_some() && password.is_none() {
            // The `nats` CLI's `--user` takes "user name or token".
            token = user.take();
        }
        let out = Self {
            server: first(&layers, |l| &l.server).or_else(|| Some(DEFAULT_SERVER.to_owned())),
            creds: first(&layers, |l| &l.creds).filter(|_| when(Method::Creds)),
            nkey: first(&layers, |l| &l.nkey).filter(|_| when(Method::Nkey)),
            user,
            password,
            token,
            tls_ca: first(&layers, |l| &l.tls_ca),
            tls_cert: first(&layers, |l| &l.tls_cert),
            tls_key: first(&layers, |l| &l.tls_key),
            tls_first: first(&layers, |l| &l.tls_first).unwrap_or(false),
            inbox_prefix: first(&layers, |l| &l.inbox_prefix),
        };
        out.validate(&layers)?;
        Ok(out)
    }

    fn validate(&self, layers: &[Layer]) -> Result<(), ConfigError> {
        let origin = |get: fn(&Layer) -> bool, flag: &'static str, variable: &'static str| {
            let layer = layers.iter().find(|l| get(l));
            layer.map(|l| l.named(flag, variable).to_owned()).unwrap_or_default()
        };
        if let Some(prefix) = &self.inbox_prefix {
            check_prefix(prefix).map_err(|complaint| ConfigError::Value {
                origin: origin(|l| l.inbox_prefix.is_some(), "--inbox-prefix", "the inbox prefix"),
                complaint,
            })?;
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let (lacks, flag, variable, key) = if self.tls_key.is_some() {
                ("certificate", "--tlscert", "NATS_CERT", "tls_cert")
            } else {
                ("key", "--tlskey", "NATS_KEY", "tls_key")
            };
            return Err(ConfigError::Value {
                origin: origin(
                    |l| l.tls_cert.is_some() || l.tls_key.is_some(),
                    "--tlscert, --tlskey",
                    "NATS_CERT, NATS_KEY",
                ),
                complaint: Complaint::new(
                    format!("a TLS certificate and its key go together; the {lacks} is not set"),
                    format!("set it: {flag} FILE, {variable}, or `{key}` in a file"),
                ),
            });
        }
        Ok(())
    }
}

fn first<T: Clone>(layers: &[Layer], get: impl Fn(&Layer) -> &Option<T>) -> Option<T> {
    layers.iter().find_map(|l| get(l).clone())
}

/// A user and, where there is one, a password.
type Userinfo = (String, Option<String>);

/// The URLs of `list` without user and password, each checked, and the one user (or token) they carry.
pub fn split_userinfo(list: &str) -> Result<(String, Option<Userinfo>), Complaint> {
    let mut bare = Vec::new();
    let mut found: Option<Userinfo> = None;
    for url in list.split(',').map(str::trim).filter(|u| !u.is_empty()) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        if !matches!(scheme, "nats" | "tls") {
            let host = redact::urls(rest);
            let host = if scheme.starts_with("http") {
                // Where a server shows how it is: clients connect elsewhere.
                let name = host.split(['/', ':']).next().filter(|name| !name.starts_with('['));
                name.map_or("…".to_owned(), |name| format!("{name}:4222"))
            } else {
                host
            };
            let help = if host.contains('…') { "HOST:PORT" } else { host.as_str() };
            return Err(Complaint::new(
                format!("`{}` is not the URL of a NATS client port", redact::urls(url)),
                format!("write nats://{help}, or tls://{help}; a client port is 4222 by default"),
            ));
        }
        let host = match rest.rsplit_once('@') {
            Some((info, host)) => {
                let info = match info.split_once(':') {
                    Some((user, password)) => (unescape(user), Some(unescape(password))),
                    None => (unescape(info), None),
                };
                if found.as_ref().is_some_and(|f| *f != info) {
                    return Err(Complaint::new(
                        "the server URLs carry different users",
                        "one connection has one user: write it once, as nats://USER:PASSWORD@HOST:PORT or --user",
                    ));
                }
                found = Some(info);
                host
            }
            None => rest,
        };
        let stripped = format!("{scheme}://{host}");
        let valid = stripped.parse::<async_nats::ServerAddr>();
        if !valid.is_ok_and(|a| !a.host().is_empty()) {
            return Err(Complaint::new(
                format!("`{stripped}` is not a server URL"),
                "write nats://HOST:PORT, the port being 1 to 65535 and 4222 by default",
            ));
        }
        bare.push(stripped);
    }
    if bare.is_empty() {
        return Err(Complaint::new("no server URL", "write nats://HOST:PORT; several with commas"));
    }
    Ok((bare.join(","), found))
}

/// `text` with its percent escapes resolved.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16));
        match (b, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = ahead;
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn in_range(origin: &str, d: Duration) -> Result<Duration, ConfigError> {
    let (low, high) = TIMEOUT_RANGE;
    if low <= d && d <= high {
        return Ok(d);
    }
    let complaint = Complaint::new(
        format!("{} is out of range", reader::show_duration(d)),
        format!("accepted: {} to {}", reader::show_duration(low), reader::show_duration(high)),
    );
    Err(ConfigError::Value { origin: origin.to_owned(), complaint })
}

fn variable_duration(origin: &str, text: &str) -> Result<Duration, ConfigError> {
    let d = humantime::parse_duration(text).map_err(|_| ConfigError::Value {
        origin: origin.to_owned(),
        complaint: Complaint::new(
            format!(r#"bad duration "{}""#, redact::control(text)),
            format!("write it as {origin}=500ms or {origin}=2s"),
        ),
    })?;
    in_range(origin, d)
}

fn check_prefix(prefix: &str) -> Result<(), Complaint> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '*' && c != '>';
    let sound = prefix.split('.').all(|t| !t.is_empty() && t.chars().all(fits));
    if sound && prefix.len() <= 64 && !prefix.starts_with('$') {
        return Ok(());
    }
    let what = format!("`{}` cannot begin a subject", redact::control(prefix));
    // What is left of it without what cannot be in it, such as the wildcard of a subscription.
    let tokens = prefix.trim_start_matches('$').split('.');
    let fitting = |c: char| Some(if c.is_whitespace() { '_' } else { c }).filter(|c| fits(*c));
    let tokens = tokens.map(|t| t.trim().chars().filter_map(fitting).collect::<String>());
    let near = tokens.filter(|t| !t.is_empty()).collect::<Vec<_>>().join(".");
    let rule = "up to 64 characters, tokens between dots, no blanks, `*`, `>` or leading `$`";
    Err(Complaint::new(
        what,
        if (1..=64).contains(&near.len()) {
            format!("write `{}`; accepted: {rule}", redact::control(&near))
        } else {
            format!("accepted: {rule}")
        },
    ))
}

fn check_name(name: &str) -> Result<(), Complaint> {
    if !name.trim().is_empty() && name.len() <= 128 && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Complaint::new(
        "this cannot be a name",
        "a name is 1 to 128 bytes of text without control characters",
    ))
}

/// The host's name: what the kernel says, else what the shell was told.
fn host_name(env: &Environment<'_>) -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .or_else(|| env.get("HOSTNAME"))
        .map(|name| name.trim().to_owned())
        .filter(|name| check_name(name).is_ok())
        .unwrap_or_else(|| "gatewatch".to_owned())
}

/// What a file says. What it leaves out is `None`.
#[derive(Default)]
struct FileConfig {
    connect: Option<Layer>,
    name: Option<String>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    budget_bytes_per_s: Option<u64>,
    budget_requests_per_s: Option<u64>,
    budget_cpu_percent: Option<u64>,
    prefix: Option<String>,
    cloudevents: Option<bool>,
    sign: Option<PathBuf>,
    repeat_every: Option<Duration>,
    state_file: Option<PathBuf>,
    sink: Option<(Layer, Option<String>, Option<String>)>,
    vantages: Vec<Layer>,
    expect: Option<PathBuf>,
    checks: BTreeMap<&'static str, Settings>,
    warnings: Vec<String>,
}

impl FileConfig {
    fn empty(registry: &[&dyn Check]) -> Self {
        let checks = registry.iter().map(|c| (c.manual().slug, Settings::of(*c))).collect();
        Self { checks, ..Self::default() }
    }

    fn find(
        named: Option<&Path>,
        env: &Environment<'_>,
        registry: &[&dyn Check],
    ) -> Result<Self, ConfigError> {
        match named.map(Path::to_owned).or_else(|| env.get("GATEWATCH_CONFIG").map(PathBuf::from)) {
            Some(path) => Self::read(&env.expand(&path), env, registry),
            None => Ok(Self::empty(registry)),
        }
    }

    fn read(path: &Path, env: &Environment<'_>, registry: &[&dyn Check]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            what: "the configuration",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text, env, registry)
    }

    fn parse(
        path: &Path,
        text: &str,
        env: &Environment<'_>,
        registry: &[&dyn Check],
    ) -> Result<Self, ConfigError> {
        let document = Document::new(path, text);
        let base = Base { env, directory: path.parent().unwrap_or(Path::new("")) };
        let parsed = document.parse();
        let file = parsed.as_ref().map(|table| Self::fill(document.root(table.get_ref()), &base, registry));
        match (document.mistakes(), file) {
            (None, Some(file)) => Ok(file),
            (mistakes, _) => Err(ConfigError::File(mistakes.unwrap_or_default())),
        }
    }

    fn fill(root: Section<'_>, base: &Base<'_>, registry: &[&dyn Check]) -> Self {
        let mut out = Self::empty(registry);
        if let Some(s) = root.section("connect") {
            out.connect = Some(layer(&s, base));
            s.finish();
        }
        if let Some(s) = root.section("agent") {
            out.name = accepted(&s, "name", check_name);
            s.finish();
        }
        if let Some(s) = root.section("poll") {
            out.interval = s.duration("interval", INTERVAL_RANGE);
            out.timeout = s.duration("timeout", TIMEOUT_RANGE);
            out.budget_bytes_per_s = s.whole("budget_bytes_per_s", BUDGET_RANGE);
            out.budget_requests_per_s = s.whole("budget_requests_per_s", REQUESTS_RANGE);
            out.budget_cpu_percent = s.whole("budget_cpu_percent", PERCENT_RANGE);
            s.finish();
        }
        if let Some(s) = root.section("publish") {
            out.prefix = accepted(&s, "prefix", check_prefix);
            out.cloudevents = s.bool("cloudevents");
            out.sign = s.path("sign").map(|p| base.path(&p));
            out.repeat_every = s.duration("repeat_every", REPEAT_RANGE);
            s.finish();
        }
        if let Some(s) = root.section("sink") {
            let connect = layer(&s, base);
            let [stream, bucket] = ["stream", "bucket"].map(|key| accepted(&s, key, check_asset));
            out.sink = Some((connect, stream.clone(), bucket.clone()));
            if stream.is_none() && bucket.is_none() {
                let title = s.title();
                out.warnings.push(format!("{title} names neither `stream` nor `bucket`: nothing is kept"));
            }
            s.finish();
        }
        if let Some(s) = root.section("state") {
            out.state_file = s.path("file").map(|p| base.path(&p));
            s.finish();
        }
        if let Some(s) = root.section("expect") {
            out.expect = s.path("topology").map(|p| base.path(&p));
            s.finish();
        }
        for s in root.sections("vantage") {
            out.vantages.push(layer(&s, base));
            s.finish();
        }
        if let Some(s) = root.section("checks") {
            checks::read(s, registry, &mut out.checks);
        }
        root.finish();
        out
    }
}

/// What paths of a file are relative to: the directory of that file.
struct Base<'a> {
    env: &'a Environment<'a>,
    directory: &'a Path,
}

impl Base<'_> {
    fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(self.env.expand(path))
    }
}

/// The connection keys of a section.
fn layer(s: &Section<'_>, base: &Base<'_>) -> Layer {
    let path = |key| s.path(key).map(|p| base.path(&p));
    Layer {
        origin: s.title().to_owned(),
        server: accepted(s, "server", |list| split_userinfo(list).map(|_| ())),
        creds: path("creds"),
        nkey: path("nkey"),
        user: s.string("user"),
        password: s.string("password"),
        token: s.string("token"),
        tls_ca: path("tls_ca"),
        tls_cert: path("tls_cert"),
        tls_key: path("tls_key"),
        tls_first: s.bool("tls_first"),
        inbox_prefix: accepted(s, "inbox_prefix", check_prefix),
        context: s.string("context"),
    }
}

/// The text of `key` where `check` has nothing against it.
fn accepted(
    s: &Section<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), Complaint>,
) -> Option<String> {
    let text = s.string(key)?;
    match check(&text) {
        Ok(()) => Some(text),
        Err(Complaint { what, help }) => {
            s.refuse(key, Complaint { what: format!("`{key}`: {what}"), help });
            None
        }
    }
}

fn check_asset(name: &str) -> Result<(), Complaint> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Ok(());
    }
    Err(Complaint::new(
        format!("`{}` cannot be the name of a stream or bucket", redact::control(name)),
        "a name here is made of letters, digits, `_` and `-`",
    ))
}
