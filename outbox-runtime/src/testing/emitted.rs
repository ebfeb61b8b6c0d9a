//! What a service has emitted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use outbox_event::{Decode, DomainEvent};

use super::Finding;
use crate::consume::{Named, decoded};
use crate::error::{ErrorKind, OutboxError};
use crate::outbox::Outbox;
use crate::record::EventRecord;
use crate::store::OutboxDatabase;

/// The committed events of an outbox, in the order of their numbers: for each key, the order in
/// which a relay publishes them. Nothing is published by it. Published events are among them until
/// a relay reclaims their space.
///
/// ```
/// # mod example {
/// # use outbox::{DomainEvent, Outbox, OutboxError};
/// # #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize, DomainEvent)]
/// # #[event(topic = "orders")]
/// # struct OrderPlaced { #[event(key)] customer: String }
/// # struct Orders { outbox: Outbox<sqlx::Sqlite> }
/// # impl Orders { async fn place(&self, _: &str) -> Result<(), OutboxError> { Ok(()) } }
/// # async fn example(orders: Orders) -> Result<(), OutboxError> {
/// use outbox::testing::emitted;
///
/// orders.place("alice").await?;
///
/// let emitted = emitted(&orders.outbox).await?;
/// assert_eq!(emitted.names(), ["order.placed"]);
/// let alice = OrderPlaced { customer: "alice".to_owned() };
/// assert_eq!(emitted.of::<OrderPlaced>()?, [alice]);
/// # Ok(())
/// # }
/// # }
/// ```
///
/// # Errors
/// If the database refuses, or its tables are missing.
pub async fn emitted<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Result<Emitted, OutboxError> {
    let core = outbox.core();
    let stored = DB::events(&core.pool, &core.names).await?;
    Ok(Emitted(stored.into_iter().map(|event| event.record).collect()))
}

/// Events, as [`EventRecord`]s and decoded. [`emitted`] returns them, and what a
/// [`MemoryPublisher`](super::MemoryPublisher) has got becomes them:
/// `Emitted::from(kafka.published())`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Emitted(pub(super) Vec<EventRecord>);

impl Emitted {
    /// Those that are an `E`, decoded as a consumer decodes them: by topic, name and version. A
    /// tombstone has nothing to decode, and is left out.
    ///
    /// # Errors
    /// If the payload of one cannot be decoded.
    pub fn of<E>(&self) -> Result<Vec<E>, OutboxError>
    where
        E: DomainEvent,
        E::Codec: Decode<E>,
    {
        let events = self.0.iter().filter_map(|record| {
            let EventRecord { topic, name, version, payload, .. } = record;
            read::<E>(topic, name, *version, payload.as_deref()?)
        });
        events.collect()
    }

    /// Their names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|record| &*record.name).collect()
    }

    /// Whether a publisher has got each of them at least once, and those of each topic and key in
    /// their order: an event may come again, but not before an earlier one has come.
    ///
    /// # Errors
    /// The first event that is missing or out of order.
    pub fn all_published_in(&self, published: &[EventRecord]) -> Result<(), Finding> {
        let mut first = BTreeMap::new();
        for (place, record) in published.iter().enumerate() {
            first.entry(record.id).or_insert(place);
        }
        let mut last = BTreeMap::new();
        for record in &self.0 {
            let Some(place) = first.get(&record.id) else {
                return Err(Finding::new(format!(
                    "{} was emitted and is not published: its consumers never learn of it",
                    Said(record)
                )));
            };
            let Some(key) = &record.key else { continue };
            let before = last.insert((&record.topic, key), (*place, record));
            if let Some((_, earlier)) = before.filter(|(earlier, _)| earlier > place) {
                return Err(Finding::new(format!(
                    "{} was published before {}, an earlier event of its topic and key: consumers handle them in the \
                     wrong order",
                    Said(record),
                    Said(earlier)
                )));
            }
        }
        Ok(())
    }
}

impl From<Vec<EventRecord>> for Emitted {
    fn from(records: Vec<EventRecord>) -> Self {
        Self(records)
    }
}

impl Deref for Emitted {
    type Target = [EventRecord];

    fn deref(&self) -> &[EventRecord] {
        &self.0
    }
}

impl IntoIterator for Emitted {
    type Item = EventRecord;
    type IntoIter = std::vec::IntoIter<EventRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Emitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Reads an event as a consumer does. `None`: it is not an `E`.
pub(super) fn read<E>(
    topic: &str,
    name: &str,
    version: u32,
    payload: &[u8],
) -> Option<Result<E, OutboxError>>
where
    E: DomainEvent,
    E::Codec: Decode<E>,
{
    let mut known = E::DESCRIPTORS.iter();
    let descriptor = known.find(|event| (event.topic, event.name) == (topic, name))?;
    let named = Named { topic: descriptor.topic, name, version, foreign: false };
    match decoded::<E>(named, payload) {
        Ok(mut event) => event.take().map(Ok),
        Err(failure) => Some(Err(OutboxError::new(ErrorKind::Deserialize, failure.why(named)))),
    }
}

/// An event, as a text of this module names it.
pub(super) struct Said<'r>(pub(super) &'r EventRecord);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EventRecord { name, key, id, .. } = self.0;
        match key {
            Some(key) => write!(f, "event `{name}` of key `{}` ({id})", key.escape_ascii()),
            None => write!(f, "event `{name}` ({id})"),
        }
    }
}
