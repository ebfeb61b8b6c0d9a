//! How Kafka is reached: [`KafkaConfig`], for the publisher, the consumer and the dead letters; and
//! what its topics are to be: [`EventTopics`].

mod admin;
mod brokers;
#[cfg(feature = "kafka-ssl")]
mod certificate;
mod closing;
mod config;
mod event_topics;
mod properties;
pub(crate) mod reading;
mod source;
mod token;
mod topic_prefix;
mod trouble;
mod unreachable;

pub use config::KafkaConfig;
pub use event_topics::{
    EventTopic, EventTopics, EventTopicsBuilder, EventTopicsPlan, TopicDifference, WantedTopic,
};
pub use token::{AccessToken, NotAJwt};

pub(crate) use admin::{Admin, Patience, SettingsByTopic, TopicSettings};
pub(crate) use brokers::Brokers;
pub(crate) use closing::{Client, aside};
pub(crate) use properties::{Properties, connection};
pub(crate) use topic_prefix::{LONGEST_NAME, TopicPrefix, is_legal_topic};
pub(crate) use trouble::Trouble;
pub(crate) use unreachable::is_no_answer;
