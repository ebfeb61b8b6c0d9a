//! The consumer's loop: receive → deliver, again until it succeeds → store the offset.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message};
use tokio::time::sleep;

use super::Consumed;
use super::deliver::{Delivered, Routes, deliver};
use super::failure::Failure;
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
use crate::outbox::Outbox;
use crate::store::OutboxDatabase;

pub(super) async fn run<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    group: Arc<str>,
    config: ClientConfig,
    routes: Routes<DB>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Consumed, OutboxError> {
    let consumer: StreamConsumer<Context> =
        StreamConsumer::from_config_and_context(&config, Context::default()).map_err(|error| {
            OutboxError::config("librdkafka refused the settings; nothing was started").with_source(error)
        })?;
    let topics: Vec<&str> = routes.topics().into_iter().collect();
    consumer.subscribe(&topics).map_err(|error| {
        OutboxError::new(ErrorKind::Kafka, format!("cannot subscribe to {topics:?}")).with_source(error)
    })?;
    tracing::info!(%group, ?topics, "consumer started");

    let mut shutdown = pin!(shutdown);
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    let mut consumed = Consumed::default();
    let result = loop {
        let received = tokio::select! {
            biased;
            () = shutdown.as_mut() => break Ok(()),
            received = consumer.recv() => received,
        };
        match received {
            Ok(message) => match handle(&outbox, &group, &routes, &message, shutdown.as_mut()).await {
                Ok(Some(delivered)) => {
                    match delivered {
                        Delivered::Handled => consumed.handled += 1,
                        Delivered::Duplicate => consumed.duplicates += 1,
                        Delivered::NotForUs => consumed.passed_over += 1,
                    }
                    store_offset(&consumer, &message);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            Err(error) => {
                consumer.context().receive_failed(&error);
                tokio::select! {
                    () = sleep(backoff.pause()) => {}
                    () = shutdown.as_mut() => break Ok(()),
                }
                continue;
            }
        }
        backoff.reset();
    };
    // Closing commits the stored offsets and leaves the group; it blocks.
    let closed = tokio::task::spawn_blocking(move || drop(consumer)).await;
    if closed.is_err() {
        tracing::warn!(%group, "the consumer did not close in order: its last events may come again");
    }
    result.map(|()| consumed)
}

/// Handles one message, trying again until it succeeds. `None`: the shutdown came first.
async fn handle<DB: OutboxDatabase, F: Future<Output = ()>>(
    outbox: &Outbox<DB>,
    group: &str,
    routes: &Routes<DB>,
    message: &BorrowedMessage<'_>,
    mut shutdown: Pin<&mut F>,
) -> Result<Option<Delivered>, OutboxError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let mut attempt = 1;
    loop {
        match deliver(outbox, group, routes, message, attempt).await {
            Ok(delivered) => {
                if delivered == Delivered::Duplicate {
                    crate::observe::duplicate_suppressed();
                    tracing::debug!(group, topic, partition, offset, "event skipped: handled before");
                }
                return Ok(Some(delivered));
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Retry(error)) => {
                tracing::warn!(
                    group, topic, partition, offset, attempt, %error,
                    "event not handled: rolled back, and tried again; its partition waits"
                );
            }
        }
        tokio::select! {
            () = sleep(backoff.pause()) => attempt += 1,
            () = shutdown.as_mut() => return Ok(None),
        }
    }
}

fn store_offset(consumer: &StreamConsumer<Context>, message: &BorrowedMessage<'_>) {
    if let Err(error) = consumer.store_offset_from_message(message) {
        // The partition went to another member meanwhile: it gets the event again, and finds it in the inbox.
        tracing::debug!(%error, topic = message.topic(), partition = message.partition(), "offset not stored");
    }
}

/// librdkafka's callbacks.
#[derive(Default)]
struct Context {
    /// Whether the brokers, or a topic, were last said to be away: one line per change, not per attempt.
    away: AtomicBool,
}

impl Context {
    fn receive_failed(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                tracing::warn!(%error, "a topic does not exist (yet): the consumer waits for it");
            }
            _ => tracing::warn!(%error, "could not receive from Kafka: the consumer tries again"),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            if !self.away.swap(true, Ordering::Relaxed) {
                tracing::warn!(reason, "no Kafka broker answers: the consumer waits. Is the address right?");
            }
        } else {
            tracing::debug!(target: "librdkafka", %error, reason);
        }
    }
}

impl ConsumerContext for Context {}
