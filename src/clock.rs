//! The one place where a clock is read.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::model::Time;

/// Wall time that never jumps: read once, then carried on by the monotonic clock, so that an adjusted clock
/// makes no absence longer or shorter than it was.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Time,
    at: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn start() -> Self {
        // A machine whose clock stands before 1970 gets times that are wrong, and durations that are right.
        Self { wall: Time::try_from(SystemTime::now()).unwrap_or_default(), at: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.wall.plus(self.at.elapsed())
    }

    /// When `t` is, for a timer.
    pub fn instant(&self, t: Time) -> Instant {
        self.at + t.since(self.wall)
    }
}

/// The processor's time that this process has spent; zero where the system does not tell.
pub fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

/// What of that the thread has spent that asks.
pub fn spent_here() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As where the machine's clock was set by half a century since the start.
    #[test]
    fn a_clock_that_is_adjusted_moves_no_time_and_makes_nothing_longer() {
        let wall = Time::from_millis(1000);
        let clock = Clock { wall, at: Instant::now() };
        let (first, second) = (clock.now(), clock.now());
        assert!(wall <= first && first <= second);
        assert!(second.since(wall) < Duration::from_secs(60), "{second:?} was read from the machine's clock");
    }
}
