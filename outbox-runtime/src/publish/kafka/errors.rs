//! What Kafka's refusals mean for an event, and what to do about them: the words of errors and
//! logs.

use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::stalls::Stalls;
use crate::error::{ErrorKind, OutboxError};
use crate::publish::DeliveryReport;
use crate::record::EventRecord;

/// An event that was not delivered, and its topic by its name on the brokers.
#[derive(Clone, Copy)]
pub(super) struct Refused<'e> {
    pub(super) event: &'e EventRecord,
    pub(super) topic: &'e str,
}

impl Refused<'_> {
    /// Its report. `cause`: why librdkafka threw it away, if it did.
    pub(super) fn report(
        self,
        error: KafkaError,
        cause: Option<Code>,
        stalls: &Stalls,
    ) -> DeliveryReport {
        match error.rdkafka_error_code() {
            // After an event has failed, librdkafka purges all that it holds: otherwise it would
            // have to leave a gap.
            Some(code) if is_aftermath(code) => match cause {
                Some(cause) if !is_aftermath(cause) => {
                    self.report(KafkaError::MessageProduction(cause), None, stalls)
                }
                _ => stalled(self.topic, stalls, Instant::now()).unwrap_or(DeliveryReport::NotSent),
            },
            Some(Code::UnknownPartition) if self.event.partition.is_some() => {
                DeliveryReport::EventRefused(self.refusal(error))
            }
            Some(
                Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic,
            ) => DeliveryReport::TopicRefused(self.refusal(error)),
            Some(
                Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::QueueFull,
            ) => DeliveryReport::EventRefused(self.refusal(error)),
            _ => DeliveryReport::Refused(self.refusal(error)),
        }
    }

    /// Without what is this event's own, its id or its size: what is parked is grouped by it.
    fn refusal(self, error: KafkaError) -> OutboxError {
        let what = error.rdkafka_error_code().and_then(|code| {
            refused_topic(self, code)
                .or_else(|| refused_user(self, code))
                .or_else(|| refused_event(self, code))
        });
        let what = what.unwrap_or_else(|| {
            format!(
                "the event could not be delivered to the topic `{}`; the relay tries again",
                self.topic
            )
        });
        OutboxError::new(
            ErrorKind::Kafka,
            format!("{what}. Nothing is lost: it stays in the outbox"),
        )
        .with_source(error)
    }
}

/// The report of an event whose topic takes nothing. `None`: the topic is not refused.
pub(super) fn stalled(topic: &str, stalls: &Stalls, now: Instant) -> Option<DeliveryReport> {
    let why = stalls.refusal(topic, now)?;
    Some(DeliveryReport::TopicRefused(OutboxError::new(
        ErrorKind::Kafka,
        format!(
            "{why} The relay tries again by itself. Nothing is lost: the event stays in the outbox"
        ),
    )))
}

/// The name of Kafka's code in the error of a report. `None`: there is none.
pub(super) fn error_type(error: &OutboxError) -> Option<String> {
    let code = error.cause()?.downcast_ref::<KafkaError>()?.rdkafka_error_code()?;
    Some(format!("{code:?}"))
}

/// Whether an event failed only because another one did, or because a producer ended.
fn is_aftermath(code: Code) -> bool {
    matches!(
        code,
        Code::PurgeQueue
            | Code::PurgeInflight
            | Code::Fatal
            | Code::GaplessGuarantee
            | Code::OutOfOrderSequenceNumber
            | Code::UnknownProducerId
            | Code::InvalidProducerEpoch
            | Code::ProducerFenced
            // Of transactions: another process has taken over, the transaction has failed, or it
            // has ended while no broker answered.
            | Code::Fenced
            | Code::InvalidTransactionalState
            | Code::State
            | Code::MessageTimedOut
    )
}

/// What is wrong with the topic, and its remedy.
fn refused_topic(Refused { event, topic }: Refused<'_>, code: Code) -> Option<String> {
    Some(match code {
        Code::UnknownPartition if let Some(partition) = event.partition => format!(
            "the event is for partition {partition} of the topic `{topic}`, which has none of that number. Add partitions \
             (`kafka-topics.sh --alter --topic {topic} --partitions N`), and the relay continues without help"
        ),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => format!(
            "the topic `{topic}` does not exist, and the broker does not create it by itself. Create it \
             (`kafka-topics.sh --create --topic {topic} --partitions N`), and the relay continues without help"
        ),
        Code::InvalidTopic => format!(
            "Kafka takes no topic of the name `{topic}`, which has {} characters: it may have 249 letters, digits, `.`, `_` and `-`. \
             Correct the event's `topic`, or the publisher's `topic_prefix`",
            topic.chars().count()
        ),
        _ => return None,
    })
}

/// What the user may not do, and its remedy.
fn refused_user(Refused { topic, .. }: Refused<'_>, code: Code) -> Option<String> {
    match code {
        Code::TopicAuthorizationFailed => Some(format!(
            "this user may not write to the topic `{topic}` (it needs the operation WRITE on it). Grant it \
             (`kafka-acls.sh --add --operation Write --topic {topic} --allow-principal User:NAME`), and the relay continues without \
             help"
        )),
        Code::ClusterAuthorizationFailed => Some(
            "this user may not use an idempotent producer (it needs WRITE on a topic, and before Kafka 3.0 \
             IDEMPOTENT_WRITE on the cluster). Grant it (`kafka-acls.sh --add --producer --idempotent …`), and the relay \
             continues without help"
                .to_owned(),
        ),
        _ => None,
    }
}

/// What is wrong with the event, in the eyes of the broker or of its topic, and the remedy.
fn refused_event(Refused { event, topic }: Refused<'_>, code: Code) -> Option<String> {
    Some(match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => format!(
            "the event is larger than the topic `{topic}` (`max.message.bytes`) or the producer (`message.max.bytes`) accepts. \
             Raise the limit, and the relay continues without help; lower `max_event_bytes` of the outbox, and `emit` refuses \
             such an event"
        ),
        Code::QueueFull => {
            "the event is larger than the producer's whole queue (`queue.buffering.max.kbytes`). Raise the limit".to_owned()
        }
        Code::InvalidRecord if event.key.is_none() => format!(
            "the topic `{topic}` refused the event, which has no key: a compacted topic (`cleanup.policy=compact`) takes \
             none without. Give the event a key (`#[event(key)]`), or set the topic's `cleanup.policy` to `delete`, and the \
             relay continues without help"
        ),
        Code::InvalidRecord => format!(
            "the broker finds the record of the event invalid for the topic `{topic}`. Its own log says why, as do the \
             topic's settings (`cleanup.policy`, validation of schemas)"
        ),
        Code::InvalidTimestamp => format!(
            "the broker finds the time of sending of the event too far from its own for the topic `{topic}` \
             (`message.timestamp.before.max.ms`, `message.timestamp.after.max.ms`). Set the clocks of this machine and of \
             the brokers, and the relay continues without help"
        ),
        Code::UnsupportedCompressionType => format!(
            "the broker does not know the producer's `compression.type` for the topic `{topic}`. Choose one that it knows, \
             such as `lz4`"
        ),
        Code::PolicyViolation => {
            format!("a policy of the broker forbids the event on the topic `{topic}`")
        }
        _ => return None,
    })
}
