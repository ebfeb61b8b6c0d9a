//! How a relay takes a group over.

use super::kafka::Progress;
use super::postgres::{Earlier, Saved};
use super::relay::{Phase, Relay};
use super::world::World;
use super::{Flaw, Rules};

impl World {
    /// The next step of a relay that takes the group over, if it may.
    pub(super) fn take_over(&self, n: usize, rules: Rules) -> Option<Self> {
        let relay = &self.relays[n];
        match relay.phase {
            Phase::Out => self.is_free(n, rules).then(|| self.claimed(n, rules)),
            Phase::Fencing(producer) => Some(self.fenced(n, producer, rules)),
            Phase::Reading => Some(self.progress_read(n, rules)),
            Phase::Confirming => Some(self.confirmed(n, rules)),
            Phase::Recording => Some(self.recorded(n, rules)),
            Phase::Adopting | Phase::Running => None,
        }
    }

    /// Whether the group may be claimed without a lease that ends too early. Who is alive on
    /// another server gives no sign on this one.
    fn is_free(&self, n: usize, rules: Rules) -> bool {
        if self.at_least_once.is_some() && !rules.has(Flaw::SwitchWhileHeld) {
            return false;
        }
        self.holder.is_none_or(|holder| {
            let Relay { phase, session, .. } = self.relays[holder];
            let elsewhere = session != self.server.incarnation && self.server(session).is_some();
            holder == n || phase == Phase::Out || elsewhere
        })
    }

    /// Step 1: one transaction that waits for the disk. A claim that was never confirmed has
    /// written no progress, and is forgotten.
    pub(super) fn claimed(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        next.claims += 1;
        next.holder = Some(n);
        let (claim, incarnation) = (next.claims, next.server.incarnation);
        next.server.transact(true, |db, _| {
            if db.witness > 0 {
                db.earlier.push(Earlier { claim: db.claim, witness: db.witness });
            }
            (db.claim, db.witness) = (claim, 0);
        });
        let db = &next.server.live;
        let phase =
            if rules.has(Flaw::ReadBeforeFence) { Phase::Reading } else { Phase::Fencing(0) };
        next.relays[n] = Relay {
            phase,
            session: incarnation,
            witness_session: incarnation,
            claim,
            earlier: db.earlier.clone(),
            adopted_before: db.adopted,
            ended: db.ended,
            saved: db.saved.clone(),
            ..Relay::default()
        };
        next
    }

    /// Step 2: one producer after the other, the first one first.
    fn fenced(&self, n: usize, producer: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let fences = !rules.has(Flaw::NoFence) && (producer == 0 || !rules.has(Flaw::FenceOne));
        let epoch = if fences { next.kafka.init(producer) } else { next.kafka.epochs[producer] };
        let relay = &mut next.relays[n];
        relay.epochs.push(epoch);
        relay.phase = match producer + 1 {
            next if next < rules.scene.producers => Phase::Fencing(next),
            _ if rules.has(Flaw::ReadBeforeFence) => Phase::Confirming,
            _ => Phase::Reading,
        };
        next
    }

    /// Step 3: only now no transaction is open that could still be committed.
    fn progress_read(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let relay = &mut next.relays[n];
        relay.read = next.kafka.read_progress();
        relay.phase =
            if rules.has(Flaw::ReadBeforeFence) { Phase::Fencing(0) } else { Phase::Confirming };
        next
    }

    /// Step 4: the claim is confirmed, which leaves a trace in the database.
    /// Step 5: it is decided where to go on.
    fn confirmed(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let claim = relay.claim;
        let Some(server) = server else { return next.closed(n) };
        if server.live.claim == claim {
            server.transact(true, |db, _| {
                db.witness = db.witness.max(1);
                if rules.has(Flaw::ForgetEarlierTooSoon) {
                    db.earlier.clear();
                }
            });
        } else if !rules.has(Flaw::NoConfirm) {
            return next.closed(n);
        }
        relay.witness = 1;
        if relay.decide(rules) {
            next.fallbacks += 1;
        }
        let relay = &mut next.relays[n];
        if rules.has(Flaw::NoAdoption) {
            relay.phase = Phase::Recording;
            return next;
        }
        // Step 6: through the producer that was fenced first.
        relay.phase = Phase::Adopting;
        let any = (2 * usize::from(claim)) % relay.epochs.len();
        let producer = if rules.has(Flaw::AdoptThroughAnyProducer) { any } else { 0 };
        if rules.has(Flaw::AdoptionNeedsWitness) {
            relay.need = relay.cursor.need();
            relay.witness = relay.need;
        }
        relay.push_wave(producer);
        relay.next_producer = (producer + 1) % relay.epochs.len();
        next
    }

    /// Step 7: that progress was adopted is on disk before the first event is sent: whoever finds
    /// none on the topic after this knows that the topic was lost.
    fn recorded(&self, n: usize, rules: Rules) -> Self {
        let mut next = self.clone();
        let (relay, server) = next.relay_and_server(n);
        let claim = relay.claim;
        match server {
            Some(server) if server.live.claim == claim => {
                if !rules.has(Flaw::NoRecord) {
                    server.transact(true, |db, _| {
                        db.adopted = true;
                        db.earlier.clear();
                    });
                }
                relay.phase = Phase::Running;
                next
            }
            _ => next.closed(n),
        }
    }
}

impl Relay {
    /// Goes on from the progress on the topic, or from the cursor in the database. Returns whether
    /// that is a fall-back.
    fn decide(&mut self, rules: Rules) -> bool {
        let (ended, none) = (self.ended, Flaw::ForgetEnded);
        let found = self.read.as_ref().is_some_and(|read| read.claim != ended || rules.has(none));
        let adopted = self.read.take().filter(|read| self.may_adopt(read, rules));
        let falls_back = adopted.is_none() && (self.adopted_before || found);
        let start = adopted.unwrap_or_else(|| Progress {
            cursor: self.saved.cursor.clone(),
            ..Progress::default()
        });
        self.cursor = start.cursor.clone();
        if !rules.has(Flaw::SettledNotApplied) {
            self.settled = start.settled.clone();
        }
        self.done = start;
        falls_back
    }

    fn may_adopt(&self, read: &Progress, rules: Rules) -> bool {
        let Saved { claim, number, .. } = self.saved;
        let of_claim = self.earlier.iter().find(|earlier| earlier.claim == read.claim);
        let highest = self.earlier.iter().map(|earlier| earlier.witness).max().unwrap_or(0);
        let witness = match of_claim {
            None => return false,
            Some(_) if rules.has(Flaw::WitnessNotChecked) => u8::MAX,
            Some(_) if rules.has(Flaw::WitnessNotPinned) => highest,
            Some(earlier) => earlier.witness,
        };
        // Ahead of the topic under the same claim: the topic has lost something.
        let database_is_ahead = claim == read.claim && number > read.number;
        read.need <= witness && !database_is_ahead
    }
}
