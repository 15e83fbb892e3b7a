//! What a subscriber at each server heard, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::StreamExt;
use gatewatch::lab::Lab;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::SERVERS;
use crate::common::{Event, Heard, lock};

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
            let mut messages = client.subscribe("gatewatch.>").await.unwrap();
            client.flush().await.unwrap();
            let heard = Arc::clone(&heard);
            tasks.push(tokio::spawn(async move {
                let _client = client;
                while let Some(message) = messages.next().await {
                    lock(&heard).take(&message);
                }
            }));
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

    /// The findings that are open by what was heard, and since when they are known to be.
    pub(super) fn open(&self) -> BTreeMap<(String, String), Event> {
        let mut open = BTreeMap::new();
        for event in self.findings(0) {
            let life = (event.text("/fingerprint").to_owned(), event.text("/opened_at").to_owned());
            if event.is("resolved") {
                open.remove(&life);
            } else {
                open.insert(life, event);
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

    /// What is wrong with the lives of findings: each opened once and resolved once, its revisions in order, and one
    /// after the other.
    pub(super) fn lives(&self) -> Vec<String> {
        let mut lives: BTreeMap<(String, String), Vec<Event>> = BTreeMap::new();
        for event in self.findings(0) {
            let life = (event.text("/fingerprint").to_owned(), event.text("/opened_at").to_owned());
            lives.entry(life).or_default().push(event);
        }
        let mut wrong = Vec::new();
        let mut before: Option<(&String, Instant)> = None;
        for ((print, opened_at), said) in &lives {
            let what = || format!("{} opened at {opened_at}", said[0].about());
            let revisions: Vec<u64> =
                said.iter().filter_map(|event| event.body["revision"].as_u64()).collect();
            if !revisions.iter().copied().eq(1..=said.len() as u64) {
                wrong.push(format!("{} has the revisions {revisions:?}", what()));
            }
            let count = |action| said.iter().filter(|event| event.is(action)).count();
            let (first, last) = (&said[0], &said[said.len() - 1]);
            if !first.is("opened") || !last.is("resolved") || count("opened") != 1 || count("resolved") != 1 {
                let actions: Vec<&str> = said.iter().map(|event| event.text("/action")).collect();
                wrong.push(format!("{} was {actions:?}", what()));
            }
            if before.is_some_and(|(other, ended)| other == print && ended > first.at) {
                wrong.push(format!("{} while an earlier one was open", what()));
            }
            before = Some((print, last.at));
        }
        wrong
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
