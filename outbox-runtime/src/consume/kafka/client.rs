//! librdkafka's callbacks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use crate::kafka;

/// A topic and a partition of it.
pub(super) type Place = (String, i32);

#[derive(Default)]
pub(super) struct Context {
    /// Whether the brokers were last said to be away: one line per change, not per attempt.
    away: AtomicBool,
    /// Partitions that went to another member, not yet taken in by the loop. Rebalances happen while it receives.
    revoked: Mutex<Vec<Place>>,
    rebalanced: Notify,
}

impl Context {
    pub(super) fn take_revoked(&self) -> Vec<Place> {
        std::mem::take(&mut *self.revoked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until partitions were revoked.
    pub(super) async fn rebalanced(&self) {
        self.rebalanced.notified().await;
    }

    pub(super) fn received(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("a Kafka broker answers again: the consumer goes on");
        }
    }

    pub(super) fn receive_failed(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.brokers_are_away(&error.to_string()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                tracing::warn!(%error, "a topic does not exist (yet): the consumer waits for it");
            }
            _ => tracing::warn!(%error, "could not receive from Kafka: the consumer tries again"),
        }
    }

    fn brokers_are_away(&self, reason: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(reason, "no Kafka broker answers: the consumer waits. Is the address right?");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.brokers_are_away(reason);
        } else {
            tracing::debug!(target: "librdkafka", %error, reason);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.resume(partitions)
        {
            // librdkafka remembers that they were paused when they were ours before, and we do not.
            tracing::debug!(%error, "partitions not resumed");
        }
        if let Rebalance::Revoke(partitions) = rebalance {
            let places = partitions
                .elements()
                .iter()
                .map(|of| (of.topic().to_owned(), of.partition()))
                .collect::<Vec<_>>();
            tracing::debug!(partitions = ?places, "partitions revoked");
            self.revoked.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
            self.rebalanced.notify_one();
        }
    }
}
