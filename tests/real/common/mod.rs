//! The built agent beside a lab: everything that it publishes is kept, and each finding is held against the
//! contract as it arrives.

pub(crate) mod company;
pub(crate) mod load;
pub(crate) mod simulation;
pub(crate) mod store;
pub(crate) mod sweep;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Client, Message};
use futures_util::StreamExt;
use gatewatch::lab::{self, Lab, Spec};
use gatewatch::publish::schema::SCHEMAS;
use gatewatch::publish::token;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

/// Nothing that is waited for takes longer, unless it never comes.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);
/// How long after a fault its consequences may show.
pub(crate) const SETTLE: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// So many superclusters of nine servers keep pace on two cores.
pub(crate) static LABS: Semaphore = Semaphore::const_new(10);

/// A lab's nats-server of one version.
pub(crate) async fn binary(version: &str) -> PathBuf {
    lab::nats_server(Some(version)).await.unwrap()
}

/// Something that the agent published.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) subject: String,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

impl Event {
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn list(&self, pointer: &str) -> Vec<String> {
        let list = self.body.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// `gateway_disconnected eu/eu-1/us`: the check, and cluster, server and peer, `_` for none.
    pub(crate) fn about(&self) -> String {
        let name = |key: &str| self.body["entity"][key].as_str();
        let peer = name("remote").or(name("account")).or(name("peer_server"));
        let [cluster, server, peer] = [name("cluster"), name("server"), peer].map(|name| name.unwrap_or("_"));
        format!("{} {cluster}/{server}/{peer}", self.text("/check"))
    }

    pub(crate) fn is(&self, action: &str) -> bool {
        self.body["action"] == action
    }

    pub(crate) fn is_finding(&self) -> bool {
        self.body["type"] == "io.nats.gatewatch.advisory.v1.finding"
    }

    pub(crate) fn is_epoch(&self) -> bool {
        self.body["type"] == "io.nats.gatewatch.metric.v1.epoch"
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} {} {} [{} {}: {}] {} inhibits {:?}",
            self.text("/action"),
            self.text("/reason"),
            self.about(),
            self.text("/cause/kind"),
            self.text("/cause/confidence"),
            self.text("/cause/detail"),
            self.text("/summary"),
            self.list("/inhibits"),
        )
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<Event>,
    /// What is not as the contract has it.
    pub(crate) odd: Vec<String>,
    /// The last revision of each opening.
    revisions: BTreeMap<(String, String), u64>,
    /// What came before under each `Nats-Msg-Id`. What the agent cannot know to have arrived when its server
    /// is killed is sent again, under the same one: a stream drops it, and so do we.
    pub(crate) ids: BTreeMap<String, Value>,
    /// Whether openings and revisions are not counted: who is killed without a file says things anew.
    lawless: bool,
}

/// What of `message` is not as the shipped schema of its type has it.
fn against_its_schema(message: &Value) -> Option<String> {
    static VALIDATORS: LazyLock<BTreeMap<&str, jsonschema::Validator>> = LazyLock::new(|| {
        let validator = |text: &str| {
            let schema = serde_json::from_str(text).unwrap();
            jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
        };
        SCHEMAS.iter().map(|schema| (schema.name, validator(schema.text))).collect()
    });
    let kind = message["type"].as_str().unwrap_or_default();
    let Some(validator) = VALIDATORS.get(kind) else {
        return Some(format!("the type {kind:?} has no schema"));
    };
    let odd: Vec<String> =
        validator.iter_errors(message).map(|e| format!("{}: {e}", e.instance_path())).collect();
    (!odd.is_empty()).then(|| odd.join("; "))
}

impl Heard {
    /// Who hears from several places counts openings and revisions at the end.
    pub(crate) fn lawless() -> Self {
        Self { lawless: true, ..Self::default() }
    }

    pub(crate) fn take(&mut self, message: &Message) {
        let subject = message.subject.to_string();
        // What agents say to each other is theirs, and what they are asked is no event.
        let own = ["gatewatch.peer.", "gatewatch.ledger.", "gatewatch.api."];
        if own.iter().any(|own| subject.starts_with(own)) {
            return;
        }
        let body: Value = match serde_json::from_slice(&message.payload) {
            Ok(body) => body,
            Err(error) => return self.odd.push(format!("{subject}: {error}")),
        };
        if let Some(odd) = against_its_schema(&body) {
            self.odd.push(format!("{subject}: {odd}"));
        }
        let event = Event { subject, body, at: Instant::now() };
        if event.is_finding() {
            let id = header(message, "Nats-Msg-Id");
            if self.ids.get(&id) == Some(&event.body) {
                return;
            }
            self.ids.insert(id, event.body.clone());
            let mut odd = Vec::new();
            self.hold_against_the_contract(&event, message, &mut odd);
            self.odd.extend(odd.into_iter().map(|what| format!("{}: {what}", event.line())));
        }
        self.events.push(event);
    }

    fn hold_against_the_contract(&mut self, event: &Event, message: &Message, odd: &mut Vec<String>) {
        let body = &event.body;
        if message.payload.len() > 256 * 1024 || message.payload.contains(&b'\n') {
            odd.push("is larger than 256 KiB, or not one line".to_owned());
        }

        let entity = |key: &str| body["entity"][key].as_str();
        let peer = entity("remote").or(entity("account")).or(entity("peer_server"));
        let subject = format!(
            "gatewatch.finding.{}.{}.{}.{}.{}",
            event.text("/severity"),
            event.text("/check"),
            token(entity("cluster")),
            token(entity("server")),
            token(peer)
        );
        if subject != event.subject || subject.split('.').count() != 7 {
            odd.push(format!("went to {} and its body says {subject}", event.subject));
        }

        let header = |name: &str| header(message, name);
        for (name, pointer) in [
            ("Gatewatch-Action", "/action"),
            ("Gatewatch-State", "/state"),
            ("Gatewatch-Severity", "/severity"),
        ] {
            if header(name) != event.text(pointer) {
                odd.push(format!("the header {name} is {:?}", header(name)));
            }
        }
        let revision = body["revision"].as_u64().unwrap_or_default();
        let opened_at: Option<gatewatch::model::Time> =
            serde_json::from_value(body["opened_at"].clone()).ok();
        let opened_at_ms = opened_at.unwrap_or_default().as_millis();
        let id = format!("{}:{opened_at_ms}:{revision}", event.text("/fingerprint"));
        if header("Nats-Msg-Id") != id {
            odd.push(format!("Nats-Msg-Id is {:?} and not {id:?}", header("Nats-Msg-Id")));
        }

        if self.lawless {
            return;
        }
        let opening = (event.text("/fingerprint").to_owned(), event.text("/opened_at").to_owned());
        let last = self.revisions.insert(opening, revision);
        let expected = match (last, event.is("opened")) {
            (None, true) => 1,
            (None, false) => return odd.push("was never opened".to_owned()),
            (Some(_), true) => return odd.push("was opened twice".to_owned()),
            (Some(last), false) => last + 1,
        };
        if revision != expected {
            odd.push(format!("has revision {revision} after {last:?}"));
        }
    }
}

fn header(message: &Message, name: &str) -> String {
    let headers = message.headers.as_ref();
    headers.and_then(|h| h.get(name)).map(|v| v.as_str().to_owned()).unwrap_or_default()
}

/// The built program.
pub(crate) fn gatewatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
    // The contexts and variables of whoever runs the tests are not ours.
    command.env_clear().env("RUST_LOG", "info").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command
}

/// How to start the agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentSpec {
    /// The only server that it is told; it learns the others of that cluster.
    pub(crate) server: String,
    /// Its configuration.
    pub(crate) config: Option<String>,
    /// Where we hear it from; in the same cluster, so that nothing but the two themselves can keep us apart.
    pub(crate) listen_at: String,
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self { server: "eu-0".to_owned(), config: None, listen_at: "eu-1".to_owned() }
    }
}

/// A lab with an agent beside it, and all that the agent said.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) lab: Lab,
    spec: AgentSpec,
    heard: Arc<Mutex<Heard>>,
    agent: Option<Agent>,
    logs: Vec<Arc<Mutex<String>>>,
    listener: JoinHandle<()>,
    done: bool,
    _permit: SemaphorePermit<'static>,
}

#[derive(Debug)]
struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// A healthy lab, watched.
    pub(crate) async fn start(spec: Spec) -> Self {
        Self::start_as(spec, AgentSpec::default(), true).await
    }

    async fn start_as(spec: Spec, agent: AgentSpec, healthy: bool) -> Self {
        let mut watch = Self::unwatched(spec, agent, healthy).await;
        watch.start_agent().await;
        watch
    }

    /// A lab, and nobody who watches it yet.
    pub(crate) async fn unwatched(spec: Spec, agent: AgentSpec, healthy: bool) -> Self {
        let permit = LABS.acquire().await.unwrap();
        let lab = if healthy { Lab::start(spec).await } else { Lab::start_unsettled(spec).await }.unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listener = listen(&lab, &agent.listen_at, &heard).await;
        write_config(&lab, &agent);
        Self {
            lab,
            spec: agent,
            heard,
            agent: None,
            logs: Vec::new(),
            listener,
            done: false,
            _permit: permit,
        }
    }

    /// The next agent is another one, and is heard from elsewhere.
    pub(crate) async fn move_to(&mut self, spec: AgentSpec) {
        assert!(self.agent.is_none(), "an agent runs");
        if spec.listen_at != self.spec.listen_at {
            self.listener.abort();
            self.listener = listen(&self.lab, &spec.listen_at, &self.heard).await;
        }
        write_config(&self.lab, &spec);
        self.spec = spec;
    }

    /// Starts the agent; done when it judges what it sees.
    pub(crate) async fn start_agent(&mut self) {
        let mark = self.mark();
        self.spawn_agent();
        self.wait("the agent's first settled epoch", mark, WITHIN, |event| {
            event.is_epoch() && event.body["settled"] == true
        })
        .await;
    }

    fn spawn_agent(&mut self) {
        let mut command = self.gatewatch("run");
        command.args(["--name", "watcher"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let _ = writeln!(lock(&log), "{line}");
                }
            }
        });
        self.logs.push(Arc::clone(&log));
        self.agent = Some(Agent { child, log });
    }

    /// A command of ours that looks from where the agent looks, by the same configuration.
    pub(crate) fn gatewatch(&self, name: &str) -> Command {
        let mut command = gatewatch();
        let url = self.lab.url(&self.spec.server).unwrap();
        command.args([name, "--inbox-prefix", "_INBOX_gatewatch", "--server", &url]);
        command.env("HOME", self.lab.dir());
        match (self.lab.creds(), self.lab.password()) {
            (Some(creds), _) => command.arg("--creds").arg(creds.user("gatewatch")),
            (None, password) => {
                command.args(["--user", "gatewatch", "--password", password.unwrap_or_default()])
            }
        };
        if let Some(file) = self.config() {
            command.arg("--config").arg(file);
        }
        command
    }

    /// The agent's configuration, where it has one.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        self.spec.config.as_ref().map(|_| config_file(&self.lab))
    }

    /// Tells the agent by a signal what to do.
    pub(crate) fn signal_agent(&self, signal: Signal) {
        let agent = self.agent.as_ref().expect("an agent runs");
        let pid = agent.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("the agent has not ended");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Ends the agent by a signal; what it says on its way is heard.
    pub(crate) async fn end_agent(&mut self, signal: Signal) {
        self.signal_agent(signal);
        let mut agent = self.agent.take().expect("an agent runs");
        let status = tokio::time::timeout(WITHIN, agent.child.wait()).await;
        let status = status.expect("the agent ends when told to").unwrap();
        if signal == Signal::SIGTERM {
            assert!(status.success(), "{status}\n{}", lock(&agent.log));
        }
    }

    /// From here on an agent may say again what it forgot that it said.
    pub(crate) fn lawless(&self) {
        lock(&self.heard).lawless = true;
    }

    /// The agent ends in order; what it forgot when it was killed does not matter.
    pub(crate) async fn finish_anyhow(mut self) {
        self.sound();
        self.end_agent(Signal::SIGTERM).await;
        self.done = true;
    }

    /// How much was heard so far.
    pub(crate) fn mark(&self) -> usize {
        lock(&self.heard).events.len()
    }

    pub(crate) fn since(&self, mark: usize) -> Vec<Event> {
        lock(&self.heard).events.get(mark..).unwrap_or_default().to_vec()
    }

    pub(crate) fn findings(&self, mark: usize) -> Vec<Event> {
        self.since(mark).into_iter().filter(Event::is_finding).collect()
    }

    /// Waits for the first event since `mark` that is wanted.
    pub(crate) async fn wait(
        &mut self,
        what: &str,
        mark: usize,
        within: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Event {
        let deadline = Instant::now() + within;
        loop {
            self.sound();
            if let Some(event) = self.since(mark).into_iter().find(&wanted) {
                return event;
            }
            assert!(Instant::now() < deadline, "{what} did not come within {within:?}\n{}", self.story(mark));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn wait_opened(&mut self, mark: usize, about: &str, within: Duration) -> Event {
        self.wait(&format!("opened {about}"), mark, within, |event| {
            event.is("opened") && event.about() == about
        })
        .await
    }

    pub(crate) async fn wait_resolved(&mut self, mark: usize, opened: &Event, within: Duration) -> Event {
        let fingerprint = opened.text("/fingerprint").to_owned();
        let what = format!("resolved {}", opened.about());
        self.wait(&what, mark, within, |event| {
            event.is("resolved") && event.text("/fingerprint") == fingerprint
        })
        .await
    }

    /// Waits until so long after `from`. Only time can prove that nothing comes.
    pub(crate) async fn observe_until(&mut self, until: Instant) {
        while Instant::now() < until {
            self.sound();
            tokio::time::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Waits for a finding, and until `SETTLE` after the fault for whatever else might come: nothing may.
    /// The answer is the finding as it was said last.
    pub(crate) async fn exactly_one(&mut self, mark: usize, about: &str) -> Event {
        let start = Instant::now();
        self.wait_opened(mark, about, WITHIN).await;
        eprintln!("{about}: opened after {} ms", start.elapsed().as_millis());
        // What opened late is given time for its consequences too.
        let until = (start + SETTLE).max(Instant::now() + Duration::from_secs(3));
        self.observe_until(until).await;
        self.opened_are(mark, &[about]);
        let last = self.findings(mark).into_iter().rfind(|event| event.about() == about).unwrap();
        assert!(!last.is("resolved"), "it ended by itself\n{}", self.story(mark));
        last
    }

    /// Exactly these findings opened since `mark`.
    pub(crate) fn opened_are(&self, mark: usize, expected: &[&str]) {
        let mut opened: Vec<String> =
            self.findings(mark).iter().filter(|event| event.is("opened")).map(Event::about).collect();
        let mut expected: Vec<String> = expected.iter().map(|about| (*about).to_owned()).collect();
        opened.sort();
        expected.sort();
        assert_eq!(opened, expected, "these were opened\n{}", self.story(mark));
    }

    /// The last that was said of each finding that opened since `mark`.
    pub(crate) fn last_of_each(&self, mark: usize) -> BTreeMap<String, Event> {
        let findings = self.findings(mark).into_iter();
        findings.map(|event| (event.text("/fingerprint").to_owned(), event)).collect()
    }

    /// Every finding that was ever opened is resolved.
    pub(crate) fn all_closed(&self) {
        self.all_closed_since(0);
    }

    /// Every finding that was opened since `mark` is resolved.
    pub(crate) fn all_closed_since(&self, mark: usize) {
        let last = self.last_of_each(mark);
        let open: Vec<String> = last.values().filter(|e| !e.is("resolved")).map(Event::line).collect();
        assert!(open.is_empty(), "still open: {open:#?}\n{}", self.story(mark));
    }

    /// After healing: the finding resolves, nothing else opened meanwhile, and none is open.
    pub(crate) async fn resolves(&mut self, mark: usize, finding: &Event) -> Event {
        let resolved = self.wait_resolved(mark, finding, WITHIN).await;
        self.lab.wait_healthy(WITHIN).await.unwrap();
        self.opened_are(mark, &[&finding.about()]);
        self.all_closed();
        resolved
    }

    /// The agent lives and has not panicked, and all that it said is as the contract has it.
    pub(crate) fn sound(&mut self) {
        if let Some(agent) = &mut self.agent {
            let ended = agent.child.try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended: {ended:?}\n{}", lock(&agent.log));
        }
        for log in &self.logs {
            assert!(!lock(log).contains("panicked"), "{}", lock(log));
        }
        let heard = lock(&self.heard);
        assert!(heard.odd.is_empty(), "{:#?}", heard.odd);
    }

    /// What was found since `mark` and what the agent saw last, for whoever reads a failed test.
    pub(crate) fn story(&self, mark: usize) -> String {
        let lines: Vec<String> = self.findings(mark).iter().map(Event::line).collect();
        let heard = self.since(mark);
        let epochs: Vec<&Event> = heard.iter().filter(|event| event.is_epoch()).collect();
        let last = epochs.last().map(|epoch| epoch.body.to_string()).unwrap_or_default();
        format!(
            "findings:\n  {}\n{} epochs, {} of them settled; the last: {last}",
            lines.join("\n  "),
            epochs.len(),
            epochs.iter().filter(|epoch| epoch.body["settled"] == true).count(),
        )
    }

    pub(crate) fn agent_log(&self) -> String {
        self.logs.iter().map(|log| lock(log).clone()).collect::<Vec<_>>().join("--- next start\n")
    }

    /// The last words: the agent ends in order, and all is closed.
    pub(crate) async fn finish(mut self) {
        self.sound();
        let mark = self.mark();
        self.end_agent(Signal::SIGTERM).await;
        self.wait("stopping", mark, WITHIN, |event| event.subject == "gatewatch.agent.stopping.watcher")
            .await;
        self.all_closed();
        self.done = true;
    }

    pub(crate) fn dir(&self) -> &Path {
        self.lab.dir()
    }
}

fn config_file(lab: &Lab) -> PathBuf {
    lab.dir().join("gatewatch.toml")
}

fn write_config(lab: &Lab, agent: &AgentSpec) {
    if let Some(config) = &agent.config {
        std::fs::write(config_file(lab), config).unwrap();
    }
}

/// Keeps all that is said, as the system user at this server hears it.
async fn listen(lab: &Lab, server: &str, heard: &Arc<Mutex<Heard>>) -> JoinHandle<()> {
    let client = lab.connect_options("sys").await.unwrap().connect(lab.url(server).unwrap()).await.unwrap();
    hear(client, heard).await
}

/// Keeps what this client hears of agents.
pub(crate) async fn hear(client: Client, heard: &Arc<Mutex<Heard>>) -> JoinHandle<()> {
    let mut subscription = client.subscribe("gatewatch.>").await.unwrap();
    client.flush().await.unwrap();
    let heard = Arc::clone(heard);
    tokio::spawn(async move {
        let _client = client;
        while let Some(message) = subscription.next().await {
            lock(&heard).take(&message);
        }
    })
}

/// A number of `/proc/PID/status`, sizes in KiB; none where it does not, or the process has ended.
pub(crate) fn proc_status(pid: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.listener.abort();
        if std::thread::panicking() && !self.done {
            eprintln!("the agent's log:\n{}", self.agent_log());
        }
    }
}
