//! What watching a large supercluster costs, from the servers' answers to the finding, beside what others cost.
//!
//! `cargo bench --bench scale` starts `gatewatch lab simulate` of each size, and beside it in turn: one look by the
//! agent's own code (all asked for GATEWAYZ, VARZ and STATSZ, decoded, judged), `gatewatch check`, the peers that are
//! given by path, and the agent itself, whose links are then cut one by one. It prints one table, and fails where the
//! agent opened what it should not or missed a cut. Each is a process of its own, and what it costs is what the kernel
//! counts.
//!
//! | variable | is |
//! |---|---|
//! | `GATEWATCH_SCALE` | sizes: servers in 100 clusters, or clusters x servers of each; default `10x10,1000` |
//! | `GATEWATCH_SCALE_FOR` | how long each agent is measured, after as long again at the most to learn; default `2m` |
//! | `GATEWATCH_SCALE_BUDGETS` | bytes per second, an agent for each; default `2000000,30000000` |
//! | `GATEWATCH_SCALE_CUTS` | how many links are cut for each agent; default 20 |
//! | `GATEWATCH_SCALE_PLOT` | an SVG file to draw, of the sizes with 100 clusters |
//! | `NATS_CLI` | path of `nats`: `nats server request gateways` |
//! | `NATS_SURVEYOR` | path of `nats-surveyor`: one scrape with `--gatewayz` |
//!
//! The peers need a user of the system account elsewhere (`--user`, `--password` or `--creds`). The simulation has no
//! system account; whoever comes without credentials is where the synthetic servers answer, so they are given none.
//! Of `nats`, each line that it prints is an answer; of surveyor, each `nats_core_info` of its scrape.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends"
)]

#[path = "scale/plot.rs"]
mod plot;
#[path = "common/process.rs"]
mod process;
#[path = "common/sample.rs"]
mod sample;
#[path = "../tests/real/common/simulation.rs"]
mod simulation;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use gatewatch::checks::{self, Settings, Watched};
use gatewatch::clock::Clock;
use gatewatch::collect::decode::{Decoder, Endpoint};
use gatewatch::collect::{Request, Target, parse_inbox};
use gatewatch::model::{Look, Name, Observer, Roster, Vantage};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use process::{cpu, memory_mib, stat_seconds};
use sample::quantile;
use simulation::Simulation;

const ONE_LOOK: &str = "--one-look";
/// Who has more bytes to spend has more of the processor too.
const BUDGET_DEFAULT: u64 = 2_000_000;
/// What is measured by starting it is started so often, or as often as this time lasts.
const TIMES: usize = 5;
const STARTED_FOR: Duration = Duration::from_secs(30);
/// An answer, a first look, a finding: what takes longer never comes.
const WITHIN: Duration = Duration::from_secs(180);
/// A heartbeat is sent every so often: a cut may come anywhere between two.
const BEAT_MS: u64 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, url, servers] = args.as_slice()
        && flag == ONE_LOOK
    {
        return look(url, servers.parse().expect("a number")).await;
    }
    let lasts = humantime::parse_duration(&env("GATEWATCH_SCALE_FOR", "2m")).expect("a duration");
    let cuts = env("GATEWATCH_SCALE_CUTS", "20").parse().expect("a number");
    let budgets = env("GATEWATCH_SCALE_BUDGETS", "2000000,30000000");
    let budgets: Vec<u64> = budgets.split(',').map(|b| b.parse().expect("bytes per second")).collect();
    println!("load before: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    let mut rows = Vec::new();
    for size in env("GATEWATCH_SCALE", "10x10,1000").split(',') {
        let (clusters, each) = parse_size(size).unwrap_or_else(|| panic!("{size:?} is no size"));
        let mut bench = Bench::start(clusters, each).await;
        rows.push(bench.one_look().await);
        rows.push(bench.check().await);
        rows.extend(bench.nats().await);
        rows.extend(bench.surveyor().await);
        for budget in &budgets {
            rows.extend(bench.agent(*budget, lasts, cuts).await);
        }
        print_table(&rows);
    }
    if let Ok(file) = std::env::var("GATEWATCH_SCALE_PLOT") {
        std::fs::write(&file, plot::draw(&rows)).expect("the plot is written");
    }
    let broken: Vec<&str> = rows.iter().flat_map(|row| &row.broken).map(String::as_str).collect();
    assert!(broken.is_empty(), "{}", broken.join("; "));
}

fn env(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

/// `1000`, or `10x10`.
fn parse_size(size: &str) -> Option<(usize, usize)> {
    let (clusters, each) = match size.split_once('x') {
        Some((clusters, each)) => (clusters.parse().ok()?, each.parse().ok()?),
        None => (100, size.parse::<usize>().ok()?.checked_div(100)?),
    };
    (clusters > 1 && each > 0).then_some((clusters, each))
}

/// One line of the table. What was not measured stays empty.
#[derive(Debug, Default)]
struct Row {
    what: String,
    servers: usize,
    clusters: usize,
    answered: usize,
    /// How many looks the rest is the mean of.
    looks: usize,
    wall_s: f64,
    cpu_s: f64,
    core_percent: Option<f64>,
    rss_mib: f64,
    peak_mib: f64,
    bytes_per_s: Option<f64>,
    /// How many findings a whole supercluster opened.
    opened: Option<usize>,
    cuts: Vec<Duration>,
    broken: Vec<String>,
    budget: Option<u64>,
}

fn print_table(rows: &[Row]) {
    println!(
        "\n{:<36}{:>8}{:>9}{:>9}{:>6}{:>9}{:>9}{:>8}{:>9}{:>9}{:>8}{:>8}  a cut link is told of after",
        "", "servers", "clusters", "answered", "looks", "wall", "CPU", "core", "RSS", "peak", "in", "opened",
    );
    println!(
        "{:<36}{:>8}{:>9}{:>9}{:>6}{:>9}{:>9}{:>8}{:>9}{:>9}{:>8}{:>8}  p50, p99, most (n)",
        "", "", "", "", "", "s", "s", "%", "MiB", "MiB", "MB/s", "",
    );
    for row in rows {
        let some = |value: Option<f64>, decimals: usize| {
            value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
        };
        let cuts = if row.cuts.is_empty() {
            String::new()
        } else {
            let [p50, p99, most] = [50, 99, 100].map(|p| quantile(&row.cuts, p).as_secs_f64());
            format!("  {p50:.1} s, {p99:.1} s, {most:.1} s ({})", row.cuts.len())
        };
        let looked = row.looks > 0;
        println!(
            "{:<36}{:>8}{:>9}{:>9}{:>6}{:>9}{:>9}{:>8}{:>9.1}{:>9.1}{:>8}{:>8}{cuts}",
            row.what,
            row.servers,
            row.clusters,
            some(looked.then_some(row.answered as f64), 0),
            some(looked.then_some(row.looks as f64), 0),
            some(looked.then_some(row.wall_s), 2),
            some(looked.then_some(row.cpu_s), 3),
            some(row.core_percent, 2),
            row.rss_mib,
            row.peak_mib,
            some(row.bytes_per_s.map(|bytes| bytes / 1e6), 2),
            row.opened.map_or_else(String::new, |opened| opened.to_string()),
        );
    }
}

/// One look at all, by the agent's own code, and nothing else.
async fn look(url: &str, servers: usize) {
    const NUMBER: u64 = 1;
    let client = async_nats::connect(url).await.expect("connects");
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(format!("{inbox}.*")).await.expect("subscribes");
    let (mut decoder, mut roster) = (Decoder::default(), Roster::default());
    let (from, at) = (Instant::now(), Clock::start().now());
    let mut left = 0;
    for endpoint in [Endpoint::Gatewayz, Endpoint::Varz, Endpoint::Statsz] {
        let request = Request { endpoint, target: Target::All };
        let reply = format!("{inbox}.{}", request.inbox_token(NUMBER));
        let mut headers = HeaderMap::new();
        headers.insert("Accept-Encoding", "snappy");
        let subject = request.subject().expect("all have one");
        let body = request.body();
        client.publish_with_reply_and_headers(subject, reply, headers, body.into()).await.expect("asks");
        left += servers;
    }
    let mut answered = BTreeSet::new();
    while left > 0 {
        let message =
            timeout(WITHIN, replies.next()).await.expect("a reply").expect("the subscription lasts");
        let (_, endpoint) = parse_inbox(&message.subject).expect("ours");
        let encoding = message.headers.as_ref().and_then(|h| h.get("Content-Encoding"));
        let encoding = encoding.map(async_nats::HeaderValue::as_str);
        let (server, fact) = decoder.reply(endpoint, encoding, &message.payload).expect("as servers answer");
        answered.insert(server.id.clone());
        roster.answer(server, fact, at).expect("there is room");
        left -= 1;
    }
    let count = answered.len();
    let server_id: Name = client.server_info().server_id.as_str().into();
    let cluster = roster.cluster_of(&server_id);
    let vantage = Vantage { server_id, cluster, ..Vantage::default() };
    let snapshot = roster.snapshot(Look {
        epoch: 1,
        asked_at: at,
        asked: BTreeMap::new(),
        settled: true,
        vantage,
        answered,
        elsewhere: BTreeSet::new(),
        late: BTreeMap::new(),
        observer: Observer::default(),
        lasts: from.elapsed(),
    });
    let settings: BTreeMap<&'static str, Settings> =
        checks::REGISTRY.iter().map(|check| (check.manual().slug, Settings::of(*check))).collect();
    drop(checks::evaluate(&snapshot, &settings, &Watched::default()));
    println!("{count} {}", from.elapsed().as_secs_f64());
}

struct Bench {
    simulation: Simulation,
    clusters: usize,
    each: usize,
    /// How many links were cut: no two are the same.
    cut: usize,
}

/// What a process cost that came to its end.
struct Once {
    text: String,
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
}

impl Bench {
    async fn start(clusters: usize, each: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
        command.kill_on_drop(true);
        let simulation = Simulation::start(command, clusters, each, "2.15.1").await;
        Self { simulation, clusters, each, cut: 0 }
    }

    fn row(&self, what: &str) -> Row {
        let servers = self.clusters * self.each;
        Row { what: what.to_owned(), servers, clusters: self.clusters, ..Row::default() }
    }

    async fn one_look(&self) -> Row {
        let mut row = self.row("one look: GATEWAYZ, VARZ, STATSZ");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([ONE_LOOK, &self.simulation.url, &row.servers.to_string()]);
        let mut walls = Vec::new();
        measure(&mut row, &mut command, |once| {
            let (answered, wall_s) = once.text.trim().split_once(' ').expect("two numbers");
            walls.push(wall_s.parse::<f64>().expect("seconds"));
            answered.parse().expect("a number")
        })
        .await;
        // From the question to the verdicts, without the start and the connection.
        row.wall_s = walls.iter().sum::<f64>() / walls.len() as f64;
        row
    }

    async fn check(&self) -> Row {
        let mut row = self.row("gatewatch check");
        let mut command = gatewatch();
        command.args(["check", "--server", &self.simulation.url]);
        measure(&mut row, &mut command, |once| {
            let words: Vec<&str> = once.text.split_whitespace().collect();
            let of = words.windows(4).find(|w| w[1] == "of" && w[3].starts_with("servers"));
            of.and_then(|w| w[0].parse().ok()).unwrap_or_default()
        })
        .await;
        row
    }

    async fn nats(&self) -> Option<Row> {
        let binary = std::env::var_os("NATS_CLI")?;
        let mut row = self.row("nats server request gateways");
        let mut command = Command::new(binary);
        let servers = row.servers.to_string();
        command.args(["--server", &self.simulation.url, "--timeout", "20s", "server", "request", "gateways"]);
        // A context that was selected would bring its credentials.
        command.arg(servers).env("XDG_CONFIG_HOME", "/nonexistent");
        measure(&mut row, &mut command, |once| once.text.lines().filter(|l| l.starts_with('{')).count())
            .await;
        Some(row)
    }

    /// What one scrape costs a surveyor that runs.
    async fn surveyor(&self) -> Option<Row> {
        let binary = std::env::var_os("NATS_SURVEYOR")?;
        let mut row = self.row("nats-surveyor --gatewayz, a scrape");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut command = Command::new(binary);
        command.args(["--servers", &self.simulation.url, "--count", &row.servers.to_string(), "--gatewayz"]);
        command.args(["--timeout", "60s", "--addr", "127.0.0.1", "--port", &address.port().to_string()]);
        // By default it takes half a second without an answer for the end of all.
        command.args(["--server-discovery-timeout", "20s"]);
        let child = command.kill_on_drop(true).spawn().expect("surveyor starts");
        let pid = child.id().expect("it runs");
        let until = Instant::now() + WITHIN;
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => panic!("surveyor does not listen: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let (before, from) = (cpu(pid), Instant::now());
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("asks");
        let mut text = String::new();
        timeout(WITHIN, stream.read_to_string(&mut text)).await.expect("it answers").expect("with text");
        row.wall_s = from.elapsed().as_secs_f64();
        row.cpu_s = cpu(pid) - before;
        (row.rss_mib, row.peak_mib) = memory_mib(pid).expect("it runs");
        row.answered = text.lines().filter(|line| line.starts_with("nats_core_info{")).count();
        row.looks = 1;
        Some(row)
    }

    /// The agent at rest, and what it takes it to tell of each of so many cuts. Two rows more tell what the simulation
    /// spends meanwhile.
    async fn agent(&mut self, budget: u64, lasts: Duration, cuts: usize) -> Vec<Row> {
        let config = tempfile::NamedTempFile::new().expect("a file");
        let mut poll = format!("[poll]\nbudget_bytes_per_s = {budget}\n");
        if budget > BUDGET_DEFAULT {
            poll += "budget_cpu_percent = 100\n";
        }
        std::fs::write(config.path(), poll).expect("is written");
        let client = async_nats::connect(&self.simulation.url).await.expect("connects");
        let mut heard = Heard(client.subscribe("gatewatch.*.>").await.expect("subscribes"));
        client.flush().await.expect("flushes");
        let mut command = gatewatch();
        command.args(["run", "--name", "scale", "--server", &self.simulation.url]);
        let agent = command.arg("--config").arg(config.path()).spawn().expect("the agent starts");
        let mut row = self.row(&format!("agent, {} MB/s", budget as f64 / 1e6));
        row.budget = Some(budget);
        let mut opened = Vec::new();
        let began = Instant::now();
        loop {
            let event = heard.next(WITHIN).await.expect("an epoch");
            opened.extend(opening(&event).cloned());
            let all = event["servers"]["answered"] == row.servers && event["settled"] == true;
            if is_epoch(&event) && (all && began.elapsed() > lasts.min(Duration::from_secs(60))) {
                break;
            }
            assert!(began.elapsed() < WITHIN + lasts, "not all answer: {event}");
        }
        let [simulation, server] = self.serving();
        let all = [agent.id().expect("it runs"), simulation, server];
        let (before, from) = (all.map(cpu), Instant::now());
        let mut bytes = 0;
        row.answered = usize::MAX;
        // From one epoch to another: each tells what it cost.
        let mut is_over = false;
        while !is_over {
            let event = heard.next(WITHIN).await.expect("an epoch");
            opened.extend(opening(&event).cloned());
            if is_epoch(&event) {
                is_over = from.elapsed() >= lasts;
                row.looks += 1;
                row.wall_s += event["duration_ms"].as_f64().expect("a number") / 1000.0;
                bytes += event["bytes_in"].as_u64().expect("a number");
                let answered = usize::try_from(event["servers"]["answered"].as_u64().expect("a number"));
                row.answered = row.answered.min(answered.expect("a number"));
            }
        }
        let seconds = from.elapsed().as_secs_f64();
        row.bytes_per_s = Some(bytes as f64 / seconds);
        row.opened = Some(opened.len());
        row.broken = opened.iter().map(|event| format!("opened: {}", event["summary"])).collect();
        let mut rows = vec![row, self.row("    simulation"), self.row("    nats-server")];
        for (row, (pid, before)) in rows.iter_mut().zip(all.into_iter().zip(before)) {
            let spent = cpu(pid) - before;
            row.core_percent = Some(spent / seconds * 100.0);
            (row.rss_mib, row.peak_mib) = memory_mib(pid).expect("it runs");
        }
        rows[0].wall_s /= rows[0].looks.max(1) as f64;
        rows[0].cpu_s = (cpu(all[0]) - before[0]) / rows[0].looks.max(1) as f64;
        for _ in 0..cuts {
            self.cut(&mut heard, &mut rows[0]).await;
        }
        self.simulation.tell("heal").await;
        rows
    }

    /// The simulation, and its nats-server.
    fn serving(&self) -> [u32; 2] {
        let simulation = self.simulation.child.id().expect("it runs");
        let children = format!("/proc/{simulation}/task/{simulation}/children");
        let children = std::fs::read_to_string(children).expect("the kernel tells children");
        [simulation, children.trim().parse().expect("its nats-server is its only child")]
    }

    /// Cuts one link more, and waits until it is told of. What was cut before stays cut.
    async fn cut(&mut self, heard: &mut Heard, row: &mut Row) {
        self.cut += 1;
        // By the golden ratio: anywhere in a heartbeat's time, each far from those before.
        let pause = Duration::from_millis(self.cut as u64 * 6180 % BEAT_MS);
        let until = Instant::now() + pause;
        while let Some(event) = heard.next(until.saturating_duration_since(Instant::now())).await {
            row.broken.extend(opening(&event).map(|event| format!("opened: {}", event["summary"])));
        }
        let width = (self.clusters - 1).to_string().len();
        let name = |cluster: usize| format!("c{cluster:0width$}");
        // Each cluster has its turn. Every second one loses the agent's own, to which it then cannot speak: unless it
        // has but one server, which would be all of it.
        let cluster = 1 + self.cut % (self.clusters - 1);
        let to_us = self.cut.is_multiple_of(2) && self.each > 1;
        let remote = if to_us { 0 } else { (cluster + self.clusters / 2) % self.clusters };
        let (from, to) = (format!("{}-{}", name(cluster), self.cut / 2 % self.each), name(remote));
        let at = Instant::now();
        let said = self.simulation.tell(&format!("cut {from} {to}")).await;
        assert!(said.contains(&format!(": {from}")), "{said}");
        loop {
            let left = WITHIN.saturating_sub(at.elapsed());
            let Some(event) = heard.next(left).await else {
                row.broken.push(format!("the cut of {from} from {to} is not told of"));
                return;
            };
            let Some(event) = opening(&event) else { continue };
            if event["check"] == "gateway_disconnected"
                && event["entity"]["cluster"] == *name(cluster)
                && event["entity"]["remote"] == *to
            {
                row.cuts.push(at.elapsed());
                eprintln!("{from} cut from {to}: {:.2} s", at.elapsed().as_secs_f64());
                return;
            }
            row.broken.push(format!("opened: {}", event["summary"]));
        }
    }
}

/// What an agent says.
struct Heard(Subscriber);

impl Heard {
    async fn next(&mut self, within: Duration) -> Option<Value> {
        let message = timeout(within, self.0.next()).await.ok()?.expect("the subscription lasts");
        Some(serde_json::from_slice(&message.payload).unwrap_or_default())
    }
}

fn is_epoch(event: &Value) -> bool {
    event["type"] == "io.nats.gatewatch.metric.v1.epoch"
}

/// The event, where a finding opened.
fn opening(event: &Value) -> Option<&Value> {
    (event["type"] == "io.nats.gatewatch.advisory.v1.finding" && event["action"] == "opened").then_some(event)
}

fn gatewatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewatch"));
    command.env_clear().env("RUST_LOG", "error").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command several times; what it costs is the mean, and `answered` reads who answered.
async fn measure(row: &mut Row, command: &mut Command, mut answered: impl FnMut(&Once) -> usize) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    row.answered = usize::MAX;
    let from = Instant::now();
    while row.looks < TIMES && (row.looks == 0 || from.elapsed() < STARTED_FOR) {
        let once = run(command).await;
        row.wall_s += once.wall_s;
        row.cpu_s += once.cpu_s;
        row.peak_mib = row.peak_mib.max(once.peak_mib);
        row.rss_mib = row.peak_mib;
        row.answered = row.answered.min(answered(&once));
        row.looks += 1;
    }
    row.wall_s /= row.looks as f64;
    row.cpu_s /= row.looks as f64;
}

async fn run(command: &mut Command) -> Once {
    // Of the children that were waited for.
    let spent = || stat_seconds(std::process::id(), 13);
    let (before, from) = (spent(), Instant::now());
    let mut child = command.spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("piped");
    let (mut text, mut peak_mib) = (String::new(), 0.0);
    {
        let mut read = std::pin::pin!(stdout.read_to_string(&mut text));
        while let Err(_running) = timeout(Duration::from_millis(5), &mut read).await {
            peak_mib = peak_of(&child, peak_mib);
        }
    }
    peak_mib = peak_of(&child, peak_mib);
    timeout(WITHIN, child.wait()).await.expect("it ends").expect("is waited for");
    Once { text, wall_s: from.elapsed().as_secs_f64(), cpu_s: spent() - before, peak_mib }
}

fn peak_of(child: &Child, last: f64) -> f64 {
    child.id().and_then(memory_mib).map_or(last, |(_, peak)| peak)
}
