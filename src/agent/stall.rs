//! Whether the agent itself stood still: the machine was stopped, or had no time for it.

use std::time::Duration;

use super::{Agent, LOOK_SOON};
use crate::model::Time;

/// So long is no look away from what a patience of seconds was given for.
const STALL: Duration = Duration::from_secs(1);
/// What judging took once it may take again for so long: longer than between two of what is asked least often.
const BUSY_KEPT: Duration = Duration::from_secs(600);

/// By how much its own work held the agent up most, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Busy {
    at: Time,
    lasts: Duration,
    /// And by how much when it last woke.
    last: Duration,
}

impl Busy {
    fn note(&mut self, lasts: Duration, now: Time) {
        self.last = lasts;
        if lasts >= self.lasts || now.since(self.at) > BUSY_KEPT {
            (self.at, self.lasts) = (now, lasts);
        }
    }

    pub(super) const fn last(self) -> Duration {
        self.last
    }

    pub(super) const fn lasts(self) -> Duration {
        self.lasts
    }
}

impl Agent {
    /// Whether what was due at `due`, and begins now, is so late that `spent` has to be known.
    pub(super) fn is_late(&self, due: Time, now: Time) -> bool {
        now.since(due.max(self.awake_at)) >= STALL
    }

    /// What was due at `due` begins now. `worked` is what the agent's thread has spent of the processor since it started:
    /// what it was late for by its own work is no standstill. Who did not run saw nobody answer, nor dial again: what was
    /// counted in looks begins anew.
    pub(super) fn wakes(&mut self, due: Time, worked: Duration, now: Time) {
        let late = now.since(due.max(self.awake_at));
        let own = worked.saturating_sub(std::mem::replace(&mut self.worked, worked));
        self.awake_at = now;
        self.busy.note(late.min(own), now);
        if late.saturating_sub(own) < STALL {
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
