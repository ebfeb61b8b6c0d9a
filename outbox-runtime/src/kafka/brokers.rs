//! Log lines about the brokers: one for each change, not one for each attempt.

use crate::observe::target;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

const ANSWER: u8 = 0;
const AWAY: u8 = 1;
const REFUSE: u8 = 2;

/// The brokers as they were last logged. It is librdkafka's context for clients that need no other
/// one: rdkafka's own context logs an error for every attempt to connect.
#[derive(Debug, Clone)]
pub(crate) struct Brokers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    addresses: String,
    /// What it means for the events when no broker answers, in the words of the log.
    meaning: &'static str,
    last: AtomicU8,
}

impl Brokers {
    pub(crate) fn new(addresses: &str, meaning: &'static str) -> Self {
        Self(Arc::new(Inner {
            addresses: addresses.to_owned(),
            meaning,
            last: AtomicU8::new(ANSWER),
        }))
    }

    /// Records an error of the client itself.
    pub(crate) fn failed(&self, error: &KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let (brokers, meaning) = (&*self.0.addresses, self.0.meaning);
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) if self.changes(ANSWER, AWAY) => {
                tracing::warn!(
                    target: target::KAFKA,
                    brokers,
                    reason,
                    "no Kafka broker answers: {meaning}. Is the address right?"
                );
            }
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)
                if self.changes(ANSWER, REFUSE) || self.changes(AWAY, REFUSE) =>
            {
                tracing::error!(
                    target: target::KAFKA,
                    brokers,
                    reason,
                    "Kafka refuses the credentials or the certificate: {meaning}"
                );
            }
            _ => tracing::debug!(target: target::LIBRDKAFKA, %error, reason),
        }
    }

    /// Records that a broker answered.
    pub(crate) fn answered(&self) {
        let last = &self.0.last;
        if last.load(Ordering::Relaxed) != ANSWER && last.swap(ANSWER, Ordering::Relaxed) != ANSWER
        {
            tracing::info!(target: target::KAFKA, brokers = &*self.0.addresses, "Kafka answers again");
        }
    }

    fn changes(&self, from: u8, to: u8) -> bool {
        self.0.last.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl ClientContext for Brokers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.failed(&error, reason);
    }
}

impl ConsumerContext for Brokers {}

/// librdkafka's own log. It repeats itself, so it has a target of its own.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: target::LIBRDKAFKA, ?level, facility, "{message}");
}
