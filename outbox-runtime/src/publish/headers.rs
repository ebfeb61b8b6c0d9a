//! The headers of a published event: the CloudEvents Kafka binding, binary mode, version 1.0
//! (`cloudevents/bindings/kafka-protocol-binding.md`), the event's own, and the W3C trace context.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::record::{CE_ID, CE_TIME, CE_TYPE, CE_VERSION, CONTENT_TYPE, EventRecord};

/// Gives each header of the event's message to `add`, by name and value. `source`: the CloudEvents
/// source.
pub(crate) fn message_headers(event: &EventRecord, source: &str, mut add: impl FnMut(&str, &str)) {
    let mut id = uuid::Uuid::encode_buffer();
    add("ce_specversion", "1.0");
    add(CE_ID, event.id.hyphenated().encode_lower(&mut id));
    add(CE_TYPE, &event.name);
    add("ce_source", source);
    // The format has the years 0 to 9999 only; `emit` refuses others.
    if let Ok(time) = OffsetDateTime::from(event.occurred_at).format(&Rfc3339) {
        add(CE_TIME, &time);
    }
    add(CE_VERSION, &event.version.to_string());
    add(CONTENT_TYPE, &event.content_type);
    for (name, value) in event.headers.iter() {
        add(name, value);
    }
}
