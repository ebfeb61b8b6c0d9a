//! A dead letter in a list, and as JSON.

use outbox::consume::{DeadLetter, DeadLetters};
use serde::Serialize;

use crate::output::Row;
use crate::text::{self, ABSENT, one_line, shortened};
use crate::times;

const LONGEST_ERROR: usize = 120;

/// All that is known of a dead letter. In `…_hex` is what is not UTF-8.
#[derive(Debug, Serialize)]
pub struct LetterRow {
    /// Where the dead letter is on its topic, as `PARTITION:OFFSET`.
    place: String,
    dead_letter_topic: String,
    partition: i32,
    offset: i64,
    event_id: Option<String>,
    name: Option<String>,
    version: Option<u32>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    /// Where the event came from.
    original_topic: String,
    original_partition: i32,
    original_offset: i64,
    attempts: u32,
    error_class: String,
    error: String,
    first_failure: Option<String>,
    last_failure: Option<String>,
    headers: Vec<Header>,
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    payload_left_out: Option<u64>,
    #[serde(skip)]
    letter: DeadLetter,
}

#[derive(Debug, Serialize)]
struct Header {
    name: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl LetterRow {
    pub fn new(dead_letters: &DeadLetters, letter: DeadLetter) -> Self {
        let (key, key_hex) = text_or_hex(letter.key.as_deref());
        let (payload, payload_hex) = text_or_hex(letter.payload.as_deref());
        let headers = letter.headers.iter().map(|(name, value)| {
            let (value, value_hex) = text_or_hex(value.as_deref());
            Header { name: name.clone(), value, value_hex }
        });
        Self {
            place: letter.id().to_string(),
            dead_letter_topic: dead_letters.dead_letter_topic(),
            partition: letter.partition,
            offset: letter.offset,
            event_id: letter.event_id.map(|id| id.to_string()),
            name: letter.name.clone(),
            version: letter.version,
            key,
            key_hex,
            original_topic: letter.original_topic.clone(),
            original_partition: letter.original_partition,
            original_offset: letter.original_offset,
            attempts: letter.attempts,
            error_class: letter.error_class.clone(),
            error: letter.error.clone(),
            first_failure: letter.first_failure.and_then(times::exact),
            last_failure: letter.last_failure.and_then(times::exact),
            headers: headers.collect(),
            payload,
            payload_hex,
            payload_left_out: letter.payload_left_out,
            letter,
        }
    }

    pub fn letter(&self) -> &DeadLetter {
        &self.letter
    }
}

fn text_or_hex(bytes: Option<&[u8]>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text.to_owned()), None),
        Some((bytes, Err(_))) => (None, Some(text::hex(bytes))),
    }
}

/// The name and version of its event.
pub fn event(letter: &DeadLetter) -> String {
    match (&letter.name, letter.version) {
        (Some(name), Some(version)) => format!("{} v{version}", one_line(name)),
        (Some(name), None) => one_line(name),
        (None, _) => ABSENT.to_owned(),
    }
}

/// Where the event came from, on its topic.
pub fn source(letter: &DeadLetter) -> String {
    format!("{}:{}", letter.original_partition, letter.original_offset)
}

impl Row for LetterRow {
    const COLUMNS: &'static [&'static str] =
        &["PLACE", "CAME FROM", "EVENT", "KEY", "ATTEMPTS", "CLASS", "LAST FAILURE", "ERROR"];
    const WIDE: &'static [&'static str] = &["EVENT ID", "FIRST FAILURE", "ORIGINAL TOPIC"];

    fn cells(&self) -> Vec<String> {
        let letter = &self.letter;
        let absent = || ABSENT.to_owned();
        let error = letter.error.lines().next().unwrap_or_default();
        vec![
            self.place.clone(),
            source(letter),
            event(letter),
            text::key(letter.key.as_deref()),
            letter.attempts.to_string(),
            one_line(&letter.error_class),
            letter.last_failure.and_then(times::seconds).unwrap_or_else(absent),
            shortened(&one_line(error), LONGEST_ERROR),
            self.event_id.clone().unwrap_or_else(absent),
            letter.first_failure.and_then(times::seconds).unwrap_or_else(absent),
            one_line(&letter.original_topic),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_in_a_field_of_its_own() {
        assert_eq!(text_or_hex(Some(b"alice")), (Some("alice".to_owned()), None));
        assert_eq!(text_or_hex(Some(&[0xff, 0x1b])), (None, Some("ff1b".to_owned())));
        assert_eq!(text_or_hex(None), (None, None));
    }
}
