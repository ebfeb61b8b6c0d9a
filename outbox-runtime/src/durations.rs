//! Durations from outside, brought within bounds once, in their setter: [`Duration::MAX`] added to
//! a point in time panics, and a pause of nothing is a loop that never rests.

use std::time::Duration;

/// The longest that anything waits.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest that anything is kept: 100 years.
pub(crate) const LONGEST_KEEPING: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `duration`, or the bound that it is beyond.
pub(crate) const fn within(duration: Duration, shortest: Duration, longest: Duration) -> Duration {
    if duration.as_nanos() < shortest.as_nanos() {
        shortest
    } else if duration.as_nanos() > longest.as_nanos() {
        longest
    } else {
        duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_bound_is_the_bound() {
        let second = Duration::from_secs(1);
        for (duration, expected) in [
            (Duration::ZERO, second),
            (second, second),
            (second * 5, second * 5),
            (Duration::MAX, LONGEST_WAIT),
        ] {
            assert_eq!(within(duration, second, LONGEST_WAIT), expected);
        }
    }
}
