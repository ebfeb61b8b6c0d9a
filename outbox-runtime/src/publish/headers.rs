//! The headers of a published event: the CloudEvents Kafka binding, binary mode, version 1.0
//! (`cloudevents/bindings/kafka-protocol-binding.md`), the event's own, and the W3C trace context.

use std::error::Error;
use std::io::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::record::{CE_ID, CE_SOURCE, CE_TIME, CE_TYPE, CE_VERSION, CONTENT_TYPE, EventRecord};

/// Gives each header of the event's message to `add`, by name and value. `source`: the CloudEvents
/// source.
pub(crate) fn message_headers(event: &EventRecord, source: &str, mut add: impl FnMut(&str, &str)) {
    let mut id = uuid::Uuid::encode_buffer();
    add("ce_specversion", "1.0");
    add(CE_ID, event.id.hyphenated().encode_lower(&mut id));
    add(CE_TYPE, &event.name);
    add(CE_SOURCE, source);
    // The format has the years 0 to 9999 only; `emit` refuses others.
    let time = OffsetDateTime::from(event.occurred_at);
    if let Some(time) = written(&mut [0; 40], |to| Ok(time.format_into(to, &Rfc3339).map(drop)?)) {
        add(CE_TIME, time);
    }
    if let Some(version) = written(&mut [0; 10], |to| Ok(write!(to, "{}", event.version)?)) {
        add(CE_VERSION, version);
    }
    add(CONTENT_TYPE, &event.content_type);
    for (name, value) in event.headers.iter() {
        add(name, value);
    }
}

/// The text that `write` writes into a buffer: this is done for each event, and allocates nothing.
/// `None`: it failed.
fn written(
    buffer: &mut [u8],
    write: impl FnOnce(&mut &mut [u8]) -> Result<(), Box<dyn Error>>,
) -> Option<&str> {
    let room = buffer.len();
    let mut rest = &mut *buffer;
    write(&mut rest).ok()?;
    let written = room - rest.len();
    std::str::from_utf8(&buffer[..written]).ok()
}
