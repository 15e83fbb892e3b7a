//! A soak: random faults on a supercluster of nine servers, watched by three agents that keep what they find in a sink,
//! and judged by an oracle that knows the faults.
//!
//! Two minutes and one seed by themselves. `GATEWATCH_SOAK=45m GATEWATCH_SEED=1,2,3,4,5` shares that time among these
//! seeds, each with servers of its own. A seed is a sequence of rounds; in a round one to four things are done that do
//! not touch each other, each is held until what it must give was found, or long enough to see that nothing comes, and
//! undone; then all must resolve. Every other seed begins on the oldest version and is upgraded on its way.
//!
//! The machine's clock is not set here: that takes root, and the whole machine with it. An agent reads it once, at its
//! start; `clock.rs` goes on by the monotonic one.

mod act;
mod ears;
mod machine;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatewatch::lab::Spec;
use serde_json::Value;

use crate::common::company::Company;
use crate::common::load::Load;
use crate::common::store::{Line, Store, TICK, open_by};
use crate::common::{Event, LABS, WITHIN, binary};
use act::{Act, Dice, Expected, Kind, cluster_of};
use ears::Ears;
use machine::Machine;
use tally::{Has, Tally};

const CLUSTERS: &[&str] = &["ap", "eu", "us"];
const SERVERS: &[&str] = &["ap-0", "ap-1", "ap-2", "eu-0", "eu-1", "eu-2", "us-0", "us-1", "us-2"];
/// Beside which servers an agent runs.
const AGENTS: &[&str] = &["ap-0", "eu-0", "us-0"];
/// The versions that a server goes through.
const UPGRADE_TO: &[&str] = &["2.10.26", "2.12.8", "2.15.1"];
/// So soon is what happened before no sign of flapping any more. With the default of ten minutes the dice would cut
/// one link thrice in a row, which is a finding of its own.
const FLAPPING_WINDOW: Duration = Duration::from_secs(20);
/// All that a throttled link is given crosses gateways, which stays a finding for minutes.
const LOADS: &str = "[checks.gateway_traffic_ratio]\nenabled = false\n";
/// A round leaves alone the links that were cut in the two before it, for the same reason.
const ROUNDS_APART: usize = 2;
/// What another agent that has to lead first may take longer: three heartbeats by the contract, 3 s in which it
/// judges nothing where it had to connect anew, and two looks.
const MOVED: Duration = Duration::from_secs(8);
/// Nothing comes after the end of a round that comes later than this.
const CALM: Duration = Duration::from_secs(3);
/// Of so many full disks one is met.
const FILLED_MIN: usize = 4;
/// What was seen before a fault was undone is said this much later at most.
const LOOK: Duration = Duration::from_secs(1);
/// A seed that has less does without what takes half a minute to be found.
const SLOW_FROM: Duration = Duration::from_secs(240);
/// What an agent may have more at the end than when it had started: an allocator's slack, the connections of a look
/// through a neighbour, and tokio's threads for files, which end when idle. A leak of one file or task in each round
/// would be far beyond.
const GROWS_KIB: u64 = 24 * 1024;
const GROWS_FILES: u64 = 8;
const GROWS_THREADS: u64 = 8;

struct Soak {
    company: Company,
    ears: Ears,
    store: Store,
    machine: Machine,
    dir: tempfile::TempDir,
    binaries: Vec<PathBuf>,
    versions: BTreeMap<String, usize>,
    start: Instant,
    seed: u64,
    /// What is sent over throttled links, by dialer and remote.
    loads: BTreeMap<(String, String), Load>,
    /// What the agents had when they had settled after their last start.
    had: BTreeMap<String, (i32, Has)>,
}

/// An act, and what is known of it so far.
struct Playing {
    act: Act,
    expected: Expected,
    began: Instant,
    /// How long it is held after it was found.
    linger: Duration,
    opened: Option<Duration>,
    ended: Option<Instant>,
}

#[tokio::test]
async fn whatever_happens_is_found_and_nothing_else() {
    let permit = LABS.acquire().await.unwrap();
    let text = |name: &str| std::env::var(name).ok();
    let time = text("GATEWATCH_SOAK").map_or(Duration::from_secs(120), |text| {
        humantime::parse_duration(&text).expect("GATEWATCH_SOAK is a duration, such as 45m")
    });
    let seeds = text("GATEWATCH_SEED").unwrap_or_else(|| "7".to_owned());
    let seeds: Vec<u64> = seeds
        .split(',')
        .map(|seed| seed.trim().parse().expect("GATEWATCH_SEED is a list of numbers"))
        .collect();
    let each = time / u32::try_from(seeds.len()).unwrap();
    let mut tally = Tally::default();
    for seed in &seeds {
        play(*seed, each, &mut tally).await;
    }
    drop(permit);
    eprintln!("{} rounds in {}, seeds {seeds:?}\n", tally.rounds, humantime::format_duration(time));
    eprintln!("{}\n{}", tally.table(), tally.had.join("\n"));
    eprintln!(
        "{} long round trips were told of that servers measured while the machine stood still",
        tally.slow
    );
    // One whose disk is full says so as soon as there is something to save, which not every round has.
    let filled = tally.row("agent's disk full").injected;
    let said = tally.full > 0 || cfg!(not(target_os = "linux"));
    assert!(filled < FILLED_MIN || said, "{filled} times a disk was full, and nobody said so");
    assert!(tally.wrong.is_empty(), "{} are wrong:\n{}", tally.wrong.len(), tally.wrong.join("\n"));
}

async fn play(seed: u64, time: Duration, tally: &mut Tally) {
    let mut soak = Soak::start(seed).await;
    let mut dice = Dice::new(seed);
    let spared = AGENTS[usize::try_from(seed).unwrap() % AGENTS.len()];
    let mut upgrades = soak.upgrades().into_iter();
    let mut recent: Vec<BTreeSet<(String, String)>> = Vec::new();
    let mut number = 0;
    while soak.start.elapsed() < time {
        number += 1;
        let wanted = 1 + usize::try_from(dice.roll(4)).unwrap();
        let mut acts: Vec<Act> = Vec::new();
        if number % 2 == 1 {
            acts.extend(upgrades.next());
        }
        // What touches something that is taken is drawn again, so that most rounds have what they want.
        for _ in 0..wanted * 6 {
            if acts.len() >= wanted {
                break;
            }
            let claimed = acts.iter().flat_map(Act::claims).collect();
            let act = Act::draw(&mut dice, time >= SLOW_FROM, spared, &claimed);
            let again = |act: &Act| {
                let touched = |links: &BTreeSet<(String, String)>| !links.is_disjoint(&act.links());
                recent.iter().rev().take(ROUNDS_APART).any(touched)
            };
            // An agent that begins to lead has not seen the resets before.
            let parted = |act: &Act| {
                let flaps = |act: &Act| act.kind == Kind::Flap;
                flaps(act) && acts.iter().any(Act::moves) || act.moves() && acts.iter().any(flaps)
            };
            acts.extend(act.filter(|act| !again(act) && !parted(act)));
        }
        recent.push(acts.iter().flat_map(Act::links).collect());
        let waits: Vec<(u64, u64)> = acts.iter().map(|_| (dice.roll(2000), dice.roll(4000))).collect();
        soak.round(number, acts, &waits, tally).await;
    }
    tally.rounds += number;
    soak.finish(tally).await;
}

impl Soak {
    async fn start(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut binaries = Vec::new();
        for version in UPGRADE_TO {
            binaries.push(binary(version).await);
        }
        let store = Store::start(binaries[UPGRADE_TO.len() - 1].clone()).await;
        // A server is upgraded by another binary at the same place.
        let places = SERVERS.iter().map(|server| ((*server).to_owned(), dir.path().join(server)));
        let spec = Spec { binaries: places.collect(), binary: binaries.last().cloned(), ..Spec::default() };
        let begins = if seed % 2 == 1 { 0 } else { UPGRADE_TO.len() - 1 };
        for server in SERVERS {
            link(dir.path(), server, &binaries[begins]);
        }
        let mut company = Company::none(spec).await;
        let ears = Ears::at(&company.lab).await;
        for agent in AGENTS {
            let state = dir.path().join(format!("{agent}.json"));
            let config = format!(
                "{}[state]\nfile = \"{}\"\n[checks.gateway_flapping]\nwindow = \"{}s\"\n{LOADS}",
                store.config(),
                state.display(),
                FLAPPING_WINDOW.as_secs()
            );
            company.configure(agent, &config);
            company.join(agent);
        }
        let versions = SERVERS.iter().map(|server| ((*server).to_owned(), begins)).collect();
        let start = Instant::now();
        let soak = Self {
            company,
            ears,
            store,
            machine: Machine::watch(),
            dir,
            binaries,
            versions,
            start,
            seed,
            loads: BTreeMap::new(),
            had: BTreeMap::new(),
        };
        let deadline = Instant::now() + WITHIN;
        while !soak.ears.settled() {
            assert!(Instant::now() < deadline, "nobody leads\n{}", soak.ears.story(0, start));
            tokio::time::sleep(TICK).await;
        }
        soak
    }

    /// Every server to the next version, and then every server to the one after that.
    fn upgrades(&self) -> Vec<Act> {
        let act = |server: &&str| Act { kind: Kind::Upgrade, a: (*server).to_owned(), b: String::new() };
        let each = |_| SERVERS.iter().map(act);
        let begins = self.versions.values().min().copied().unwrap_or_default();
        (begins + 1..UPGRADE_TO.len()).flat_map(each).collect()
    }

    /// What the agent writes before it renames it to its state file.
    fn part(&self, agent: &str) -> PathBuf {
        self.dir.path().join(format!("{agent}.json.part"))
    }

    /// From a healthy supercluster to a healthy supercluster.
    async fn round(&mut self, number: usize, acts: Vec<Act>, waits: &[(u64, u64)], tally: &mut Tally) {
        let mark = self.ears.mark();
        let said = acts.iter().map(|act| format!("{} {} {}", act.name(), act.a, act.b));
        let title = format!("seed {} round {number}: {}", self.seed, said.collect::<Vec<_>>().join(", "));
        eprintln!("{:.1} {title}", self.start.elapsed().as_secs_f64());
        let mut wrong = Vec::new();
        let moves = acts.iter().any(Act::moves);
        // Who leads beside a server without one of its routes sees a part of the servers only. That a whole cluster
        // lost another is then not known, and each lost link that is seen is a finding.
        let unrouted = acts.iter().any(|act| act.kind == Kind::Unroute);
        let mut playing = Vec::new();
        for (act, (offset, linger)) in acts.into_iter().zip(waits) {
            tokio::time::sleep(Duration::from_millis(*offset)).await;
            let mut expected = act.expected();
            if moves {
                expected.within += MOVED;
            }
            if act.kind == Kind::Part && unrouted {
                expected.may = act.links().iter().map(|(server, remote)| lost(server, remote)).collect();
            }
            let began = act.begin(self, &mut expected).await;
            let row = tally.row(act.name());
            row.injected += 1;
            row.expected += usize::from(!expected.any_of.is_empty());
            let linger = Duration::from_millis(*linger);
            playing.push(Playing { act, expected, began, linger, opened: None, ended: None });
        }
        // Each is undone on its own.
        while playing.iter().any(|one| one.ended.is_none()) {
            let findings = self.ears.findings(mark);
            for one in playing.iter_mut().filter(|one| one.ended.is_none()) {
                one.look(&findings);
                let elapsed = one.began.elapsed();
                let over = match (one.expected.any_of.is_empty(), one.opened) {
                    (true, _) => elapsed >= one.expected.hold,
                    (false, Some(took)) => elapsed >= took + one.linger,
                    (false, None) => elapsed >= one.expected.within,
                };
                if !over {
                    continue;
                }
                if let Some(what) = one.judge(&self.ears, tally) {
                    wrong.push(what);
                }
                one.act.end(self).await;
                one.ended = Some(Instant::now());
            }
            tokio::time::sleep(TICK).await;
        }
        if let Err(error) = self.company.lab.wait_healthy(WITHIN * 2).await {
            wrong.push(format!("the servers are not well again: {error}"));
        }
        wrong.extend(self.resolved(mark, &playing, tally).await);
        tokio::time::sleep(CALM).await;
        wrong.extend(invented(&self.ears.findings(mark), &playing, &self.machine, tally));
        self.company.sound();
        self.note_what_agents_have();
        if !wrong.is_empty() {
            let story = self.ears.story(mark, self.start);
            let began = playing.iter().map(|one| {
                let at = |at: Instant| at.saturating_duration_since(self.start).as_secs_f64();
                let ended = one.ended.map(at).unwrap_or_default();
                format!("  {:.1} to {ended:.1} {} {} {}", at(one.began), one.act.name(), one.act.a, one.act.b)
            });
            let began: Vec<String> = began.collect();
            let what = format!("{title}: {}\n{}\n{story}", wrong.join("; "), began.join("\n"));
            eprintln!("WRONG: {what}");
            tally.wrong.push(what);
        }
    }

    /// Waits until nothing is open, each within its bound.
    async fn resolved(&self, mark: usize, playing: &[Playing], tally: &mut Tally) -> Vec<String> {
        let bound = |one: &Playing| {
            let moved = if playing.iter().any(|one| one.act.moves()) { MOVED } else { Duration::ZERO };
            one.ended.unwrap_or(one.began) + one.expected.resolves + moved
        };
        let last = playing.iter().map(bound).max().unwrap_or_else(Instant::now);
        while !self.ears.open().is_empty() && Instant::now() < last {
            tokio::time::sleep(TICK).await;
        }
        let slow = |about: &String| is_slow(about) && self.machine.stood_still_before(Instant::now());
        let open = self.ears.open().values().map(about).filter(|about| !slow(about)).collect::<Vec<_>>();
        let mut wrong: Vec<String> = open.into_iter().map(|about| format!("still open: {about}")).collect();
        let findings = self.ears.findings(mark);
        for one in playing.iter().filter(|one| one.opened.is_some()) {
            let of_it = |event: &&Event| event.is("resolved") && one.expected.any_of.contains(&about(event));
            match findings.iter().rfind(of_it) {
                Some(event) if event.at <= bound(one) => tally.row(one.act.name()).resolved += 1,
                Some(_) => wrong.push(format!("{} was resolved too late", one.expected.any_of.join(" or "))),
                None => wrong.push(format!("{} was not resolved", one.expected.any_of.join(" or "))),
            }
        }
        wrong
    }

    /// What each agent had when it had settled, and has now.
    fn note_what_agents_have(&mut self) {
        for agent in AGENTS {
            let pid = self.company.pid(agent);
            if self.had.get(*agent).is_none_or(|(before, _)| *before != pid)
                && let Some(has) = Has::of(pid)
            {
                self.had.insert((*agent).to_owned(), (pid, has));
            }
        }
    }

    /// What must hold at the end of a seed.
    async fn finish(mut self, tally: &mut Tally) {
        let seed = self.seed;
        let mut wrong = self.ears.odd();
        wrong.extend(self.ears.lives());
        wrong.extend(self.kept().await);
        for agent in AGENTS {
            // Not every system tells.
            let Some((pid, had)) = self.had.get(*agent).copied() else { continue };
            let Some(has) = Has::of(pid) else { continue };
            tally.had.push(format!("seed {seed}, agent {agent}: at its last start {had}; at the end {has}"));
            let grown = |had: u64, has: u64, by: u64| has > had + by;
            if grown(had.resident_kib, has.resident_kib, GROWS_KIB)
                || grown(had.files, has.files, GROWS_FILES)
                || grown(had.threads, has.threads, GROWS_THREADS)
            {
                wrong.push(format!("agent {agent} grew: {had}, and at the end {has}"));
            }
        }
        let full = AGENTS.iter().filter(|agent| self.company.log(agent).contains("No space left")).count();
        tally.had.push(format!("seed {seed}: {full} agents said that their disk was full; {}", self.machine));
        tally.full += full;
        for agent in AGENTS {
            self.company.end(agent).await;
        }
        for what in wrong {
            eprintln!("WRONG: seed {seed}: {what}");
            tally.wrong.push(format!("seed {seed}: {what}"));
        }
    }

    /// Stream and bucket agree with what was heard.
    async fn kept(&self) -> Vec<String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let wrong = match (self.store.log().await, self.store.keys().await) {
                (Some(log), Some(keys)) => self.against_what_was_heard(&log, &keys),
                _ => vec!["the sink cannot be read".to_owned()],
            };
            if wrong.is_empty() || Instant::now() > deadline {
                return wrong;
            }
            tokio::time::sleep(TICK * 10).await;
        }
    }

    fn against_what_was_heard(&self, log: &[Line], keys: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        match std::panic::catch_unwind(AssertUnwindSafe(|| open_by(log))) {
            Ok(open) if open.is_empty() && keys.is_empty() => {}
            Ok(open) => wrong.push(format!("open in the stream {open:?}, in the bucket {keys:?}")),
            Err(_) => wrong.push("the stream is not in order".to_owned()),
        }
        let twice = self.ears.opened_twice();
        let once = |id: &str| id.split(':').next().is_none_or(|print| !twice.contains(print));
        let mut heard = self.ears.by_id();
        heard.retain(|id, _| once(id));
        let lines = log.iter().filter(|line| once(&line.id));
        let kept: BTreeMap<&str, _> = lines.map(|line| (line.id.as_str(), &line.body)).collect();
        for (id, body) in &heard {
            match kept.get(id.as_str()) {
                Some(kept) if tells(kept) == tells(body) => {}
                Some(kept) => wrong.push(format!("{id} is another one in the stream: {kept}, and {body}")),
                None => wrong.push(format!("{id}, {}, is not in the stream", body["action"])),
            }
        }
        let unheard = kept.keys().filter(|id| !heard.contains_key(**id));
        wrong.extend(unheard.map(|id| format!("{id} is in the stream and was not heard")));
        wrong
    }
}

impl Playing {
    fn look(&mut self, findings: &[Event]) {
        if self.opened.is_none() {
            let opened = findings
                .iter()
                .find(|event| event.is("opened") && self.expected.any_of.contains(&about(event)));
            self.opened = opened.map(|event| event.at.saturating_duration_since(self.began));
        }
    }

    /// Before it is undone: what it had to give is there and still open.
    fn judge(&self, ears: &Ears, tally: &mut Tally) -> Option<String> {
        let any_of = &self.expected.any_of;
        if any_of.is_empty() {
            return None;
        }
        let row = tally.row(self.act.name());
        let Some(took) = self.opened.filter(|took| *took <= self.expected.within) else {
            row.missed += 1;
            return Some(format!("missed {}", any_of.join(" or ")));
        };
        row.opened += 1;
        row.took.push(took);
        let open = ears.open().values().any(|event| any_of.contains(&about(event)));
        (!open).then(|| format!("{} ended by itself", any_of.join(" or ")))
    }
}

/// What opened and comes from nothing that was done, or again, or after that was undone.
fn invented(findings: &[Event], playing: &[Playing], machine: &Machine, tally: &mut Tally) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut once = BTreeSet::new();
    for event in findings.iter().filter(|event| event.is("opened")) {
        let about = about(event);
        let from = playing.iter().any(|one| {
            one.began <= event.at
                && one.ended.is_none_or(|ended| event.at <= ended + LOOK)
                && (one.expected.any_of.contains(&about) || one.expected.may.contains(&about))
        });
        if once.insert((about.clone(), event.text("/vantage/agent").to_owned())) && from {
            continue;
        }
        if is_slow(&about) && machine.stood_still_before(event.at) {
            tally.slow += 1;
            continue;
        }
        // In the row of what was done last before it.
        if let Some(one) = playing.iter().rfind(|one| one.began <= event.at).or(playing.first()) {
            tally.row(one.act.name()).invented += 1;
        }
        wrong.push(format!("invented {about}"));
    }
    wrong
}

/// Whether it is about a long round trip, as the servers measured it.
fn is_slow(about: &str) -> bool {
    about.starts_with("warning gateway_rtt_high ")
}

/// `critical gateway_disconnected eu/eu-1/us`.
fn about(event: &Event) -> String {
    format!("{} {}", event.text("/severity"), event.about())
}

fn lost(server: &str, remote: &str) -> String {
    format!("critical gateway_disconnected {}/{server}/{remote}", cluster_of(server))
}

/// What an event says, whoever says it: an agent that takes over keeps what the one before had published and could not
/// keep.
fn tells(event: &Value) -> [&Value; 9] {
    ["action", "reason", "severity", "check", "fingerprint", "revision", "opened_at", "resolved_at", "entity"]
        .map(|key| &event[key])
}

fn link(dir: &Path, server: &str, binary: &Path) {
    let place = dir.join(server);
    let _ = std::fs::remove_file(&place);
    std::os::unix::fs::symlink(std::path::absolute(binary).unwrap(), place).unwrap();
}

impl Act {
    /// The links that are made anew by it while their far end lives.
    fn links(&self) -> BTreeSet<(String, String)> {
        let of = |cluster: &str, remote: &str| {
            let dialers = SERVERS.iter().filter(|server| cluster_of(server) == cluster);
            dialers.map(|server| ((*server).to_owned(), remote.to_owned())).collect::<BTreeSet<_>>()
        };
        match self.kind {
            Kind::Part => &of(&self.a, &self.b) | &of(&self.b, &self.a),
            _ if !self.b.is_empty() => [(self.a.clone(), self.b.clone())].into(),
            _ => BTreeSet::new(),
        }
    }
}
