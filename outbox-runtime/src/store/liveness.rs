//! Decides which relays are alive.
//!
//! A relay gives a sign of life every third of its lease, and holds its lanes as long as it does.
//! Its sign says until when the lease lasts, by the database's clock. A clock that is set back
//! would make the lease of a dead relay last for hours. So a relay is also dead if it has given no
//! new sign for as long as its lease, by the observer's own clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::lanes::Share;
use super::row::row;
use crate::record::LANES;

row! {
    /// The latest sign of life of another relay.
    #[derive(Debug, Clone)]
    pub(crate) struct Sign {
        owner: Uuid,
        /// Grows with each sign.
        number: i64,
        lease_millis: i64,
        /// Whether its lease lasts, by the database's clock.
        in_time: bool,
        /// Whether it asks for a fair share of the lanes.
        shares: bool,
    }
}

/// The other relays, as a claim sees them.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The latest signs of those that are dead.
    pub(crate) dead: Vec<Sign>,
    /// Number of those that are alive and ask for a fair share.
    pub(crate) sharing: usize,
}

impl Peers {
    /// Number of lanes that a relay should hold that asks for `share`.
    pub(crate) fn share(&self, share: Share) -> usize {
        match share {
            Share::Fair => LANES.div_ceil(self.sharing + 1),
            Share::All => LANES,
        }
    }
}

/// When the latest sign of each relay was first seen.
#[derive(Debug, Default)]
pub(crate) struct Liveness(HashMap<Uuid, (i64, Instant)>);

impl Liveness {
    /// Tells the dead relays from the others. `signs` has the latest sign of each relay.
    pub(crate) fn of(&mut self, signs: Vec<Sign>, now: Instant) -> Peers {
        self.0.retain(|owner, _| signs.iter().any(|sign| sign.owner == *owner));
        let is_dead = |sign: &Sign| {
            let (number, since) = self.0.entry(sign.owner).or_insert((sign.number, now));
            if *number != sign.number {
                (*number, *since) = (sign.number, now);
            }
            let lease = Duration::from_millis(sign.lease_millis.max(0).unsigned_abs());
            !sign.in_time || now.saturating_duration_since(*since) > lease
        };
        let (dead, alive): (Vec<Sign>, Vec<Sign>) = signs.into_iter().partition(is_dead);
        Peers { dead, sharing: alive.iter().filter(|sign| sign.shares).count() }
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
            let peers =
                liveness.of(vec![sign(number, in_time)], start + Duration::from_secs(seconds));
            !peers.dead.is_empty()
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
        liveness.of(vec![sign(1, true)], Instant::now());
        liveness.of(Vec::new(), Instant::now());
        assert!(liveness.0.is_empty());
    }
}
