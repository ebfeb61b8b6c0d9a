//! The change back to delivery at least once: all groups are taken over, and their claims ended.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ExactlyOnceReader;
use super::group::{Group, ended};
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::publish::transactions::{GroupSession, TransactionalPublisher};
use crate::record::LANES;
use crate::relay::engine::holders;
use crate::store::groups::{ExactlyOnceStore, GroupStore, HandedBack};
use crate::store::{HeldElsewhere, LaneStore as _, Lease, Share};

/// Longest time for taking over all groups. Each attempt at one has bounds of its own.
const WITHIN: Duration = Duration::from_secs(60);
/// Pause before lanes are claimed again that could not be taken, or groups taken over.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn hand_back<S, P>(mut reader: ExactlyOnceReader<S, P>) -> Result<(), OutboxError>
where
    S: ExactlyOnceStore,
    P: TransactionalPublisher,
{
    let mut held = Vec::new();
    let mut done = take_all(&mut reader, &mut held).await;
    if done.is_ok() {
        done = end_claims(&reader).await;
    }
    // Otherwise the lanes are free when the lease runs out.
    if let Err(error) = reader.release(&held, true).await {
        tracing::debug!(target: target::RELAY, %error, "lanes could not be given back");
    }
    if done.is_ok() {
        tracing::info!(
            target: target::RELAY,
            "the events of this outbox are delivered at least once from now on"
        );
    }
    done
}

async fn take_all<S, P>(
    reader: &mut ExactlyOnceReader<S, P>,
    held: &mut Vec<Lease>,
) -> Result<(), OutboxError>
where
    S: ExactlyOnceStore,
    P: TransactionalPublisher,
{
    let until = Instant::now() + WITHIN;
    loop {
        let claimed = reader.claim(held, Share::All).await?;
        held.retain(|lease| {
            !claimed.lost.contains(&lease.lane) && !claimed.reopened.contains(&lease.lane)
        });
        held.extend(claimed.taken.iter().map(|(lease, ..)| *lease));
        if held.len() == LANES {
            return Ok(());
        }
        if !claimed.elsewhere.is_empty() {
            return Err(held_elsewhere(&claimed.elsewhere));
        }
        if Instant::now() >= until {
            return Err(not_in_time(held.len()));
        }
        sleep(PAUSE).await;
    }
}

async fn end_claims<S, P>(reader: &ExactlyOnceReader<S, P>) -> Result<(), OutboxError>
where
    S: ExactlyOnceStore,
    P: TransactionalPublisher,
{
    let groups = reader.held.all();
    let handed_back = groups.iter().map(|group| group.handed_back());
    let handed_back: Vec<HandedBack<S::Cursor>> = handed_back.collect::<Result<_, _>>()?;
    let Some(first) = groups.first() else { return Err(ended()) };
    match first.store.lock().await.hand_back(&handed_back).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ended()),
        Err(error) => Err(not_known(error)),
    }
}

impl<G: GroupStore, S: GroupSession> Group<G, S> {
    /// What is published of it.
    fn handed_back<C: FromStr<Err = OutboxError>>(&self) -> Result<HandedBack<C>, OutboxError> {
        let state = self.state();
        let lanes = state.lanes.iter().map(|(lane, state)| Ok((*lane, state.position.parse()?)));
        let lanes = lanes.collect::<Result<_, OutboxError>>()?;
        let beyond = state.unpassed.keys().copied().collect();
        Ok(HandedBack { group: self.number, claim: state.wave.claim, lanes, beyond })
    }
}

fn held_elsewhere(lanes: &[HeldElsewhere]) -> OutboxError {
    OutboxError::new(
        ErrorKind::LeaseLost,
        format!(
            "the delivery was not changed: relays hold {} of the {LANES} lanes, and publish their events: {}. Stop them, and \
             hand back then (a relay that died loses its lanes when its lease runs out)",
            lanes.len(),
            holders(lanes)
        ),
    )
}

fn not_in_time(held: usize) -> OutboxError {
    OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "the delivery was not changed: within {} s, only {held} of the {LANES} lanes could be taken over; the log says why. \
             All events are in the outbox, still to be delivered exactly once. Do the brokers answer?",
            WITHIN.as_secs()
        ),
    )
}

fn not_known(error: OutboxError) -> OutboxError {
    OutboxError::new(
        ErrorKind::Database,
        "whether the delivery was changed back to at least once is not known: the database did not say. Nothing is lost. Hand back \
         again: that does nothing if it was",
    )
    .with_source(error)
}
