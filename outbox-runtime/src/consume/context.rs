//! What a handler learns about its event.

use std::time::SystemTime;

use outbox_event::Headers;
use uuid::Uuid;

/// Where an event came from, and what came with it. For an event in a retry topic, where it was
/// first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EventContext {
    /// Id of the event, by which a second delivery is recognised. For a CloudEvent whose `id` is no
    /// UUID, a hash of its `source` and `id`, which are the headers `ce_source` and `ce_id`.
    pub id: Uuid,
    /// The name on the wire: the CloudEvents `type`.
    pub name: String,
    /// The version of the payload's schema.
    pub version: u32,
    /// Time at which it happened. `None`: the message does not say.
    pub occurred_at: Option<SystemTime>,
    /// The topic, as the event declares it. On the brokers, its name may begin with a deployment's
    /// prefix (`topic_prefix`).
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The Kafka key.
    pub key: Option<Vec<u8>>,
    /// All headers whose values are text. The attributes of a CloudEvent are `ce_…`, also if it came
    /// in structured mode; the media type of its data is `content-type`.
    pub headers: Headers,
    /// Number of this attempt, from 1. Attempts in place are counted since the event's delivery;
    /// those before a retry topic are in the event's headers.
    pub attempt: u32,
}

/// The event that a message is handled as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'r> {
    pub(crate) topic: &'static str,
    pub(crate) name: &'r str,
    pub(crate) version: u32,
    /// Whether no outbox wrote the message: its handler then says what event it is.
    pub(crate) foreign: bool,
}
