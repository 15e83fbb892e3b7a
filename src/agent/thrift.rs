//! How slowly a large supercluster is looked at, so that the agent takes up no more of a processor than it may.

use std::collections::VecDeque;
use std::time::Duration;

use crate::collect::Part;
use crate::model::Time;

/// A round is made no longer than this for it: a machine may be too small for what it is given to watch.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// How much slower, or faster, a round may be than the one before it.
const STEP_MAX: f64 = 4.0;
/// What costs more than so many times what is aimed at, or less, is not that by chance.
const FAR: f64 = 1.25;
/// What is aimed at, of what may be taken up: no two rounds cost the same.
const AIM: f64 = 0.9;
/// It goes by the average of so many rounds.
const ROUNDS: usize = 4;
/// So many rounds spare nothing where more moves than what else there is can follow: what one sees begin is to last when
/// the next one sees it.
const ROUNDS_HURRIED: u32 = 2;

/// What the rounds cost.
#[derive(Debug)]
pub(super) struct Thrift {
    /// When the last ones began, and what the agent had spent then.
    began: VecDeque<(Time, Duration)>,
    /// How many times longer they are than the budget of bytes wants.
    slowness: f64,
    /// How many rounds more are as fast as the budget of bytes allows.
    hurried: u32,
}

impl Default for Thrift {
    fn default() -> Self {
        Self { began: VecDeque::new(), slowness: 1.0, hurried: 0 }
    }
}

impl Thrift {
    /// A round begins: it is to take its time if the last ones cost more than `percent` of a processor, with all that
    /// came meanwhile. `spent` is what the agent has spent since it started; where that stands still, nothing is
    /// measured.
    pub(super) fn measure(&mut self, parts: &VecDeque<Part>, spent: Duration, percent: u64, now: Time) {
        let lasts =
            parts.iter().fold(Duration::ZERO, |sum, part| sum.saturating_add(part.lasts)).as_secs_f64();
        if let Some((at, before)) = self.began.front() {
            let share = spent.saturating_sub(*before).as_secs_f64() / now.since(*at).as_secs_f64().max(0.001);
            let over = share * 100.0 / (percent.max(1) as f64 * AIM);
            if (1.0 / FAR..FAR).contains(&over) {
                // Half a step at a time does not swing to and fro.
                self.slowness *= over.sqrt();
            } else {
                self.slowness *= over.clamp(1.0 / STEP_MAX, STEP_MAX);
                // What went at another pace tells nothing of the next one.
                self.began.clear();
            }
        }
        if self.began.len() >= ROUNDS {
            self.began.pop_front();
        }
        self.began.push_back((now, spent));
        self.slowness = self.slowness.clamp(1.0, (ROUND_MAX.as_secs_f64() / lasts.max(0.001)).max(1.0));
    }

    /// The rounds that come spare nothing, and their cost tells nothing of others; how many times as fast the present one
    /// is to be.
    pub(super) fn stop(&mut self) -> f64 {
        let times = if self.hurried == 0 { self.slowness } else { 1.0 };
        self.hurried = ROUNDS_HURRIED;
        self.began.clear();
        times
    }

    /// Makes a round as long as that wants it.
    pub(super) fn slow_down(&mut self, parts: &mut VecDeque<Part>) {
        if self.hurried > 0 {
            self.hurried -= 1;
            self.began.clear();
            return;
        }
        for part in parts {
            let longer = Duration::try_from_secs_f64(part.lasts.as_secs_f64() * self.slowness);
            part.lasts = longer.unwrap_or(part.lasts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds in all.
    fn round() -> VecDeque<Part> {
        (0..10).map(|_| Part { lasts: Duration::from_secs(1), ..Part::default() }).collect()
    }

    fn lasts(parts: &VecDeque<Part>) -> Duration {
        parts.iter().map(|part| part.lasts).sum()
    }

    /// How long the last of many rounds is, where each costs `each` and a second that passes costs `idle`.
    fn after_many(each: Duration, idle: Duration, percent: u64) -> Duration {
        let (mut thrift, mut now, mut spent) = (Thrift::default(), Time::from_millis(1000), Duration::ZERO);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let mut parts = round();
            thrift.measure(&parts, spent, percent, now);
            thrift.slow_down(&mut parts);
            last = lasts(&parts);
            now = now.plus(last);
            spent += each + idle.mul_f64(last.as_secs_f64());
        }
        last
    }

    #[test]
    fn a_round_lasts_until_what_it_costs_is_in_the_budget() {
        let ms = Duration::from_millis;
        assert_eq!(after_many(ms(200), ms(0), 3), Duration::from_secs(10), "two percent");
        let lasts = after_many(ms(540), ms(0), 3).as_secs_f64();
        assert!((19.9..20.1).contains(&lasts), "{lasts}");
        // A good part of what may be spent goes where no pace helps.
        let lasts = after_many(ms(540), ms(12), 3).as_secs_f64();
        assert!((35.0..37.0).contains(&lasts), "{lasts}");
    }

    #[test]
    fn a_machine_that_is_too_small_gets_a_round_a_minute_and_a_longer_one_stays_as_it_is() {
        assert_eq!(after_many(Duration::from_secs(9), Duration::from_millis(500), 3), ROUND_MAX);
        let mut thrift = Thrift { slowness: 5.0, ..Thrift::default() };
        let mut parts: VecDeque<Part> = (0..10).flat_map(|_| round()).collect();
        thrift.measure(&parts, Duration::ZERO, 3, Time::from_millis(1000));
        thrift.slow_down(&mut parts);
        assert_eq!(lasts(&parts), Duration::from_secs(100));
        let mut parts = VecDeque::from([Part { lasts: Duration::MAX, ..Part::default() }]);
        thrift.measure(&parts, Duration::MAX, 0, Time::from_millis(1000));
        thrift.slow_down(&mut parts);
        assert_eq!(parts[0].lasts, Duration::MAX);
    }

    #[test]
    fn the_third_round_is_as_long_as_it_has_to_be() {
        // Half of what may be spent goes where no pace helps.
        let (mut thrift, mut now, mut spent) = (Thrift::default(), Time::from_millis(1000), Duration::ZERO);
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let mut parts = round();
            thrift.measure(&parts, spent, 3, now);
            thrift.slow_down(&mut parts);
            let last = lasts(&parts);
            now = now.plus(last);
            spent += Duration::from_millis(500) + last.mul_f64(0.012);
            lengths.push(last.as_secs_f64());
        }
        assert!(lengths[0] < 10.1 && lengths[2] > 26.0, "{lengths:?}");
        assert!(lengths[3..].iter().all(|s| (29.0..35.0).contains(s)), "{lengths:?}");
    }

    #[test]
    fn what_moves_widely_is_looked_at_without_sparing() {
        let mut thrift = Thrift { slowness: 5.0, ..Thrift::default() };
        let next = |thrift: &mut Thrift| {
            let mut parts = round();
            thrift.slow_down(&mut parts);
            lasts(&parts).as_secs()
        };
        assert_eq!(next(&mut thrift), 50);
        assert!((thrift.stop() - 5.0).abs() < 0.01);
        assert!((thrift.stop() - 1.0).abs() < 0.01, "it hurries already");
        assert_eq!([0; 3].map(|_| next(&mut thrift)), [10, 10, 50]);
    }

    #[test]
    fn where_nothing_is_measured_nothing_is_slowed() {
        assert_eq!(after_many(Duration::ZERO, Duration::ZERO, 3), Duration::from_secs(10));
    }
}
