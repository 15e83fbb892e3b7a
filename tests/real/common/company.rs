//! Agents, each beside its own server and named like it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use gatewatch::lab::{Lab, Spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use super::{WITHIN, gatewatch};

pub(crate) struct Company {
    pub(crate) lab: Lab,
    agents: BTreeMap<String, Child>,
    configs: BTreeMap<String, PathBuf>,
}

impl Company {
    pub(crate) async fn start(spec: Spec, servers: &[&str]) -> Self {
        let mut company = Self::none(spec).await;
        for server in servers {
            company.join(server);
        }
        company
    }

    /// A lab, and nobody who watches it yet.
    pub(crate) async fn none(spec: Spec) -> Self {
        let lab = Lab::start(spec).await.unwrap();
        Self { lab, agents: BTreeMap::new(), configs: BTreeMap::new() }
    }

    /// What the agent beside this server is told when it starts.
    pub(crate) fn configure(&mut self, server: &str, config: &str) {
        let file = self.lab.dir().join(format!("agent-{server}.toml"));
        std::fs::write(&file, config).unwrap();
        self.configs.insert(server.to_owned(), file);
    }

    pub(crate) fn join(&mut self, server: &str) {
        let mut command = gatewatch();
        let url = self.lab.url(server).unwrap();
        command.args(["run", "--name", server, "--inbox-prefix", "_INBOX_gatewatch", "--server", &url]);
        command.arg("--creds").arg(self.lab.creds().unwrap().user("gatewatch"));
        if let Some(config) = self.configs.get(server) {
            command.arg("--config").arg(config);
        }
        let file = self.lab.dir().join(format!("agent-{server}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        command.env("HOME", self.lab.dir()).stdout(Stdio::null()).stderr(log);
        self.agents.insert(server.to_owned(), command.spawn().unwrap());
    }

    pub(crate) async fn kill(&mut self, server: &str) {
        let mut agent = self.agents.remove(server).unwrap();
        agent.kill().await.unwrap();
    }

    /// SIGTERM; it ends well.
    pub(crate) async fn end(&mut self, server: &str) {
        self.signal(server, Signal::SIGTERM);
        let mut agent = self.agents.remove(server).unwrap();
        let status = tokio::time::timeout(WITHIN, agent.wait()).await;
        let status = status.expect("the agent ends when told to").unwrap();
        assert!(status.success(), "{status}\n{}", self.log(server));
    }

    pub(crate) fn signal(&self, server: &str, signal: Signal) {
        kill(Pid::from_raw(self.pid(server)), signal).unwrap();
    }

    pub(crate) fn pid(&self, server: &str) -> i32 {
        self.agents[server].id().and_then(|pid| i32::try_from(pid).ok()).expect("the agent has not ended")
    }

    pub(crate) fn log(&self, server: &str) -> String {
        std::fs::read_to_string(self.lab.dir().join(format!("agent-{server}.log"))).unwrap_or_default()
    }

    /// Nobody panicked.
    pub(crate) fn sound(&mut self) {
        for (server, agent) in &mut self.agents {
            assert!(agent.try_wait().unwrap().is_none(), "the agent beside {server} ended");
        }
        for server in self.lab.servers() {
            assert!(!self.log(&server).contains("panicked"), "{}", self.log(&server));
        }
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in self.agents.keys() {
                let log = self.log(server);
                let from = log.lines().count().saturating_sub(30);
                eprintln!("{server}:\n{}", log.lines().skip(from).collect::<Vec<_>>().join("\n"));
            }
        }
    }
}
