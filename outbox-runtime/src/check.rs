//! Finds what the outbox, its databases or Kafka cannot accept of an event. Such an event is
//! refused when it is emitted: later, it would fail the commit with a database's own message, or be
//! parked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbox_event::__private::topic_problem;

use crate::error::{ErrorKind, OutboxError};
use crate::record::{
    BAGGAGE, CE_PREFIX, CONTENT_TYPE, EventRecord, OUTBOX_PREFIX, TRACEPARENT, TRACESTATE,
};

/// RFC 3339, which `ce_time` is written in, has the years 0 to 9999: seconds before and after 1970.
const FIRST_YEAR: Duration = Duration::from_secs(62_167_219_200);
const LAST_YEAR: Duration = Duration::from_secs(253_402_300_800);

/// Longest name of an event and of its content type, in bytes. Room for it is left besides the
/// event's own limit.
const LONGEST_NAME: usize = 1_000;

/// Refuses an event that could not reach Kafka.
pub(crate) fn check(record: &EventRecord, max_event_bytes: usize) -> Result<(), OutboxError> {
    if let Some(problem) = problem(record) {
        return Err(OutboxError::new(
            ErrorKind::InvalidEvent,
            format!(
                "event `{}` {problem}. It was not emitted; return the error to roll back",
                shown(&record.name)
            ),
        ));
    }
    if record.size() > max_event_bytes {
        return Err(OutboxError::new(
            ErrorKind::EventTooLarge,
            format!(
                "event `{}` has {} bytes of payload, key and headers, and may have {max_event_bytes}: it was not emitted; return \
                 the error to roll back. Put large content where consumers can fetch it and its address into the \
                 event, or raise `max_event_bytes` together with the limits of the publisher and the topic",
                record.name,
                record.size(),
            ),
        ));
    }
    Ok(())
}

fn problem(record: &EventRecord) -> Option<String> {
    if let Some(problem) = topic_problem(&record.topic) {
        return Some(format!(
            "cannot be written to Kafka: {problem} (it is `{}`)",
            shown(&record.topic)
        ));
    }
    for (what, text) in [("name", &record.name), ("content type", &record.content_type)] {
        if text.is_empty() || text.len() > LONGEST_NAME || text.contains(char::is_control) {
            let text = shown(text);
            return Some(format!(
                "has the {what} `{text}`: it needs 1 to {LONGEST_NAME} bytes, without control characters"
            ));
        }
    }
    if record.version == 0 || i32::try_from(record.version).is_err() {
        return Some(format!("has version {}: they go from 1 to {}", record.version, i32::MAX));
    }
    if record.id.is_nil() || record.id.is_max() {
        return Some(format!(
            "has the id {}, which is no event's own: consumers would take all events with it for one. Give each an id of its own \
             (`#[event(id)]`), or none",
            record.id
        ));
    }
    if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
        return Some(format!("is for partition {partition}: they are counted from 0"));
    }
    if record.payload.is_none() && record.key.is_none() {
        return Some("is a tombstone without a key: there is nothing that it deletes".to_owned());
    }
    if !is_in_calendar(record.occurred_at) {
        return Some(
            "occurred beyond the years 0 to 9999, which its header `ce_time` cannot say. Correct the field \
             `#[event(occurred_at)]`"
                .to_owned(),
        );
    }
    record.headers.iter().find_map(|(name, _)| {
        Some(format!("has the header `{}`, {}", shown(name), header_problem(name)?))
    })
}

/// The rules of `#[event(header)]`, for names made at run time.
fn header_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Some("whose name is not of visible ASCII characters");
    }
    let lowercase = name.to_ascii_lowercase();
    let reserved = [CE_PREFIX, OUTBOX_PREFIX].iter().any(|prefix| lowercase.starts_with(prefix))
        || lowercase == CONTENT_TYPE
        || ([TRACEPARENT, TRACESTATE, BAGGAGE].contains(&&*lowercase) && name != lowercase);
    reserved.then_some(
        "whose name is reserved: the relay and consumers write `ce_*`, `outbox-*` and `content-type`",
    )
}

/// Whether a header of this name may be added to an event.
pub(crate) fn is_header_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME && header_problem(name).is_none()
}

fn is_in_calendar(at: SystemTime) -> bool {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => after < LAST_YEAR,
        Err(before) => before.duration() <= FIRST_YEAR,
    }
}

/// A time from the microseconds since 1970. `None`: it is in no calendar.
pub(crate) fn from_unix_micros(micros: i64) -> Option<SystemTime> {
    let since = Duration::from_micros(micros.unsigned_abs());
    let at = if micros < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    at.filter(|at| is_in_calendar(*at))
}

/// The text, as much of it as an error shows.
fn shown(text: &str) -> String {
    text.chars().take(100).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn the_calendar_has_every_time_that_its_header_can_say() {
        let moment = Duration::from_micros(1);
        for (at, is_in) in [
            (UNIX_EPOCH - FIRST_YEAR, true),
            (UNIX_EPOCH - FIRST_YEAR - moment, false),
            (UNIX_EPOCH + LAST_YEAR - moment, true),
            (UNIX_EPOCH + LAST_YEAR, false),
        ] {
            assert_eq!(is_in_calendar(at), is_in, "{at:?}");
            if is_in {
                OffsetDateTime::from(at).format(&Rfc3339).unwrap();
            }
        }
    }
}
