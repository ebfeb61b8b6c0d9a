//! The change between delivery at least once and exactly once.

use super::postgres::{Cursor, Saved};
use super::relay::{Phase, Relay};
use super::world::World;
use super::{Flaw, Rules};

/// A relay that delivers at least once: without transactions, so nothing can fence what it sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct AtLeastOnce {
    cursor: Cursor,
    unsaved: bool,
}

impl World {
    /// The next step of the relay that delivers at least once, if there is one.
    pub(super) fn deliver_at_least_once(&self, steps: &mut Vec<Self>) {
        let mut next = self.clone();
        let (Some(relay), db) = (&mut next.at_least_once, &self.server.live) else { return };
        if relay.unsaved {
            relay.unsaved = false;
            let saved = Saved { cursor: relay.cursor.clone(), claim: 0, number: 0 };
            if db.claim == 0 {
                next.server.transact(true, |db, _| db.saved = saved);
            } else {
                next.at_least_once = None;
            }
        } else if let Some(row) = relay.cursor.next_row(&db.rows) {
            relay.cursor.advance(row.seq);
            relay.unsaved = true;
            next.kafka.send_plain(row.event, self.fallbacks);
        } else if relay.cursor.is_open() {
            relay.cursor.close();
        } else if relay.cursor.has_news(&db.rows) {
            relay.cursor.open(next.server.open_window());
        } else {
            return;
        }
        steps.push(next);
    }

    /// What an operator does to change the delivery.
    pub(super) fn switch_faults(&self, rules: Rules, faults: &mut Vec<Self>) {
        if let Some(AtLeastOnce { unsaved: false, .. }) = self.at_least_once {
            // It is stopped, and waits for what it has sent.
            let mut next = self.clone();
            next.at_least_once = None;
            faults.push(next);
        }
        if self.left.switches == 0 || self.at_least_once.is_some() {
            return;
        }
        if rules.has(Flaw::SwitchBackByHand) {
            if self.claims > 0 && self.relays.iter().all(|relay| relay.phase == Phase::Out) {
                faults.push(self.switched_back(self.server.live.saved.cursor.clone()));
            }
            return;
        }
        for (n, Relay { phase, waves, claim, done, .. }) in self.relays.iter().enumerate() {
            let holds = *phase == Phase::Running && *claim == self.server.live.claim;
            if holds && waves.is_empty() {
                faults.push(self.closed(n).switched_back(done.cursor.clone()));
            }
        }
    }

    /// One transaction saves the cursor and ends the claim, whose progress on the topic is then
    /// known to be superseded.
    fn switched_back(&self, cursor: Cursor) -> Self {
        let mut next = self.clone();
        next.left.switches -= 1;
        next.server.transact(true, |db, _| {
            db.saved = Saved { cursor: cursor.clone(), claim: 0, number: 0 };
            (db.ended, db.claim, db.witness, db.adopted) = (db.claim, 0, 0, false);
            db.earlier.clear();
        });
        next.holder = None;
        next.at_least_once = Some(AtLeastOnce { cursor, unsaved: false });
        next
    }
}
