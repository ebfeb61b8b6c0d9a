//! A session: waves, by four producers in turn.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;

use super::errors::{misused, not_begun, unclear};
use super::producer::GroupProducer;
use super::topic::ProgressTopic;
use crate::error::OutboxError;
use crate::publish::kafka::KafkaPublisher;
use crate::publish::transactions::{Closed, GroupSession};
use crate::publish::{Batch, DeliveryReport};

/// Number of producers of a group. After a commit, a producer can begin again only when the
/// coordinator has written its markers.
pub(super) const PRODUCERS: usize = 4;

/// The session of a group on Kafka.
pub struct KafkaSession {
    publisher: KafkaPublisher,
    /// By their numbers. Empty once it is dropped.
    producers: Vec<GroupProducer>,
    topic: ProgressTopic,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// Number of the producer of the next wave, or of the one that is open. The first wave that is
    /// committed is that of number 0: of two sessions that take over at once, the one that fenced
    /// that producer last is the only one that gets past it.
    turn: usize,
    /// Whether a wave was committed.
    has_committed: bool,
    /// Producers that have aborted a transaction in which a topic took nothing: the coordinator
    /// cannot end it there until the topic takes something again, and lets them begin no other one.
    resting: [bool; PRODUCERS],
    wave: Wave,
}

impl State {
    /// The next producer that does not rest, if there is one.
    fn next_turn(&mut self) {
        let others = (1..=PRODUCERS).map(|ahead| (self.turn + ahead) % PRODUCERS);
        let next = others.clone().find(|producer| !self.resting[*producer]);
        self.turn = next.unwrap_or((self.turn + 1) % PRODUCERS);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wave {
    None,
    Open {
        /// Number of batches without all of their reports.
        sending: usize,
        /// Whether an event was not delivered.
        failed: bool,
    },
    /// A call about it is under way. If its future is dropped, this remains.
    Busy {
        /// Whether the commit was asked for.
        committing: bool,
    },
    Closed {
        /// Whether a transaction is left to be aborted.
        open: bool,
    },
}

impl KafkaSession {
    pub(super) fn new(
        publisher: KafkaPublisher,
        producers: Vec<GroupProducer>,
        topic: ProgressTopic,
    ) -> Self {
        let (has_committed, resting) = (false, [false; PRODUCERS]);
        let state = Mutex::new(State { turn: 0, has_committed, resting, wave: Wave::None });
        Self { publisher, producers, topic, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer whose turn it is, if the wave may go on; it is busy then.
    fn enter(
        &self,
        may: impl FnOnce(Wave) -> bool,
        what: &'static str,
    ) -> Result<&GroupProducer, Closed> {
        let mut state = self.state();
        let wave = state.wave;
        if may(wave)
            && let Some(producer) = self.producers.get(state.turn)
        {
            state.wave = Wave::Busy { committing: false };
            return Ok(producer);
        }
        let open = matches!(wave, Wave::Open { .. } | Wave::Busy { committing: false });
        state.wave = Wave::Closed { open: open || wave == Wave::Closed { open: true } };
        Err(Closed(misused(what)))
    }

    fn set(&self, wave: Wave) {
        self.state().wave = wave;
    }

    fn close(&self, open: bool, error: OutboxError) -> Closed {
        self.set(Wave::Closed { open });
        Closed(error)
    }

    async fn send_progress(
        &self,
        producer: &GroupProducer,
        progress: &[u8],
    ) -> Result<(), OutboxError> {
        let ProgressTopic { name, partition, key } = &self.topic;
        let sent = producer.producer.publish_record(|slot| {
            let mut record = BaseRecord::with_opaque_to(name, slot);
            record.key = Some(key.as_bytes());
            record.payload = Some(progress);
            record.partition = Some(*partition);
            record
        });
        sent.await.map_err(|error| {
            let cause = producer.producer.cause_of_purge(name);
            let error = cause.map_or(error, KafkaError::MessageProduction);
            self.topic.refused(error, "written to")
        })
    }
}

impl GroupSession for KafkaSession {
    async fn begin(&self) -> Result<(), Closed> {
        let producer = self.enter(|wave| wave == Wave::None, "begin a transaction")?;
        match producer.begin().await {
            Ok(()) => {
                self.set(Wave::Open { sending: 0, failed: false });
                Ok(())
            }
            Err(error) => {
                let id = &producer.transactional_id;
                Err(self.close(false, not_begun(id, error)))
            }
        }
    }

    async fn send(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let not_sent = || batch.events.iter().map(|_| DeliveryReport::NotSent).collect();
        let Some(mut sending) = Sending::begin(self) else { return not_sent() };
        let Some(producer) = self.producers.get(sending.turn) else { return not_sent() };
        let reports = self.publisher.publish_by(Ok(producer.producer.clone()), batch).await;
        sending.delivered = reports.iter().all(DeliveryReport::is_delivered);
        reports
    }

    async fn commit(&self, progress: Vec<u8>) -> Result<(), Closed> {
        let complete = |wave| wave == Wave::Open { sending: 0, failed: false };
        let producer = self.enter(complete, "commit a transaction")?;
        if let Err(error) = self.send_progress(producer, &progress).await {
            return Err(self.close(true, error));
        }
        self.set(Wave::Busy { committing: true });
        match producer.commit().await {
            Ok(()) => {
                let mut state = self.state();
                if !self.publisher.producers.stalls.are_any(Instant::now()) {
                    state.resting = [false; PRODUCERS];
                }
                state.has_committed = true;
                state.next_turn();
                state.wave = Wave::None;
                Ok(())
            }
            Err(error) => {
                let id = &producer.transactional_id;
                Err(self.close(false, unclear("committed", id, error)))
            }
        }
    }

    async fn abort(&self) -> Result<(), Closed> {
        if self.state().wave == Wave::None {
            return Ok(());
        }
        let ready = |wave| matches!(wave, Wave::Open { sending: 0, .. });
        let producer = self.enter(ready, "abort a transaction")?;
        match producer.abort().await {
            Ok(()) => {
                let mut state = self.state();
                let turn = state.turn;
                state.resting[turn] |= producer.producer.resume();
                if state.has_committed {
                    state.next_turn();
                }
                state.wave = Wave::None;
                Ok(())
            }
            Err(error) => {
                let id = &producer.transactional_id;
                Err(self.close(false, unclear("aborted", id, error)))
            }
        }
    }
}

/// A batch that is being sent. If it is dropped before its end, its wave has failed: some of its
/// events may not have been sent.
struct Sending<'s> {
    session: &'s KafkaSession,
    turn: usize,
    delivered: bool,
}

impl<'s> Sending<'s> {
    /// `None`: no wave is open, or it has failed already.
    fn begin(session: &'s KafkaSession) -> Option<Self> {
        let mut state = session.state();
        let Wave::Open { sending, failed: false } = &mut state.wave else { return None };
        *sending += 1;
        Some(Self { session, turn: state.turn, delivered: false })
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Wave::Open { sending, failed } = &mut self.session.state().wave {
            *sending = sending.saturating_sub(1);
            *failed |= !self.delivered;
        }
    }
}

impl Drop for KafkaSession {
    /// Closing a producer does not abort its transaction, which would hold up consumers until its
    /// time is over.
    fn drop(&mut self) {
        let State { turn, wave, .. } = *self.state();
        let open = match wave {
            Wave::Open { .. } | Wave::Busy { committing: false } => true,
            Wave::Closed { open } => open,
            Wave::None | Wave::Busy { committing: true } => false,
        };
        if open && turn < self.producers.len() {
            self.producers.swap_remove(turn).abort_aside();
        }
    }
}
