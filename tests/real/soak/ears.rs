//! What a subscriber at each server heard, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gatewatch::lab::Lab;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::SERVERS;
use crate::common::{Event, Heard, hear, lock};

pub(super) struct Ears {
    heard: Arc<Mutex<Heard>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Ears {
    /// Each goes on at its server when that comes back. Whatever is cut, one beside the agent hears it.
    pub(super) async fn at(lab: &Lab) -> Self {
        let heard = Arc::new(Mutex::new(Heard::lawless()));
        let mut tasks = Vec::new();
        for server in SERVERS {
            let options = lab.connect_options("sys").await.unwrap().ignore_discovered_servers();
            let client = options.connect(lab.url(server).unwrap()).await.unwrap();
            tasks.push(hear(client, &heard).await);
        }
        Self { heard, tasks }
    }

    pub(super) fn mark(&self) -> usize {
        lock(&self.heard).events.len()
    }

    pub(super) fn findings(&self, mark: usize) -> Vec<Event> {
        let heard = lock(&self.heard);
        heard.events.iter().skip(mark).filter(|event| event.is_finding()).cloned().collect()
    }

    /// Whether one leads that judges what it sees.
    pub(super) fn settled(&self) -> bool {
        let leads = |event: &Event| event.body["leader"] == true && event.body["settled"] == true;
        lock(&self.heard).events.iter().any(leads)
    }

    /// What is not as the contract has it.
    pub(super) fn odd(&self) -> Vec<String> {
        lock(&self.heard).odd.clone()
    }

    /// The findings that are open by what was heard, by fingerprint, each as it was told last.
    pub(super) fn open(&self) -> BTreeMap<String, Event> {
        let mut open = BTreeMap::new();
        for event in self.findings(0) {
            let print = event.text("/fingerprint").to_owned();
            if event.is("resolved") {
                open.remove(&print);
            } else {
                open.insert(print, event);
            }
        }
        open
    }

    /// Findings and changes of who leads since `mark`, each once, in seconds since `start`.
    pub(super) fn story(&self, mark: usize, start: Instant) -> String {
        let heard = lock(&self.heard);
        let mut ids = BTreeSet::new();
        let mut lines = Vec::new();
        for event in heard.events.iter().skip(mark) {
            if event.is_epoch() || !ids.insert(event.text("/id").to_owned()) {
                continue;
            }
            let at = event.at.saturating_duration_since(start).as_secs_f64();
            if event.is_finding() {
                let (by, revision) = (event.text("/vantage/agent"), &event.body["revision"]);
                lines.push(format!("  {at:.1} {by} r{revision} {}", event.line()));
            } else {
                let (agent, reason) = (event.text("/agent"), event.text("/reason"));
                lines.push(format!("  {at:.1} {agent} {}: {reason}", event.text("/event")));
            }
        }
        lines.join("\n")
    }

    /// What is wrong with the lives of findings: each is opened once and resolved once, its revisions in order. Where
    /// agents cannot hear each other, each opens what it sees, and the one that leads when they can again ends it.
    pub(super) fn lives(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut revisions: BTreeMap<(String, String), u64> = BTreeMap::new();
        // By whom it is open, and by whom it was when somebody else ended it.
        let mut open: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for event in self.findings(0) {
            let [print, opened_at, agent] =
                ["/fingerprint", "/opened_at", "/vantage/agent"].map(|key| event.text(key).to_owned());
            let what = |what: &str| format!("{what} by {agent}: {}, opened at {opened_at}", event.about());
            let revision = revisions.entry((print.clone(), opened_at.clone())).or_default();
            *revision += 1;
            if event.body["revision"] != *revision {
                wrong.push(what(&format!("revision {} after {}", event.body["revision"], *revision - 1)));
            }
            let (by, ended) = open.entry(print).or_default();
            if event.is("opened") {
                ended.remove(&agent);
                if !by.insert(agent.clone()) {
                    wrong.push(what("opened again"));
                }
            } else if event.is("resolved") {
                if by.is_empty() && !ended.remove(&agent) {
                    wrong.push(what("resolved, and not open"));
                }
                by.remove(&agent);
                ended.append(by);
            } else if by.is_empty() {
                wrong.push(what("goes on, and not open"));
            }
        }
        let left = open.iter().filter(|(_, (by, _))| !by.is_empty());
        wrong.extend(left.map(|(print, (by, _))| format!("{print} is open by {by:?}")));
        wrong
    }

    /// The fingerprints of what two agents had open at once, which could not hear each other: a sink that both reach has
    /// the life of one of them.
    pub(super) fn opened_twice(&self) -> BTreeSet<String> {
        let (mut open, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for event in self.findings(0) {
            let print = event.text("/fingerprint").to_owned();
            if event.is("resolved") {
                open.remove(&print);
            } else if event.is("opened") && !open.insert(print.clone()) {
                twice.insert(print);
            }
        }
        twice
    }

    /// The body of each message by its `Nats-Msg-Id`.
    pub(super) fn by_id(&self) -> BTreeMap<String, Value> {
        lock(&self.heard).ids.clone()
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
