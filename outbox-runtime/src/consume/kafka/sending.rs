//! How events get to retry topics and dead letters, and what is said while they cannot.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::forward::PAYLOAD_LEFT_OUT;
use super::job::{AWAY_PAUSES, Interrupted, Shared, readable, tell};
use crate::backoff::Backoff;
use crate::consume::message::{History, Message};
use crate::record::CE_TYPE;
use crate::store::OutboxDatabase;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Written,
    /// The topic takes nothing so large.
    TooLarge,
}

type Headers = Vec<(&'static str, String)>;

/// For each topic, why it could not be written to when that was last tried: a line for each change,
/// and not for each event.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<HashMap<String, Option<RDKafkaErrorCode>>>);

impl Unwritten {
    /// Whether that is news.
    fn refused(&self, topic: &str, code: Option<RDKafkaErrorCode>) -> bool {
        self.lock().insert(topic.to_owned(), code) != Some(code)
    }

    /// Whether that is news.
    fn written(&self, topic: &str) -> bool {
        let mut refused = self.lock();
        !refused.is_empty() && refused.remove(topic).is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<RDKafkaErrorCode>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: OutboxDatabase> Shared<DB> {
    /// Until it is written, or is too large.
    pub(super) async fn send(
        &self,
        topic: &str,
        message: &Message,
        history: &History,
        ours: &Headers,
    ) -> Result<Sent, Interrupted> {
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        while let Err(error) = self.send_once(topic, message, ours).await? {
            if is_too_large(&error) {
                return Ok(Sent::TooLarge);
            }
            self.tell_unwritten(topic, message, history, &error);
            self.sleep(away.pause()).await?;
        }
        Ok(Sent::Written)
    }

    /// A dead letter, until it is written: its partition stands still for as long. One that is too
    /// large is written without its payload.
    pub(super) async fn send_dead_letter(
        &self,
        topic: &str,
        message: &Message,
        history: &History,
        mut ours: Headers,
    ) -> Result<(), Interrupted> {
        if self.send(topic, message, history, &ours).await? == Sent::Written {
            return Ok(());
        }
        let bytes = message.payload.as_ref().map_or(0, Vec::len);
        tell!(
            error,
            self,
            message,
            history,
            to = topic,
            bytes,
            "a dead letter is larger than its topic's `max.message.bytes`, and is written without its payload: that is at its place \
             on the topic it came from, until Kafka deletes it there. Raise the limit (`kafka-configs.sh --alter --entity-type \
             topics`)"
        );
        ours.push((PAYLOAD_LEFT_OUT, bytes.to_string()));
        let bare = message.bare();
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        while let Err(error) = self.send_once(topic, &bare, &ours).await? {
            self.tell_unwritten(topic, message, history, &error);
            self.sleep(away.pause()).await?;
        }
        Ok(())
    }

    async fn send_once(
        &self,
        topic: &str,
        message: &Message,
        ours: &Headers,
    ) -> Result<Result<(), KafkaError>, Interrupted> {
        let sent = tokio::select! {
            sent = self.forwarder.send(topic, None, message, ours) => sent,
            () = self.stopped() => return Err(Interrupted::Stopped),
        };
        if sent.is_ok() && self.unwritten.written(topic) {
            tracing::info!(
                to = topic,
                "events can be written to a topic for retries or dead letters again"
            );
        }
        Ok(sent)
    }

    fn tell_unwritten(&self, to: &str, message: &Message, history: &History, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        if !self.unwritten.refused(to, code) {
            return;
        }
        let remedy = remedy(code);
        tell!(
            error, self, message, history, to, %error,
            "an event cannot be written to a topic for retries or dead letters. Its partition waits until it can, and nothing is \
             dropped. {remedy}"
        );
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
    )
}

fn remedy(code: Option<RDKafkaErrorCode>) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            "The topic does not exist any more: create it again, or restart the consumer, which does"
        }
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            "This user may not write to it: `kafka-acls.sh --add --operation Write --topic …`"
        }
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => {
            "Even without its payload it is larger than the topic's `max.message.bytes`: raise that (`kafka-configs.sh --alter`)"
        }
        Some(Code::InvalidRecord) => {
            "Is the topic compacted? Such a topic takes no event without a key, and forgets others: set `cleanup.policy=delete`"
        }
        Some(Code::InvalidTimestamp) => {
            "The topic takes no time that is so far from its broker's: set this clock, or `message.timestamp.type=LogAppendTime`"
        }
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
            "It has fewer in-sync replicas than `min.insync.replicas`: brokers are away"
        }
        Some(
            Code::MessageTimedOut
            | Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut,
        ) => "No broker took it in time",
        _ => "Does the topic exist, and may this user write to it?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_cannot_be_written_to_is_told_of_once_and_when_it_can_be_again() {
        let unwritten = Unwritten::default();
        let denied = Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(!unwritten.written("dlt"));
        assert!(unwritten.refused("dlt", denied));
        assert!(!unwritten.refused("dlt", denied));
        assert!(unwritten.refused("retry", denied));
        assert!(
            unwritten.refused("dlt", Some(RDKafkaErrorCode::MessageTimedOut)),
            "another reason"
        );
        assert!(unwritten.written("dlt") && !unwritten.written("dlt"));
        assert!(unwritten.refused("dlt", denied));
    }
}
