//! What is wanted of the topics of a project's events, by its files events.lock and topics.toml.

use std::path::Path;

use outbox::kafka::{EventTopics, WantedTopic};
use outbox_contracts::{Setting, Topic, Topics};

use crate::commands::contracts::{read_lock, read_topics};
use crate::context::Context;
use crate::failure::Failure;
use crate::text::one_line;

/// The lock, where no other one is named.
pub const LOCK: &str = "events.lock";

/// What is wanted of the topics of the lock.
pub fn read(topics: &Path, lock: &Path) -> Result<Topics, Failure> {
    read_topics(topics, &read_lock(lock)?)
}

/// Leaves only these, if any are named.
pub fn keep(topics: &mut Topics, only: &[String], lock: &Path) -> Result<(), Failure> {
    if let Some(unknown) = only.iter().find(|topic| !topics.topics.contains_key(*topic)) {
        return Err(Failure::usage(format!(
            "{} has no event on the topic `{}` that is not retired. Nothing was done. Correct --topic, or leave it out for all \
             topics of the lock",
            lock.display(),
            one_line(unknown)
        )));
    }
    topics.topics.retain(|topic, _| only.is_empty() || only.contains(topic));
    Ok(())
}

/// The topics, on the brokers.
pub fn event_topics(topics: &Topics, context: &Context) -> Result<EventTopics, Failure> {
    let builder = EventTopics::builder(context.kafka()?).topic_prefix(context.topic_prefix());
    let each = topics.topics.iter();
    let builder = each.fold(builder, |builder, (topic, of)| builder.topic(topic, wanted(of)));
    Ok(builder.build()?)
}

fn wanted(topic: &Topic) -> WantedTopic {
    let mut wanted = WantedTopic::default();
    if let Some(partitions) = topic.partitions {
        wanted = wanted.partitions(partitions);
    }
    if let Some(replicas) = topic.replicas {
        wanted = wanted.replicas(replicas);
    }
    topic.config.iter().fold(wanted, |wanted, (name, value)| {
        wanted.setting(
            name,
            match value {
                Setting::Text(text) => text.clone(),
                Setting::Integer(number) => number.to_string(),
                Setting::Bool(is_so) => is_so.to_string(),
            },
        )
    })
}
