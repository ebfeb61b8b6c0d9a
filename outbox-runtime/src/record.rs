//! An event after `emit`: serialized, stamped, and no longer of a Rust type.

use std::borrow::Cow;
use std::time::SystemTime;

use outbox_event::{DomainEvent, EventKey, Headers};
use uuid::Uuid;

use crate::error::{ErrorKind, OutboxError};

/// The headers of a W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
/// The same as attributes of a CloudEvent.
pub(crate) const CE_TRACEPARENT: &str = "ce_traceparent";
pub(crate) const CE_TRACESTATE: &str = "ce_tracestate";
pub(crate) const BAGGAGE: &str = "baggage";

/// The headers of the CloudEvents Kafka binding that a consumer reads.
pub(crate) const CE_ID: &str = "ce_id";
pub(crate) const CE_SOURCE: &str = "ce_source";
pub(crate) const CE_TYPE: &str = "ce_type";
pub(crate) const CE_TIME: &str = "ce_time";
/// Prefix of all of them.
pub(crate) const CE_PREFIX: &str = "ce_";
/// Header of an event that is published again because an operator asked for it.
pub(crate) const REPLAYED: &str = "outbox-replayed";
/// Prefix of the headers that relays and consumers add.
pub(crate) const OUTBOX_PREFIX: &str = "outbox-";
/// The media type of the payload.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// An extension: the version of the payload's schema.
pub(crate) const CE_VERSION: &str = "ce_dataversion";

/// An event as the outbox stores it and Kafka receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventRecord {
    /// Id of the event, by which consumers recognise a second delivery.
    pub id: Uuid,
    /// The Kafka topic.
    pub topic: Cow<'static, str>,
    /// The Kafka key; `None` for a keyless event.
    pub key: Option<Vec<u8>>,
    /// The name on the wire: the CloudEvents `type`.
    pub name: Cow<'static, str>,
    /// The version of the payload's schema.
    pub version: u32,
    /// The media type of the payload.
    pub content_type: Cow<'static, str>,
    /// The event's own headers, and those of its [trace](crate::trace) if there was one.
    pub headers: Headers,
    /// The payload, as the codec wrote it. `None`: a tombstone, which deletes the key of a
    /// compacted topic.
    pub payload: Option<Vec<u8>>,
    /// Time at which it happened. Stores keep microseconds.
    pub occurred_at: SystemTime,
    /// Partition of the topic. `None`: the key decides, as with other producers.
    pub partition: Option<i32>,
}

impl EventRecord {
    /// An event as [`emit`](crate::OutboxTx::emit) makes it. Its fields can be changed before it is
    /// given to [`emit_record`](crate::OutboxTx::emit_record).
    ///
    /// # Errors
    /// If it cannot be serialized.
    pub fn from_event<E: DomainEvent>(event: &E) -> Result<Self, OutboxError> {
        let descriptor = event.descriptor();
        let mut payload = Vec::new();
        event
            .encode_payload::<E::Codec>(&mut payload)
            .map_err(|error| OutboxError::serialize(descriptor.name, error))?;
        let mut headers = Headers::new();
        event.headers(&mut headers);
        Ok(Self {
            id: event.id().unwrap_or_else(Uuid::now_v7),
            topic: descriptor.topic.into(),
            key: event.key(),
            name: descriptor.name.into(),
            version: descriptor.version,
            content_type: descriptor.content_type.into(),
            headers,
            payload: Some(payload),
            partition: None,
            occurred_at: event.occurred_at().unwrap_or_else(SystemTime::now),
        })
    }

    /// A tombstone: a message without a payload, by which a compacted topic forgets this key. It
    /// has the name and version of `E`, and no headers of its own.
    ///
    /// # Errors
    /// If `E` is several events: it is not clear which one is meant.
    pub fn tombstone<E: DomainEvent>(key: &(impl EventKey + ?Sized)) -> Result<Self, OutboxError> {
        let [descriptor] = E::DESCRIPTORS else {
            return Err(OutboxError::new(
                ErrorKind::InvalidEvent,
                format!(
                    "`{}` is {} events, and a tombstone is one of one: it was not emitted. Name a type with one event",
                    std::any::type_name::<E>(),
                    E::DESCRIPTORS.len()
                ),
            ));
        };
        let mut bytes = Vec::new();
        key.write_key(&mut bytes);
        Ok(Self {
            id: Uuid::now_v7(),
            topic: descriptor.topic.into(),
            key: Some(bytes),
            name: descriptor.name.into(),
            version: descriptor.version,
            content_type: descriptor.content_type.into(),
            headers: Headers::new(),
            payload: None,
            partition: None,
            occurred_at: SystemTime::now(),
        })
    }

    /// Bytes that count against the size limit: payload, key and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
            + self.key.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| header_size(name, value)).sum::<usize>()
    }

    /// Digest of topic and key. `None`: an event without a key has no order to keep.
    pub(crate) fn key_digest(&self) -> Option<KeyDigest> {
        self.key.as_deref().map(|key| KeyDigest::of(&self.topic, key))
    }
}

impl EventRecord {
    /// Bytes that an event takes in the relay.
    pub(crate) fn bytes(&self) -> u64 {
        (self.size() + self.topic.len() + self.name.len() + self.content_type.len()) as u64
    }
}

/// The bytes of a header, and those that Kafka adds: the lengths of its name and value, up to 5
/// bytes each.
pub(crate) fn header_size(name: &str, value: &str) -> usize {
    name.len() + value.len() + 10
}

/// A key, or another text from outside, for the log and for spans: text as far as it is text, and
/// cut if it is long.
pub(crate) fn readable_key(key: &[u8]) -> String {
    const LONGEST: usize = 100;
    let (shown, rest) = key.split_at(key.len().min(LONGEST));
    let text = String::from_utf8_lossy(shown).escape_debug().to_string();
    if rest.is_empty() { text } else { format!("{text}… ({} bytes)", key.len()) }
}

#[cfg(test)]
impl EventRecord {
    /// For unit tests: an event of topic `orders`, with an id of its own and no payload.
    pub(crate) fn of_key(key: Option<&str>) -> Self {
        Self {
            id: Uuid::now_v7(),
            topic: "orders".into(),
            key: key.map(Into::into),
            name: "order.created".into(),
            version: 1,
            content_type: "application/json".into(),
            headers: Headers::default(),
            payload: None,
            occurred_at: SystemTime::UNIX_EPOCH,
            partition: None,
        }
    }
}

/// An event read from the outbox, and its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEvent {
    /// The lane it belongs to. Within a lane, events are published in the order of their reading.
    pub lane: Lane,
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// The event.
    pub record: EventRecord,
    /// Reason why it cannot be published as it is stored; fields that could not be read are empty.
    /// `None`: it can be published.
    pub(crate) unreadable: Option<Box<str>>,
}

impl StoredEvent {
    /// The error with which an event that cannot be read is parked without an attempt. `None`: it
    /// can be read.
    pub(crate) fn refused_unread(&self) -> Option<OutboxError> {
        let why = self.unreadable.as_deref()?;
        let message = format!(
            "its row cannot be read: {why}. Correct the row in the table of the parked events"
        );
        Some(OutboxError::new(ErrorKind::InvalidEvent, message))
    }
}

/// What orders events, a topic and key, in 16 bytes. Indexes and memory hold it instead of keys,
/// which may be longer than an index accepts. Two keys with the same digest would wait for each
/// other, without further harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub(crate) Uuid);

impl KeyDigest {
    /// The digest of a topic and key. It is on disk, so it must never change.
    pub(crate) fn of(topic: &str, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(8 + topic.len() + key.len());
        bytes.extend_from_slice(&(topic.len() as u64).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(key);
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes))
    }
}

/// One ordered slice of the outbox: the unit of ordering, of leasing and of parallelism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(i16);

/// Number of lanes. Fixed by the schema, so that writers need no configuration.
pub const LANES: usize = 16;

impl Lane {
    /// The lane of a key: the same for equal keys, in every program and version. An event without a
    /// key has no order to keep, and is spread by its id.
    pub(crate) fn of(key: Option<&[u8]>, id: Uuid) -> Self {
        let hash = fnv1a(key.unwrap_or(id.as_bytes()));
        // FNV-1a's high bits mix better than its low ones: fold them in.
        Self(((hash ^ (hash >> 32)) % LANES as u64) as i16)
    }

    /// The lane of all events with this key.
    pub(crate) fn of_key(key: &[u8]) -> Self {
        Self::of(Some(key), Uuid::nil())
    }

    /// The lane of this number: 0 to 15. `None`: there is no such lane.
    #[must_use]
    pub fn new(number: i16) -> Option<Self> {
        (0..LANES as i16).contains(&number).then_some(Self(number))
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..LANES as i16).map(Self)
    }

    /// The lane's number, below [`LANES`].
    #[must_use]
    pub fn number(self) -> i16 {
        self.0
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// A lane from its number in the database. A number that no lane has becomes the first lane, so
    /// that its rows are not lost.
    pub(crate) fn from_number(number: i16) -> Self {
        Self::new(number).unwrap_or(Self(0))
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo). Its results are on disk, so it must never change.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_key_never_changes() {
        let id = Uuid::nil();
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8, "the published test vector");
        let lanes: Vec<_> = ["", "a", "customer-1", "customer-2", "\0"]
            .map(|key| Lane::of(Some(key.as_bytes()), id).number())
            .into();
        assert_eq!(lanes, LANES_ON_DISK);
    }

    const LANES_ON_DISK: [i16; 5] = [1, 0, 12, 1, 3];

    #[test]
    fn the_digest_of_a_key_never_changes_and_tells_topics_apart() {
        let of = |topic, key: &str| KeyDigest::of(topic, key.as_bytes());
        assert_eq!(of("orders", "7").0.to_string(), DIGEST_ON_DISK);
        assert_ne!(of("orders", "7"), of("payments", "7"));
        assert_ne!(of("orders", "7"), of("orders7", ""));
    }

    const DIGEST_ON_DISK: &str = "769ac7de-07de-5da8-8d27-3c6f27788ec8";

    #[test]
    fn keys_spread_over_all_lanes() {
        let mut count = [0; LANES];
        for n in 0..16_000 {
            count[Lane::of(Some(format!("customer-{n}").as_bytes()), Uuid::nil()).index()] += 1;
        }
        assert!(count.iter().all(|n| (800..1200).contains(n)), "{count:?}");
    }
}
