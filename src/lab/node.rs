//! One nats-server: its configuration and its process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::creds::{self, APP_ACCOUNT, Creds, SYSTEM_ACCOUNT};
use super::proxy::Proxy;
use super::spec::{Auth, GatewaySpec, RemoteSpec, Spec, TlsSpec};
use super::{LabError, ports, tls};
use crate::connect::Operation;
use crate::connect::permissions::{INBOX_PREFIX, RESPONSES};

const SERVER_CONF: &str = include_str!("../../nats-configs/server.conf");
const GATEWAY_CONF: &str = include_str!("../../nats-configs/gateway.conf");
/// What all gateways present and want, unless told otherwise.
const GATEWAY_USER: &str = "gateway";
/// How often a port is tried until a server answers on it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 8;
/// The file that lists the processes, for `lab down` after a lab that died.
pub(super) const STATE_FILE: &str = "lab.json";

/// What the servers of one lab share.
pub(super) struct Site {
    pub(super) dir: PathBuf,
    access: Access,
    gateway_password: String,
    jetstream: bool,
    max_payload_bytes: Option<usize>,
    authority: OnceLock<tls::Authority>,
}

enum Access {
    Operator(Creds),
    Users { password: String },
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Site {
    pub(super) fn new(spec: &Spec) -> Result<Self, LabError> {
        let dir = match &spec.dir {
            Some(dir) => std::path::absolute(dir).map_err(LabError::io("cannot tell the run directory"))?,
            None => std::env::temp_dir().join(format!("gatewatch-lab-{}", nuid::next())),
        };
        let creds_dir = dir.join("creds");
        create_dir(&creds_dir)?;
        let access = match &spec.auth {
            Auth::Operator { dir: None } => Access::Operator(creds::ensure(&creds_dir, false)?.0),
            Auth::Operator { dir: Some(own) } => {
                let own =
                    std::path::absolute(own).map_err(LabError::io("cannot tell the directory of creds"))?;
                let (creds, _) = creds::ensure(&own, false)?;
                // The servers' configuration looks for it beside their own directories.
                std::fs::copy(creds.auth_conf(), creds_dir.join("auth.conf"))
                    .map_err(LabError::io("cannot copy auth.conf"))?;
                Access::Operator(creds)
            }
            Auth::Users => {
                let password = nuid::next().to_string();
                write(&creds_dir.join("auth.conf"), &users_conf(&password, spec.jetstream, &spec.accounts))?;
                Access::Users { password }
            }
        };
        let gateway_password = nuid::next().to_string();
        Ok(Self {
            dir,
            access,
            gateway_password,
            jetstream: spec.jetstream,
            max_payload_bytes: spec.max_payload_bytes,
            authority: OnceLock::new(),
        })
    }

    pub(super) fn creds(&self) -> Option<&Creds> {
        match &self.access {
            Access::Operator(creds) => Some(creds),
            Access::Users { .. } => None,
        }
    }

    pub(super) fn password(&self) -> Option<&str> {
        match &self.access {
            Access::Operator(_) => None,
            Access::Users { password } => Some(password),
        }
    }

    pub(super) async fn connect_options(&self, user: &str) -> Result<async_nats::ConnectOptions, LabError> {
        let options = match &self.access {
            Access::Operator(creds) => {
                let file = creds.user(user);
                let what = format!("cannot read {}", file.display());
                async_nats::ConnectOptions::with_credentials_file(file).await.map_err(LabError::io(what))?
            }
            Access::Users { password } => {
                async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.clone())
            }
        };
        Ok(if user == "gatewatch" { options.custom_inbox_prefix(INBOX_PREFIX) } else { options })
    }

    /// Notes the processes, for whoever has to end them when this one cannot.
    pub(super) async fn write_state(&self, nodes: &[Arc<Node>]) -> Result<(), LabError> {
        let mut pids = BTreeMap::new();
        for node in nodes {
            if let Some(pid) = node.pid().await {
                pids.insert(node.name.clone(), pid);
            }
        }
        write(&self.dir.join(STATE_FILE), &json!({ "pid": std::process::id(), "servers": pids }).to_string())
    }

    pub(super) fn tls_block(&self, dir: &Path, spec: TlsSpec) -> Result<String, LabError> {
        if self.authority.get().is_none() {
            // Where two start at once the first one's authority stays, whose file must be the last written.
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            if self.authority.get().is_none() {
                drop(self.authority.set(tls::Authority::new(&self.dir)?));
            }
        }
        self.authority.get().map_or(Ok(String::new()), |authority| authority.block(dir, spec))
    }
}

/// `auth.conf` without an operator.
fn users_conf(password: &str, jetstream: bool, more: &[String]) -> String {
    let permissions = json!({
        "publish": { "allow": creds::agent_may(Operation::Publish) },
        "subscribe": { "allow": creds::agent_may(Operation::Subscribe) },
        "allow_responses": { "max": RESPONSES.0, "expires": RESPONSES.1 },
    });
    let user = |name: &str| json!({ "user": name, "password": password });
    let mut agent = user("gatewatch");
    if let Some(agent) = agent.as_object_mut() {
        agent.insert("permissions".to_owned(), permissions);
    }
    let from_system = |subject: &str| json!({ "account": SYSTEM_ACCOUNT, "subject": subject });
    let mut app = json!({
        "users": [user("app")],
        "imports": creds::shared()
            .iter()
            .map(|e| json!({ if e.service { "service" } else { "stream" }: from_system(&e.subject) }))
            .collect::<Vec<_>>(),
    });
    if let Some(app) = app.as_object_mut()
        && jetstream
    {
        app.insert("jetstream".to_owned(), json!("enabled"));
    }
    let system = json!({
        "users": [user("sys"), agent],
        "exports": creds::shared()
            .iter()
            .map(|e| {
                if e.service {
                    json!({ "service": e.subject, "response_type": "stream" })
                } else {
                    json!({ "stream": e.subject })
                }
            })
            .collect::<Vec<_>>(),
    });
    let jetstream = if jetstream { "enabled" } else { "disabled" };
    let more =
        more.iter().map(|name| (name.clone(), json!({ "users": [user(name)], "jetstream": jetstream })));
    let accounts = [(SYSTEM_ACCOUNT.to_owned(), system), (APP_ACCOUNT.to_owned(), app)];
    let accounts = Value::Object(accounts.into_iter().chain(more).collect());
    format!("accounts: {accounts:#}\nsystem_account: {SYSTEM_ACCOUNT}\n")
}

/// One server of the lab.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) client_port: u16,
    pub(super) route_port: u16,
    own_gateway_port: u16,
    binary: Option<PathBuf>,
    gateway: Mutex<GatewaySpec>,
    process: tokio::sync::Mutex<Option<Process>>,
    /// For `Drop`, which cannot await.
    last_process: Mutex<Option<(u32, watch::Receiver<Option<ExitStatus>>)>>,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    exit: watch::Receiver<Option<ExitStatus>>,
    keeper: JoinHandle<()>,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper owns the child, which is killed with it.
        self.keeper.abort();
    }
}

/// The servers of a specification, with ports.
pub(super) fn plan(spec: &Spec, ports: &mut ports::Ports) -> Result<Vec<Node>, LabError> {
    let mut nodes: Vec<Node> = Vec::new();
    for (cluster, servers) in &spec.clusters {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if cluster.is_empty() || !cluster.chars().all(plain) {
            return Err(LabError::Spec(format!(
                "{cluster:?} is no name for a cluster: use letters, digits, - and _"
            )));
        }
        if *servers == 0 || nodes.iter().any(|node| node.cluster == *cluster) {
            return Err(LabError::Spec(format!("cluster {cluster} is there twice or has no server")));
        }
        for number in 0..*servers {
            let name = format!("{cluster}-{number}");
            let mut port = || ports.take().map_err(LabError::io("cannot take a port"));
            nodes.push(Node {
                index: nodes.len(),
                cluster: cluster.clone(),
                client_port: port()?,
                route_port: port()?,
                own_gateway_port: port()?,
                binary: spec
                    .binaries
                    .get(&name)
                    .or_else(|| spec.binaries.get(cluster))
                    .or(spec.binary.as_ref())
                    .cloned(),
                gateway: Mutex::new(spec.gateways.get(&name).cloned().unwrap_or_default()),
                process: tokio::sync::Mutex::default(),
                last_process: Mutex::default(),
                name,
            });
        }
    }
    let mut named = spec.binaries.keys().chain(spec.gateways.keys());
    if let Some(name) =
        named.find(|name| !nodes.iter().any(|node| node.name == **name || node.cluster == **name))
    {
        let known = nodes.into_iter().map(|node| node.name).collect();
        return Err(LabError::UnknownName { name: name.clone(), known });
    }
    Ok(nodes)
}

impl Node {
    /// Where its gateway listens.
    pub(super) fn gateway_address(&self) -> SocketAddrV4 {
        let spec = self.spec();
        SocketAddrV4::new(
            spec.host.unwrap_or(Ipv4Addr::LOCALHOST),
            spec.port.unwrap_or(self.own_gateway_port),
        )
    }

    pub(super) fn route_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.route_port)
    }

    pub(super) fn edit(&self, edit: impl FnOnce(&mut GatewaySpec)) {
        edit(&mut self.gateway.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn spec(&self) -> GatewaySpec {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process, while it runs.
    pub(super) async fn pid(&self) -> Option<u32> {
        let process = self.process.lock().await;
        process.as_ref().filter(|process| process.exit.borrow().is_none()).map(|process| process.pid)
    }

    pub(super) async fn signal(&self, signal: Signal) -> Result<(), LabError> {
        // The keeper has not reaped it while `exit` is empty, so the number is still this process's.
        let pid = self.pid().await.and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid else {
            return Err(LabError::State { server: self.name.clone(), state: "does not run" });
        };
        kill(Pid::from_raw(pid), signal)
            .map_err(|errno| LabError::io(format!("cannot send {signal} to {}", self.name))(errno.into()))
    }

    pub(super) async fn wait_exit(&self, within: Duration) -> Result<(), LabError> {
        let Some(mut exit) = self.process.lock().await.as_ref().map(|process| process.exit.clone()) else {
            return Ok(());
        };
        match tokio::time::timeout(within, exit.wait_for(Option::is_some)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(LabError::Timeout {
                what: format!("the end of {}", self.name),
                within_ms: within.as_millis(),
                last: "it still runs".to_owned(),
            }),
        }
    }

    /// Starts the process. `proxies` lead here, and refuse again when it ends.
    pub(super) async fn spawn(
        &self,
        site: &Site,
        remotes: &BTreeMap<String, Vec<u16>>,
        routes: &[u16],
        proxies: Vec<Arc<Proxy>>,
    ) -> Result<(), LabError> {
        let mut process = self.process.lock().await;
        if process.as_ref().is_some_and(|process| process.exit.borrow().is_none()) {
            return Err(LabError::State { server: self.name.clone(), state: "runs already" });
        }
        let binary = self.binary.clone().unwrap_or_else(|| PathBuf::from("nats-server"));
        let dir = site.dir.join(&self.name);
        create_dir(&dir)?;
        let gateway = self.spec();
        let max_payload =
            site.max_payload_bytes.map(|bytes| format!("\nmax_payload: {bytes}\n")).unwrap_or_default();
        write(&dir.join("server.conf"), &format!("{SERVER_CONF}{max_payload}"))?;
        write(&dir.join("gateway.conf"), &gateway_conf(&gateway, site, &dir)?)?;
        let log = dir.join("server.log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let output = output.map_err(LabError::io(format!("cannot write {}", log.display())))?;
        let errors = output.try_clone().map_err(LabError::io("cannot write the log"))?;
        let mut command = Command::new(&binary);
        command
            .arg("-c")
            .arg(dir.join("server.conf"))
            .envs(self.environment(&gateway, site, &dir, remotes, routes))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // An interrupt from the terminal is for the lab, which then ends the servers.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn();
        let mut child = child.map_err(LabError::io(format!("cannot run {}", binary.display())))?;
        let (exited, exit) = watch::channel(None);
        let pid = child.id().unwrap_or_default();
        let keeper = tokio::spawn(async move {
            let status = child.wait().await.unwrap_or_default();
            for proxy in proxies {
                if let Err(error) = proxy.set_target_up(false).await {
                    tracing::error!(%error, "a proxy cannot close");
                }
            }
            exited.send_replace(Some(status));
        });
        *self.last_process.lock().unwrap_or_else(PoisonError::into_inner) = Some((pid, exit.clone()));
        *process = Some(Process { pid, exit, keeper, log });
        Ok(())
    }

    /// Waits until the server speaks to clients. Its gateway and route listeners are up by then.
    pub(super) async fn wait_ready(&self, within: Duration) -> Result<(), LabError> {
        let (mut exit, log) = match self.process.lock().await.as_ref() {
            Some(process) => (process.exit.clone(), process.log.clone()),
            None => return Err(LabError::State { server: self.name.clone(), state: "does not run" }),
        };
        let spoken = async {
            while !speaks(self.client_port).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            spoken = tokio::time::timeout(within, spoken) => spoken.map_err(|_| LabError::Timeout {
                what: format!("the first word of {}", self.name),
                within_ms: within.as_millis(),
                last: tail(&log),
            }),
            _ = exit.wait_for(Option::is_some) => {
                Err(LabError::Exited { server: self.name.clone(), tail: tail(&log), log })
            }
        }
    }

    /// Ends the process without waiting for it.
    pub(super) fn abandon(&self) {
        let last = self.last_process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((pid, exit)) = last
            && exit.borrow().is_none()
            && let Ok(pid) = i32::try_from(pid)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn environment(
        &self,
        gateway: &GatewaySpec,
        site: &Site,
        dir: &Path,
        remotes: &BTreeMap<String, Vec<u16>>,
        routes: &[u16],
    ) -> Vec<(&'static str, String)> {
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let password = gateway.password.as_ref().map_or(&site.gateway_password, |password| &password.0);
        // As servers tell it each other. A route that was first dialed by what a peer told, and then found to be
        // configured by another URL, is not dialed again when it is lost (each version up to 2.15.1).
        let mut routes: Vec<_> =
            routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}/")).collect();
        if routes.is_empty() && site.jetstream {
            // JetStream across clusters wants a route even of a server without peers; its own will do.
            routes.push(format!("nats://127.0.0.1:{}", self.route_port));
        }
        let jetstream = if site.jetstream {
            json!({ "store_dir": dir.join("jetstream"), "max_memory_store": 16 << 20, "max_file_store": 64 << 20 })
        } else {
            json!(false)
        };
        vec![
            ("SERVER_NAME", gateway.server_name.clone().unwrap_or_else(|| self.name.clone())),
            ("CLUSTER", gateway.name.clone().unwrap_or_else(|| self.cluster.clone())),
            ("CLIENT_LISTEN", listen(self.client_port)),
            ("ROUTE_LISTEN", listen(self.route_port)),
            ("ROUTES", json!(routes).to_string()),
            ("JETSTREAM", jetstream.to_string()),
            // For a resolver that keeps accounts, in place of the one in memory.
            ("RESOLVER_DIR", json!(dir.join("resolver")).to_string()),
            ("GATEWAY_LISTEN", self.gateway_address().to_string()),
            ("GATEWAY_USER", GATEWAY_USER.to_owned()),
            ("GATEWAY_PASSWORD", format!("{password:?}")),
            ("GATEWAYS", gateways(gateway, &site.gateway_password, remotes)),
        ]
    }
}

/// The value of `GATEWAYS`.
fn gateways(gateway: &GatewaySpec, password: &str, remotes: &BTreeMap<String, Vec<u16>>) -> String {
    let all = || remotes.keys().map(|name| RemoteSpec::new(name)).collect();
    let list: Vec<_> = gateway
        .remotes
        .clone()
        .unwrap_or_else(all)
        .into_iter()
        .map(|remote| {
            let password = remote.password.as_ref().map_or(password, |password| &password.0);
            let cluster = remote.leads_to.as_ref().unwrap_or(&remote.name);
            let own = || {
                let ports = remotes.get(cluster).into_iter().flatten();
                ports.map(|port| format!("nats://{GATEWAY_USER}:{password}@127.0.0.1:{port}")).collect()
            };
            json!({ "name": remote.name, "urls": remote.urls.clone().unwrap_or_else(own) })
        })
        .collect();
    json!(list).to_string()
}

/// The gateway block of the repository, with what this server has besides.
fn gateway_conf(gateway: &GatewaySpec, site: &Site, dir: &Path) -> Result<String, LabError> {
    if !gateway.enabled {
        return Ok("# This server has no gateway.\n".to_owned());
    }
    let mut more = String::new();
    if gateway.reject_unknown {
        more.push_str("  reject_unknown_cluster: true\n");
    }
    if let Some(retries) = gateway.connect_retries {
        // Writing to a String cannot fail.
        let _ = writeln!(more, "  connect_retries: {retries}");
    }
    if let Some(address) = &gateway.advertise {
        let _ = writeln!(more, "  advertise: {address:?}");
    }
    if let Some(tls) = gateway.tls {
        more.push_str(&site.tls_block(dir, tls)?);
    }
    let block = GATEWAY_CONF.trim_end().strip_suffix('}').unwrap_or(GATEWAY_CONF);
    Ok(format!("{block}{more}}}\n"))
}

/// Whether something on the port greets as nats-server does.
async fn speaks(port: u16) -> bool {
    let mut greeting = [0; 5];
    let read = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.read_exact(&mut greeting).await
    };
    tokio::time::timeout(Duration::from_secs(1), read).await.is_ok_and(|read| read.is_ok())
        && greeting == *b"INFO "
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// A directory for this user alone: it will hold seeds and passwords.
pub(super) fn create_dir(dir: &Path) -> Result<(), LabError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(LabError::io(format!("cannot make the directory {}", dir.display())))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(LabError::io(format!("cannot write {}", path.display())))
}
