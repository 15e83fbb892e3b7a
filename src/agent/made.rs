//! When what comes was made: what is late tells of the time before it was on its way.

use std::time::Duration;

use super::Agent;
use crate::model::{ServerInfo, Time};

/// A connection that stands still is closed before (45 s, measured); what seems older was sent by a clock that was set.
const WAITED_MAX: Duration = Duration::from_secs(60);

impl Agent {
    /// When a late reply was made, by our clock. Where that cannot be told it is not older than the question.
    pub(super) fn made_at(&self, server: &ServerInfo, number: u64, now: Time) -> Time {
        let told = self.told_at(server);
        told.or_else(|| self.late.asked_at(number, server.cluster.as_ref())).map_or(now, |t| t.min(now))
    }

    /// When a heartbeat was made, by our clock: what waited in a full connection shows no life of when it comes.
    pub(super) fn beat_at(&self, server: &ServerInfo, now: Time) -> Time {
        let told = self.told_at(server).filter(|told| now.since(*told) <= WAITED_MAX);
        told.map_or(now, |told| told.min(now))
    }

    /// When it made what it sends, by our clock, if that can be told from its answers before.
    fn told_at(&self, server: &ServerInfo) -> Option<Time> {
        let (time, skew) = server.time.zip(self.skew_ns.get(&server.id))?;
        u64::try_from(i128::from(time.as_nanos()) - skew).ok().map(Time::from_nanos)
    }
}
