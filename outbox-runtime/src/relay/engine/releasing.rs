//! Which parked events are tried again, and when.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::record::{KeyDigest, Lane};
use crate::store::{Lease, NextEvent, RetryResult};

/// Keys of refused events that are tried again in one round while none of them has been accepted.
const KEYS: u32 = 32;
/// The same, once one was accepted.
const KEYS_THEN: u32 = 1_000;
/// Most bytes of parked events that are read and sent at once, within the relay's memory. A single
/// larger event is still sent.
const BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// Number of keys being sent above which no more are read.
const KEYS_AT_ONCE: usize = 64;

/// Parked events that are tried again.
pub(super) struct Releasing {
    /// Whether events may have been released since the last look.
    pub(super) look: bool,
    /// Time at which keys are tried again by themselves.
    pub(super) next_retry: Instant,
    /// Keys to try again then.
    pub(super) keys: u32,
    /// Keys with events in flight or not settled yet, and their bytes.
    sending: HashMap<(Lane, KeyDigest), u64>,
    settled: VecDeque<(Lease, RetryResult)>,
    /// Key that is being settled now.
    settling: Option<(Lane, KeyDigest)>,
    /// When to settle again, if the database did not accept the results.
    pub(super) settle_again: Option<Instant>,
    settle_backoff: Backoff,
}

impl Releasing {
    pub(super) fn new(next_retry: Instant) -> Self {
        Self {
            look: true,
            next_retry,
            keys: KEYS,
            sending: HashMap::new(),
            settled: VecDeque::new(),
            settling: None,
            settle_again: None,
            settle_backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
        }
    }

    /// Bytes that may be sent in addition. `None`: no further key may be sent. `memory`: bytes that
    /// the relay has room for.
    pub(super) fn room(&self, memory: u64) -> Option<u64> {
        let in_flight: u64 = self.sending.values().sum();
        let bytes = BYTES_AT_ONCE.saturating_sub(in_flight).min(memory);
        let room = (bytes > 0 || in_flight == 0) && self.sending.len() < KEYS_AT_ONCE;
        room.then_some(bytes)
    }

    /// The keys that are being tried again.
    pub(super) fn in_progress(&self) -> Vec<KeyDigest> {
        self.sending.keys().map(|(_, key)| *key).collect()
    }

    /// Records that events of a key are sent. `false`: some are already.
    pub(super) fn begin(&mut self, lane: Lane, key: KeyDigest, bytes: u64) -> bool {
        let is_new = !self.sending.contains_key(&(lane, key));
        if is_new {
            self.sending.insert((lane, key), bytes);
        }
        is_new
    }

    /// Forgets a key of a lane that was lost. If the lane comes back, the key is tried again.
    pub(super) fn give_up(&mut self, lane: Lane, key: KeyDigest) {
        self.sending.remove(&(lane, key));
    }

    /// Keeps the results of a key, to be settled.
    pub(super) fn keep(&mut self, lease: Lease, settled: RetryResult) {
        // The payloads are no longer needed.
        self.sending.insert((lease.lane, settled.key), 0);
        self.settled.push_back((lease, settled));
    }

    /// Whether there are results that are not settled.
    pub(super) fn has_results(&self) -> bool {
        !self.settled.is_empty()
    }

    /// The results to settle now.
    pub(super) fn next_result(&mut self, now: Instant) -> Option<(Lease, RetryResult)> {
        if self.settle_again.is_some_and(|again| again > now) {
            return None;
        }
        self.settle_again = None;
        let (lease, settled) = self.settled.pop_front()?;
        self.settling = Some((lease.lane, settled.key));
        Some((lease, settled))
    }

    /// Takes in that results are settled: more events may be tried.
    pub(super) fn is_settled(&mut self, lane: Lane, settled: &RetryResult, now: Instant) {
        self.settling = None;
        self.settle_backoff.reset();
        self.sending.remove(&(lane, settled.key));
        // There may have been more than there was room for.
        self.look = true;
        if !settled.delivered.is_empty() {
            // The cause is removed, perhaps for the others as well.
            self.next_retry = now;
            self.keys = KEYS_THEN;
        } else if matches!(settled.next, NextEvent::Refused(..)) {
            self.keys = KEYS;
        }
    }

    /// Takes back results that the database did not take. They are settled later, after those of
    /// other keys; the events are not sent again until then.
    pub(super) fn is_not_settled(&mut self, lease: Lease, settled: RetryResult, now: Instant) {
        self.settling = None;
        self.settled.push_back((lease, settled));
        self.settle_again = Some(now + self.settle_backoff.pause());
    }

    /// Forgets results that the database does not know: these keys are tried again.
    pub(super) fn unsettle(&mut self) {
        let settled = self.settled.drain(..).map(|(lease, settled)| (lease.lane, settled.key));
        for key in settled.chain(self.settling.take()) {
            self.sending.remove(&key);
        }
        self.settle_again = None;
        self.look = true;
    }

    /// Forgets all, as what was being sent is lost.
    pub(super) fn forget_all(&mut self) {
        self.sending.clear();
        self.settled.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::from_number(0)
    }

    fn key(name: &str) -> KeyDigest {
        KeyDigest::of("orders", name.as_bytes())
    }

    fn result(name: &str, delivered: &[i64], next: NextEvent) -> RetryResult {
        RetryResult { key: key(name), delivered: delivered.to_vec(), next }
    }

    #[test]
    fn what_is_sent_at_once_is_bounded_in_bytes_and_keys() {
        let mut releasing = Releasing::new(Instant::now());
        assert_eq!(releasing.room(100), Some(100));
        assert_eq!(releasing.room(0), Some(0), "the first event is sent, whatever its size");
        assert!(releasing.begin(lane(), key("large"), BYTES_AT_ONCE));
        assert!(!releasing.begin(lane(), key("large"), 1), "it is being sent");
        assert_eq!(releasing.room(100), None);
        releasing.give_up(lane(), key("large"));
        for n in 0..KEYS_AT_ONCE {
            assert!(releasing.room(100).is_some());
            releasing.begin(lane(), key(&n.to_string()), 0);
        }
        assert_eq!((releasing.room(100), releasing.in_progress().len()), (None, KEYS_AT_ONCE));
    }

    #[test]
    fn results_are_settled_in_turn_and_later_if_the_database_does_not_take_them() {
        let (now, lease) = (Instant::now(), Lease { lane: lane(), epoch: 1 });
        let mut releasing = Releasing::new(now + Duration::from_secs(30));
        for name in ["a", "b"] {
            releasing.begin(lane(), key(name), 10);
            releasing.keep(lease, result(name, &[1], NextEvent::Untried));
        }
        let (_, a) = releasing.next_result(now).unwrap();
        assert_eq!(a.key, key("a"));
        releasing.is_not_settled(lease, a, now);
        assert!(releasing.next_result(now).is_none(), "it waits");
        let later = now + Duration::from_secs(60);
        let (_, b) = releasing.next_result(later).unwrap();
        assert_eq!(b.key, key("b"));
        releasing.is_settled(lane(), &b, later);
        assert_eq!((releasing.next_retry, releasing.keys), (later, KEYS_THEN), "others may pass");
        assert_eq!(releasing.in_progress(), [key("a")]);
        releasing.unsettle();
        assert!(!releasing.has_results() && releasing.in_progress().is_empty() && releasing.look);
    }

    #[test]
    fn a_refusal_makes_the_next_round_small_again() {
        let now = Instant::now();
        let mut releasing = Releasing::new(now);
        releasing.is_settled(lane(), &result("a", &[1], NextEvent::Untried), now);
        releasing.is_settled(lane(), &result("b", &[], NextEvent::NotSent), now);
        assert_eq!(releasing.keys, KEYS_THEN);
        releasing.is_settled(
            lane(),
            &result("c", &[], NextEvent::Refused(2, "no".to_owned())),
            now,
        );
        assert_eq!(releasing.keys, KEYS);
    }
}
