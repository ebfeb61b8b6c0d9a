//! Events that a broker refuses: copies in a table, passed over by the progress, sent again later.

use super::postgres::Row;
use super::world::World;
use super::{Flaw, Rules};

impl World {
    /// The row is copied, in a transaction that waits for the disk and names the claim. Its id is
    /// witnessed in the same transaction, since the progress that passes over the row rests on it.
    pub(super) fn parked(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let (Some(server), Some(row)) = (server, relay.to_park.take()) else {
            return next.closed(n);
        };
        if server.live.claim != relay.claim && !rules.has(Flaw::ParkUnfenced) {
            return next.closed(n);
        }
        let rests_on_it = !rules.has(Flaw::ParkingNeedsNothing);
        let seq = row.seq;
        let xid = server.transact(true, |db, xid| {
            if db.parked.iter().all(|parked| parked.seq != seq) {
                db.parked.push(row);
            }
            if rests_on_it {
                db.witness = db.witness.max(xid);
            }
            xid
        });
        relay.cursor.advance(seq);
        if rests_on_it {
            relay.need = relay.need.max(xid);
            relay.witness = relay.witness.max(xid);
        }
        next
    }

    /// What a relay without waves does for parked events: it deletes what is published, has its
    /// progress pass over what is not, and sends one again.
    pub(super) fn tend_parked(&self, n: usize, rules: Rules, steps: &mut Vec<Self>) {
        let relay = &self.relays[n];
        let Some(server) = self.server(relay.session) else { return };
        let parked = &server.live.parked;
        if let Some(seq) = relay.done.settled.iter().find(|seq| relay.settled.contains(seq)) {
            steps.push(self.settled_deleted(n, *seq, rules));
            return;
        }
        let committed = &relay.done.cursor;
        if parked.iter().any(|row| relay.cursor.passed(row) && !committed.passed(row)) {
            let settled = relay.settled.clone();
            steps.push(self.clone().sent(n, (None, settled), rules));
        }
        let may_be_sent = |row: &&Row| {
            parked.iter().all(|other| other.key != row.key || other.seq >= row.seq)
                && (committed.passed(row) || rules.has(Flaw::RetryBeforePassed))
        };
        if let Some(row) = parked.iter().find(may_be_sent) {
            steps.push(self.clone().sent(n, (Some(row.event), vec![row.seq]), rules));
        }
    }

    /// A parked event that is published is deleted, if it still is there, before the progress
    /// forgets it.
    fn settled_deleted(&self, n: usize, seq: u8, rules: Rules) -> Self {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let claim = relay.claim;
        let Some(server) = server.filter(|server| server.live.claim == claim) else {
            return next.closed(n);
        };
        relay.settled.retain(|settled| *settled != seq);
        let rests_on_it = !rules.has(Flaw::DeletingNeedsNothing);
        let xid = server.transact(true, |db, xid| {
            db.parked.retain(|row| row.seq != seq);
            if rests_on_it {
                db.witness = db.witness.max(xid);
            }
            xid
        });
        if rests_on_it {
            relay.need = relay.need.max(xid);
            relay.witness = relay.witness.max(xid);
        }
        next
    }
}
