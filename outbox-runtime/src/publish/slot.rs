//! What another program publishes, as far as a replication slot says that it has.

use std::time::{Duration, Instant};

use sqlx::{PgPool, Postgres};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::{Batch, DeliveryReport, Publisher};
use crate::error::OutboxError;
use crate::observe::target;
use crate::store::postgres::slot::{self, SlotRow};
use crate::store::sealed::Admin as _;

/// Time between two looks at the slot.
const POLL: Duration = Duration::from_millis(200);
/// Time after which a look is abandoned.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Time without progress after which it is told, and between two such lines.
const TOLD_EACH: Duration = Duration::from_secs(60);

/// Publishes nothing: an event counts as delivered once the reader of a replication slot has
/// confirmed all that was committed before.
///
/// For an outbox whose table Debezium reads. A relay with this publisher keeps the
/// progress of the lanes behind Debezium's, so that published events are reclaimed, and so that a
/// relay with a publisher of Kafka's can go on at any time: it publishes again what Debezium has
/// published and not confirmed, and nothing is lost. The page of the guide on Debezium has all of it.
///
/// While the database or Debezium is away, it waits. If the slot is gone or lost, what was
/// published can be known no more: it reports nothing as delivered from then on, also when a slot of that name
/// comes back, and logs what to do.
#[derive(Debug)]
pub struct SlotPublisher {
    /// The user's, which knows where to connect.
    pool: PgPool,
    /// Of one connection.
    own: PgPool,
    slot: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last look, and when it was begun.
    last: Option<(Instant, SlotRow)>,
    /// Whether the slot was not there once.
    is_gone: bool,
    /// When something was told last.
    told: Option<Instant>,
}

impl State {
    /// Whether it is time to tell something again.
    fn tells(&mut self) -> bool {
        let is_due = self.told.is_none_or(|told| told.elapsed() > TOLD_EACH);
        if is_due {
            self.told = Some(Instant::now());
        }
        is_due
    }
}

impl SlotPublisher {
    /// `pool`: of the database that has the outbox and the slot.
    pub fn new(pool: &PgPool, slot: impl Into<String>) -> Self {
        Self {
            own: Postgres::own_pool(pool),
            pool: pool.clone(),
            slot: slot.into(),
            state: Mutex::default(),
        }
    }

    /// A look that was begun after `since`.
    async fn look_since(&self, since: Instant) -> (i64, i64) {
        loop {
            let mut state = self.state.lock().await;
            if let Some((begun, SlotRow { written, confirmed: Some(confirmed), .. })) = state.last
                && begun >= since
                && !state.is_gone
            {
                return (written, confirmed);
            }
            let begun = Instant::now();
            let looked = self.look().await;
            let is_gone = |row: &SlotRow| row.confirmed.is_none() || row.is_lost;
            match looked {
                Ok(row) if !state.is_gone && !is_gone(&row) => {
                    state.last = Some((begun, row));
                    continue;
                }
                Err(error) if !state.is_gone => {
                    if state.tells() {
                        tracing::warn!(
                            target: target::RELAY, slot = self.slot, %error,
                            "how far the replication slot is cannot be read: it is tried again, and nothing counts as published meanwhile"
                        );
                    }
                }
                _ => {
                    let is_new = !std::mem::replace(&mut state.is_gone, true);
                    if state.tells() || is_new {
                        tracing::error!(
                            target: target::RELAY, slot = self.slot,
                            "the replication slot is gone or lost, so what Debezium has published can be known no more. Nothing more counts \
                             as published, and all of it is in the outbox. Stop this relay and Debezium, and start a relay that \
                             publishes: consumers skip what comes twice"
                        );
                    }
                }
            }
            drop(state);
            sleep(AGAIN).await;
        }
    }

    async fn look(&self) -> Result<SlotRow, OutboxError> {
        Postgres::follow(&self.own, &self.pool);
        match timeout(ANSWER_WITHIN, slot::look(&self.own, &self.slot)).await {
            Ok(looked) => Ok(looked?),
            Err(_) => Err(OutboxError::no_answer("the replication slot", ANSWER_WITHIN)),
        }
    }

    async fn tell_that_it_waits(&self) {
        if self.state.lock().await.tells() {
            tracing::warn!(
                target: target::RELAY, slot = self.slot,
                "events wait for Debezium to confirm them: is it running, and does it have a `heartbeat.action.query`? They are in \
                 the outbox, and in the log of Postgres, which grows meanwhile"
            );
        }
    }
}

/// A transaction is in the log before others see its rows. So what a relay has read was written before
/// the place where the log ends by now; and what a slot's reader has confirmed up to there, it has
/// published.
impl Publisher for SlotPublisher {
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let begun = Instant::now();
        let mut since = begun;
        let (written, mut confirmed) = self.look_since(since).await;
        while confirmed < written {
            if begun.elapsed() > TOLD_EACH {
                self.tell_that_it_waits().await;
            }
            since = Instant::now();
            sleep(POLL).await;
            (_, confirmed) = self.look_since(since).await;
        }
        batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
    }
}
