//! Whether the agent itself stood still: the machine was stopped, or had no time for it.

use std::time::Duration;

use super::{Agent, LOOK_SOON};
use crate::model::Time;

/// So long is no look away from what a patience of seconds was given for.
const STALL: Duration = Duration::from_secs(1);

impl Agent {
    /// Whether what was due at `due`, and begins now, is so late that `spent` has to be known.
    pub(super) fn is_late(&self, due: Time, now: Time) -> bool {
        now.since(due.max(self.awake_at)) >= STALL
    }

    /// What was due at `due` begins now. `spent` is what the agent has spent of the processor since it started: what it
    /// was late for by its own work is no standstill. Who did not run saw nobody answer, nor dial again: what was
    /// counted in looks begins anew.
    pub(super) fn wakes(&mut self, due: Time, spent: Duration, now: Time) {
        let late = now.since(due.max(self.awake_at));
        self.awake_at = now;
        if late.saturating_sub(spent.saturating_sub(self.spent)) < STALL {
            return;
        }
        tracing::warn!(late_ms = super::millis(late), "stood still, and gives what it saw before no weight");
        self.roster.blink();
        self.glances.begin_anew(now);
        self.ripe_at = None;
        // One that takes its time is worth going on with: those who were asked may answer yet.
        match &mut self.look {
            Some(look) if look.is_in_parts() => look.wait_anew(now),
            _ => self.drop_look(),
        }
        self.soon_at.get_or_insert(now.plus(LOOK_SOON));
    }
}
