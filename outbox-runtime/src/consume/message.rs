//! A message as it came, and what it says about itself.

use std::str::FromStr;
use std::time::SystemTime;

use outbox_event::Headers;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::context::EventContext;
use super::envelope::{self, Envelope, Opened};
use super::options::ForeignId;
use crate::record::{CE_ID, CE_SOURCE, CE_TIME, CE_TYPE, CE_VERSION, CONTENT_TYPE, readable_key};

/// Prefix of the headers that we add to a message in a retry topic or to a dead letter.
pub(crate) const PREFIX: &str = "outbox-";

/// Most bytes of a `ce_id`. What is longer is no id, and would be in each line of the log.
const LONGEST_ID: usize = 1_024;

/// A message. Its fields are the record as it came, which is what is sent on to other topics. What
/// it says is told by the methods: if it is a CloudEvent in structured mode, by its [`Envelope`].
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
    pub(crate) opened: Opened,
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
    /// The envelope that the payload is. `None`: it is none. An error: what is wrong with it.
    pub(crate) fn envelope(&self) -> Option<Result<&Envelope, &str>> {
        let opened = self
            .opened
            .get_or_open(|| envelope::open(self.content_type()?, self.payload.as_deref()?));
        opened.map(|opened| opened.as_ref().map_err(|error| &**error))
    }

    /// Whether its payload would be read as an envelope.
    #[cfg(feature = "kafka")]
    pub(crate) fn is_enveloped(&self) -> bool {
        self.content_type().is_some_and(envelope::is_envelope)
    }

    /// The content type of the record, not that of the data in an envelope.
    pub(crate) fn content_type(&self) -> Option<&[u8]> {
        let mut headers = self.headers.iter().rev();
        let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))?;
        value.as_deref()
    }

    /// All headers, with those of an envelope.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let envelope = self.envelope();
        let own = self.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
        let own = own.filter(move |(name, _)| envelope.is_none() || !envelope::tells(name));
        let enveloped = envelope.and_then(Result::ok).into_iter().flat_map(Envelope::headers);
        own.chain(enveloped.map(|(name, value)| (name, Some(value.as_bytes()))))
    }

    /// The payload, or the data in an envelope. `None`: a tombstone.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        match self.envelope() {
            None => self.payload.as_deref(),
            Some(envelope) => Some(&envelope.ok()?.payload),
        }
    }

    /// The last header of this name. `None` in it: a header without a value.
    fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        if envelope::tells(name)
            && let Some(envelope) = self.envelope()
        {
            return Some(Some(envelope.ok()?.header(name)?.as_bytes()));
        }
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        Some(value.as_deref())
    }

    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.last(name)?
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok()
    }

    /// Whether the header is there, even if its value is not text.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.last(name).is_some()
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

    /// The id by which it is recognised when it comes again, wherever it is read from then: its own
    /// if that is a UUID, or else what is unique of a CloudEvent, or else one by the handler's rule
    /// for messages without an id. A rule that names `ce_id` means that alone, without the source.
    pub(crate) fn id(&self, history: &History, foreign: Option<ForeignId>) -> Option<Uuid> {
        let own = self.parsed(CE_ID);
        let by_rule = || self.id_by_rule(history, foreign?);
        if foreign == Some(ForeignId::Header(CE_ID)) {
            return own.or_else(by_rule);
        }
        own.or_else(|| self.id_of_cloud_event(history)).or_else(by_rule)
    }

    fn id_of_cloud_event(&self, history: &History) -> Option<Uuid> {
        let id = self.value(CE_ID).filter(|_| self.wrong_id().is_none())?;
        let source = self.value(CE_SOURCE).unwrap_or_default();
        // Where one ends and the other begins must be told, too.
        let what = [source.len().to_string().as_bytes(), b":", source, id].concat();
        Some(hashed(history, "ce_source and ce_id", &what))
    }

    fn id_by_rule(&self, history: &History, rule: ForeignId) -> Option<Uuid> {
        Some(match rule {
            // With the record's timestamp: offsets begin again with a topic that is deleted and
            // created again.
            ForeignId::Place => {
                let History { partition, offset, timestamp, .. } = history;
                let place = format!("{partition}/{offset}/{}", timestamp.unwrap_or(-1));
                hashed(history, "place", place.as_bytes())
            }
            // An empty one is no id: all messages that have it would be the same one.
            ForeignId::Header(name) => {
                hashed(history, name, self.value(name).filter(|value| !value.is_empty())?)
            }
            ForeignId::Key => hashed(history, "key", self.key.as_deref()?),
        })
    }

    /// What is wrong with its id, of which nothing is known but that it is not a UUID.
    fn wrong_id(&self) -> Option<String> {
        match self.value(CE_ID) {
            None if self.has_header(CE_ID) => Some("has no value".to_owned()),
            None => Some("is missing".to_owned()),
            Some([]) => Some("is empty".to_owned()),
            Some(id) if id.len() > LONGEST_ID => Some(format!(
                "has {} bytes, of which at most {LONGEST_ID} are taken: `{}`",
                id.len(),
                readable_key(id)
            )),
            Some(id) if std::str::from_utf8(id).is_err() => {
                Some(format!("is not UTF-8: `{}`", id.escape_ascii()))
            }
            Some(_) => None,
        }
    }

    /// Why it is not an event.
    pub(crate) fn why_no_event(&self) -> String {
        if let Some(Err(error)) = self.envelope() {
            return error.to_owned();
        }
        if self.has_header(CE_TYPE) {
            return "the header `ce_type` is not text: which event this is cannot be told"
                .to_owned();
        }
        let content_type = self.content_type().filter(|it| envelope::is_unread(it));
        let unread = content_type.map(|content_type| {
            format!(
                ". Its content type is `{}`: of CloudEvents in structured mode, those in JSON are read",
                readable_key(content_type)
            )
        });
        format!(
            "the header `ce_type` is missing: no outbox wrote this message, and no handler takes such (`foreign`){}",
            unread.unwrap_or_default()
        )
    }

    /// Why it has no id.
    pub(crate) fn why_no_id(&self, foreign: Option<ForeignId>) -> String {
        let wrong = self.wrong_id().unwrap_or_else(|| "is not taken".to_owned());
        let rule = match foreign {
            Some(ForeignId::Header(name)) => {
                format!(", and the header `{name}`, which `foreign` names, is missing or empty")
            }
            Some(ForeignId::Key) => ", and it has no key, which `foreign` names".to_owned(),
            Some(ForeignId::Place) | None => String::new(),
        };
        format!(
            "it has nothing to be recognised by when it comes again: the header `{CE_ID}` {wrong}{rule}"
        )
    }

    pub(crate) fn context(
        &self,
        history: &History,
        id: Uuid,
        name: &str,
        version: u32,
    ) -> EventContext {
        let headers: Headers = self
            .headers()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .filter_map(|(name, value)| {
                Some((name.to_owned(), std::str::from_utf8(value?).ok()?.to_owned()))
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

/// An id by what is unique within the topic that a message was first on.
fn hashed(history: &History, kind: &str, what: &[u8]) -> Uuid {
    let name = [history.topic.as_bytes(), b"\0", kind.as_bytes(), b"\0", what].concat();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &name)
}

#[cfg(test)]
pub(super) mod tests;
