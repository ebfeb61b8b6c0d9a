//! What the relay does with the database's answers.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Answered, Asked, Engine};
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe::target;
use crate::publish::Publisher;
use crate::record::{LANES, Lane};
use crate::relay::lane::HeldLane;
use crate::relay::memory::Held;
use crate::store::{Claimed, LaneBatch, LaneStore, Progress, Saved, Share};

/// Time by which a further event in a look delays the next one.
const PAUSE_OF_EVENT: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// Time from the begin of a look that found this many events to that of the next one. Several are
/// found if services commit more often than the relay looks. With a pause, each look finds more, and
/// the database has more time for the services.
fn pause_after(events: usize) -> Duration {
    let further = u32::try_from(events.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_OF_EVENT.saturating_mul(further).min(LONGEST_PAUSE)
}

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// Takes the store back, and handles its answer.
    ///
    /// # Errors
    /// If the relay ends by it.
    pub(super) fn answered(&mut self, (store, answer): Answered<S>) -> Result<(), OutboxError> {
        self.store = Some(store);
        let was_reading = std::mem::take(&mut self.is_reading);
        let error = match answer {
            Ok(answer) => {
                self.database.answered();
                self.on_answer(answer);
                return Ok(());
            }
            Err(error) => error,
        };
        let now = Instant::now();
        self.database.failed(error, now)?;
        if was_reading {
            self.reading.failed();
        }
        // No cursor is used beyond the connection that it was read over.
        Lane::all().for_each(|lane| self.forget(lane));
        self.releasing.unsettle();
        self.next_claim = now;
        Ok(())
    }

    pub(super) fn on_answer(&mut self, answer: Answer<S::Cursor>) {
        match answer {
            Answer::Claimed(claimed) => self.claimed(claimed),
            Answer::Read(batches, asked) => {
                if batches.iter().any(|batch| !batch.events.is_empty()) {
                    failpoint("after-read");
                }
                self.was_read(batches, *asked);
            }
            Answer::Saved(progress, held, saved) => {
                failpoint("after-save");
                self.saved(progress.into_iter().zip(held).collect(), saved);
            }
            Answer::Released(released, _reserved) => self.send_released(released),
            Answer::Settled(lease, settled, left) => self.settled(lease, settled, left),
            Answer::NotSettled(lease, settled, error) => self.not_settled(lease, settled, &error),
            Answer::GaveBack => failpoint("after-giving-lanes"),
        }
    }

    fn claimed(&mut self, claimed: Claimed<S::Cursor>) {
        let Claimed { lost, reopened, taken, taken_over, share, elsewhere, pauses } = claimed;
        self.elsewhere = elsewhere;
        self.heartbeat.ready();
        self.lost(&lost);
        reopened.iter().for_each(|lane| self.forget(*lane));
        self.meter.lanes_taken_over(taken_over);
        let before = self.held().count();
        for (lease, cursor, parked) in taken {
            self.holds += 1;
            let lane = HeldLane::new(self.holds, lease, cursor, parked);
            self.lanes[lease.lane.index()] = Some(lane.parking_first(S::PARKS_FIRST));
            self.releasing.look = true;
        }
        self.obey(pauses);
        let held = self.held().count();
        if held != before {
            tracing::info!(target: target::RELAY, lanes = held, "relay holds lanes");
        }
        self.meter.lanes_held(held);
        let to_keep = if self.share == Share::All { LANES } else { share };
        for lane in self.held_mut().rev().take(held.saturating_sub(to_keep)) {
            lane.leaving = true;
            // What was read and not sent is read again by the next holder.
            lane.drop_next();
        }
    }

    fn was_read(&mut self, batches: Vec<LaneBatch<S::Cursor>>, mut asked: Asked) {
        let found: usize = batches.iter().map(|batch| batch.events.len()).sum();
        self.next_look = asked.begun + pause_after(found);
        if asked.polled {
            self.polling.looked(asked.begun, found > 0);
        }
        let events = batches.iter().flat_map(|batch| &batch.events);
        let bytes = events.map(|event| event.record.bytes()).sum();
        self.reading.took(asked.begun.elapsed(), bytes, self.settings.lease);
        for batch in batches {
            let index = batch.lane.index();
            let sizes = batch.events.iter().map(|event| event.record.bytes());
            self.reading.learn(index, sizes, batch.rest);
            let Some(lane) = &mut self.lanes[index] else { continue };
            if lane.generation != asked.generations[index] || self.stopping {
                continue;
            }
            let parked = asked.parked[index].take();
            if parked.is_none() && lane.parked.asks() && !batch.events.is_empty() {
                continue;
            }
            let held = self.memory.hold(&batch.events);
            let full =
                asked.asks.iter().any(|ask| ask.lane == index && ask.is_full_of(&batch.events));
            lane.was_read(batch, held, full, asked.rings);
            if let Some(parked) = parked {
                lane.parked.were_asked(parked);
            }
        }
    }

    fn saved(&mut self, progress: Vec<(Progress<S::Cursor>, Vec<Held>)>, saved: Saved) {
        let Saved { lost, failed } = saved;
        let mut failed: HashMap<Lane, OutboxError> = failed.into_iter().collect();
        for (progress, held) in progress {
            let lane = progress.lease.lane;
            if let Some(error) = failed.remove(&lane) {
                self.was_not_saved(progress, held, error);
            } else if !lost.contains(&lane) {
                self.was_saved(&progress);
            }
        }
        self.lost(&lost);
    }

    fn was_saved(&mut self, progress: &Progress<S::Cursor>) {
        let Some(lane) = &mut self.lanes[progress.lease.lane.index()] else { return };
        if lane.was_saved(progress) {
            tracing::info!(
                target: target::RELAY,
                lane = progress.lease.lane.number(),
                "the database took the events that were to be parked: the lane resumes"
            );
        }
        self.releasing.look |= progress.parked.iter().any(|parking| parking.released);
    }

    fn was_not_saved(
        &mut self,
        progress: Progress<S::Cursor>,
        held: Vec<Held>,
        error: OutboxError,
    ) {
        let lane = progress.lease.lane;
        let Some(held_lane) = &mut self.lanes[lane.index()] else { return };
        let (again, is_first) = held_lane.was_not_saved(progress, held, Instant::now());
        self.save_by = Some(self.save_by.map_or(again, |by| by.min(again)));
        if is_first {
            tracing::error!(
                target: target::RELAY,
                lane = lane.number(), %error,
                "the database did not take the events that were to be parked: they are still in the outbox, and their \
                 lane waits until it does; the others continue. Does the relay's role have INSERT and UPDATE on the \
                 outbox's tables?"
            );
        } else {
            tracing::debug!(target: target::RELAY, lane = lane.number(), %error, "events still not parked");
        }
        if self.share == Share::All {
            self.refusal = Some(error);
        }
    }

    /// This is normal after a suspension or a failover, and an operator should see it.
    pub(super) fn lost(&mut self, lost: &[Lane]) {
        if lost.is_empty() {
            return;
        }
        lost.iter().for_each(|lane| self.forget(*lane));
        self.meter.leases_lost(lost.len());
        self.next_claim = Instant::now();
        tracing::warn!(
            target: target::RELAY,
            lanes = ?lost.iter().map(|lane| lane.number()).collect::<Vec<_>>(),
            "lanes lost: another relay has taken them over, or a transaction has locked their rows; they are published from \
             the cursor that is saved, and what was in flight here may arrive twice"
        );
    }
}
