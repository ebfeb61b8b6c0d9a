//! A dead letter, and where it is.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::consume::forward::{ERROR, ERROR_CLASS, LAST_FAILURE, PAYLOAD_LEFT_OUT};
use crate::consume::message::Message;
use crate::record::{CE_ID, CE_TYPE, CE_VERSION};

/// Header of a message on the dead-letter topic that says what became of an earlier one.
pub(super) const RESOLVED: &str = "outbox-resolved";
pub(super) const RESOLVED_OFFSET: &str = "outbox-resolved-offset";

/// Where a dead letter is on its topic. As text it is `PARTITION:OFFSET`, as in `0:42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// A text that is no [`DeadLetterId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotADeadLetterId(());

impl fmt::Display for NotADeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected PARTITION:OFFSET, as in `0:42`")
    }
}

impl std::error::Error for NotADeadLetterId {}

impl FromStr for DeadLetterId {
    type Err = NotADeadLetterId;

    fn from_str(text: &str) -> Result<Self, NotADeadLetterId> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parsed.filter(|id| id.partition >= 0 && id.offset >= 0).ok_or(NotADeadLetterId(()))
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its partition on the topic of the dead letters.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The event's id, if it has one that is a UUID.
    pub event_id: Option<Uuid>,
    /// The event's name, if it has one.
    pub name: Option<String>,
    /// The version of its payload, if it is known.
    pub version: Option<u32>,
    /// The Kafka key.
    pub key: Option<Vec<u8>>,
    /// The payload, as it came.
    pub payload: Option<Vec<u8>>,
    /// Size of the payload in bytes, if it was left out because it was too large for the
    /// dead-letter topic. The payload is still at the place it came from, until Kafka deletes it
    /// there. `None`: it was not left out.
    pub payload_left_out: Option<u64>,
    /// All headers: its own, and ours.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The topic that it came from, by its name on the brokers: with the topic prefix, if there is
    /// one.
    pub original_topic: String,
    /// The partition that it came from.
    pub original_partition: i32,
    /// Its offset there.
    pub original_offset: i64,
    /// Number of times that it was tried.
    pub attempts: u32,
    /// `transient`, `permanent` or `undecodable`.
    pub error_class: String,
    /// Error of the last attempt.
    pub error: String,
    /// Time of its first failure.
    pub first_failure: Option<SystemTime>,
    /// Time of its last failure.
    pub last_failure: Option<SystemTime>,
}

impl From<Message> for DeadLetter {
    fn from(message: Message) -> Self {
        let history = message.resumed();
        let millis =
            |name| message.parsed(name).map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        Self {
            event_id: message.parsed(CE_ID),
            name: message.header(CE_TYPE).map(str::to_owned),
            version: message.parsed(CE_VERSION),
            original_topic: history.topic,
            original_partition: history.partition,
            original_offset: history.offset,
            attempts: history.attempts,
            payload_left_out: message.parsed(PAYLOAD_LEFT_OUT),
            error_class: message.header(ERROR_CLASS).unwrap_or_default().to_owned(),
            error: message.header(ERROR).unwrap_or_default().to_owned(),
            first_failure: history.first_failure,
            last_failure: millis(LAST_FAILURE),
            partition: message.partition,
            offset: message.offset,
            key: message.key,
            payload: message.payload,
            headers: message.headers,
        }
    }
}

impl DeadLetter {
    /// Where it is on the topic of the dead letters.
    #[must_use]
    pub fn id(&self) -> DeadLetterId {
        DeadLetterId { partition: self.partition, offset: self.offset }
    }

    pub(super) fn into_message(self) -> Message {
        Message {
            partition: self.partition,
            offset: self.offset,
            key: self.key,
            headers: self.headers,
            payload: self.payload,
            ..Message::default()
        }
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        /// What it takes besides its key, headers and payload.
        const OF_A_LETTER: usize = 1_024;
        const OF_A_HEADER: usize = 64;
        let headers = self.headers.iter();
        let headers = headers
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + OF_A_HEADER);
        let key_and_payload = [&self.key, &self.payload].into_iter().flatten().map(Vec::len);
        key_and_payload.chain(headers).sum::<usize>() + OF_A_LETTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_printed() {
        let id: DeadLetterId = "3:4294967296".parse().unwrap();
        assert_eq!(id, DeadLetterId { partition: 3, offset: 4_294_967_296 });
        assert_eq!(id.to_string(), "3:4294967296");
        for wrong in
            ["", "3", ":", "3:", ":4", "-1:4", "3:-4", "3:4:5", "3 : 4", "0x3:4", "2147483648:0"]
        {
            let error = wrong.parse::<DeadLetterId>().unwrap_err();
            assert!(error.to_string().contains("`0:42`"), "{wrong}");
        }
    }
}
