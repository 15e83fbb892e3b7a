//! `gatewatch lab`: a local supercluster of real nats-servers with faults on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{EXIT_USAGE, Failure, demo, output};
use crate::connect::permissions::INBOX_PREFIX;
use crate::lab::control::{self, Command, ControlError, LOG, Reply, Status};
use crate::lab::simulate::{self, Simulation};
use crate::lab::{Auth, Direction, LabError, NATS_SERVER_VERSION, Spec, creds};

/// A local supercluster of real nats-servers with faults on demand.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    /// Where the lab keeps everything [default: target/lab in a checkout, else in the temporary directory]
    #[arg(long, global = true, env = "GATEWATCH_LAB_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Start the servers, in the background unless told otherwise
    Up(Up),
    /// End everything
    Down,
    /// Show what runs, and what is wrong on purpose
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Reset a link's connections and refuse new ones
    Cut(Link),
    /// Reset a link's connections once
    Reset(Link),
    /// Reset a link's connections, and each new one after accepting it
    Reject(Link),
    /// Keep a link's connections open and pass nothing on
    Blackhole {
        #[command(flatten)]
        link: Link,
        /// Which bytes are swallowed
        #[arg(long, value_enum, default_value = "both")]
        direction: Swallow,
    },
    /// Close a link's connections at the acceptor only
    HalfOpen(Link),
    /// Slow a link down
    Throttle {
        #[command(flatten)]
        link: Link,
        /// In each direction
        #[arg(long, value_name = "BYTES", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        bytes_per_s: u64,
    },
    /// Let everything on a link arrive later
    Delay {
        #[command(flatten)]
        link: Link,
        /// In each direction
        #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = humantime::parse_duration)]
        by: Duration,
    },
    /// End the faults of a link, or all of them
    Heal {
        /// Who dials: a server or a cluster
        #[arg(value_name = "A", requires = "to")]
        from: Option<String>,
        /// What is dialed: a server or a cluster
        #[arg(value_name = "B")]
        to: Option<String>,
    },
    /// SIGKILL: a crash
    Kill(Server),
    /// SIGTERM: a shutdown
    Term(Server),
    /// SIGSTOP: a freeze
    Stop(Server),
    /// SIGCONT: the end of a freeze
    Cont(Server),
    /// SIGUSR2: lame duck mode
    LameDuck(Server),
    /// Start a server that does not run
    Start(Server),
    /// Play one incident from start to end beside a running agent
    Demo {
        /// The nats-server to run
        #[arg(long, value_name = "PATH")]
        nats_server: Option<PathBuf>,
    },
    /// Answer for any number of synthetic servers through one real nats-server, until interrupted
    ///
    /// For measuring: each server answers, sends heartbeats and counts as a real one does, and no other server is
    /// disturbed. Faults are lines on standard input; `help` lists them, and each is answered with the time at which it
    /// took effect.
    Simulate(Simulate),
    /// Make the demo's credentials where they are missing
    Creds {
        /// Where to
        #[arg(long = "to", value_name = "DIR", default_value = "creds")]
        to: PathBuf,
        /// Replace those that are there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// The clusters' names
    #[arg(long, value_delimiter = ',', default_value = "eu,us,ap")]
    clusters: Vec<String>,
    /// The number of servers in each cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    servers: u8,
    /// The nats-server to run; CLUSTER=PATH or SERVER=PATH for a part of them, as often as needed
    #[arg(long, value_name = "PATH")]
    nats_server: Vec<String>,
    /// The demo's credentials, made there if missing [default: creds where it exists, else the lab's own]
    #[arg(long, value_name = "DIR")]
    creds: Option<PathBuf>,
    #[arg(long, help = "Give the account APP JetStream")]
    jetstream: bool,
    /// Stay in front, until interrupted
    #[arg(long)]
    foreground: bool,
}

#[derive(Debug, Args)]
struct Simulate {
    /// How many clusters
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clusters: u16,
    /// How many servers each cluster has
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    servers: u16,
    /// The version that the servers say they run
    #[arg(long, default_value = NATS_SERVER_VERSION)]
    version: String,
    /// What all chance follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to listen on loopback [default: a free port]
    #[arg(long)]
    port: Option<u16>,
    /// The nats-server to run
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Link {
    /// Who dials: a server or a cluster
    #[arg(value_name = "A")]
    from: String,
    /// What is dialed: a server or a cluster
    #[arg(value_name = "B")]
    to: String,
}

#[derive(Debug, Args)]
struct Server {
    /// Such as eu-0; a cluster's name means all of its servers
    server: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Swallow {
    Both,
    FromDialer,
    FromAcceptor,
}

/// Does one lab command. Exit codes: 0 done, 2 not.
pub(super) async fn run(args: LabArgs) -> Result<(), Failure> {
    let text = dispatch(args).await?;
    Ok(output::print(&text)?)
}

impl From<ControlError> for Failure {
    fn from(e: ControlError) -> Self {
        Self::new(EXIT_USAGE, e, None)
    }
}

async fn dispatch(args: LabArgs) -> Result<String, Failure> {
    let dir = args.dir.unwrap_or_else(default_dir);
    let command = match args.command {
        LabCommand::Up(up) => return Ok(start(&dir, up).await?),
        LabCommand::Demo { nats_server } => return demo::run(nats_server).await.map(|()| String::new()),
        LabCommand::Simulate(args) => return simulate(args).await,
        LabCommand::Down => {
            return Ok(match control::down(&dir).await? {
                0 => "the lab is down\n".to_owned(),
                orphans => format!("the lab was gone; ended {orphans} servers that it left behind\n"),
            });
        }
        LabCommand::Creds { to, force } => {
            let (creds, written) =
                creds::ensure(&to, force).map_err(LabError::from).map_err(ControlError::from)?;
            let done = if written { "wrote" } else { "kept" };
            return Ok(format!("{done} the credentials in {}\n", creds.dir().display()));
        }
        LabCommand::Status { json } => {
            let status = control::send(&dir, &Command::Status).await?.status;
            return Ok(status.map_or_else(String::new, |status| {
                if json { format!("{}\n", serde_json::json!(status)) } else { describe(&status) }
            }));
        }
        LabCommand::Cut(Link { from, to }) => Command::Cut { from, to },
        LabCommand::Reset(Link { from, to }) => Command::Reset { from, to },
        LabCommand::Reject(Link { from, to }) => Command::Reject { from, to },
        LabCommand::Blackhole { link: Link { from, to }, direction } => {
            let direction = match direction {
                Swallow::Both => Direction::Both,
                Swallow::FromDialer => Direction::FromDialer,
                Swallow::FromAcceptor => Direction::FromAcceptor,
            };
            Command::Blackhole { from, to, direction }
        }
        LabCommand::HalfOpen(Link { from, to }) => Command::HalfOpen { from, to },
        LabCommand::Throttle { link: Link { from, to }, bytes_per_s } => {
            Command::Throttle { from, to, bytes_per_s }
        }
        LabCommand::Delay { link: Link { from, to }, by } => {
            Command::Delay { from, to, delay_ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
        }
        LabCommand::Heal { from, to } => Command::Heal { link: from.zip(to) },
        LabCommand::Kill(Server { server }) => Command::Kill { server },
        LabCommand::Term(Server { server }) => Command::Term { server },
        LabCommand::Stop(Server { server }) => Command::Stop { server },
        LabCommand::Cont(Server { server }) => Command::Cont { server },
        LabCommand::LameDuck(Server { server }) => Command::LameDuck { server },
        LabCommand::Start(Server { server }) => Command::Start { server },
    };
    let reply = control::send(&dir, &command).await?;
    Ok(reply.at.map_or_else(|| "done\n".to_owned(), |at| format!("done at {at}\n")))
}

fn default_dir() -> PathBuf {
    if Path::new("target").is_dir() {
        PathBuf::from("target/lab")
    } else {
        std::env::temp_dir().join("gatewatch-lab")
    }
}

async fn start(dir: &Path, up: Up) -> Result<String, ControlError> {
    if !up.foreground {
        return start_behind(dir).await;
    }
    let mut spec = Spec {
        clusters: up.clusters.into_iter().map(|name| (name, usize::from(up.servers))).collect(),
        dir: Some(dir.to_owned()),
        jetstream: up.jetstream,
        ..Spec::default()
    };
    let own = up.creds.or_else(|| Some(PathBuf::from("creds")).filter(|creds| creds.is_dir()));
    spec.auth = Auth::Operator { dir: own };
    (spec.binary, spec.binaries) = binaries(up.nats_server);
    control::serve(spec).await?;
    Ok(String::new())
}

async fn simulate(args: Simulate) -> Result<String, Failure> {
    let simulation = Simulation {
        clusters: args.clusters.into(),
        servers: args.servers.into(),
        version: args.version,
        seed: args.seed,
        port: args.port,
        binary: args.nats_server,
    };
    simulate::run(simulation, output::print).await.map_err(ControlError::from)?;
    Ok(String::new())
}

/// `PATH`, or `NAME=PATH`.
fn binaries(given: Vec<String>) -> (Option<PathBuf>, BTreeMap<String, PathBuf>) {
    let (mut all, mut some) = (None, BTreeMap::new());
    for text in given {
        match text.split_once('=').filter(|(name, _)| !name.contains('/')) {
            Some((name, path)) => drop(some.insert(name.to_owned(), PathBuf::from(path))),
            None => all = Some(PathBuf::from(text)),
        }
    }
    (all, some)
}

/// Runs this very command again as a process of its own, and waits until its lab is up.
async fn start_behind(dir: &Path) -> Result<String, ControlError> {
    if control::send(dir, &Command::Status).await.is_ok() {
        return Err(ControlError::Running(dir.to_owned()));
    }
    let failed = |source| ControlError::Io { dir: dir.to_owned(), source };
    control::leftovers(dir)?;
    std::fs::create_dir_all(dir).map_err(failed)?;
    let log = dir.join(LOG);
    let output = std::fs::File::create(&log).map_err(failed)?;
    let mut child = tokio::process::Command::new(std::env::current_exe().map_err(failed)?)
        .args(std::env::args_os().skip(1))
        .arg("--foreground")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        // An interrupt from this terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    loop {
        if let Ok(Reply { status: Some(status), .. }) = control::send(dir, &Command::Status).await {
            return Ok(format!("{}\n{}", describe(&status), hints(&status)));
        }
        if child.try_wait().map_err(failed)?.is_some() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim()).to_owned();
            return Err(ControlError::Refused(text));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn describe(status: &Status) -> String {
    let width = status.servers.iter().map(|server| server.name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for server in &status.servers {
        let state = match (server.pid, &server.remotes) {
            (None, _) => "down".to_owned(),
            (Some(_), None) => "does not answer".to_owned(),
            (Some(_), Some(remotes)) if remotes.is_empty() => "no gateways".to_owned(),
            (Some(_), Some(remotes)) => format!("gateways to {}", remotes.join(", ")),
        };
        lines.push(format!("{:width$}  {}  {state}", server.name, server.url));
    }
    for (from, to, what) in &status.faults {
        lines.push(format!("fault: {from} -> {to}: {what}"));
    }
    lines.join("\n") + "\n"
}

/// What to try next.
fn hints(status: &Status) -> String {
    let Some(first) = status.servers.first() else { return String::new() };
    let mut lines = Vec::new();
    if let Some(creds) = &status.creds {
        let creds = creds.display();
        lines.push(format!("credentials    {creds}/{{gatewatch,sys,app}}.creds"));
        lines.push(format!(
            "watch it       gatewatch run -s {} --creds {creds}/gatewatch.creds --inbox-prefix {}",
            first.url, INBOX_PREFIX
        ));
    }
    if let Some(other) = status.servers.iter().find(|server| server.cluster != first.cluster) {
        lines.push(format!("cut a link     gatewatch lab cut {} {}", first.name, other.cluster));
    }
    lines.push(format!("crash one      gatewatch lab kill {}", first.name));
    lines.push("heal links     gatewatch lab heal".to_owned());
    lines.push("end            gatewatch lab down".to_owned());
    lines.join("\n") + "\n"
}
