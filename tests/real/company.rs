//! Many agents: one leads, another takes its place, and no finding is lost or doubled by it.
//!
//! `GATEWATCH_TAKE_OVERS=50` kills the one that leads so often instead of six times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gatewatch::lab::{Lab, Spec};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::common::company::Company;
use crate::common::{LABS, WITHIN, binary};

/// The contract: three heartbeats.
const TAKE_OVER_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it takes to see that there is one question where there could be nine.
const COUNT_FOR: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    subject: String,
    body: Value,
}

impl Said {
    fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, kind: &str) -> bool {
        self.subject.split('.').nth(1) == Some(kind)
    }
}

/// All that is heard at one server.
struct Ear {
    heard: Arc<Mutex<Vec<Said>>>,
    task: JoinHandle<()>,
}

impl Ear {
    async fn at(lab: &Lab, server: &str, subject: &str) -> Self {
        let client = lab.system_client(server).await.unwrap();
        let mut messages = client.subscribe(subject.to_owned()).await.unwrap();
        client.flush().await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                let _client = client;
                while let Some(message) = messages.next().await {
                    let subject = match &message.reply {
                        Some(reply) if message.subject.starts_with("$SYS") => reply.to_string(),
                        _ => message.subject.to_string(),
                    };
                    let body = serde_json::from_slice(&message.payload).unwrap_or_default();
                    heard.lock().unwrap().push(Said { at: Instant::now(), subject, body });
                }
            }
        });
        Self { heard, task }
    }

    fn all(&self) -> Vec<Said> {
        self.heard.lock().unwrap().clone()
    }

    /// What each finding was said to be, one after the other.
    fn findings(&self) -> BTreeMap<String, Vec<Said>> {
        let mut findings: BTreeMap<String, Vec<Said>> = BTreeMap::new();
        for said in self.all().into_iter().filter(|said| said.is("finding")) {
            findings.entry(said.text("/fingerprint").to_owned()).or_default().push(said);
        }
        findings
    }

    fn story(&self) -> String {
        let lines =
            self.all().into_iter().filter(|said| said.is("finding") || said.is("agent")).map(|said| {
                let (action, agent) = (said.text("/action"), said.text("/vantage/agent"));
                format!(
                    "{} {}{} {action}{} {}{} {}",
                    said.subject,
                    said.text("/opened_at"),
                    said.body.get("revision").map(|n| format!(" {n}")).unwrap_or_default(),
                    said.text("/event"),
                    agent,
                    said.text("/agent"),
                    said.text("/summary")
                )
            });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the first that is wanted.
async fn wait<T>(what: &str, within: Duration, ear: &Ear, wanted: impl Fn(&[Said]) -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = wanted(&ear.all()) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {within:?}\n{}", ear.story());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Who said since `since` that it leads and has seen enough to judge, and nobody else did.
fn leads(said: &[Said], since: Instant) -> Option<String> {
    let epochs =
        said.iter().filter(|said| said.is("epoch") && said.at > since && said.body["leader"] == true);
    let settled = epochs.clone().filter(|said| said.body["settled"] == true).count();
    let who: BTreeSet<&str> = epochs.map(|said| said.text("/agent")).collect();
    (who.len() == 1 && settled >= 2).then(|| who.into_iter().next().unwrap_or_default().to_owned())
}

/// Each was opened once, and resolved once where it is not to be open any more.
fn once_each(ear: &Ear, open: &[&str]) {
    for said in ear.findings().values() {
        let actions: Vec<&str> = said
            .iter()
            .map(|said| said.text("/action"))
            .filter(|a| matches!(*a, "opened" | "resolved"))
            .collect();
        let about = said[0].subject.clone();
        let ends: &[&str] =
            if open.contains(&about.as_str()) { &["opened"] } else { &["opened", "resolved"] };
        // Two openings of one link are two faults.
        let rounds = actions.chunks(2).collect::<Vec<_>>();
        let (last, before) = rounds.split_last().expect("something was said of it");
        assert!(
            before.iter().all(|round| *round == ["opened", "resolved"]) && *last == ends,
            "{about}: {actions:?}\n{}",
            ear.story()
        );
        let mut revisions: BTreeMap<&str, u64> = BTreeMap::new();
        for one in said {
            let revision = one.body["revision"].as_u64().unwrap();
            let before = revisions.insert(one.text("/opened_at"), revision).unwrap_or_default();
            assert_eq!(revision, before + 1, "{about}\n{}", ear.story());
        }
    }
}

async fn opened(ear: &Ear, subject: &str, times: usize) {
    wait(&format!("{subject} opened {times} times"), WITHIN, ear, |said| {
        let of_it = said.iter().filter(|said| said.subject == subject && said.text("/action") == "opened");
        (of_it.count() >= times).then_some(())
    })
    .await;
}

async fn resolved(ear: &Ear, subject: &str, times: usize) {
    wait(&format!("{subject} resolved {times} times"), WITHIN, ear, |said| {
        let of_it = said.iter().filter(|said| said.subject == subject && said.text("/action") == "resolved");
        (of_it.count() >= times).then_some(())
    })
    .await;
}

fn take_overs() -> usize {
    std::env::var("GATEWATCH_TAKE_OVERS")
        .map_or(6, |times| times.parse().expect("GATEWATCH_TAKE_OVERS is a number"))
}

const STANDS: &str = "gatewatch.finding.critical.gateway_disconnected.us.us-1.ap";
const COMES_AND_GOES: &str = "gatewatch.finding.critical.gateway_disconnected.ap.ap-2.eu";

#[tokio::test]
async fn of_nine_agents_one_leads_and_whoever_is_next_goes_on_where_it_ended() {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::default() };
    let servers = spec.clusters.iter().flat_map(|(name, n)| (0..*n).map(move |n| format!("{name}-{n}")));
    let servers: Vec<String> = servers.collect();
    let names: Vec<&str> = servers.iter().map(String::as_str).collect();
    let mut company = Company::start(spec, &names).await;
    let ear = Ear::at(&company.lab, "eu-1", "gatewatch.>").await;
    let start = Instant::now();
    wait("one that leads", WITHIN, &ear, |said| leads(said, start)).await;

    // Who stands by asks nothing.
    let polls = Ear::at(&company.lab, "eu-1", "$SYS.REQ.SERVER.PING.GATEWAYZ").await;
    tokio::time::sleep(COUNT_FOR).await;
    let mut by_whom: BTreeMap<String, usize> = BTreeMap::new();
    for poll in polls.all() {
        *by_whom.entry(poll.subject.rsplit_once('.').unwrap().0.to_owned()).or_default() += 1;
    }
    eprintln!("9 agents, {} asked, {:?} times in {COUNT_FOR:?}", by_whom.len(), by_whom.values());
    assert_eq!(by_whom.len(), 1, "{by_whom:?}");
    drop(polls);

    company.lab.cut("us-1", "ap").await.unwrap();
    opened(&ear, STANDS, 1).await;
    // Was it the agent beside us-1, it has given way.
    let cut = Instant::now();
    let mut leader = wait("one that leads", WITHIN, &ear, |said| leads(said, cut)).await;
    let mut took = Vec::new();
    for round in 0..take_overs() {
        // A fault comes with one leader and goes with the next.
        let comes = round % 2 == 0;
        if comes {
            company.lab.cut("ap-2", "eu").await.unwrap();
            opened(&ear, COMES_AND_GOES, round / 2 + 1).await;
        }
        let before = Instant::now();
        company.kill(&leader).await;
        let next = wait("the next one that leads", TAKE_OVER_MAX * 2, &ear, |said| {
            let leading =
                said.iter().find(|s| s.at > before && s.subject.starts_with("gatewatch.agent.leading."));
            leading.map(|said| said.at)
        })
        .await;
        took.push(next.duration_since(before));
        company.join(&leader);
        // On a busy machine two may claim it; then the earlier claim stands.
        let settled = next + Duration::from_secs(2);
        leader = wait("one that leads", WITHIN, &ear, |said| leads(said, settled)).await;
        if !comes {
            company.lab.heal("ap-2", "eu").await.unwrap();
            resolved(&ear, COMES_AND_GOES, round / 2 + 1).await;
        }
        company.sound();
    }
    company.lab.heal_all().await.unwrap();
    resolved(&ear, STANDS, 1).await;
    if take_overs() % 2 == 1 {
        resolved(&ear, COMES_AND_GOES, take_overs() / 2 + 1).await;
    }
    once_each(&ear, &[]);
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_millis();
    eprintln!("{} take-overs: p50 {} ms, p99 {} ms, longest {} ms", took.len(), at(50), at(99), at(100));
    assert!(took.iter().all(|took| *took <= TAKE_OVER_MAX), "{took:?}");

    // Who stops says so, and is followed at once.
    let before = Instant::now();
    company.end(&leader).await;
    let next = wait("the next one that leads", TAKE_OVER_MAX, &ear, |said| {
        said.iter()
            .find(|s| s.at > before && s.subject.starts_with("gatewatch.agent.leading."))
            .map(|said| said.at)
    })
    .await;
    eprintln!("after a goodbye: {} ms", next.duration_since(before).as_millis());
    assert!(next.duration_since(before) < Duration::from_millis(1500));
}

#[tokio::test]
async fn each_island_has_a_leader_and_one_remains_when_it_heals() {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::default() };
    let mut company = Company::start(spec, &["eu-0", "eu-2", "us-0", "us-2", "ap-2"]).await;
    let (here, there) = (
        Ear::at(&company.lab, "eu-1", "gatewatch.>").await,
        Ear::at(&company.lab, "us-1", "gatewatch.>").await,
    );
    let start = Instant::now();
    let first = wait("one that leads", WITHIN, &here, |said| leads(said, start)).await;

    for other in ["us", "ap"] {
        company.lab.cut("eu", other).await.unwrap();
        company.lab.cut(other, "eu").await.unwrap();
    }
    let cut = Instant::now() + TAKE_OVER_MAX;
    let one = wait("one that leads in eu", WITHIN, &here, |said| leads(said, cut)).await;
    let other = wait("one that leads in us and ap", WITHIN, &there, |said| leads(said, cut)).await;
    assert!(one.starts_with("eu") && !other.starts_with("eu"), "{one} and {other}");
    assert!([&one, &other].contains(&&first), "the one that led goes on in its island");
    opened(&there, "gatewatch.finding.critical.cluster_unreachable.eu._._", 1).await;
    opened(&here, "gatewatch.finding.critical.cluster_unreachable.us._._", 1).await;
    opened(&here, "gatewatch.finding.critical.cluster_unreachable.ap._._", 1).await;

    company.lab.heal_all().await.unwrap();
    company.lab.wait_healthy(WITHIN).await.unwrap();
    let healed = Instant::now() + TAKE_OVER_MAX;
    let last = wait("one that leads", WITHIN, &here, |said| leads(said, healed)).await;
    assert_eq!(last, first, "the claim that was made first stands\n{}", here.story());
    for ear in [&here, &there] {
        let again = wait("the same for all", WITHIN, ear, |said| leads(said, healed)).await;
        assert_eq!(again, last);
        let open = |said: &[Said]| {
            let mut open = BTreeSet::new();
            for said in said.iter().filter(|said| said.is("finding")) {
                match said.text("/action") {
                    "resolved" => open.remove(said.text("/fingerprint")),
                    _ => open.insert(said.text("/fingerprint").to_owned()),
                };
            }
            open.is_empty().then_some(())
        };
        wait("the end of all findings", WITHIN, ear, open).await;
        for said in ear.findings().values() {
            let count = |action| said.iter().filter(|said| said.text("/action") == action).count();
            assert_eq!(count("resolved"), 1, "{}", ear.story());
        }
    }
    company.sound();
}

/// The others cannot hear it over the lost gateway, and so would look on their own.
#[tokio::test]
async fn a_leader_whose_own_gateway_is_lost_gives_way_and_the_loss_is_told_once() {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::default() };
    let mut company = Company::start(spec, &["us-1"]).await;
    let ear = Ear::at(&company.lab, "eu-1", "gatewatch.>").await;
    let start = Instant::now();
    assert_eq!(wait("one that leads", WITHIN, &ear, |said| leads(said, start)).await, "us-1");
    for server in ["eu-0", "ap-0", "ap-1"] {
        company.join(server);
    }
    wait("those that stand by", WITHIN, &ear, |said| {
        let by = said.iter().filter(|said| said.subject.starts_with("gatewatch.agent.standby."));
        (by.count() == 3).then_some(())
    })
    .await;

    company.lab.cut("us-1", "ap").await.unwrap();
    opened(&ear, STANDS, 1).await;
    let cut = Instant::now() + TAKE_OVER_MAX;
    let next = wait("one that leads", WITHIN, &ear, |said| leads(said, cut)).await;
    assert!(next.starts_with("ap"), "{next} is heard by all\n{}", ear.story());
    once_each(&ear, &[STANDS]);
    company.lab.heal_all().await.unwrap();
    resolved(&ear, STANDS, 1).await;
    once_each(&ear, &[]);
    company.sound();
}

/// What it said long before is nobody's news.
#[tokio::test]
async fn one_that_stands_by_says_nothing_twice_when_its_server_comes_back() {
    let _permit = LABS.acquire().await.unwrap();
    let spec = Spec { binary: Some(binary("2.15.1").await), ..Spec::default() };
    let mut company = Company::start(spec, &["us-0"]).await;
    let ear = Ear::at(&company.lab, "us-1", "gatewatch.>").await;
    let start = Instant::now();
    wait("one that leads", WITHIN, &ear, |said| leads(said, start)).await;
    company.join("eu-0");
    let told = |said: &[Said], event: &str| {
        let subject = format!("gatewatch.agent.{event}.eu-0");
        said.iter().filter(|said| said.subject == subject).count()
    };
    wait("one that stands by", WITHIN, &ear, |said| (told(said, "standby") == 1).then_some(())).await;

    company.lab.restart("eu-0").await.unwrap();
    wait("that it is back", WITHIN, &ear, |said| (told(said, "restored") == 1).then_some(())).await;
    let said = ear.all();
    let ids: Vec<&str> = said.iter().filter(|said| said.is("agent")).map(|said| said.text("/id")).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{}", ear.story());
    assert_eq!(told(&said, "started"), 1, "{}", ear.story());
    company.sound();
}
