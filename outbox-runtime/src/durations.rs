//! Brings durations from users within bounds, once, in their setter: adding [`Duration::MAX`] to a
//! time panics, and a pause of zero makes a busy loop.

use std::time::Duration;

/// Longest time for anything that waits: 30 days.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest time for anything that is kept: 100 years.
pub(crate) const LONGEST_KEEPING: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `duration`, or the bound that it exceeds.
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
