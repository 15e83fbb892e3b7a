//! Commands for a lab that runs in another process: JSON lines over a Unix socket in its directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::node::{Node, STATE_FILE};
use super::{Direction, Lab, LabError, Mark, Spec};

const SOCKET: &str = "control.sock";
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What a running lab can be told to do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// [`Lab::cut`].
    Cut {
        /// Who dials: a server or a cluster.
        from: String,
        /// What is dialed: a server or a cluster.
        to: String,
    },
    /// [`Lab::reset`].
    Reset {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
    },
    /// [`Lab::reject`].
    Reject {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
    },
    /// [`Lab::blackhole`].
    Blackhole {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
        /// Which bytes are swallowed.
        direction: Direction,
    },
    /// [`Lab::half_open`].
    HalfOpen {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
    },
    /// [`Lab::throttle`].
    Throttle {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
        /// In each direction.
        bytes_per_s: u64,
    },
    /// [`Lab::delay`].
    Delay {
        /// Who dials.
        from: String,
        /// What is dialed.
        to: String,
        /// In each direction.
        delay_ms: u64,
    },
    /// [`Lab::heal`], or [`Lab::heal_all`] without names.
    Heal {
        /// Both names, or none.
        link: Option<(String, String)>,
    },
    /// [`Lab::kill`].
    Kill {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// [`Lab::terminate`].
    Term {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// [`Lab::stop`].
    Stop {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// [`Lab::cont`].
    Cont {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// [`Lab::lame_duck`].
    LameDuck {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// [`Lab::start_server`].
    Start {
        /// The server, or a cluster for all of its servers.
        server: String,
    },
    /// What runs, and what is wrong on purpose.
    Status,
    /// Ends the lab.
    Down,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reply {
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<crate::model::Time>,
    /// The answer to [`Command::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// A lab as it is now.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// The process of the lab itself.
    pub pid: u32,
    /// Everything the lab wrote.
    pub dir: PathBuf,
    /// Where the credentials are, in operator mode.
    pub creds: Option<PathBuf>,
    /// All client URLs, comma-separated.
    pub urls: String,
    /// The servers.
    pub servers: Vec<ServerStatus>,
    /// Dialer, target, and what is wrong between them on purpose.
    pub faults: Vec<(String, String, String)>,
}

/// One server as it is now.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Its client URL.
    pub url: String,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// The remotes that it has an outbound gateway to; `None` where it does not answer.
    pub remotes: Option<Vec<String>>,
}

/// Why a lab in another process could not be reached, or not be started.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers in that directory.
    #[error("no lab is running in {}: start one with `gatewatch lab up`", .0.display())]
    NotRunning(PathBuf),
    /// Somebody does already.
    #[error("a lab is running in {} already: end it with `gatewatch lab down`, or choose another --dir", .0.display())]
    Running(PathBuf),
    /// The directory holds something else.
    #[error("{} is not empty and no lab wrote it: choose another --dir", .0.display())]
    NotOurs(PathBuf),
    /// The lab refused.
    #[error("{0}")]
    Refused(String),
    /// The conversation failed.
    #[error("the lab in {} does not answer: {source}", dir.display())]
    Io {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lab itself failed.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// Asks the lab that runs in `dir`.
pub async fn send(dir: &Path, command: &Command) -> Result<Reply, ControlError> {
    let failed = |source| ControlError::Io { dir: dir.to_owned(), source };
    let stream = UnixStream::connect(dir.join(SOCKET)).await;
    let mut stream = stream.map_err(|_| ControlError::NotRunning(dir.to_owned()))?;
    let mut line = serde_json::to_vec(command).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.map_err(failed)?;
    let reply: Reply = serde_json::from_str(&answer).map_err(|error| failed(error.into()))?;
    match reply.error {
        Some(error) => Err(ControlError::Refused(error)),
        None => Ok(reply),
    }
}

/// Starts a lab in `spec.dir` and obeys commands until one of them, SIGINT or SIGTERM ends it.
pub async fn serve(spec: Spec) -> Result<(), ControlError> {
    let dir = spec.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("gatewatch-lab"));
    let listener = claim(&dir).await?;
    let mut signals = Signals::new().map_err(|source| ControlError::Io { dir: dir.clone(), source })?;
    let lab = tokio::select! {
        lab = Lab::start(Spec { dir: Some(dir.clone()), ..spec }) => lab,
        () = signals.wait() => return Ok(()),
    };
    let lab = lab.inspect_err(|_| drop(std::fs::remove_file(dir.join(SOCKET))))?;
    tracing::info!(dir = %dir.display(), "the lab is up");
    let last = tokio::select! {
        last = obey(&listener, &lab) => Some(last),
        () = signals.wait() => None,
    };
    let ended = lab.down().await;
    drop(std::fs::remove_file(dir.join(SOCKET)));
    drop(std::fs::write(dir.join(STATE_FILE), NO_SERVERS));
    if let Some(mut stream) = last {
        answer(&mut stream, &Reply::default()).await;
    }
    Ok(ended?)
}

/// Ends the lab in `dir`; where it died and left servers behind, ends those. Says how many they were.
pub async fn down(dir: &Path) -> Result<usize, ControlError> {
    match send(dir, &Command::Down).await {
        Ok(_) => Ok(0),
        Err(ControlError::NotRunning(dir)) => {
            let orphans = end_orphans(&dir).await;
            if orphans == 0 { Err(ControlError::NotRunning(dir)) } else { Ok(orphans) }
        }
        Err(error) => Err(error),
    }
}

/// Takes a directory for a new lab: clears what an earlier one left, and listens there.
async fn claim(dir: &Path) -> Result<UnixListener, ControlError> {
    if UnixStream::connect(dir.join(SOCKET)).await.is_ok() {
        return Err(ControlError::Running(dir.to_owned()));
    }
    end_orphans(dir).await;
    for path in leftovers(dir)? {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(LabError::io(format!("cannot remove {}", path.display())))?;
    }
    super::node::create_dir(dir)?;
    // From now on the directory is known as a lab's.
    super::node::write(&dir.join(STATE_FILE), NO_SERVERS)?;
    let listener = UnixListener::bind(dir.join(SOCKET));
    Ok(listener.map_err(LabError::io(format!("cannot listen in {}", dir.display())))?)
}

/// What an earlier lab left in `dir`; refused where it looks like somebody else's.
pub fn leftovers(dir: &Path) -> Result<Vec<PathBuf>, ControlError> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let found: Vec<_> = entries.filter(|entry| entry.file_name() != LOG).map(|entry| entry.path()).collect();
    if found.is_empty() || dir.join(STATE_FILE).is_file() {
        Ok(found)
    } else {
        Err(ControlError::NotOurs(dir.to_owned()))
    }
}

const NO_SERVERS: &str = r#"{"servers":{}}"#;

/// The log of a lab that runs in the background, in its directory.
pub const LOG: &str = "lab.log";

/// Ends the servers that a dead lab left in `dir`.
async fn end_orphans(dir: &Path) -> usize {
    #[derive(Deserialize)]
    struct State {
        servers: std::collections::BTreeMap<String, i32>,
    }
    let Ok(text) = std::fs::read(dir.join(STATE_FILE)) else { return 0 };
    let Ok(state) = serde_json::from_slice::<State>(&text) else { return 0 };
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let mut ended = 0;
    for (server, pid) in state.servers {
        // The number may be another process's by now.
        let conf = dir.join(&server).join("server.conf");
        let ps = tokio::process::Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
            .output();
        let command = ps.await.map(|ps| String::from_utf8_lossy(&ps.stdout).into_owned()).unwrap_or_default();
        if command.contains(&*conf.to_string_lossy()) && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
            ended += 1;
        }
    }
    drop(std::fs::write(dir.join(STATE_FILE), NO_SERVERS));
    ended
}

/// Serves one command at a time, until one ends the lab; its asker gets to hear when that is done.
async fn obey(listener: &UnixListener, lab: &Lab) -> UnixStream {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut line = String::new();
        let mut reader = BufReader::new((&mut stream).take(LINE_BYTES_MAX));
        let read = tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(_))) {
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(Command::Down) => return stream,
            Ok(command) => apply(lab, command).await,
            Err(error) => Reply { error: Some(format!("not a command: {error}")), ..Reply::default() },
        };
        answer(&mut stream, &reply).await;
    }
}

async fn answer(stream: &mut UnixStream, reply: &Reply) {
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    // The asker may be gone; that changes nothing here.
    drop(stream.write_all(&line).await);
}

async fn apply(lab: &Lab, command: Command) -> Reply {
    let done: Result<Mark, LabError> = match command {
        Command::Cut { from, to } => lab.cut(&from, &to).await,
        Command::Reset { from, to } => lab.reset(&from, &to).await,
        Command::Reject { from, to } => lab.reject(&from, &to).await,
        Command::Blackhole { from, to, direction } => lab.blackhole(&from, &to, direction).await,
        Command::HalfOpen { from, to } => lab.half_open(&from, &to).await,
        Command::Throttle { from, to, bytes_per_s } => lab.throttle(&from, &to, bytes_per_s).await,
        Command::Delay { from, to, delay_ms } => lab.delay(&from, &to, Duration::from_millis(delay_ms)).await,
        Command::Heal { link: Some((from, to)) } => lab.heal(&from, &to).await,
        Command::Heal { link: None } => lab.heal_all().await,
        Command::Kill { server } => each(lab.members(&server), |name| lab.kill(name)).await,
        Command::Term { server } => each(lab.members(&server), |name| lab.terminate(name)).await,
        Command::Stop { server } => each(lab.members(&server), |name| lab.stop(name)).await,
        Command::Cont { server } => each(lab.members(&server), |name| lab.cont(name)).await,
        Command::LameDuck { server } => each(lab.members(&server), |name| lab.lame_duck(name)).await,
        Command::Start { server } => each(lab.members(&server), |name| lab.start_server(name)).await,
        Command::Status | Command::Down => {
            return Reply { status: Some(status(lab).await), ..Reply::default() };
        }
    };
    match done {
        Ok(mark) => Reply { at: Some(mark.time), ..Reply::default() },
        Err(error) => Reply { error: Some(error.to_string()), ..Reply::default() },
    }
}

/// Does something to one server, or to all of a cluster at once. The mark is the last one's.
async fn each<'a, F>(
    members: Result<Vec<&'a str>, LabError>,
    act: impl Fn(&'a str) -> F,
) -> Result<Mark, LabError>
where
    F: Future<Output = Result<Mark, LabError>>,
{
    let mut acts = Vec::new();
    for name in members? {
        acts.push(act(name));
    }
    let marks = futures_util::future::try_join_all(acts).await?;
    Ok(marks.into_iter().max_by_key(|mark| mark.instant).unwrap_or_else(Mark::now))
}

async fn status(lab: &Lab) -> Status {
    let mut servers = Vec::new();
    for node in &lab.nodes {
        servers.push(server_status(lab, node));
    }
    Status {
        pid: std::process::id(),
        dir: lab.dir().to_owned(),
        creds: lab.creds().map(|creds| creds.dir().to_owned()),
        urls: lab.urls(),
        servers: futures_util::future::join_all(servers).await,
        faults: lab.faults(),
    }
}

async fn server_status(lab: &Lab, node: &Node) -> ServerStatus {
    let view = if node.pid().await.is_some() { lab.view(&node.name).await.ok() } else { None };
    ServerStatus {
        name: node.name.clone(),
        cluster: node.cluster.clone(),
        url: format!("nats://127.0.0.1:{}", node.client_port),
        pid: node.pid().await,
        remotes: view.map(|view| view.outbound.into_keys().collect()),
    }
}

pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Listened to so that a closed terminal does not end the lab.
    _hangup: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
