//! Publishing in transactions: events appear together with the relay's progress, or not at all.
//!
//! A group of lanes has four producers with ids that follow from the outbox and the group
//! ([`names`]). [`open`](TransactionalPublisher::open) initializes them, the first one first, which
//! fences the producers of whoever published for the group before, and ends what these had open.
//! Only then is the progress read ([`progress`]): what is read earlier may not be the last.
//!
//! A wave is one transaction of one producer ([`session`]). Its last record is the progress, in the
//! group's partition of a topic of its own ([`topic`]). Whatever is not plainly answered ends the
//! session ([`told`]): which of two transactions counts can be known only by taking over again.

mod config;
mod errors;
mod names;
mod producer;
mod progress;
mod session;
mod told;
mod topic;

#[cfg(test)]
mod tests;

use rdkafka::error::KafkaError;
use uuid::Uuid;

pub(super) use told::Told;

use self::config::TransactionalConfig;
use self::producer::GroupProducer;
use self::session::{KafkaSession, PRODUCERS};
use self::topic::ProgressTopic;
use super::KafkaPublisher;
use crate::error::OutboxError;
use crate::kafka::{Brokers, TopicPrefix, aside};
use crate::publish::transactions::{GroupId, TransactionalPublisher};

/// What the topic with the relays' progress is called on the brokers, of an outbox with this
/// identity ([`DeliveryStatus`](crate::DeliveryStatus) has it), behind a deployment's prefix.
///
/// # Errors
/// If the name is one that Kafka does not allow.
pub fn progress_topic(topic_prefix: &str, outbox: Uuid) -> Result<String, OutboxError> {
    let group = GroupId { outbox: outbox.to_string(), group: 0, groups: 1 };
    names::progress_topic(&TopicPrefix::new(topic_prefix)?, &group)
}

impl TransactionalPublisher for KafkaPublisher {
    type Session = KafkaSession;

    async fn open(&self, group: &GroupId) -> Result<(KafkaSession, Option<Vec<u8>>), OutboxError> {
        let (config, brokers) = (&self.producers.config, &self.producers.brokers);
        let transactional = TransactionalConfig::checked(&config.set_by_user)?;
        let topic = ProgressTopic::of(&self.deployment.prefix, group)?;
        // On the heap: otherwise they would be part of the future of each caller.
        let admin = self.producers.admin()?;
        Box::pin(topic.ensure(&admin, brokers, group.groups)).await?;
        let producers = Box::pin(self.fence(&transactional, group)).await?;
        let progress = self.read(&topic, brokers).await?;
        Ok((KafkaSession::new(self.clone(), producers, topic), progress))
    }
}

impl KafkaPublisher {
    /// The producers of the group. Number 0 is the first that is initialized, and the one of the
    /// first wave.
    async fn fence(
        &self,
        config: &TransactionalConfig,
        group: &GroupId,
    ) -> Result<Vec<GroupProducer>, OutboxError> {
        let mut producers = Vec::with_capacity(PRODUCERS);
        for number in 0..PRODUCERS {
            let id = names::transactional_id(&self.deployment.prefix, group, number);
            producers.push(GroupProducer::start(&self.producers, config, id)?);
        }
        let (first, others) = producers.split_at(1);
        for producers in [first, others] {
            let begun: Vec<_> = producers.iter().map(GroupProducer::init).collect();
            for (init, producer) in begun.into_iter().zip(producers) {
                let id = &producer.transactional_id;
                init.await.map_err(|error| errors::not_opened(id, error))?;
            }
        }
        Ok(producers)
    }

    async fn read(
        &self,
        topic: &ProgressTopic,
        brokers: &Brokers,
    ) -> Result<Option<Vec<u8>>, OutboxError> {
        let (properties, brokers) = (self.producers.config.properties.clone(), brokers.clone());
        let partition = topic.clone();
        let read = aside("outbox-kafka-progress", move || {
            progress::read(&properties, &brokers, &partition)
        });
        let read = read.await.unwrap_or(Err(KafkaError::Canceled));
        read.map_err(|error| topic.refused(error, "read to its end"))
    }
}
