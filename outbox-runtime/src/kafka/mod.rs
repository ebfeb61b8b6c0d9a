//! How Kafka is reached: [`KafkaConfig`], for the publisher, the consumer and the dead letters.

mod brokers;
mod closing;
mod config;
mod properties;
mod topic_prefix;

pub use config::KafkaConfig;

pub(crate) use brokers::{Brokers, log};
pub(crate) use closing::{Client, aside};
pub(crate) use properties::Properties;
pub(crate) use topic_prefix::{LONGEST_NAME, TopicPrefix, is_legal_topic};
