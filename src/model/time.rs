//! Points in time as the core sees them: an input, never read from a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since the Unix epoch, UTC. Written as RFC 3339 with nine decimals, as the servers do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(
    /// One more than the nanoseconds: a time that may be missing, of which a large supercluster has a million, is no
    /// larger than one that may not.
    NonZeroU64,
);

impl Default for Time {
    fn default() -> Self {
        Self::from_nanos(0)
    }
}

impl Time {
    /// `nanos` since the Unix epoch. The latest of all is one nanosecond short of what 64 bits hold.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// `millis` since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.as_nanos().saturating_sub(earlier.as_nanos()))
    }

    /// This time and `d` more, at the end of the range when it would pass it.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_add(nanos(d)))
    }

    /// This time less `d`, at the Unix epoch when it would pass it.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(nanos(d)))
    }

    /// For a sentence: `2026-11-20 19:36:22Z`.
    pub fn to_the_second(self) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(self.as_nanos()))
            .to_string()
            .replace('T', " ")
    }

    /// Reads RFC 3339; none when it is not, or lies before 1970 or after 2554.
    pub fn parse(text: &str) -> Option<Self> {
        humantime::parse_rfc3339_weak(text).ok().and_then(|t| Self::try_from(t).ok())
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl TryFrom<SystemTime> for Time {
    type Error = ();

    fn try_from(t: SystemTime) -> Result<Self, ()> {
        let since = t.duration_since(UNIX_EPOCH).map_err(|_| ())?;
        u64::try_from(since.as_nanos()).map(Self::from_nanos).map_err(|_| ())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(self.as_nanos())).fmt(f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_servers_write_it() {
        let t = Time::parse("2026-11-20T19:36:22.123456789Z").unwrap();
        assert_eq!(t.to_string(), "2026-11-20T19:36:22.123456789Z");
        assert_eq!(t.as_millis() * 1_000_000 + 456_789, t.as_nanos());
    }

    #[test]
    fn a_time_out_of_range_is_refused_and_arithmetic_never_overflows() {
        assert_eq!(Time::parse("1960-01-01T00:00:00Z"), None);
        assert_eq!(Time::parse("yesterday"), None);
        assert_eq!(Time::from_nanos(5).minus(Duration::from_secs(1)), Time::from_nanos(0));
        assert_eq!(Time::from_nanos(5).plus(Duration::MAX), Time::from_nanos(u64::MAX));
        assert_eq!(Time::from_nanos(5).since(Time::from_nanos(9)), Duration::ZERO);
    }
}
