//! Many servers of which some are silent, late, or answer with garbage: the others are judged as if they were not.
//!
//! One in ten of 200 servers; `GATEWATCH_SCALE=1000` takes 1, 10 and 100 of so many.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::process::Child;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::common::simulation::Simulation;
use crate::common::{Event, LABS, gatewatch};

const EACH: usize = 10;
/// From a cut to its finding, whoever else is ill: a heartbeat, and the patience.
const CUT_WITHIN: Duration = Duration::from_secs(14);
/// Whatever is asked has its turn by then.
const KNOWN_WITHIN: Duration = Duration::from_secs(90);
/// A look waits for an answer so long at the most, by default.
const STALL: Duration = Duration::from_secs(2);
/// The machine has other work.
const SLACK: Duration = Duration::from_secs(1);
/// An epoch names so many who are missing.
const NAMED_MAX: usize = 64;
/// Until then whatever a fault makes has shown: two heartbeats.
const QUIET: Duration = Duration::from_secs(20);

fn servers() -> usize {
    std::env::var("GATEWATCH_SCALE")
        .map_or(200, |n| n.parse().expect("GATEWATCH_SCALE is a number of servers"))
}

/// How many have a fault.
fn shares() -> Vec<usize> {
    let servers = servers();
    if servers < 1000 { vec![servers / 10] } else { vec![1, servers / 100, servers / 10] }
}

/// Synthetic servers, watched by an agent with defaults but for the processor's time.
struct Scene {
    simulation: Simulation,
    heard: Subscriber,
    agent: Child,
    /// The findings that stand open, and those that were ever opened since the last fault.
    open: BTreeSet<String>,
    opened: BTreeSet<String>,
    /// The links that we cut, as their findings are.
    cuts: BTreeSet<String>,
    epoch: Value,
    /// The longest epoch since the last fault.
    widest: Duration,
    next: usize,
    _config: tempfile::NamedTempFile,
    _permit: SemaphorePermit<'static>,
}

impl Scene {
    async fn start() -> Self {
        let permit = LABS.acquire().await.unwrap();
        let simulation = Simulation::start(gatewatch(), servers() / EACH, EACH, "2.15.1").await;
        let client = async_nats::connect(&simulation.url).await.unwrap();
        let heard = client.subscribe("gatewatch.*.>").await.unwrap();
        client.flush().await.unwrap();
        let config = tempfile::NamedTempFile::new().unwrap();
        // How long a round takes is to depend on who answers, and not on what else the machine does.
        std::fs::write(config.path(), "[poll]\nbudget_cpu_percent = 100\n").unwrap();
        let mut command = gatewatch();
        command.args(["run", "--server", &simulation.url, "--config"]).arg(config.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut scene = Self {
            simulation,
            heard,
            agent: command.spawn().unwrap(),
            open: BTreeSet::new(),
            opened: BTreeSet::new(),
            cuts: BTreeSet::new(),
            epoch: Value::Null,
            widest: Duration::ZERO,
            next: 0,
            _config: config,
            _permit: permit,
        };
        scene.until("all answer", KNOWN_WITHIN, |s| s.epoch["settled"] == true && s.all_answer()).await;
        // Rounds are not equally long: by then each thing was asked for once.
        scene.until("eight epochs", KNOWN_WITHIN * 2, |s| s.epoch["epoch"].as_u64() >= Some(8)).await;
        scene.rest(QUIET).await;
        scene
    }

    fn all_answer(&self) -> bool {
        self.epoch["servers"]["answered"] == servers()
    }

    async fn hear(&mut self, within: Duration) -> bool {
        let Ok(message) = timeout(within, self.heard.next()).await else { return false };
        let message = message.expect("the subscription lasts");
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let event = Event { subject: message.subject.to_string(), body, at: Instant::now() };
        if event.is_epoch() {
            let ms = event.body["duration_ms"].as_u64().unwrap();
            self.widest = self.widest.max(Duration::from_millis(ms));
            self.epoch = event.body;
        } else if event.is_finding() && event.is("opened") {
            self.open.insert(event.about());
            self.opened.insert(event.about());
        } else if event.is_finding() && event.is("resolved") {
            self.open.remove(&event.about());
        }
        true
    }

    async fn until(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let from = Instant::now();
        while !done(self) {
            let left = within.saturating_sub(from.elapsed());
            assert!(
                self.hear(left).await,
                "{what}: not within {within:?}; open are {:?}, and {}",
                self.open,
                self.epoch
            );
        }
        from.elapsed()
    }

    async fn rest(&mut self, lasts: Duration) {
        let until = Instant::now() + lasts;
        while self.hear(until.saturating_duration_since(Instant::now())).await {}
    }

    /// Makes so many ill; their names.
    async fn fault(&mut self, line: &str) -> BTreeSet<String> {
        self.opened.clear();
        self.cuts.clear();
        self.widest = Duration::ZERO;
        let said = self.simulation.tell(line).await;
        let (_, names) = said.rsplit_once(": ").unwrap_or_else(|| panic!("{said}"));
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// Cuts a link of a server that is chosen, and waits until it is told of.
    async fn cut(&mut self, is_chosen: impl Fn(&str) -> bool) -> Duration {
        let clusters = servers() / EACH;
        let width = (clusters - 1).to_string().len();
        loop {
            self.next += 1;
            // Neither of them is the cluster that all answers go to.
            let cluster = 1 + self.next * 7 % (clusters - 1);
            let remote = 1 + (cluster + clusters / 2) % (clusters - 1);
            let [cluster, remote] = [cluster, remote].map(|number| format!("c{number:0width$}"));
            let server = format!("{cluster}-{}", self.next % EACH);
            if cluster == remote || !is_chosen(&server) {
                continue;
            }
            let said = self.simulation.tell(&format!("cut {server} {remote}")).await;
            assert!(said.ends_with(&format!(": {server}")), "{said}");
            let about = format!("gateway_disconnected {cluster}/{server}/{remote}");
            self.cuts.insert(about.clone());
            let what = format!("the cut of {server} from {remote} is told of");
            return self.until(&what, CUT_WITHIN, |s| s.open.contains(&about)).await;
        }
    }

    /// What was opened besides our cuts.
    fn others(&self) -> BTreeSet<String> {
        self.opened.difference(&self.cuts).cloned().collect()
    }

    async fn heal(&mut self) {
        self.simulation.tell("heal").await;
        self.until("all is well again", KNOWN_WITHIN, |s| s.open.is_empty() && s.all_answer()).await;
    }

    /// A look takes no longer than without them, but for the wait.
    fn holds_up_nobody(&self, before: Duration) {
        let bound = before + STALL + SLACK;
        assert!(self.widest <= bound, "an epoch took {:?}, and {before:?} before", self.widest);
    }

    async fn end(mut self) {
        assert_eq!(self.open, BTreeSet::new());
        self.agent.kill().await.unwrap();
    }
}

#[tokio::test]
async fn silent_servers_are_named_and_hold_up_nobody() {
    let mut scene = Scene::start().await;
    let before = scene.widest;
    for number in shares() {
        let silent = scene.fault(&format!("silent {number}")).await;
        assert_eq!(silent.len(), number);
        let took = scene.cut(|server| !silent.contains(server)).await;
        let named = silent.iter().map(|server| {
            let cluster = server.split('-').next().unwrap();
            format!("server_missing {cluster}/{server}/_")
        });
        let named: BTreeSet<String> = named.collect();
        let until = scene.until("all are named", KNOWN_WITHIN, |s| s.open.is_superset(&named)).await;
        let missing = scene.epoch["servers"]["missing"].as_array().into_iter().flatten();
        let mut missing: BTreeSet<&str> = missing.map(|name| name.as_str().unwrap()).collect();
        // Of many the first are named, and the others counted.
        let unnamed = silent.iter().filter(|server| !missing.remove(server.as_str())).count();
        assert_eq!(unnamed, number.saturating_sub(NAMED_MAX), "{}", scene.epoch);
        let counted = (unnamed > 0).then(|| format!("and {unnamed} more"));
        assert!(missing.into_iter().eq(counted.as_deref()), "{number} silent: {}", scene.epoch);
        scene.rest(QUIET).await;
        assert_eq!(scene.others(), named, "{number} silent");
        scene.holds_up_nobody(before);
        eprintln!("{number} silent: a cut after {took:?}, all named after {until:?}, {:?}", scene.widest);
        scene.heal().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn late_servers_are_used_when_they_come_and_hold_up_nobody() {
    let mut scene = Scene::start().await;
    let before = scene.widest;
    for number in shares() {
        for ms in [400, 700, 3000] {
            let late = scene.fault(&format!("late {number} {ms}")).await;
            assert_eq!(late.len(), number);
            let took = scene.cut(|server| !late.contains(server)).await;
            // Those that are late tell what they see.
            let own = scene.cut(|server| late.contains(server)).await;
            scene.until("all are heard", KNOWN_WITHIN, Scene::all_answer).await;
            scene.rest(QUIET / 2).await;
            assert_eq!(scene.others(), BTreeSet::new(), "{number} late by {ms} ms");
            scene.holds_up_nobody(before);
            eprintln!(
                "{number} late by {ms} ms: a cut after {took:?}, of theirs after {own:?}, {:?}",
                scene.widest
            );
            scene.heal().await;
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn garbage_is_told_of_and_holds_up_nobody() {
    let mut scene = Scene::start().await;
    let before = scene.widest;
    for number in shares() {
        let garbled = scene.fault(&format!("garble {number}")).await;
        assert_eq!(garbled.len(), number);
        let took = scene.cut(|server| !garbled.contains(server)).await;
        let is_complaint = |about: &String| {
            let Some(rest) = about.strip_prefix("observer_degraded ") else { return false };
            // What cannot be read at all may be anybody's.
            rest == "_/_/unnamed" || rest.split('/').nth(1).is_some_and(|server| garbled.contains(server))
        };
        scene.until("it is told", KNOWN_WITHIN, |s| s.others().iter().any(is_complaint)).await;
        scene.rest(QUIET).await;
        let odd: Vec<String> = scene.others().into_iter().filter(|about| !is_complaint(about)).collect();
        assert_eq!(odd, [""; 0], "{number} answer garbage");
        scene.holds_up_nobody(before);
        eprintln!("{number} answer garbage: a cut after {took:?}, {:?}", scene.widest);
        scene.heal().await;
    }
    scene.end().await;
}
