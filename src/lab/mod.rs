//! A local supercluster of real nats-servers with faults on demand.
//!
//! Every gateway and route between two servers runs through a TCP proxy that belongs to this one dialer
//! and this one target, so that a single link can be cut, slowed or silenced. The servers are unmodified
//! and configured from `nats-configs/`, as in docker-compose. What they tell each other about addresses is
//! translated on its way (see `wire`), so that gossip works and still leads through the proxies; where
//! gateways use TLS that is not possible, and learned addresses lead past them.
//!
//! Everything ends with the [`Lab`]: processes, sockets, and its directory where it was a temporary one.
//!
//! ```no_run
//! # async fn example() -> Result<(), gatewatch::lab::LabError> {
//! use gatewatch::lab::{Lab, Spec};
//! let lab = Lab::start(Spec::default()).await?;
//! lab.cut("eu-1", "us").await?;
//! lab.heal("eu-1", "us").await?;
//! # Ok(())
//! # }
//! ```

pub mod control;
pub mod creds;
mod error;
mod node;
mod observe;
mod ports;
mod proxy;
pub mod simulate;
mod spec;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::model::Time;
use node::{Node, Site};
use proxy::{Condition, Door, Proxy};
use wire::{Directory, Kind};

pub use creds::Creds;
pub use error::LabError;
pub use observe::{Outbound, View};
pub use proxy::Direction;
pub use spec::{Auth, GatewaySpec, RemoteSpec, Secret, Spec, TlsSpec};

/// The nats-server that is run where nothing else is said.
pub const NATS_SERVER_VERSION: &str = "2.15.1";
/// How long a server may take from its start to its first word.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long a server may take to end after SIGTERM.
const EXIT_WITHIN: Duration = Duration::from_secs(15);

/// When a fault took effect, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// To measure from.
    pub instant: Instant,
    /// To compare with what events say.
    pub time: Time,
}

impl Mark {
    fn now() -> Self {
        Self { instant: Instant::now(), time: Time::try_from(system_time()).unwrap_or_default() }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lab is outside of the core: it makes facts, and dates them"
)]
fn system_time() -> SystemTime {
    SystemTime::now()
}

fn seconds_since_epoch() -> u64 {
    system_time().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A running supercluster.
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    nodes: Vec<Arc<Node>>,
    proxies: Vec<Arc<Proxy>>,
    directory: Arc<Directory>,
    ports: Mutex<ports::Ports>,
    observers: observe::Observers,
    temporary: bool,
}

impl Lab {
    /// Starts the servers, all at once; done when every gateway and every route is up.
    pub async fn start(spec: Spec) -> Result<Self, LabError> {
        let within = spec.start_within;
        let lab = Self::start_unsettled(spec).await?;
        lab.wait_healthy(within).await?;
        Ok(lab)
    }

    /// Starts the servers; done when each serves clients. For superclusters that are meant to be broken.
    pub async fn start_unsettled(mut spec: Spec) -> Result<Self, LabError> {
        if spec.binary.is_none() {
            spec.binary = Some(nats_server(None).await?);
        }
        let lab = Self::build(&spec)?;
        let mut starts = Vec::new();
        for node in &lab.nodes {
            starts.push(lab.launch(node));
        }
        futures_util::future::try_join_all(starts).await?;
        Ok(lab)
    }

    fn build(spec: &Spec) -> Result<Self, LabError> {
        let mut ports = ports::Ports::new();
        let temporary = spec.dir.is_none();
        let nodes = node::plan(spec, &mut ports)?;
        let site = Arc::new(Site::new(spec)?);
        let directory = Arc::new(Directory::default());
        let mut proxies = Vec::new();
        for target in &nodes {
            directory.add_server(Kind::Gateway, target.index, target.gateway_address());
            directory.add_server(Kind::Route, target.index, target.route_address());
            for dialer in nodes.iter().filter(|dialer| dialer.index != target.index) {
                let kind = if dialer.cluster == target.cluster { Kind::Route } else { Kind::Gateway };
                let port = ports.take().map_err(LabError::io("cannot take a port"))?;
                let address =
                    if kind == Kind::Route { target.route_address() } else { target.gateway_address() };
                directory.add_proxy(kind, dialer.index, target.index, port);
                let proxy = Proxy::new(dialer.index, target.index, port, address, Arc::clone(&directory));
                proxies.push(Arc::new(proxy));
            }
        }
        Ok(Self {
            site,
            nodes: nodes.into_iter().map(Arc::new).collect(),
            proxies,
            directory,
            ports: Mutex::new(ports),
            observers: observe::Observers::default(),
            temporary,
        })
    }

    /// The directory of everything: `<server>/server.log`, configurations, credentials.
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// The clusters, each with its servers, in the order of the specification.
    pub fn clusters(&self) -> Vec<(String, Vec<String>)> {
        let mut clusters: Vec<(String, Vec<String>)> = Vec::new();
        for node in &self.nodes {
            match clusters.last_mut() {
                Some((name, servers)) if *name == node.cluster => servers.push(node.name.clone()),
                _ => clusters.push((node.cluster.clone(), vec![node.name.clone()])),
            }
        }
        clusters
    }

    /// All servers' names.
    pub fn servers(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The servers of a cluster, or the one server of this name.
    pub fn members(&self, name: &str) -> Result<Vec<&str>, LabError> {
        Ok(self.select(name)?.into_iter().map(|node| node.name.as_str()).collect())
    }

    /// The client URL of a server.
    pub fn url(&self, server: &str) -> Result<String, LabError> {
        Ok(format!("nats://127.0.0.1:{}", self.node(server)?.client_port))
    }

    /// The client URLs of all servers, as one comma-separated list.
    pub fn urls(&self) -> String {
        let urls: Vec<_> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.client_port)).collect();
        urls.join(",")
    }

    /// The credentials in operator mode.
    pub fn creds(&self) -> Option<&Creds> {
        self.site.creds()
    }

    /// The password of `sys`, `gatewatch` and `app` with [`Auth::Users`].
    pub fn password(&self) -> Option<&str> {
        self.site.password()
    }

    /// How to connect as a user: `sys`, `gatewatch` (both of `SYS`) or `app` (of `APP`).
    pub async fn connect_options(&self, user: &str) -> Result<async_nats::ConnectOptions, LabError> {
        self.site.connect_options(user).await
    }

    /// A port that is free, and stays so until it is used.
    pub fn free_port(&self) -> Result<u16, LabError> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.take().map_err(LabError::io("cannot take a port"))
    }

    /// The process of a server, while it runs.
    pub async fn pid(&self, server: &str) -> Result<Option<u32>, LabError> {
        Ok(self.node(server)?.pid().await)
    }

    // ---- servers

    /// SIGKILL: no goodbye. Done when the process is gone.
    pub async fn kill(&self, server: &str) -> Result<Mark, LabError> {
        let node = self.node(server)?;
        node.signal(Signal::SIGKILL).await?;
        let mark = Mark::now();
        self.set_target_up(node, false).await?;
        node.wait_exit(EXIT_WITHIN).await?;
        Ok(mark)
    }

    /// SIGKILL for all servers of a cluster at once; the mark is the last one's.
    pub async fn kill_cluster(&self, cluster: &str) -> Result<Mark, LabError> {
        let servers = self.members(cluster)?;
        let marks =
            futures_util::future::try_join_all(servers.iter().map(|server| self.kill(server))).await?;
        Ok(marks.into_iter().max_by_key(|mark| mark.instant).unwrap_or_else(Mark::now))
    }

    /// SIGTERM: the server says goodbye. Done when the process is gone; the mark is the signal's.
    pub async fn terminate(&self, server: &str) -> Result<Mark, LabError> {
        let node = self.node(server)?;
        self.set_target_up(node, false).await?;
        node.signal(Signal::SIGTERM).await?;
        let mark = Mark::now();
        node.wait_exit(EXIT_WITHIN).await?;
        Ok(mark)
    }

    /// SIGSTOP: the process freezes, its sockets stay.
    pub async fn stop(&self, server: &str) -> Result<Mark, LabError> {
        self.node(server)?.signal(Signal::SIGSTOP).await?;
        Ok(Mark::now())
    }

    /// SIGCONT.
    pub async fn cont(&self, server: &str) -> Result<Mark, LabError> {
        self.node(server)?.signal(Signal::SIGCONT).await?;
        Ok(Mark::now())
    }

    /// SIGUSR2: lame duck. The server exits by itself within its `lame_duck_duration` (30 s); see
    /// [`Lab::wait_exit`].
    pub async fn lame_duck(&self, server: &str) -> Result<Mark, LabError> {
        self.node(server)?.signal(Signal::SIGUSR2).await?;
        Ok(Mark::now())
    }

    /// Waits until a server's process is gone.
    pub async fn wait_exit(&self, server: &str, within: Duration) -> Result<(), LabError> {
        self.node(server)?.wait_exit(within).await
    }

    /// Starts a server that does not run, with its configuration and ports as they are. Done when it
    /// serves clients; its gateways follow a second later.
    pub async fn start_server(&self, server: &str) -> Result<Mark, LabError> {
        self.launch(self.node(server)?).await?;
        Ok(Mark::now())
    }

    /// Ends a server by SIGTERM and starts it again.
    pub async fn restart(&self, server: &str) -> Result<Mark, LabError> {
        self.restart_with(server, |_| {}).await
    }

    /// Ends a server by SIGTERM where it runs, changes its gateway block, and starts it again.
    pub async fn restart_with(
        &self,
        server: &str,
        edit: impl FnOnce(&mut GatewaySpec),
    ) -> Result<Mark, LabError> {
        let node = self.node(server)?;
        if node.pid().await.is_some() {
            self.terminate(server).await?;
        }
        node.edit(edit);
        self.directory.add_server(Kind::Gateway, node.index, node.gateway_address());
        for proxy in self.proxies.iter().filter(|proxy| proxy.target == node.index) {
            if self.nodes.get(proxy.dialer).is_some_and(|dialer| dialer.cluster != node.cluster) {
                proxy.set_address(node.gateway_address());
            }
        }
        self.start_server(server).await
    }

    /// Gives a server a new certificate for its gateway and has it read its configuration again: SIGHUP.
    /// Done when the files are written; connections that stand keep the old one.
    pub async fn renew_certificate(&self, server: &str, tls: TlsSpec) -> Result<Mark, LabError> {
        let node = self.node(server)?;
        node.edit(|gateway| gateway.tls = Some(tls));
        self.site.tls_block(&self.site.dir.join(&node.name), tls)?;
        node.signal(Signal::SIGHUP).await?;
        Ok(Mark::now())
    }

    /// Ends every server.
    pub async fn down(self) -> Result<(), LabError> {
        for node in &self.nodes {
            if node.pid().await.is_some() {
                node.signal(Signal::SIGKILL).await?;
            }
        }
        let mut exits = Vec::new();
        for node in &self.nodes {
            exits.push(node.wait_exit(EXIT_WITHIN));
        }
        futures_util::future::try_join_all(exits).await?;
        Ok(())
    }

    // ---- links

    /// Resets the connections of a link and refuses new ones. `from` dials; each of the two is a server or
    /// a cluster. Between servers of one cluster it is their route, whoever dials.
    pub async fn cut(&self, from: &str, to: &str) -> Result<Mark, LabError> {
        self.fault(from, to, true, |link| link.door = Door::Shut).await
    }

    /// Resets the connections of a link once; they can be made again at once.
    pub async fn reset(&self, from: &str, to: &str) -> Result<Mark, LabError> {
        self.fault(from, to, true, |_| {}).await
    }

    /// Resets the connections of a link, and accepts new ones only to reset them.
    pub async fn reject(&self, from: &str, to: &str) -> Result<Mark, LabError> {
        self.fault(from, to, true, |link| link.door = Door::Reject).await
    }

    /// Keeps the connections of a link open, accepts new ones, and passes nothing on. What was sent
    /// meanwhile arrives after healing, as after a network's outage.
    pub async fn blackhole(&self, from: &str, to: &str, direction: Direction) -> Result<Mark, LabError> {
        let links = self.links(from, to)?;
        let dialers = self.select(from)?;
        for proxy in links {
            // A route may have been dialed from either end.
            let forth = dialers.iter().any(|node| node.index == proxy.dialer);
            let muted = Some(if forth { direction } else { direction.turned() });
            self.set(proxy, |link| link.muted = muted).await?;
        }
        Ok(Mark::now())
    }

    /// Closes the connections of a link at the acceptor alone: the dialer's stay open and are read to nowhere,
    /// and so are new ones. Healing resets them.
    pub async fn half_open(&self, from: &str, to: &str) -> Result<Mark, LabError> {
        self.fault(from, to, false, |link| link.half_open = true).await
    }

    /// Lets a link pass so many bytes per second in each direction.
    pub async fn throttle(&self, from: &str, to: &str, bytes_per_s: u64) -> Result<Mark, LabError> {
        self.fault(from, to, false, |link| link.bytes_per_s = Some(bytes_per_s.max(1))).await
    }

    /// Lets everything on a link arrive so much later, in each direction.
    pub async fn delay(&self, from: &str, to: &str, delay: Duration) -> Result<Mark, LabError> {
        self.fault(from, to, false, |link| link.delay = delay).await
    }

    /// Ends every fault of a link.
    pub async fn heal(&self, from: &str, to: &str) -> Result<Mark, LabError> {
        self.fault(from, to, false, |link| *link = Condition::default()).await
    }

    /// Ends every fault of every link.
    pub async fn heal_all(&self) -> Result<Mark, LabError> {
        for proxy in &self.proxies {
            self.set(proxy, |link| *link = Condition::default()).await?;
        }
        Ok(Mark::now())
    }

    /// The links that are not as they should be: dialer, target, what is wrong. Where it is the same for
    /// a whole cluster, the cluster is named.
    pub fn faults(&self) -> Vec<(String, String, String)> {
        let mut by_dialer: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
        for proxy in self.proxies.iter().filter(|proxy| proxy.condition() != Condition::default()) {
            by_dialer.entry((proxy.dialer, proxy.condition().to_string())).or_default().push(proxy.target);
        }
        let mut by_targets: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for ((dialer, what), targets) in by_dialer {
            for target in self.summarize(&targets) {
                by_targets.entry((target, what.clone())).or_default().push(dialer);
            }
        }
        let faults = by_targets.into_iter().flat_map(|((target, what), dialers)| {
            self.summarize(&dialers).into_iter().map(move |dialer| (dialer, target.clone(), what.clone()))
        });
        faults.collect()
    }

    /// Names for these servers; a cluster's name where it is there as a whole.
    fn summarize(&self, indexes: &[usize]) -> Vec<String> {
        let mut names = Vec::new();
        for (cluster, servers) in self.clusters() {
            let mine = |index: &&usize| self.nodes.get(**index).is_some_and(|node| node.cluster == cluster);
            let present: Vec<_> = indexes.iter().filter(mine).collect();
            if present.len() == servers.len() {
                names.push(cluster);
            } else {
                names.extend(
                    present.into_iter().filter_map(|index| Some(self.nodes.get(*index)?.name.clone())),
                );
            }
        }
        names
    }

    async fn fault(
        &self,
        from: &str,
        to: &str,
        reset: bool,
        edit: impl Fn(&mut Condition),
    ) -> Result<Mark, LabError> {
        let links = self.links(from, to)?;
        for proxy in &links {
            self.set(proxy, &edit).await?;
        }
        if reset {
            let mut resets = Vec::new();
            for proxy in &links {
                resets.push(proxy.reset());
            }
            futures_util::future::join_all(resets).await;
        }
        Ok(Mark::now())
    }

    async fn set(&self, proxy: &Proxy, edit: impl FnOnce(&mut Condition)) -> Result<(), LabError> {
        proxy.set(edit).await.map_err(LabError::io(format!("cannot listen on port {} again", proxy.port)))
    }

    fn links(&self, from: &str, to: &str) -> Result<Vec<&Arc<Proxy>>, LabError> {
        let (dialers, targets) = (self.select(from)?, self.select(to)?);
        let is = |nodes: &[&Arc<Node>], index| nodes.iter().any(|node| node.index == index);
        let same_cluster = |proxy: &Proxy| {
            self.nodes.get(proxy.dialer).map(|node| &node.cluster)
                == self.nodes.get(proxy.target).map(|node| &node.cluster)
        };
        let links: Vec<_> = self
            .proxies
            .iter()
            .filter(|proxy| {
                (is(&dialers, proxy.dialer) && is(&targets, proxy.target))
                    || (is(&dialers, proxy.target) && is(&targets, proxy.dialer) && same_cluster(proxy))
            })
            .collect();
        if links.is_empty() {
            return Err(LabError::NoLink { from: from.to_owned(), to: to.to_owned() });
        }
        Ok(links)
    }

    fn select(&self, name: &str) -> Result<Vec<&Arc<Node>>, LabError> {
        let found: Vec<_> =
            self.nodes.iter().filter(|node| node.name == name || node.cluster == name).collect();
        if found.is_empty() {
            let clusters = self.clusters().into_iter().map(|(cluster, _)| cluster);
            let known = clusters.chain(self.servers()).collect();
            return Err(LabError::UnknownName { name: name.to_owned(), known });
        }
        Ok(found)
    }

    fn node(&self, name: &str) -> Result<&Arc<Node>, LabError> {
        let unknown = || LabError::UnknownServer { name: name.to_owned(), known: self.servers() };
        self.nodes.iter().find(|node| node.name == name).ok_or_else(unknown)
    }

    async fn set_target_up(&self, target: &Node, up: bool) -> Result<(), LabError> {
        // Without a gateway block nobody listens there: a dialer is refused, and tries the next URL at once.
        let has_gateway = target.spec().enabled;
        for proxy in self.proxies.iter().filter(|proxy| proxy.target == target.index) {
            let peer = self.nodes.get(proxy.dialer).is_some_and(|dialer| dialer.cluster == target.cluster);
            let up = up && (has_gateway || peer);
            let what = || format!("cannot listen on port {}", proxy.port);
            proxy.set_target_up(up).await.map_err(|source| LabError::Io { what: what(), source })?;
        }
        Ok(())
    }

    /// Runs a server's process until it serves clients, and lets others reach it.
    async fn launch(&self, node: &Arc<Node>) -> Result<(), LabError> {
        node.spawn(&self.site, &self.remotes(node), &self.routes(node), self.proxies_to(node.index)).await?;
        self.observers.forget(&node.name).await;
        self.site.write_state(&self.nodes).await?;
        node.wait_ready(READY_WITHIN).await?;
        self.set_target_up(node, true).await
    }

    fn proxies_to(&self, target: usize) -> Vec<Arc<Proxy>> {
        self.proxies.iter().filter(|proxy| proxy.target == target).cloned().collect()
    }

    /// Each other cluster, and this server's own ports towards its servers.
    fn remotes(&self, node: &Node) -> BTreeMap<String, Vec<u16>> {
        let mut remotes: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for proxy in self.proxies.iter().filter(|proxy| proxy.dialer == node.index) {
            if let Some(target) = self.nodes.get(proxy.target)
                && target.cluster != node.cluster
            {
                remotes.entry(target.cluster.clone()).or_default().push(proxy.port);
            }
        }
        remotes
    }

    fn routes(&self, node: &Node) -> Vec<u16> {
        self.proxies
            .iter()
            .filter(|proxy| proxy.dialer == node.index)
            .filter(|proxy| self.nodes.get(proxy.target).is_some_and(|target| target.cluster == node.cluster))
            .map(|proxy| proxy.port)
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.abandon();
        }
        // What a failed test leaves behind is what explains it.
        if self.temporary && !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.site.dir));
        }
    }
}

/// A nats-server to run: that of `scripts/nats-server` in a checkout, which knows all versions; elsewhere
/// `NATS_SERVER` or the `PATH`, where no version is asked for.
pub async fn nats_server(version: Option<&str>) -> Result<PathBuf, LabError> {
    let script = Path::new("scripts/nats-server");
    if script.is_file() {
        let mut command = tokio::process::Command::new(script);
        command.args(version).kill_on_drop(true);
        let output = command.output().await.map_err(LabError::io("cannot run scripts/nats-server"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        return if output.status.success() {
            Ok(PathBuf::from(text(&output.stdout)))
        } else {
            Err(LabError::NoNatsServer(text(&output.stderr)))
        };
    }
    if let Some(version) = version {
        return Err(LabError::NoNatsServer(format!("version {version} needs a checkout of gatewatch")));
    }
    if let Some(path) = std::env::var_os("NATS_SERVER").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join("nats-server"))
        .find(|path| path.is_file())
        .ok_or_else(|| LabError::NoNatsServer("it is not on the PATH".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(_: &T) {}
    fn sendable_when_called<F: Future + Send>(_: &impl Fn(Lab) -> F) {}

    #[test]
    fn a_lab_can_be_used_from_a_task_of_its_own() {
        sendable(&control::serve(Spec::default()));
        let used = |lab: Lab| async move {
            lab.wait_healthy(READY_WITHIN).await?;
            lab.kill_cluster("eu").await?;
            lab.restart_with("eu-0", |gateway| gateway.reject_unknown = true).await?;
            lab.wait_until("eu-0", "", READY_WITHIN, |view| view.routes.is_empty()).await?;
            lab.cut("eu", "us").await?;
            lab.down().await
        };
        sendable_when_called(&used);
    }
}
