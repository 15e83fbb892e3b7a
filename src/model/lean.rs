//! What takes no more room where it may be missing: a large supercluster has hundreds of thousands of each.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A count, one less than 64 bits hold at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(super) struct Count(
    /// One more than it is.
    NonZeroU64,
);

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(count))
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.0.get() - 1
    }
}

/// A duration of at most 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Duration", into = "Duration")]
pub(super) struct Span(
    /// In nanoseconds.
    Count,
);

impl From<Duration> for Span {
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).into())
    }
}

impl From<Span> for u64 {
    /// In nanoseconds.
    fn from(span: Span) -> Self {
        span.0.into()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_nanos(span.0.into())
    }
}
