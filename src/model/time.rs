//! Points in time as the core sees them: an input, never read from a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Visitor;
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
    /// From the last day of February of the year 0.
    const DAYS_TO_1970: u64 = 719_469;

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
        Self::parse_utc(text.as_bytes()).or_else(|| Self::parse_any(text))
    }

    /// As servers write it: `2026-11-20T19:36:22.123456789Z`, with fewer decimals or none. None when it is left to
    /// [`Self::parse_any`] to tell what it is.
    fn parse_utc(text: &[u8]) -> Option<Self> {
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
        };
        let (date, rest) = text.split_first_chunk::<19>()?;
        let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1] = *date
        else {
            return None;
        };
        let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
        let (hour, minute, second) = (number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?);
        let parts = match rest.strip_suffix(b"Z")? {
            [] => &[],
            [b'.', parts @ ..] if (1..=9).contains(&parts.len()) => parts,
            _ => return None,
        };
        let nanos = (parts.len()..9).fold(number(parts)?, |n, _| n * 10);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let sound = (1970..2554).contains(&year)
            && (1..=last).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !sound {
            return None;
        }
        // Counted from March, the leap day is the last of its year.
        let (month, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day
            - Self::DAYS_TO_1970;
        Some(Self::from_nanos((days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanos))
    }

    fn parse_any(text: &str) -> Option<Self> {
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
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text).ok_or_else(|| E::custom("not an RFC 3339 time"))
            }
        }
        d.deserialize_str(Text)
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
    fn a_time_reads_the_same_the_short_way_and_the_general_way() {
        let mut short_ways = 0;
        let days = (1..=31).flat_map(|d| (1..=12).map(move |m| (m, d)));
        for (year, (month, day)) in
            (0_u64..3000).step_by(13).chain(1960..2110).flat_map(|y| days.clone().map(move |d| (y, d)))
        {
            for rest in [
                "T00:00:00Z",
                "T23:59:59.1Z",
                "T12:30:01.123456789Z",
                "T07:08:60Z",
                "T24:00:00Z",
                "T01:60:00.Z",
            ] {
                let text = format!("{year:04}-{month:02}-{day:02}{rest}");
                if let Some(time) = Time::parse_utc(text.as_bytes()) {
                    assert_eq!(Some(time), Time::parse_any(&text), "{text}");
                    short_ways += 1;
                }
            }
        }
        assert!(short_ways > 100_000, "{short_ways}");
        for text in ["2026-11-20T19:45:19.652034098Z", "2024-02-29T00:00:00Z", "1970-01-01T00:00:00.5Z"] {
            assert!(Time::parse_utc(text.as_bytes()).is_some(), "{text} is as servers write it");
        }
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
