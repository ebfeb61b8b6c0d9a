//! The headers of a published event: the CloudEvents Kafka binding, binary mode, version 1.0
//! (`cloudevents/bindings/kafka-protocol-binding.md`), the event's own, and the W3C trace context.

use rdkafka::message::{Header, OwnedHeaders};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::record::{CE_ID, CE_TIME, CE_TYPE, CE_VERSION, CONTENT_TYPE, EventRecord};

pub(super) fn kafka_headers(event: &EventRecord, source: &str) -> OwnedHeaders {
    fn add(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
        headers.insert(Header { key, value: Some(value) })
    }
    let mut id = uuid::Uuid::encode_buffer();
    // The format has the years 0 to 9999 only; `emit` refuses others.
    let time = OffsetDateTime::from(event.occurred_at).format(&Rfc3339).ok();

    let mut headers = OwnedHeaders::new_with_capacity(12);
    headers = add(headers, "ce_specversion", "1.0");
    headers = add(headers, CE_ID, event.id.hyphenated().encode_lower(&mut id));
    headers = add(headers, CE_TYPE, &event.name);
    headers = add(headers, "ce_source", source);
    if let Some(time) = &time {
        headers = add(headers, CE_TIME, time);
    }
    headers = add(headers, CE_VERSION, &event.version.to_string());
    headers = add(headers, CONTENT_TYPE, &event.content_type);
    for (name, value) in event.headers.iter() {
        headers = add(headers, name, value);
    }
    headers
}
