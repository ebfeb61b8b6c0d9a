//! Ids of schemas that are in a header. Newer clients of Confluent can write them there instead of
//! before the payload (`HeaderSchemaIdSerializer` in Java, `header_schema_id_serializer` in Python): the
//! same bytes, with a GUID. Codecs with a registry read them before the payload in either case.

use std::borrow::Cow;

use outbox_event::__private::WITH_SCHEMA_ID;

use super::context::Named;
use super::erased::AnyHandler;
use super::message::Message;
use crate::store::OutboxDatabase;

const HEADER: &str = "__value_schema_id";

/// The payload as the codec of this event reads it. `None`: a tombstone.
pub(super) fn framed<'m, DB: OutboxDatabase>(
    message: &'m Message,
    handler: &dyn AnyHandler<DB>,
    named: Named<'_>,
) -> Option<Cow<'m, [u8]>> {
    let payload = message.payload()?;
    let is_of = |content_type: &str| content_type.starts_with(WITH_SCHEMA_ID);
    // Other codecs read what comes with such a header as it is: JSON, for one.
    let before = message.value(HEADER).filter(|_| content_type(handler, named).is_some_and(is_of));
    Some(before.map_or(Cow::Borrowed(payload), |id| Cow::Owned([id, payload].concat())))
}

/// That of the codec by which this event is read.
fn content_type<DB: OutboxDatabase>(
    handler: &dyn AnyHandler<DB>,
    Named { topic, name, version, .. }: Named<'_>,
) -> Option<&'static str> {
    let (own, older) = (handler.descriptors(), handler.older_versions());
    let mut events = own.iter().chain(&older);
    let event =
        events.find(|event| (event.topic, event.name, event.version) == (topic, name, version));
    event.map(|event| event.content_type)
}
