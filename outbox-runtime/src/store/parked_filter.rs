//! Which parked events an operator means, and how they are counted.

use std::time::SystemTime;

use uuid::Uuid;

use super::row::row;
use crate::check::from_unix_micros;
use crate::record::Lane;

/// Which parked events. An event must meet all conditions given.
///
/// ```
/// use outbox::admin::ParkedFilter;
///
/// let too_large = ParkedFilter::all().topic("orders").reason("*too large*");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    pub(crate) ids: Option<Vec<Uuid>>,
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    pub(crate) reason: Option<String>,
}

impl ParkedFilter {
    /// All parked events. The methods below narrow it down.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Only those on this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only those with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only those with this name on the wire.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only those that were refused for a reason like this: `*` stands for any characters, `?` for
    /// one, and the case of letters does not matter. Events that only wait behind another one have
    /// no reason.
    #[must_use]
    pub fn reason(mut self, pattern: impl Into<String>) -> Self {
        self.reason = Some(pattern.into());
        self
    }

    /// Whether it means every parked event.
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The lane of all events that it means. `None`: they may be in any.
    pub(crate) fn lane(&self) -> Option<i16> {
        self.key.as_deref().map(|key| Lane::of_key(key).number())
    }

    /// The pattern of the reason, for `LIKE` with a backslash as the escape.
    pub(crate) fn reason_like(&self) -> Option<String> {
        let mut like = String::new();
        for c in self.reason.as_deref()?.chars().filter(|c| *c != '\0') {
            match c {
                '*' => like.push('%'),
                '?' => like.push('_'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                _ => like.push(c),
            }
        }
        Some(like)
    }
}

/// By what parked events are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParkedGrouping {
    /// Those of each topic.
    Topic,
    /// Those refused for each reason. Those that only wait behind another one have no reason, and
    /// are a group of their own.
    Reason,
    /// Those of each topic and key.
    Key,
}

/// A number of parked events that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedGroup {
    /// Their topic. `None`: they are not counted by topic.
    pub topic: Option<String>,
    /// Their key. `None`: they are not counted by key, or have none.
    pub key: Option<Vec<u8>>,
    /// The reason for which they were refused. `None`: they are not counted by reason, or only wait
    /// behind another one.
    pub reason: Option<String>,
    /// Number of the events.
    pub events: u64,
    /// Number of their keys, those of different topics counted separately. An event without a key
    /// counts as one.
    pub keys: u64,
    /// Time at which the oldest of them occurred. `None`: the database's time is in no calendar.
    pub oldest: Option<SystemTime>,
}

/// Most groups that are returned: those with the most events.
pub(crate) const MOST_GROUPS: u32 = 1_000;

row! {
    /// A group, as stores return it.
    pub(crate) struct GroupRow {
        topic: Option<String>,
        key: Option<Vec<u8>>,
        reason: Option<String>,
        events: i64,
        keys: i64,
        oldest_micros: Option<i64>,
    }
}

impl From<GroupRow> for ParkedGroup {
    fn from(row: GroupRow) -> Self {
        let GroupRow { topic, key, reason, events, keys, oldest_micros } = row;
        Self {
            topic,
            key,
            reason,
            events: events.unsigned_abs(),
            keys: keys.unsigned_abs(),
            oldest: oldest_micros.and_then(from_unix_micros),
        }
    }
}

impl ParkedGrouping {
    /// What is selected of a row `e`, and what it is grouped by.
    #[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))] // MySQL has its own
    pub(crate) fn columns(self) -> (&'static str, &'static str) {
        match self {
            Self::Topic => ("e.topic, null as key, null as reason", "e.topic"),
            Self::Reason => ("null as topic, null as key, e.reason", "e.reason"),
            Self::Key => ("e.topic, e.key, null as reason", "e.topic, e.key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_same_in_every_database() {
        let like = |pattern: &str| ParkedFilter::all().reason(pattern).reason_like().unwrap();
        assert_eq!(like("*too large?"), "%too large_");
        assert_eq!(like(r"100% of a_b\c"), r"100\% of a\_b\\c");
        assert_eq!(ParkedFilter::all().reason_like(), None);
    }

    #[test]
    fn only_a_filter_without_any_condition_means_all() {
        assert!(ParkedFilter::all().is_all());
        assert!(!ParkedFilter::all().ids([]).is_all(), "no event has one of no ids");
        assert!(!ParkedFilter::all().key("a").is_all());
    }
}
