//! A line of what is printed of topics.

use serde::Serialize;

use crate::output::Row;

/// The state of a topic that is as it should be.
pub const EXISTS: &str = "exists";

/// A topic, or what of it is wrong.
#[derive(Debug, Default, Serialize)]
pub struct TopicRow {
    pub topic: String,
    /// `exists`, `missing`, `fewer-partitions`, `more-partitions`, `replicas`, `setting` or
    /// `unreadable`; after a change, `created`, `partitions-added` or `set`; of topics for retries
    /// and dead letters also `loses-events` or `narrow`.
    pub state: &'static str,
    pub partitions: Option<u32>,
    /// The setting that is wrong.
    pub setting: Option<String>,
    pub has: Option<String>,
    pub needs: Option<String>,
    /// The settings of a topic that is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    pub detail: String,
}

impl TopicRow {
    pub fn new(topic: &str, state: &'static str) -> Self {
        Self { topic: topic.to_owned(), state, ..Self::default() }
    }
}

impl Row for TopicRow {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "STATE", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        let detail = crate::text::one_line(&self.detail);
        vec![self.topic.clone(), self.state.to_owned(), detail]
    }
}
