//! Messages that are sent to a retry topic or to the dead letters: their bytes, key and headers as
//! they were, and ours.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::config;
use super::topics::{dead_letter_topic, retry_topic};
use crate::consume::forward::{Forward, Place, UNREADABLE, Unsent};
use crate::consume::message::{Message, PREFIX};
use crate::error::OutboxError;
use crate::kafka::{Brokers, Client, Properties, TopicPrefix};

/// Longest time for which librdkafka may keep a message in its own queue.
const QUEUED_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Forwarder {
    producer: Client<FutureProducer<Brokers>>,
    brokers: Brokers,
    prefix: TopicPrefix,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl Forwarder {
    /// A forwarder; it connects when it is first used.
    pub(super) fn new(properties: &Properties, prefix: TopicPrefix) -> Result<Self, OutboxError> {
        Self::with(config::producer(properties), properties, prefix)
    }

    /// A forwarder that sends many messages in a request.
    pub(super) fn of_batches(properties: &Properties) -> Result<Self, OutboxError> {
        Self::with(config::producer_of_batches(properties), properties, TopicPrefix::default())
    }

    fn with(
        config: ClientConfig,
        properties: &Properties,
        prefix: TopicPrefix,
    ) -> Result<Self, OutboxError> {
        let brokers = Brokers::new(
            properties,
            "events that are on their way to a retry topic or to the dead letters wait",
        );
        let producer = config.create_with_context(brokers.clone());
        Ok(Self {
            producer: Client::new(producer.map_err(|error| properties.no_client(error))?),
            brokers,
            prefix,
        })
    }

    /// Sends a message once, and waits until all in-sync replicas have it. Returns where it is.
    pub(super) async fn send_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        message: &Message,
        ours: &[(&str, String)],
    ) -> Result<Place, KafkaError> {
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
        let sent = self.producer.send(record, QUEUED_WITHIN).await.map_err(|(error, _)| error)?;
        self.brokers.answered();
        Ok(Place { partition: sent.partition, offset: sent.offset })
    }
}

impl Forward for Forwarder {
    fn original_topic(&self, topic: &str) -> String {
        self.prefix.on_brokers(topic).into_owned()
    }

    fn retry_topic(&self, topic: &str, group: &str, delay: Duration) -> String {
        retry_topic(&self.prefix.on_brokers(topic), group, delay)
    }

    fn dead_letter_topic(&self, topic: &str, group: &str) -> String {
        dead_letter_topic(&self.prefix.on_brokers(topic), group)
    }

    async fn send(
        &self,
        to: &str,
        message: &Message,
        ours: &[(&'static str, String)],
    ) -> Result<Place, Unsent> {
        self.send_to(to, None, message, ours).await.map_err(|error| {
            let code = error.rdkafka_error_code();
            Unsent {
                too_large: is_too_large(&error),
                code: code.map(|code| code as i32),
                error: error.to_string(),
                remedy: remedy(code),
            }
        })
    }
}

pub(super) fn is_too_large(error: &KafkaError) -> bool {
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
