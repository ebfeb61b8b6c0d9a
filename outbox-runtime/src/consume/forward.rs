//! Events that are sent to a retry topic or to the dead letters: where to, and with which headers.
//! [`Forward`] is implemented by what carries them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::envelope::Opened;
use super::message::{History, Message};
use crate::record::{CE_PREFIX, CONTENT_TYPE, TRACEPARENT, TRACESTATE};

pub(super) const ORIGINAL_TOPIC: &str = "outbox-original-topic";
const ORIGINAL_PARTITION: &str = "outbox-original-partition";
const ORIGINAL_OFFSET: &str = "outbox-original-offset";
const ORIGINAL_TIMESTAMP: &str = "outbox-original-timestamp";
const GROUP: &str = "outbox-group";
const ATTEMPTS: &str = "outbox-attempts";
const RETRY: &str = "outbox-retry";
const FIRST_FAILURE: &str = "outbox-first-failure";
const DUE: &str = "outbox-due";
pub(super) const UNREADABLE: &str = "outbox-unreadable-headers";
pub(super) const ERROR_CLASS: &str = "outbox-error-class";
pub(super) const ERROR: &str = "outbox-error";
pub(super) const LAST_FAILURE: &str = "outbox-last-failure";
/// Header of a dead letter that was too large for its topic: the size of its payload in bytes.
pub(super) const PAYLOAD_LEFT_OUT: &str = "outbox-payload-left-out";

/// Characters of an error that go into a header.
const LONGEST_ERROR: usize = 2_000;

/// Headers of ours, by name.
pub(super) type OurHeaders = Vec<(&'static str, String)>;

/// Sends events to retry topics and to the dead letters. It is given topics as events declare them,
/// and names topics as they are on the brokers.
pub(crate) trait Forward: Send + Sync + 'static {
    /// Name of `topic` itself.
    fn original_topic(&self, topic: &str) -> String;

    /// Name of the topic in which an event of `topic` waits for `delay`.
    fn retry_topic(&self, topic: &str, group: &str, delay: Duration) -> String;

    /// Name of the topic of the dead letters.
    fn dead_letter_topic(&self, topic: &str, group: &str) -> String;

    /// Sends a message once, with these headers besides its own, and waits until it is written
    /// safely: its original may be forgotten then. Returns where it is.
    fn send(
        &self,
        to: &str,
        message: &Message,
        ours: &[(&'static str, String)],
    ) -> impl Future<Output = Result<Place, Unsent>> + Send;
}

/// Where a message is on its topic. As text it is `PARTITION:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// Why a message could not be written to a topic.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// Whether the topic takes nothing that large.
    pub(crate) too_large: bool,
    /// Code of the reason, to distinguish one reason from another.
    pub(crate) code: Option<i32>,
    pub(crate) error: String,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

/// For each topic, why the last attempt to write to it failed, so that each change is logged, not
/// each event.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<HashMap<String, Option<i32>>>);

impl Unwritten {
    /// Whether that is news.
    pub(super) fn refused(&self, topic: &str, code: Option<i32>) -> bool {
        self.lock().insert(topic.to_owned(), code) != Some(code)
    }

    /// Whether that is news.
    pub(super) fn written(&self, topic: &str) -> bool {
        let mut refused = self.lock();
        !refused.is_empty() && refused.remove(topic).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<i32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event's last failure, as headers describe it.
pub(super) struct LastFailure<'a> {
    /// `transient`, `permanent` or `undecodable`.
    pub(super) class: &'static str,
    pub(super) error: &'a str,
}

/// Our headers. `topic`: the name of the event's own topic.
pub(super) fn headers(
    group: &str,
    topic: String,
    history: &History,
    due: Option<SystemTime>,
    failure: Option<&LastFailure<'_>>,
) -> OurHeaders {
    let mut headers = vec![
        (ORIGINAL_TOPIC, topic),
        (ORIGINAL_PARTITION, history.partition.to_string()),
        (ORIGINAL_OFFSET, history.offset.to_string()),
        (GROUP, group.to_owned()),
        (ATTEMPTS, history.attempts.to_string()),
        (RETRY, history.retry.to_string()),
    ];
    headers.extend(history.timestamp.map(|timestamp| (ORIGINAL_TIMESTAMP, timestamp.to_string())));
    headers.extend(history.first_failure.map(|time| (FIRST_FAILURE, millis(time))));
    headers.extend(due.map(|time| (DUE, millis(time))));
    if let Some(LastFailure { class, error }) = failure {
        headers.push((ERROR_CLASS, (*class).to_owned()));
        headers.push((ERROR, shortened(error)));
        headers.push((LAST_FAILURE, millis(SystemTime::now())));
    }
    headers
}

impl Message {
    /// History of a message that was forwarded, by our headers. What they do not say is taken from
    /// where the message is.
    pub(super) fn resumed(&self) -> History {
        let fresh = self.fresh();
        let time =
            |name| self.parsed(name).map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        History {
            topic: self.header(ORIGINAL_TOPIC).map_or(fresh.topic, str::to_owned),
            partition: self.parsed(ORIGINAL_PARTITION).unwrap_or(fresh.partition),
            offset: self.parsed(ORIGINAL_OFFSET).unwrap_or(fresh.offset),
            timestamp: self.parsed(ORIGINAL_TIMESTAMP).or(fresh.timestamp),
            attempts: self.parsed(ATTEMPTS).unwrap_or(0),
            retry: self.parsed(RETRY).unwrap_or(0),
            first_failure: time(FIRST_FAILURE),
            due: time(DUE),
            from_retry_topic: false,
        }
    }
}

/// What is kept of a message that is too large for the dead letters: the short parts that identify
/// the event.
pub(super) fn without_payload(message: &Message) -> Message {
    const LONGEST_HEADER: usize = 1_024;
    const LONGEST_KEY: usize = 16_384;
    const MOST_HEADERS: usize = 32;
    let is_kept = |(name, value): &(&str, Option<&[u8]>)| {
        let says_which =
            name.starts_with(CE_PREFIX) || [CONTENT_TYPE, TRACEPARENT, TRACESTATE].contains(name);
        says_which && name.len() + value.map_or(0, <[u8]>::len) <= LONGEST_HEADER
    };
    // A foreign producer may have sent any number of headers. Those of an envelope go with them.
    let headers = message.headers().filter(is_kept).take(MOST_HEADERS);
    let headers =
        headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
    let key = message.key.clone().filter(|key| key.len() <= LONGEST_KEY);
    let (topic, opened) = (message.topic.clone(), Opened::default());
    Message { topic, key, headers, payload: None, opened, ..*message }
}

fn millis(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string()
}

fn shortened(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::message::tests::without_key as message;

    #[test]
    fn a_topic_that_cannot_be_written_to_is_told_of_once_and_when_it_can_be_again() {
        let unwritten = Unwritten::default();
        let (denied, timed_out) = (Some(29), Some(-192));
        assert!(!unwritten.written("dlt"));
        assert!(unwritten.refused("dlt", denied));
        assert!(!unwritten.refused("dlt", denied));
        assert!(unwritten.refused("retry", denied));
        assert!(unwritten.refused("dlt", timed_out), "another reason");
        assert!(unwritten.written("dlt") && !unwritten.written("dlt"));
        assert!(unwritten.refused("dlt", denied));
    }
    #[test]
    fn a_message_in_a_retry_topic_remembers_where_it_came_from() {
        let history = message(&[
            (ORIGINAL_TOPIC, "payments"),
            (ORIGINAL_PARTITION, "1"),
            (ORIGINAL_OFFSET, "42"),
            (ATTEMPTS, "2"),
            (FIRST_FAILURE, "1000"),
            (DUE, "2000"),
        ])
        .resumed();
        assert_eq!(
            (&*history.topic, history.partition, history.offset, history.attempts),
            ("payments", 1, 42, 2)
        );
        assert_eq!(history.due, Some(UNIX_EPOCH + Duration::from_secs(2)));
        assert_eq!(
            message(&[(ATTEMPTS, "many")]).resumed(),
            message(&[]).fresh(),
            "garbage counts as nothing"
        );
    }
}
