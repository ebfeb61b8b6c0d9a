//! A relay that publishes what is committed by now, and ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Call, Engine};
use crate::error::{ErrorKind, OutboxError};
use crate::publish::Publisher;
use crate::record::{LANES, Lane};
use crate::store::{HeldElsewhere, LaneStore};

/// Number of attempts to take lanes that are free but cannot be taken, and the pause between them.
const TRIES_TO_TAKE_LANES: (u32, Duration) = (40, Duration::from_millis(50));

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// Publishes what is committed by now.
    pub(in crate::relay) async fn drain(mut self) -> Result<u64, OutboxError> {
        let result = match self.take_all_lanes().await {
            Ok(()) => self.drain_lanes().await,
            Err(error) => Err(error),
        };
        self.stopping = true;
        self.leave(None).await;
        result.map(|()| self.published)
    }

    async fn take_all_lanes(&mut self) -> Result<(), OutboxError> {
        let (tries, pause) = TRIES_TO_TAKE_LANES;
        for _ in 0..tries {
            self.next_claim = Instant::now();
            if let Some(call) = self.next_call() {
                self.ask(call).await?;
            }
            if self.has_all_lanes() {
                return self.check_that_nothing_is_paused();
            }
            if !self.elsewhere.is_empty() {
                return Err(held_elsewhere(&self.elsewhere));
            }
            // Perhaps a lane is changing hands at this moment.
            sleep(pause).await;
        }
        let lanes = Lane::all().filter(|lane| self.lanes[lane.index()].is_none()).map(Lane::number);
        Err(OutboxError::new(
            ErrorKind::LeaseLost,
            format!(
                "no relay holds the lanes {:?}, and they cannot be taken: a transaction that is open in the database has \
                 locked their rows. Their events are still in the outbox; end that transaction, and drain again",
                lanes.collect::<Vec<_>>()
            ),
        ))
    }

    async fn drain_lanes(&mut self) -> Result<(), OutboxError> {
        self.rings = 1;
        loop {
            self.send_batches();
            let call = if self.refusal.is_none() { self.next_call() } else { None };
            if let Some(call) = call {
                self.ask(call).await?;
                self.check_that_no_lane_is_lost()?;
                self.check_that_nothing_is_paused()?;
            } else if let Some(sent) = self.sending.join_next().await {
                self.on_sent(sent);
            } else if let Some(refusal) = self.refusal.take() {
                return Err(refusal);
            } else if self.held().all(|lane| lane.is_quiet(self.rings)) {
                return Ok(());
            } else {
                let due = self.next_due(false);
                tokio::select! {
                    () = self.memory.room_again() => {}
                    () = sleep_until(due) => {}
                }
            }
        }
    }

    async fn ask(&mut self, call: Call<S>) -> Result<(), OutboxError> {
        let (store, answer) = call.await;
        self.store = Some(store);
        self.on_answer(answer?);
        Ok(())
    }

    fn check_that_no_lane_is_lost(&self) -> Result<(), OutboxError> {
        if self.has_all_lanes() {
            return Ok(());
        }
        Err(OutboxError::new(
            ErrorKind::LeaseLost,
            "another relay has taken over lanes and publishes their events, or a transaction has locked the rows of these \
             lanes; their events are still in the outbox then",
        ))
    }
}

fn held_elsewhere(lanes: &[HeldElsewhere]) -> OutboxError {
    OutboxError::new(
        ErrorKind::LeaseLost,
        format!(
            "another relay holds {} of the {LANES} lanes, and publishes their events: {}. To drain here, stop it (a relay \
             that died loses them when its lease runs out)",
            lanes.len(),
            holders(lanes)
        ),
    )
}

/// Which relays hold lanes, which, and for how long.
pub(in crate::relay) fn holders(lanes: &[HeldElsewhere]) -> String {
    let mut relays = BTreeMap::<_, (Vec<i16>, i64)>::new();
    for held in lanes {
        let (lanes, for_millis) = relays.entry(held.owner).or_default();
        lanes.push(held.lane.number());
        *for_millis = held.for_millis;
    }
    let relays: Vec<String> = relays
        .into_iter()
        .map(|(owner, (lanes, for_millis))| {
            format!(
                "relay {owner} holds the lanes {lanes:?}, for {} s unless it renews them",
                for_millis / 1_000
            )
        })
        .collect();
    relays.join("; ")
}
