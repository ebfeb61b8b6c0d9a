//! Exponential back-off with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Each pause is twice the last one, up to the longest, and shortened at random to no less than
/// half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        jittered(pause)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random part of a pause, between half and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    // A hash of nothing with new random keys is random enough for jitter.
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + random / 2.0)
}

/// The pause after `before` earlier ones, without jitter: `first`, doubled each time up to
/// `longest`.
#[cfg(feature = "kafka")]
pub(crate) fn pause_after(before: u32, first: Duration, longest: Duration) -> Duration {
    match before {
        0 => first,
        _ => first.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX)).min(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "kafka")]
    fn a_pause_is_known_by_how_many_came_before_it() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let pauses = [0, 1, 3, 4, 31, 32, u32::MAX];
        let pauses = pauses.map(|before| pause_after(before, first, longest).as_millis());
        assert_eq!(pauses, [100, 200, 800, 1_000, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for longest in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause().as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{pause} of {longest}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
