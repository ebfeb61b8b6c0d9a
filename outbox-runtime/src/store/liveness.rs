//! Decides which relays are alive.
//!
//! A relay gives a sign of life every third of its lease, and holds its lanes as long as it does.
//! Its sign says until when the lease lasts, by the database's clock. A clock that is set back
//! would make the lease of a dead relay last for hours. So a relay is also dead if it has given no
//! new sign for as long as its lease, by the observer's own clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The latest sign of life of another relay.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    pub(crate) owner: Uuid,
    /// Grows with each sign.
    pub(crate) number: i64,
    pub(crate) lease_millis: i64,
    /// Whether its lease lasts, by the database's clock.
    pub(crate) in_time: bool,
    /// Whether it asks for a fair share of the lanes.
    pub(crate) shares: bool,
}

/// When the latest sign of each relay was first seen.
#[derive(Debug, Default)]
pub(crate) struct Liveness(HashMap<Uuid, (i64, Instant)>);

impl Liveness {
    /// The dead relays among those that gave these signs. `signs` has the latest sign of each
    /// relay.
    pub(crate) fn dead<'s>(&mut self, signs: &'s [Sign], now: Instant) -> Vec<&'s Sign> {
        self.0.retain(|owner, _| signs.iter().any(|sign| sign.owner == *owner));
        let is_dead = |sign: &&Sign| {
            let (number, since) = self.0.entry(sign.owner).or_insert((sign.number, now));
            if *number != sign.number {
                (*number, *since) = (sign.number, now);
            }
            let lease = Duration::from_millis(sign.lease_millis.max(0).unsigned_abs());
            !sign.in_time || now.saturating_duration_since(*since) > lease
        };
        signs.iter().filter(is_dead).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(number: i64, in_time: bool) -> Sign {
        Sign { owner: Uuid::from_u128(1), number, lease_millis: 5_000, in_time, shares: true }
    }

    #[test]
    fn a_relay_is_dead_when_its_lease_has_run_out_or_no_new_sign_came_for_as_long() {
        let mut liveness = Liveness::default();
        let start = Instant::now();
        let mut is_dead = |number, in_time, seconds| {
            !liveness
                .dead(&[sign(number, in_time)], start + Duration::from_secs(seconds))
                .is_empty()
        };
        assert!(is_dead(1, false, 0), "by the database's clock");
        assert!(!is_dead(2, true, 100));
        assert!(!is_dead(2, true, 105));
        assert!(is_dead(2, true, 106), "by ours");
        assert!(!is_dead(3, true, 107), "it was slow");
        assert!(!is_dead(3, true, 112));
        assert!(is_dead(3, true, 113));
    }

    #[test]
    fn what_was_seen_of_relays_that_left_is_forgotten() {
        let mut liveness = Liveness::default();
        liveness.dead(&[sign(1, true)], Instant::now());
        liveness.dead(&[], Instant::now());
        assert!(liveness.0.is_empty());
    }
}
