//! Messages that go on to a retry topic or to the dead letters: their bytes, key and headers as
//! they were, and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::config;
use crate::consume::message::{
    ATTEMPTS, DUE, FIRST_FAILURE, History, Message, ORIGINAL_OFFSET, ORIGINAL_PARTITION,
    ORIGINAL_TIMESTAMP, ORIGINAL_TOPIC, PREFIX, RETRY, UNREADABLE,
};
use crate::error::OutboxError;
use crate::kafka::{Brokers, Client, Properties};

pub(super) const GROUP: &str = "outbox-group";
pub(super) const ERROR_CLASS: &str = "outbox-error-class";
pub(super) const ERROR: &str = "outbox-error";
pub(super) const LAST_FAILURE: &str = "outbox-last-failure";
/// On a dead letter that was too large for its topic: how many bytes its payload has.
pub(super) const PAYLOAD_LEFT_OUT: &str = "outbox-payload-left-out";

/// So much of an error goes into a header.
const LONGEST_ERROR: usize = 2_000;

pub(super) struct Forwarder {
    producer: Client<FutureProducer<Brokers>>,
    brokers: Brokers,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

/// What is said of a failure.
pub(super) struct LastFailure<'a> {
    pub(super) class: &'a str,
    pub(super) error: &'a str,
}

impl Forwarder {
    /// It connects when it is first used.
    pub(super) fn new(properties: &Properties) -> Result<Self, OutboxError> {
        let brokers = Brokers::new(
            properties.brokers(),
            "events that are on their way to a retry topic or to the dead letters wait",
        );
        let producer = config::producer(properties).create_with_context(brokers.clone());
        Ok(Self {
            producer: Client::new(producer.map_err(|error| properties.no_client(error))?),
            brokers,
        })
    }

    /// Sends a message once, and waits until all in-sync replicas have it.
    pub(super) async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        message: &Message,
        ours: &[(&str, String)],
    ) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len() + ours.len());
        for (key, value) in message.headers.iter().filter(|(name, _)| !name.starts_with(PREFIX)) {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        for (key, value) in ours {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        if message.unreadable_headers > 0 {
            let count = message.unreadable_headers.to_string();
            headers = headers.insert(Header { key: UNREADABLE, value: Some(&count) });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        record.partition = partition;
        self.producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
        self.brokers.answered();
        Ok(())
    }
}

impl Message {
    /// What is kept of one that is too large even for the dead letters: what says which event it
    /// is, as far as that is short.
    pub(super) fn bare(&self) -> Self {
        const SHORT: usize = 1_024;
        const KEY: usize = 16_384;
        let is_kept = |(name, value): &&(String, Option<Vec<u8>>)| {
            let says_which =
                name.starts_with("ce_") || ["content-type", "traceparent"].contains(&&**name);
            says_which && name.len() + value.as_ref().map_or(0, Vec::len) <= SHORT
        };
        // A producer of its own accord may have sent any number of them.
        let headers = self.headers.iter().filter(is_kept).take(32).cloned().collect();
        let key = self.key.clone().filter(|key| key.len() <= KEY);
        Self { topic: self.topic.clone(), key, headers, payload: None, ..*self }
    }
}

/// Our headers.
pub(super) fn headers(
    group: &str,
    history: &History,
    due: Option<SystemTime>,
    failure: Option<&LastFailure<'_>>,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (ORIGINAL_TOPIC, history.topic.clone()),
        (ORIGINAL_PARTITION, history.partition.to_string()),
        (ORIGINAL_OFFSET, history.offset.to_string()),
        (GROUP, group.to_owned()),
        (ATTEMPTS, history.attempts.to_string()),
        (RETRY, history.retry.to_string()),
    ];
    headers.extend(history.timestamp.map(|timestamp| (ORIGINAL_TIMESTAMP, timestamp.to_string())));
    headers.extend(history.first_failure.map(|time| (FIRST_FAILURE, millis(time))));
    headers.extend(due.map(|time| (DUE, millis(time))));
    if let Some(LastFailure { class, error }) = failure {
        headers.push((ERROR_CLASS, (*class).to_owned()));
        headers.push((ERROR, shortened(error)));
        headers.push((LAST_FAILURE, millis(SystemTime::now())));
    }
    headers
}

fn millis(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string()
}

fn shortened(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}
