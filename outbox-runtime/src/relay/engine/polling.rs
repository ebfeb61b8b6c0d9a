//! When a relay looks for events although the doorbell was not rung.

use std::time::Duration;

use tokio::time::Instant;

/// Pause after a look that found events of which no ring told. Each look after it that finds nothing
/// doubles the pause, up to the interval: an event costs at most six looks more.
const SOON: Duration = Duration::from_millis(5);

/// The polls of a relay. Where rings arrive, they find nothing, and come at the interval. Where none
/// do (another process on MySQL, a lost connection to listen on), the next events are found soon
/// while there are some.
pub(super) struct Polling {
    interval: Duration,
    pause: Duration,
    next: Instant,
    /// When to look for parked events, too, which another process may have released.
    next_for_parked: Instant,
    /// Whether a poll asks for the next look, and no ring has.
    asks: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) parked: bool,
}

impl Polling {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        let next = now + interval;
        Self { interval, pause: interval, next, next_for_parked: next, asks: false }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether a poll is due. If so, a look has to follow.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.next > now {
            return None;
        }
        self.next = now + self.pause;
        self.asks = true;
        let parked = self.next_for_parked <= now;
        if parked {
            self.next_for_parked = now + self.interval;
        }
        Some(Due { parked })
    }

    pub(super) fn rung(&mut self) {
        self.asks = false;
    }

    /// Whether it alone has asked for the look that begins.
    pub(super) fn asked(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    /// What came of a look that it had asked for.
    pub(super) fn looked(&mut self, begun: Instant, found: bool) {
        self.pause = if found { SOON } else { self.pause * 2 }.min(self.interval);
        self.next = begun + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(250);

    /// Polls as soon as it may, and has the look find that. Returns the time since the last one.
    fn poll(polling: &mut Polling, now: &mut Instant, found: bool) -> Duration {
        let before = std::mem::replace(now, polling.next());
        assert!(polling.due(*now).is_some());
        assert!(polling.asked());
        polling.looked(*now, found);
        *now - before
    }

    #[test]
    fn where_no_ring_arrives_the_next_events_are_looked_for_soon_and_an_idle_outbox_seldom() {
        let mut now = Instant::now();
        let mut polling = Polling::new(INTERVAL, now);
        let mut pauses = |found: &[bool]| {
            let pauses = found.iter().map(|found| poll(&mut polling, &mut now, *found).as_millis());
            pauses.collect::<Vec<_>>()
        };
        assert_eq!(pauses(&[false, false, true]), [250, 250, 250]);
        assert_eq!(pauses(&[true, true, false]), [5, 5, 5]);
        assert_eq!(pauses(&[false; 7]), [10, 20, 40, 80, 160, 250, 250]);
        assert_eq!(pauses(&[true, false]), [250, 5]);
    }

    #[test]
    fn what_a_ring_has_told_of_makes_no_poll_come_sooner() {
        let now = Instant::now();
        let mut polling = Polling::new(INTERVAL, now);
        assert_eq!(polling.due(now), None);
        let now = polling.next();
        assert_eq!(polling.due(now), Some(Due { parked: true }));
        polling.rung();
        assert!(!polling.asked());
        assert_eq!(polling.next(), now + INTERVAL);
    }

    #[test]
    fn parked_events_are_looked_for_no_more_often_than_the_interval() {
        let mut now = Instant::now();
        let mut polling = Polling::new(INTERVAL, now);
        poll(&mut polling, &mut now, true);
        let begun = now;
        let mut looks = 0;
        while now < begun + INTERVAL * 4 {
            now = polling.next();
            looks += u32::from(polling.due(now).unwrap().parked);
            polling.looked(now, true);
        }
        assert_eq!(looks, 4);
    }

    #[test]
    fn an_interval_that_is_shorter_is_kept() {
        let mut now = Instant::now();
        let mut polling = Polling::new(Duration::from_millis(1), now);
        for found in [true, false, true] {
            assert_eq!(poll(&mut polling, &mut now, found).as_millis(), 1);
        }
    }
}
