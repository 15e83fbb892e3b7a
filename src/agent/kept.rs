//! What the agent does about the sink: it takes up what is open there, and writes what is missing.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Agent;
use super::io::Effect;
use crate::config::Config;
use crate::findings::{Action, Change, FINDINGS_MAX, Finding, Reason};
use crate::model::{SinkTrouble, Time};
use crate::publish::{Message, event};
use crate::sink::{Event, Holds, Sink};

/// So long who begins to lead waits for what the sink holds, before it judges by what it sees.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agent's side of the sink, where there is one.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sink: Option<Sink>,
    /// What it holds is not known, and waited for until then.
    awaited_until: Option<Time>,
    /// What it is told when everybody else was.
    next: Vec<Message>,
    trouble: Option<SinkTrouble>,
}

impl Kept {
    pub(super) fn start(&mut self, config: &Config) -> Option<mpsc::Receiver<Event>> {
        let wanted = config.sink.clone().filter(|sink| sink.stream.is_some() || sink.bucket.is_some())?;
        let (sink, events) = Sink::start(wanted, &config.name, &config.prefix);
        self.sink = Some(sink);
        Some(events)
    }

    /// Has the sink keep `message`, after [`Self::pass_on`].
    pub(super) fn keep(&mut self, message: &Message) {
        if self.sink.is_some() {
            self.next.push(message.clone());
        }
    }

    /// The rest was saved and said. An agent that is killed before has told nobody, or subscribers and the agents that
    /// stand by, who make up for it; what only the sink had would be ended without ever having been told of.
    pub(super) fn pass_on(&mut self) {
        for message in self.next.drain(..) {
            if let Some(sink) = &self.sink {
                sink.keep(&message);
            }
        }
    }

    /// Another agent may have written there, or have ended before it did.
    pub(super) fn lead(&mut self, now: Time) {
        if self.sink.is_some() {
            self.read_again();
            self.awaited_until = Some(now.plus(PATIENCE));
        }
    }

    /// Another agent has handed over what it wrote there: what ends it is written only after what is known to be there.
    pub(super) fn read_again(&self) {
        if let Some(sink) = &self.sink {
            sink.read_again();
        }
    }

    pub(super) fn may_judge(&self, now: Time) -> bool {
        self.awaited_until.is_none_or(|until| now >= until)
    }

    /// What is wrong, with what it leads to.
    pub(super) fn trouble(&self) -> Option<SinkTrouble> {
        let load = self.sink.as_ref()?.load();
        self.trouble.clone().map(|trouble| SinkTrouble {
            waiting: load.waiting,
            dropped: load.dropped,
            ..trouble
        })
    }

    /// Ends when the sink has all.
    pub(super) async fn drained(&self) {
        if let Some(sink) = &self.sink {
            sink.drained().await;
        }
    }
}

impl Agent {
    pub(super) fn sink_said(&mut self, event: Event, now: Time) -> Vec<Effect> {
        match event {
            Event::Holds(holds) => return self.reconcile(holds, now),
            Event::Trouble { why, todo } => {
                let since = self.kept.trouble.as_ref().map_or(now, |before| before.since);
                self.kept.trouble = Some(SinkTrouble { since, why, todo, waiting: 0, dropped: 0 });
            }
            Event::Well => self.kept.trouble = None,
        }
        Vec::new()
    }

    /// Makes the ledger and the sink say the same.
    fn reconcile(&mut self, holds: Holds, now: Time) -> Vec<Effect> {
        // Who leads does it; who begins to lead asks again.
        if !self.company.peers.leads() {
            return Vec::new();
        }
        self.kept.awaited_until = None;
        // What ended while we were away, by the hand of another agent, has ended.
        let over: Vec<Finding> = self
            .ledger
            .open()
            .filter(|ours| {
                holds.ended.get(&ours.fingerprint).is_some_and(|mark| {
                    mark.opened_at_ms == ours.opened_at.as_millis() && mark.revision > ours.revision
                })
            })
            .cloned()
            .collect();
        for finding in over {
            self.ledger.follow(Action::Resolved, finding);
        }
        let (mut theirs, mut stale) = (Vec::new(), Vec::new());
        for finding in holds.open.into_iter().take(FINDINGS_MAX) {
            match self.company.how_it_ended(&finding) {
                Some(ended) => stale.push(ended.of(finding)),
                None => theirs.push(finding),
            }
        }
        for change in stale {
            self.keep_only(&change);
        }
        self.recall(&theirs);
        let before = self.ledger.len();
        let changes = self.ledger.adopt(theirs, now);
        let lacking: Vec<Finding> =
            self.ledger.open().filter(|ours| !holds.known.contains(&ours.fingerprint)).cloned().collect();
        tracing::info!(
            open = self.ledger.len(),
            before,
            lacking = lacking.len(),
            "compared the ledger with the sink"
        );
        for finding in lacking {
            self.keep_only(&Change { action: Action::Opened, reason: Reason::Violated, finding });
        }
        self.publish_changes(&changes);
        if self.ledger.len() != before {
            // Those that stand by have not heard of what was taken up.
            self.company.changes += 1;
        }
        let mut effects = self.save();
        effects.extend(self.send(now));
        effects
    }

    /// Tells the sink alone: everybody else heard it before.
    fn keep_only(&mut self, change: &Change) {
        let message = event::finding(change, &self.sight, &self.style, &nuid::next().to_string());
        self.kept.keep(&message);
    }
}
