//! What one ledger takes over from another: of an earlier start, of the agent that led before, of an island that
//! has healed.

use std::cmp::Ordering;

use super::{Action, Change, Finding, Key, Ledger, Reason};
use crate::model::Time;

impl Ledger {
    /// Takes in what another ledger has open. Of one that both have, the earlier life goes on; of one whose
    /// severity they see differently, the one that was seen later, and the other ends as reclassified.
    pub fn adopt(&mut self, theirs: impl IntoIterator<Item = Finding>, at: Time) -> Vec<Change> {
        let mut changes = Vec::new();
        for mut their in theirs.into_iter().filter(|finding| finding.resolved_at.is_none()) {
            let key = Key::of(&their.check, &their.entity);
            let Some(our) = self.open.get_mut(&key) else {
                if !self.has_room(&key) {
                    self.over += 1;
                    continue;
                }
                // Only what this ledger sees from here on ends it.
                their.healthy_epochs = 0;
                let muted_until = self.silences.until(&their);
                their.muted_until = muted_until.or(their.muted_until.map(|_| at));
                self.open.insert(key, their);
                continue;
            };
            if our.fingerprint == their.fingerprint {
                our.inhibits.append(&mut their.inhibits);
                our.last_seen_at = our.last_seen_at.max(their.last_seen_at);
                // What one of the two told of was told of.
                if our.unsaid && their.is_said() {
                    (our.opened_at, our.revision, our.unsaid) = (their.opened_at, their.revision, false);
                    continue;
                }
                if their.unsaid {
                    continue;
                }
                // Revisions count within a life, which begins when it opened.
                match their.opened_at.cmp(&our.opened_at) {
                    Ordering::Less => {
                        our.opened_at = their.opened_at;
                        our.revision = their.revision;
                    }
                    Ordering::Equal => our.revision = our.revision.max(their.revision),
                    Ordering::Greater => {}
                }
                continue;
            }
            if their.last_seen_at > our.last_seen_at {
                let Some(ours) = self.open.insert(key, their) else { continue };
                their = ours;
            }
            if their.is_said() {
                their.end(at);
                changes.push(Change {
                    action: Action::Resolved,
                    reason: Reason::Reclassified,
                    finding: their,
                });
            }
        }
        changes
    }

    /// Does to this ledger what another one did to its own.
    pub fn follow(&mut self, action: Action, finding: Finding) {
        let key = Key::of(&finding.check, &finding.entity);
        if action == Action::Resolved {
            // A finding of another severity may stand in its place already.
            if self.open.get(&key).is_some_and(|ours| ours.fingerprint == finding.fingerprint) {
                self.open.remove(&key);
            }
        } else if self.has_room(&key) {
            self.open.insert(key, finding);
        }
    }
}

impl Finding {
    /// As it is once it ended.
    #[must_use]
    pub fn ended(mut self, at: Time) -> Self {
        self.end(at);
        self
    }

    /// As it was before it ended.
    #[must_use]
    pub fn reopened(mut self) -> Self {
        self.resolved_at = None;
        self.revision = self.revision.saturating_sub(1).max(1);
        self.healthy_epochs = 0;
        self
    }
}
