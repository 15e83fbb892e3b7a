//! Whether a first look is over, and whether its view can be complete.

use std::time::Duration;

use super::{Record, Roster};

impl Roster {
    /// Whether everybody that anybody names has told its gateways, configuration, routes and totals: gateways and
    /// routes name all there are, so nobody is missing then.
    pub fn is_whole(&self) -> bool {
        let told =
            |r: &Record| r.gatewayz.is_some() && r.varz.is_some() && r.routez.is_some() && r.statsz.is_some();
        !self.records.is_empty() && self.records.values().all(|r| r.left_at.is_some() || told(r))
    }

    /// How long a server had run when it last spoke, by its own clock.
    pub fn uptime(&self, id: &str) -> Option<Duration> {
        let record = self.records.get(id)?;
        Some(record.info.time?.since(record.start()?))
    }
}
