//! What Kafka's refusals mean for an event, and what to do about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{ErrorKind, OutboxError};
use crate::publish::DeliveryReport;
use crate::record::EventRecord;

/// The report of one event that was not delivered.
pub(super) fn not_delivered(event: &EventRecord, error: KafkaError) -> DeliveryReport {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        // After a failure of some event, librdkafka lets go of all that it has: it would have to leave a gap otherwise.
        Some(
            Code::PurgeQueue
            | Code::PurgeInflight
            | Code::Fatal
            | Code::GaplessGuarantee
            | Code::OutOfOrderSequenceNumber
            | Code::UnknownProducerId
            | Code::InvalidProducerEpoch
            | Code::ProducerFenced,
        ) => DeliveryReport::NotSent,
        Some(Code::UnknownPartition) if event.partition.is_some() => {
            DeliveryReport::EventRefused(refusal(event, error))
        }
        Some(
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidTopic,
        ) => DeliveryReport::TopicRefused(refusal(event, error)),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord) => {
            DeliveryReport::EventRefused(refusal(event, error))
        }
        _ => DeliveryReport::Refused(refusal(event, error)),
    }
}

fn refusal(event: &EventRecord, error: KafkaError) -> OutboxError {
    let EventRecord { id, topic, .. } = event;
    let what = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownPartition) if let Some(partition) = event.partition => format!(
            "event {id} is for partition {partition} of the topic `{topic}`, which has none of that number. Add partitions \
             (`kafka-topics.sh --alter --topic {topic} --partitions N`), and the relay goes on by itself"
        ),
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition,
        ) => format!(
            "the topic `{topic}` does not exist, and the broker does not create it by itself. Create it \
             (`kafka-topics.sh --create --topic {topic} --partitions N`), and the relay goes on by itself"
        ),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => format!(
            "event {id} with its {} bytes is larger than the topic `{topic}` (`max.message.bytes`) or the producer \
             (`message.max.bytes`) accepts. Raise the limit, and the relay goes on by itself; lower \
             `max_event_bytes` of the outbox, and `emit` refuses such an event",
            event.size()
        ),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            format!(
                "this user may not write to the topic `{topic}` (an idempotent producer needs WRITE on it, and \
             IDEMPOTENT_WRITE on the cluster before Kafka 3.0). Grant it, and the relay goes on by itself"
            )
        }
        Some(RDKafkaErrorCode::InvalidTopic) => {
            format!("the broker says that `{topic}` is no legal topic name. Correct the event's `topic`")
        }
        _ => format!("event {id} could not be delivered to the topic `{topic}`; the relay tries again"),
    };
    OutboxError::new(ErrorKind::Kafka, format!("{what}. Nothing is lost: it stays in the outbox"))
        .with_source(error)
}
