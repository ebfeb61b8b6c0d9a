//! One delivery: begin, inbox, handler, commit.

use std::collections::{BTreeSet, HashMap};
use std::str::FromStr;
use std::time::SystemTime;

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::failure::Failure;
use super::handler::{AnyHandler, EventContext, HandleError};
use crate::error::{ErrorKind, OutboxError};
use crate::event::Headers;
use crate::outbox::Outbox;
use crate::publish::kafka::{CE_ID, CE_TIME, CE_TYPE, CE_VERSION};
use crate::record::TRACEPARENT;
use crate::store::OutboxDatabase;

/// Which handler takes which event.
pub(super) struct Routes<DB: OutboxDatabase> {
    handlers: Vec<Box<dyn AnyHandler<DB>>>,
    /// (topic, name, version) → handler.
    by_event: HashMap<(&'static str, &'static str, u32), usize>,
    /// (topic, name) of which some version has a handler.
    names: BTreeSet<(&'static str, &'static str)>,
}

impl<DB: OutboxDatabase> Routes<DB> {
    pub(super) fn new(handlers: Vec<Box<dyn AnyHandler<DB>>>) -> Result<Self, OutboxError> {
        let mut by_event = HashMap::new();
        let mut names = BTreeSet::new();
        for (i, handler) in handlers.iter().enumerate() {
            for event in handler.descriptors() {
                names.insert((event.topic, event.name));
                if by_event.insert((event.topic, event.name, event.version), i).is_some() {
                    return Err(OutboxError::config(format!(
                        "two handlers take event `{}` version {} of topic `{}`: make it one, or use two groups",
                        event.name, event.version, event.topic
                    )));
                }
            }
        }
        if by_event.is_empty() {
            return Err(OutboxError::config("a consumer without handlers: add one with `.handler(…)`"));
        }
        Ok(Self { handlers, by_event, names })
    }

    pub(super) fn topics(&self) -> BTreeSet<&'static str> {
        self.names.iter().map(|(topic, _)| *topic).collect()
    }

    fn find(&self, context: &EventContext) -> Option<&dyn AnyHandler<DB>> {
        let route = self.by_event.get(&(context.topic.as_str(), context.name.as_str(), context.version))?;
        Some(&*self.handlers[*route])
    }
}

/// What a delivery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The handler's changes are committed.
    Handled,
    /// The inbox knew it: nothing was changed.
    Duplicate,
    /// No handler is for events of this name.
    NotForUs,
}

/// Handles one message, once, in one transaction.
pub(super) async fn deliver<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    group: &str,
    routes: &Routes<DB>,
    message: &BorrowedMessage<'_>,
    attempt: u32,
) -> Result<Delivered, Failure> {
    let context = event_context(message, attempt)?;
    let Some(handler) = routes.find(&context) else {
        if routes.names.contains(&(&context.topic, &context.name)) {
            return Err(undecodable(
                &context.place(),
                format!(
                    "no handler takes version {} of event `{}`: deploy one that does",
                    context.version, context.name
                ),
            ));
        }
        return Ok(Delivered::NotForUs);
    };

    let mut tx = outbox.begin().await.map_err(database)?;
    let names = &outbox.settings().names;
    if !DB::insert_inbox(&mut tx, names, group, context.id).await.map_err(|error| database(error.into()))? {
        tx.rollback().await.map_err(database)?;
        return Ok(Delivered::Duplicate);
    }
    tx.set_traceparent(context.headers.get(TRACEPARENT).map(str::to_owned));
    let payload = message.payload().unwrap_or_default();
    match handler.handle(&mut tx, payload, &context).await {
        Ok(()) => {
            tx.commit().await.map_err(database)?;
            Ok(Delivered::Handled)
        }
        Err(HandleError::Failed(error)) => Err(Failure::Retry(error)),
        Err(HandleError::Undecodable(error)) => Err(undecodable(
            &context.place(),
            format!(
                "the payload of event `{}` version {} cannot be decoded ({error})",
                context.name, context.version
            ),
        )),
    }
}

impl EventContext {
    fn place(&self) -> String {
        place(&self.topic, self.partition, self.offset)
    }
}

fn place(topic: &str, partition: i32, offset: i64) -> String {
    format!("topic `{topic}`, partition {partition}, offset {offset}")
}

/// A database that is away is waited for; tables that are missing are not.
fn database(error: OutboxError) -> Failure {
    match error.kind() {
        ErrorKind::NotMigrated => Failure::Stop(error),
        _ => Failure::Retry(error.into()),
    }
}

fn undecodable(place: &str, why: String) -> Failure {
    Failure::Stop(OutboxError::new(
        ErrorKind::Deserialize,
        format!(
            "{place}: {why}. The consumer stopped there and skipped nothing; it goes on at this event when it is \
             started again"
        ),
    ))
}

fn event_context(message: &BorrowedMessage<'_>, attempt: u32) -> Result<EventContext, Failure> {
    let headers: Headers = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .filter_map(|header| {
            Some((header.key.to_owned(), std::str::from_utf8(header.value?).ok()?.to_owned()))
        })
        .collect();
    let place = place(message.topic(), message.partition(), message.offset());
    let not_ours = |name: &str| {
        undecodable(
            &place,
            format!("the header `{name}` is missing or malformed: no outbox wrote this message"),
        )
    };
    fn parsed<T: FromStr>(headers: &Headers, name: &str) -> Option<T> {
        headers.get(name)?.parse().ok()
    }
    Ok(EventContext {
        id: parsed::<Uuid>(&headers, CE_ID).ok_or_else(|| not_ours(CE_ID))?,
        name: parsed(&headers, CE_TYPE).ok_or_else(|| not_ours(CE_TYPE))?,
        version: parsed(&headers, CE_VERSION).ok_or_else(|| not_ours(CE_VERSION))?,
        occurred_at: headers
            .get(CE_TIME)
            .and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok())
            .map(SystemTime::from),
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        attempt,
    })
}
