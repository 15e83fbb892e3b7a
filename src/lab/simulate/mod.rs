//! Synthetic servers: a supercluster of any size that answers through one real nats-server.
//!
//! The nats-server has no system account, and everybody is in one ordinary account. There `$SYS.…` are subjects
//! like any other, which nobody but this process answers: no real server counts the synthetic ones, and none
//! answers in between. The first synthetic server carries the real one's ID, so that a
//! client is connected to a server that exists.

mod answers;
mod ask;
mod chance;
mod command;
mod link;
mod pack;
mod render;
mod routes;
#[cfg(test)]
mod tests;
mod text;
mod totals;
mod traffic;
mod wire;
mod world;

use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command as Process};
use tokio::sync::mpsc;

use super::control::Signals;
use super::{LabError, ports};
use crate::clock::Clock;
use crate::model::Time;
use answers::Answers;
use command::Command;
use render::Renderer;
use wire::Incoming;
use world::{Event, World};

const USER: &str = "sim";
const READY_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is to be sent is sent when it is this much, in bytes.
const SEND_BYTES: usize = 256 * 1024;
const SUBJECTS: [&str; 4] =
    ["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.*.*", "$SYS.REQ.ACCOUNT.PING.*", "$SYS.REQ.USER.INFO"];

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// How many clusters.
    pub clusters: usize,
    /// How many servers each of them has.
    pub servers: usize,
    /// The version that they say they run, such as `2.15.1`.
    pub version: String,
    /// What all chance follows from.
    pub seed: u64,
    /// Where the nats-server listens on loopback; without it on a free port.
    pub port: Option<u16>,
    /// The nats-server to run; without it as [`super::nats_server`] finds it.
    pub binary: Option<PathBuf>,
}

/// Answers until SIGINT or SIGTERM. `say` gets each line for the user: first how to connect, then what was done.
pub async fn run(what: Simulation, mut say: impl FnMut(&str) -> std::io::Result<()>) -> Result<(), LabError> {
    let release = ask::release(&what.version);
    let release = release.filter(|release| *release >= (2, 10, 0)).ok_or_else(|| {
        LabError::Spec(format!("{:?} is no version that can be simulated: 2.10.0 and later", what.version))
    })?;
    if what.clusters == 0 || what.servers == 0 {
        return Err(LabError::Spec("nothing is simulated without clusters and servers".to_owned()));
    }
    let mut signals = Signals::new().map_err(LabError::io("cannot listen to signals"))?;
    let home = Home(std::env::temp_dir().join(format!("gatewatch-simulate-{}", nuid::next())));
    let mut ports = ports::Ports::new();
    let port = match what.port {
        Some(port) => port,
        None => ports.take().map_err(LabError::io("cannot take a port"))?,
    };
    let digits = what.clusters.saturating_sub(1).max(1).ilog10() as usize + 1;
    let name = format!("c{:0digits$}-0", 0);
    let password = nuid::next().to_string();
    let mut child = start(&what, &home.0, port, &name, &password).await?;
    let lost = |source| LabError::Io { what: "lost the nats-server".to_owned(), source };
    let (info, mut reader, mut writer) = connect(&mut child, &home.0, port, &password).await?;
    let clock = Clock::start();
    let now = || clock.now().as_nanos();
    let mut world = World::new(what.clusters, what.servers, what.seed, &info.server_id, now());
    let renderer = Renderer { version: what.version, release, client_port: port };
    let mut answers = Answers::new(&world, renderer, what.seed);
    let said = LabError::io("cannot write to standard output");
    let pid = child.id().unwrap_or_default();
    say(&format!(
        "{} servers in {} clusters answer at nats://127.0.0.1:{port} (nats-server is process {pid})\n\
         watch them     gatewatch run -s nats://127.0.0.1:{port}\n\
         a fault        type a line such as: cut {} {}\n\
         end            interrupt\n",
        world.servers.len(),
        what.clusters,
        world.servers.last().map_or("", |s| &s.name),
        world.clusters.first().map_or("", |c| &c.name),
    ))
    .map_err(said)?;
    let mut lines = lines();
    let mut out = Vec::with_capacity(2 * SEND_BYTES);
    loop {
        while out.len() < SEND_BYTES
            && let Some(event) = world.step(now())
        {
            answers.tell(&mut world, event, now(), &mut out);
        }
        answers.work(&mut world, now(), &mut out);
        if out.len() >= SEND_BYTES || (!out.is_empty() && !answers.is_busy()) {
            tokio::select! {
                () = signals.wait() => break,
                written = writer.write_all(&out) => written.map_err(lost)?,
            }
            out.clear();
        }
        let due = clock.instant(Time::from_nanos(world.due().min(answers.due())));
        tokio::select! {
            biased;
            () = signals.wait() => break,
            Some(line) = lines.recv() => {
                if let Some(text) = obey(&line, &mut world, &mut answers, now(), &mut out) {
                    say(&text).map_err(LabError::io("cannot write to standard output"))?;
                }
            }
            came = reader.next() => match came.map_err(lost)? {
                Incoming::Ping => out.extend_from_slice(b"PONG\r\n"),
                Incoming::Request(request) => answers.take(&mut world, request, now(), &mut out),
            },
            () = ready(()), if answers.is_busy() => {}
            () = tokio::time::sleep_until(due), if !answers.is_busy() => {}
        }
    }
    drop(child.start_kill());
    drop(child.wait().await);
    Ok(())
}

/// Does what a line says, and says when.
fn obey(line: &str, world: &mut World, answers: &mut Answers, now: u64, out: &mut Vec<u8>) -> Option<String> {
    match line.trim() {
        "" => return None,
        "help" => return Some(format!("{}\n", command::HELP)),
        _ => {}
    }
    let done = Command::parse(line).and_then(|command| {
        for index in world.goodbyes(&command) {
            answers.tell(world, Event::Shutdown(index), now, out);
        }
        match command {
            Command::Lose(per_million) => answers.lost = per_million,
            Command::Heal => answers.lost = 0,
            _ => {}
        }
        world.obey(&command, now)
    });
    let at = Time::from_nanos(now);
    Some(match done {
        Ok(servers) => {
            let names: Vec<&str> =
                servers.iter().filter_map(|index| Some(&*world.server(*index)?.name)).collect();
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if names.is_empty() {
                format!("{at} {line}\n")
            } else {
                format!("{at} {line}: {}\n", names.join(" "))
            }
        }
        Err(why) => format!("{at} refused: {why}\n"),
    })
}

/// The lines of standard input. They are read by a thread that nobody waits for, since it may never end.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// A directory that ends with the simulation.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn start(
    what: &Simulation,
    dir: &Path,
    port: u16,
    name: &str,
    password: &str,
) -> Result<Child, LabError> {
    let binary = match &what.binary {
        Some(binary) => binary.clone(),
        None => super::nats_server(None).await?,
    };
    super::node::create_dir(dir)?;
    let conf = dir.join("server.conf");
    let account = render::ACCOUNT;
    let text = format!(
        "server_name: \"{name}\"\nlisten: \"127.0.0.1:{port}\"\n\
         accounts: {{ {account}: {{ users: [{{ user: {USER}, password: \"{password}\" }}] }} }}\n\
         no_auth_user: {USER}\nno_system_account: true\n"
    );
    super::node::write(&conf, &text)?;
    let log = dir.join("server.log");
    let output =
        std::fs::File::create(&log).map_err(LabError::io(format!("cannot write {}", log.display())))?;
    let errors = output.try_clone().map_err(LabError::io("cannot write the log"))?;
    Process::new(&binary)
        .arg("-c")
        .arg(&conf)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // An interrupt from the terminal is for us, who then end it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(LabError::io(format!("cannot run {}", binary.display())))
}

async fn connect(
    child: &mut Child,
    dir: &Path,
    port: u16,
    password: &str,
) -> Result<(wire::Info, wire::Reader<OwnedReadHalf>, OwnedWriteHalf), LabError> {
    let waiting = tokio::time::Instant::now();
    loop {
        if matches!(child.try_wait(), Ok(Some(_))) {
            let log = dir.join("server.log");
            let tail = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(LabError::Exited { server: "the nats-server".to_owned(), log, tail });
        }
        match wire::connect(port, USER, password, &SUBJECTS).await {
            Ok(connected) => return Ok(connected),
            Err(error) if waiting.elapsed() > READY_WITHIN => {
                return Err(LabError::NoAnswer {
                    server: "the nats-server".to_owned(),
                    reason: error.to_string(),
                });
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
