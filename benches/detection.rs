//! How long it takes from a fault on real servers to the event, and that restarts make none.
//!
//! `cargo bench --bench detection` plays, on 3 clusters × 3 servers with defaults: cuts of single links
//! (reset and refused at the proxy), logins that are refused, and restarts of single servers. It prints one
//! table and fails when a bound is broken. `GATEWATCH_BENCH_ROUNDS` sets how many of each (default 30).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends"
)]

mod common;
#[path = "common/sample.rs"]
mod sample;

use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use gatewatch::lab::{GatewaySpec, Lab, RemoteSpec, Spec};
use serde_json::Value;

use common::Agent;
use sample::quantile;

const AGENT_AT: &str = "eu-0";
const WITHIN: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds: usize =
        std::env::var("GATEWATCH_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let lab = Lab::start(Spec::default()).await.expect("the lab starts");
    let sys = client(&lab, "sys", AGENT_AT).await;
    let version = sys.server_info().version;
    let mut bench = Bench { events: subscribe(&sys, "gatewatch.>").await, lab };
    let mut agent = Agent::start(&bench.lab, env!("CARGO_BIN_EXE_gatewatch"), AGENT_AT, &[]);
    bench.settled().await;
    println!(
        "3 clusters x 3 servers of {version}, agent with defaults at {AGENT_AT}, {rounds} rounds of each\n"
    );

    let cuts = bench.cuts(rounds).await;
    let logins = bench.refused_logins(rounds).await;
    let opened = bench.restarts(rounds).await;

    println!("{:<34}{:>4}{:>9}{:>9}{:>9}{:>9}", "", "n", "p50", "p90", "p99", "max");
    let p = |name: &str, sample: &[Duration]| {
        let at = |q| quantile(sample, q).as_secs_f64();
        println!(
            "{name:<34}{:>4}{:>7.2} s{:>7.2} s{:>7.2} s{:>7.2} s",
            sample.len(),
            at(50),
            at(90),
            at(99),
            at(100)
        );
    };
    p("link cut -> opened", &cuts);
    p("first refused login -> opened", &logins.since_refusal);
    p("start of the refused server -> opened", &logins.since_start);
    println!("restarts of one server              {rounds}, findings opened: {opened}");

    agent.stop();
    bench.lab.down().await.expect("the lab ends");
    let mut broken = Vec::new();
    let mut bound = |name: &str, found: Duration, most: f64| {
        if found.as_secs_f64() > most {
            broken.push(format!("{name} is {:.2} s, and {most} s is the bound", found.as_secs_f64()));
        }
    };
    bound("p50 of a cut", quantile(&cuts, 50), 3.0);
    bound("p99 of a cut", quantile(&cuts, 99), 4.0);
    bound("p99 of a refused login", quantile(&logins.since_refusal, 99), 2.0);
    if opened > 0 {
        broken.push(format!("{opened} findings opened for restarts"));
    }
    assert!(broken.is_empty(), "{}", broken.join("; "));
    println!(
        "\nbounds: cut p50 <= 3 s, p99 <= 4 s; refused login p99 <= 2 s; restarts open nothing: all kept"
    );
}

struct Bench {
    lab: Lab,
    events: Subscriber,
}

struct Logins {
    since_refusal: Vec<Duration>,
    since_start: Vec<Duration>,
}

impl Bench {
    async fn settled(&mut self) {
        self.wait(|subject, event| subject.contains(".epoch.") && event["settled"] == true).await;
    }

    async fn wait(&mut self, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        let found = async {
            loop {
                let message = self.events.next().await.expect("the subscription lasts");
                let event: Value = serde_json::from_slice(&message.payload).expect("events are JSON");
                if wanted(&message.subject, &event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(WITHIN, found).await.expect("the event comes")
    }

    /// Whatever is opened until `until`.
    async fn opened_until(&mut self, until: Instant) -> Vec<Value> {
        let mut opened = Vec::new();
        while let Ok(Some(message)) = tokio::time::timeout_at(until.into(), self.events.next()).await {
            let event: Value = serde_json::from_slice(&message.payload).expect("events are JSON");
            if event["action"] == "opened" {
                opened.push(event);
            }
        }
        opened
    }

    async fn cuts(&mut self, rounds: usize) -> Vec<Duration> {
        let mut links = Vec::new();
        for (cluster, servers) in self.lab.clusters() {
            for server in servers {
                for (remote, _) in self.lab.clusters() {
                    if remote != cluster {
                        links.push((server.clone(), remote));
                    }
                }
            }
        }
        let mut took = Vec::new();
        for round in 0..rounds {
            // 7 is prime to the 18 links: every link has its turn, neighbours far apart. The pause puts the cut
            // at another point of the agent's second each time.
            let (server, remote) = links[round * 7 % links.len()].clone();
            tokio::time::sleep(Duration::from_millis((round as u64 * 137) % 1000)).await;
            let cut = self.lab.cut(&server, &remote).await.expect("cut");
            let event = self.wait(|_, e| e["action"] == "opened").await;
            took.push(cut.instant.elapsed());
            assert_eq!(event["check"], "gateway_disconnected", "{event}");
            assert_eq!(event["entity"]["server"], server.as_str(), "{event}");
            assert_eq!(event["entity"]["remote"], remote.as_str(), "{event}");
            self.lab.heal(&server, &remote).await.expect("heal");
            self.wait(|_, e| e["action"] == "resolved").await;
        }
        took
    }

    async fn refused_logins(&mut self, rounds: usize) -> Logins {
        let mut logins = Logins { since_refusal: Vec::new(), since_start: Vec::new() };
        for round in 0..rounds {
            // The agent's own cluster is the remote in half of them.
            let (server, remote) =
                [("us-1", "eu"), ("eu-2", "ap"), ("ap-2", "us"), ("ap-1", "eu")][round % 4];
            let other =
                ["eu", "us", "ap"].into_iter().find(|c| *c != remote && !server.starts_with(c)).unwrap();
            let observer = client(&self.lab, "sys", &format!("{remote}-0")).await;
            let mut refusals = subscribe(&observer, "$SYS.SERVER.*.CLIENT.AUTH.ERR").await;
            tokio::time::sleep(Duration::from_millis((round as u64 * 137) % 1000)).await;
            let wrong = |g: &mut GatewaySpec| {
                let mut refused = RemoteSpec::new(remote);
                refused.password = Some("wrong".into());
                g.remotes = Some(vec![refused, RemoteSpec::new(other)]);
            };
            let started = self.lab.restart_with(server, wrong).await.expect("restart");
            let first = tokio::time::timeout(WITHIN, refusals.next())
                .await
                .expect("a refusal")
                .map(|_| Instant::now());
            let event = self.wait(|_, e| e["action"] == "opened").await;
            logins.since_refusal.push(first.expect("a refusal").elapsed());
            logins.since_start.push(started.instant.elapsed());
            assert_eq!(event["cause"]["kind"], "auth_rejected", "{event}");
            assert_eq!(event["entity"]["server"], server, "{event}");
            assert_eq!(event["entity"]["remote"], remote, "{event}");
            self.lab.restart_with(server, |g| *g = GatewaySpec::default()).await.expect("restart");
            self.wait(|_, e| e["action"] == "resolved").await;
            self.lab.wait_healthy(WITHIN).await.expect("whole again");
        }
        logins
    }

    async fn restarts(&mut self, rounds: usize) -> usize {
        let servers = self.lab.servers();
        let mut opened = Vec::new();
        for round in 0..rounds {
            let server = &servers[round * 4 % servers.len()];
            // A crash and a supervisor that starts it at once, or an orderly restart.
            if round % 2 == 0 {
                self.lab.kill(server).await.expect("kill");
            } else {
                self.lab.terminate(server).await.expect("terminate");
                self.lab.wait_exit(server, WITHIN).await.expect("exit");
            }
            self.lab.start_server(server).await.expect("start");
            self.lab.wait_healthy(WITHIN).await.expect("whole again");
            let until = Instant::now() + Duration::from_secs(2);
            opened.extend(self.opened_until(until).await);
        }
        let until = Instant::now() + Duration::from_secs(6);
        opened.extend(self.opened_until(until).await);
        for event in &opened {
            println!("opened by a restart: {}", event["summary"]);
        }
        opened.len()
    }
}

async fn client(lab: &Lab, user: &str, server: &str) -> Client {
    let options = lab.connect_options(user).await.expect("options");
    options.connect(lab.url(server).expect("a server of the lab")).await.expect("connects")
}

async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.expect("subscribes");
    client.flush().await.expect("flushes");
    subscriber
}
