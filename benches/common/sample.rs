//! What many measurements say.

use std::time::Duration;

/// The smallest value that at least `percent` of a hundred of the sample do not exceed.
pub(crate) fn quantile(sample: &[Duration], percent: usize) -> Duration {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable();
    let rank = (percent * sorted.len()).div_ceil(100);
    sorted[rank.clamp(1, sorted.len()) - 1]
}
