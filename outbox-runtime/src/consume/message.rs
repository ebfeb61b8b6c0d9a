//! A message as it came, and what it says about itself.

use std::str::FromStr;
use std::time::SystemTime;

use outbox_event::Headers;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::context::EventContext;
use super::options::ForeignId;
use crate::record::{CE_ID, CE_TIME, CE_TYPE, CE_VERSION};

/// Prefix of the headers that we add to a message in a retry topic or to a dead letter.
pub(crate) const PREFIX: &str = "outbox-";

/// A message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Topic from which it was read, by its name on the brokers: its own, or one of its retry
    /// topics.
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Number of further headers, whose names are not UTF-8 and which cannot be read.
    pub(crate) unreadable_headers: usize,
    pub(crate) payload: Option<Vec<u8>>,
    /// Whether it was kept in the database, which is then the only place where it is.
    pub(crate) kept: bool,
}

/// Where a message was first, and what has happened to it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Topic as the event declares it. On the brokers, it may have a prefix.
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    /// Number of times that it was tried.
    pub(crate) attempts: u32,
    /// Number of times that it was sent to a retry topic because it failed.
    pub(crate) retry: usize,
    pub(crate) first_failure: Option<SystemTime>,
    /// Time before which it is not tried. `None`: at once.
    pub(crate) due: Option<SystemTime>,
    /// Whether it was read from a retry topic.
    pub(crate) from_retry_topic: bool,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Whether the header is there, even if its value is not text.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }

    /// The history of a message on its own topic.
    pub(crate) fn fresh(&self) -> History {
        History {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            attempts: 0,
            retry: 0,
            first_failure: None,
            due: None,
            from_retry_topic: false,
        }
    }

    /// Whether it comes from the database or from a retry topic: others of its key may have been
    /// queued behind it since, whatever the rule is now.
    pub(super) fn was_queued(&self, history: &History) -> bool {
        self.kept || history.from_retry_topic
    }

    /// The name and version by which a handler is found; `None` if no outbox wrote this.
    pub(crate) fn name(&self) -> Option<(&str, u32)> {
        // The version is an extension of ours, which other producers of CloudEvents do not write.
        let version =
            if self.has_header(CE_VERSION) { self.parsed(CE_VERSION).unwrap_or(0) } else { 1 };
        Some((self.header(CE_TYPE)?, version))
    }

    /// The id by which it is recognised: its own, or one by the handler's rule for messages without
    /// an id.
    pub(crate) fn id(&self, history: &History, foreign: Option<ForeignId>) -> Option<Uuid> {
        let own = self.parsed(CE_ID);
        own.or_else(|| {
            let (kind, what) = match foreign? {
                // With the record's timestamp: offsets begin again with a topic that is deleted and
                // created again.
                ForeignId::Place => {
                    let History { partition, offset, timestamp, .. } = history;
                    (
                        "place",
                        format!("{partition}/{offset}/{}", timestamp.unwrap_or(-1)).into_bytes(),
                    )
                }
                ForeignId::Header(name) => {
                    let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
                    (name, value.clone()?)
                }
                ForeignId::Key => ("key", self.key.clone()?),
            };
            let name = [history.topic.as_bytes(), b"\0", kind.as_bytes(), b"\0", &what].concat();
            Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, &name))
        })
    }

    pub(crate) fn context(
        &self,
        history: &History,
        id: Uuid,
        name: &str,
        version: u32,
    ) -> EventContext {
        let headers: Headers = self
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .filter_map(|(name, value)| {
                Some((name.clone(), std::str::from_utf8(value.as_deref()?).ok()?.to_owned()))
            })
            .collect();
        EventContext {
            id,
            name: name.to_owned(),
            version,
            occurred_at: self
                .header(CE_TIME)
                .and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok())
                .map(SystemTime::from),
            topic: history.topic.clone(),
            partition: history.partition,
            offset: history.offset,
            key: self.key.clone(),
            headers,
            attempt: history.attempts.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)]) -> Message {
        Message {
            topic: "orders".to_owned(),
            partition: 3,
            offset: 7,
            key: Some(b"alice".to_vec()),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
                .collect(),
            ..Message::default()
        }
    }

    #[test]
    fn a_foreign_message_is_recognised_by_what_the_handler_says() {
        let at = |offset: i64, headers: &[(&str, &str)]| {
            let mut message = message(headers);
            message.offset = offset;
            move |rule| message.id(&message.fresh(), Some(rule))
        };
        let (one, same, other) = (at(7, &[("x", "1")]), at(8, &[("x", "1")]), at(7, &[("x", "2")]));
        let by_header = ForeignId::Header("x");
        assert_eq!(one(by_header), same(by_header));
        assert_ne!(one(by_header), other(by_header));
        assert_ne!(one(ForeignId::Place), same(ForeignId::Place));
        assert_eq!(one(ForeignId::Key), other(ForeignId::Key));
        assert_eq!(one(ForeignId::Header("y")), None, "nothing to recognise it by");
        assert_eq!(message(&[]).id(&message(&[]).fresh(), None), None);
        let id = Uuid::now_v7();
        assert_eq!(
            at(1, &[(CE_ID, &id.to_string())])(ForeignId::Place),
            Some(id),
            "its own id first"
        );
    }
}
