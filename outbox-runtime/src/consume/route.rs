//! Decides which handler takes which event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use outbox_event::EventDescriptor;
use uuid::Uuid;

use super::context::Named;
use super::erased::AnyHandler;
use super::message::{History, Message};
use super::options::HandlerOptions;
use super::retry_schedule::LaterEvents;
use crate::error::OutboxError;
#[cfg(feature = "kafka")]
use crate::observe::HandledEvent;
use crate::record::CE_TYPE;
use crate::store::OutboxDatabase;

pub(crate) struct Routes<DB: OutboxDatabase> {
    handlers: Vec<Box<dyn AnyHandler<DB>>>,
    /// topic → its routes.
    topics: BTreeMap<&'static str, OfTopic>,
    /// Whether events of any handler may share a transaction.
    #[cfg(feature = "kafka")]
    pub(super) share: bool,
}

#[derive(Default)]
struct OfTopic {
    /// name → the handlers of its versions, also of those that they convert to their own.
    names: HashMap<&'static str, BTreeMap<u32, usize>>,
    /// Handler of messages that no outbox wrote, with the name and version they are given.
    foreign: Option<(usize, &'static str, u32)>,
    /// Whether all its events wait for an earlier one of their key in a retry topic. The order of a
    /// key is one rule for all handlers of the topic, the strictest.
    keeps_order: bool,
}

/// The handler of a message, if there is one.
pub(crate) enum Route<'r, DB: OutboxDatabase> {
    Handler(&'r dyn AnyHandler<DB>, Named<'r>),
    /// No handler takes events of this name: they are for other consumers.
    NoHandler,
    /// No outbox wrote it, and no handler takes such messages.
    NotAnEvent,
}

/// A message that was delivered, with what has happened to it, and its handler.
pub(crate) struct Incoming<'m, DB: OutboxDatabase> {
    pub(crate) message: &'m Message,
    pub(crate) history: History,
    pub(crate) route: Route<'m, DB>,
    /// Id by which the event is recognised, if it has anything to be recognised by.
    pub(crate) id: Option<Uuid>,
}

impl<DB: OutboxDatabase> Incoming<'_, DB> {
    /// Options of its handler, or the defaults.
    pub(crate) fn options(&self) -> HandlerOptions {
        match &self.route {
            Route::Handler(handler, _) => *handler.options(),
            Route::NoHandler | Route::NotAnEvent => HandlerOptions::new(),
        }
    }

    /// What it is called in metrics.
    #[cfg(feature = "kafka")]
    pub(crate) fn in_metrics(&self) -> HandledEvent<'_> {
        match &self.route {
            Route::Handler(_, named) => HandledEvent { topic: named.topic, name: Some(named.name) },
            Route::NoHandler | Route::NotAnEvent => {
                HandledEvent { topic: &self.history.topic, name: None }
            }
        }
    }

    /// Name of its handler, if it has one.
    pub(crate) fn handler_name(&self) -> Option<&str> {
        match &self.route {
            Route::Handler(handler, _) => Some(handler.name()),
            Route::NoHandler | Route::NotAnEvent => None,
        }
    }
}

impl<DB: OutboxDatabase> Routes<DB> {
    pub(crate) fn new(handlers: Vec<Box<dyn AnyHandler<DB>>>) -> Result<Self, OutboxError> {
        let mut topics = BTreeMap::new();
        for i in 0..handlers.len() {
            add_routes(&mut topics, &handlers, i)?;
        }
        if topics.is_empty() {
            return Err(OutboxError::config(
                "a consumer without handlers: add one with `.handler(…)`",
            ));
        }
        route_older_versions(&mut topics, &handlers);
        for (topic, of_topic) in &mut topics {
            of_topic.keeps_order = Self::one_rule(topic, of_topic, &handlers)?;
        }
        Ok(Self {
            #[cfg(feature = "kafka")]
            share: handlers.iter().any(|handler| handler.options().shared_transaction > 1),
            handlers,
            topics,
        })
    }

    /// The same with another handler.
    pub(crate) fn with(mut self, handler: Box<dyn AnyHandler<DB>>) -> Result<Self, OutboxError> {
        self.handlers.push(handler);
        Self::new(self.handlers)
    }

    /// Whether the keys of a topic are kept in order. An error if its handlers disagree.
    fn one_rule(
        topic: &str,
        of_topic: &OfTopic,
        handlers: &[Box<dyn AnyHandler<DB>>],
    ) -> Result<bool, OutboxError> {
        let taking: BTreeSet<usize> =
            of_topic.names.values().flat_map(BTreeMap::values).copied().collect();
        let saying = |later: LaterEvents| {
            let saying = taking.iter().map(|i| &*handlers[*i]).filter(move |handler| {
                handler.options().schedule.is_some_and(|schedule| schedule.later == later)
            });
            saying.map(|handler| format!("`{}`", handler.name())).collect::<Vec<_>>()
        };
        let (waiting, overtaking) = (saying(LaterEvents::Wait), saying(LaterEvents::Overtake));
        if waiting.is_empty() || overtaking.is_empty() {
            return Ok(!waiting.is_empty());
        }
        Err(OutboxError::config(format!(
            "the handlers of topic `{topic}` disagree on `later_events`: {} say \"wait\", and {} say \"overtake\". A key has \
             one order, whatever its events are called: let them agree, or give those that may overtake a group of their \
             own. Nothing was consumed",
            waiting.join(", "),
            overtaking.join(", ")
        )))
    }

    /// Whether the events of a topic wait for an earlier one of their key in a retry topic.
    pub(crate) fn keep_order(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|of_topic| of_topic.keeps_order)
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn topics(&self) -> BTreeSet<&'static str> {
        self.topics.keys().copied().collect()
    }

    /// The options of the handlers of this topic.
    #[cfg(feature = "kafka")]
    pub(crate) fn options_of(&self, topic: &str) -> impl Iterator<Item = &HandlerOptions> {
        let of_topic = self.topics.get(topic);
        let named = of_topic
            .into_iter()
            .flat_map(|of| of.names.values().flat_map(BTreeMap::values).copied());
        named.map(|i| self.handlers[i].options())
    }

    /// The topics and names of all events that have a handler.
    #[cfg(feature = "kafka")]
    pub(crate) fn events(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.topics.iter().flat_map(|(topic, of)| of.names.keys().map(|name| (*topic, *name)))
    }

    fn take_tombstones(&self, of_topic: &OfTopic) -> bool {
        let mut handlers = of_topic.names.values().flat_map(BTreeMap::values);
        handlers.any(|i| self.handlers[*i].takes_tombstones())
    }

    /// Finds the handler of a message, once for all its attempts.
    pub(crate) fn route<'m>(&'m self, message: &'m Message, history: History) -> Incoming<'m, DB> {
        let route = self.find(&history.topic, message);
        let mut incoming = Incoming { message, history, route, id: None };
        incoming.id = message.id(&incoming.history, incoming.options().foreign);
        incoming
    }

    /// The handler of a message that was first on `topic`.
    fn find<'r>(&'r self, topic: &str, message: &'r Message) -> Route<'r, DB> {
        let Some((&topic, of_topic)) = self.topics.get_key_value(topic) else {
            return Route::NoHandler;
        };
        // Whatever else is said of it, it is no message of another kind.
        if matches!(message.envelope(), Some(Err(_))) {
            return Route::NotAnEvent;
        }
        let Some((name, version)) = message.name() else {
            return self.find_nameless(topic, of_topic, message);
        };
        let Some(versions) = of_topic.names.get(name) else { return Route::NoHandler };
        // A version that no handler reads is refused by any of them: it may be the event of another
        // handler, but not of another group.
        let reads = versions.get(&version).or_else(|| versions.values().next_back());
        reads.map_or(Route::NoHandler, |i| {
            let named = Named { topic, name, version, foreign: false };
            Route::Handler(&*self.handlers[*i], named)
        })
    }

    /// The handler of a message that does not say which event it is.
    fn find_nameless(
        &self,
        topic: &'static str,
        of_topic: &OfTopic,
        message: &Message,
    ) -> Route<'_, DB> {
        let is_tombstone = message.payload().is_none();
        // Of a compacted topic: a key that is no more, and that no handler here asks about.
        if is_tombstone && !self.take_tombstones(of_topic) {
            return Route::NoHandler;
        }
        let foreign = of_topic.foreign.filter(|_| !message.has_header(CE_TYPE));
        let Some((i, name, version)) = foreign else { return Route::NotAnEvent };
        let handler = &*self.handlers[i];
        if is_tombstone && !handler.takes_tombstones() {
            return Route::NotAnEvent;
        }
        Route::Handler(handler, Named { topic, name, version, foreign: true })
    }
}

/// Adds the events of one handler, and the messages without headers, if it takes them.
fn add_routes<DB: OutboxDatabase>(
    topics: &mut BTreeMap<&'static str, OfTopic>,
    handlers: &[Box<dyn AnyHandler<DB>>],
    i: usize,
) -> Result<(), OutboxError> {
    let handler = &*handlers[i];
    if let Some(problem) = handler.options().problem() {
        return Err(OutboxError::config(format!(
            "the options of handler `{}` make no sense: {problem}. Nothing was consumed",
            handler.name()
        )));
    }
    let taken = taken(handler)?;
    for event in &taken {
        let of_topic = topics.entry(event.topic).or_default();
        let versions = of_topic.names.entry(event.name).or_default();
        match versions.insert(event.version, i) {
            Some(other) if other == i => return Err(two_variants(event, handler.name())),
            Some(other) => {
                return Err(two_handlers(event, handlers[other].name(), handler.name()));
            }
            None => {}
        }
    }
    let (Some(_), Some(event)) = (handler.options().foreign, taken.first()) else { return Ok(()) };
    let of_topic = topics.entry(event.topic).or_default();
    if of_topic.foreign.replace((i, event.name, event.version)).is_some() {
        return Err(OutboxError::config(format!(
            "two handlers take the messages without headers of topic `{}`: which of them is to have them?",
            event.topic
        )));
    }
    check_foreign(handler, &taken)
}

/// The events that a handler takes: those of its type, or those that it says.
fn taken<DB: OutboxDatabase>(
    handler: &dyn AnyHandler<DB>,
) -> Result<Vec<EventDescriptor>, OutboxError> {
    let all = handler.descriptors();
    let Some(only) = handler.options().only else { return Ok(all.to_vec()) };
    let unknown = only.iter().find(|name| all.iter().all(|event| event.name != **name));
    if let Some(unknown) = unknown {
        return Err(OutboxError::config(format!(
            "handler `{}` is to take only `{unknown}` (`only`), and its type has no event of that name. It has {}. Nothing was \
             consumed",
            handler.name(),
            names(all)
        )));
    }
    if only.is_empty() {
        return Err(OutboxError::config(format!(
            "handler `{}` takes no event: `only` has no name in it. Its type has {}. Nothing was consumed",
            handler.name(),
            names(all)
        )));
    }
    Ok(all.iter().filter(|event| only.contains(&event.name)).copied().collect())
}

fn names(events: &[EventDescriptor]) -> String {
    let names: BTreeSet<_> = events.iter().map(|event| format!("`{}`", event.name)).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn two_handlers(event: &EventDescriptor, one: &str, other: &str) -> OutboxError {
    let EventDescriptor { topic, name, version, .. } = event;
    OutboxError::config(format!(
        "two handlers take event `{name}` version {version} of topic `{topic}`: `{one}` and `{other}`. An event has one \
         handler in a group, and which of them is meant is not said. If they share an enum, let each say which of its events \
         it takes (`only`), or let each take the type of its own event; if both are to have it, give them two groups. Nothing \
         was consumed"
    ))
}

/// The derive finds two such variants, but not those of a generic enum or of `const` topics.
fn two_variants(event: &EventDescriptor, handler: &str) -> OutboxError {
    let EventDescriptor { topic, name, version, .. } = event;
    OutboxError::config(format!(
        "the type of handler `{handler}` is event `{name}` version {version} of topic `{topic}` in two variants: give one of \
         them another name or version. Nothing was consumed"
    ))
}

/// Refuses messages without headers where nothing tells which of several events they are.
fn check_foreign<DB: OutboxDatabase>(
    handler: &dyn AnyHandler<DB>,
    taken: &[EventDescriptor],
) -> Result<(), OutboxError> {
    if taken.len() < 2 || !handler.needs_name() {
        return Ok(());
    }
    Err(OutboxError::config(format!(
        "handler `{}` takes messages without headers (`foreign`), and nothing in them tells which of its events they are: {}. \
         Let a handler of one event take them, or say which one it is (`only`). Nothing was consumed",
        handler.name(),
        names(taken)
    )))
}

/// Adds the versions that handlers convert. A version that several handlers read goes to the one of
/// that version itself, or else to the one of the next version: the one that was there first.
fn route_older_versions<DB: OutboxDatabase>(
    topics: &mut BTreeMap<&'static str, OfTopic>,
    handlers: &[Box<dyn AnyHandler<DB>>],
) {
    let mut older = Vec::new();
    for (i, handler) in handlers.iter().enumerate() {
        for event in handler.older_versions() {
            let Some(versions) =
                topics.get(event.topic).and_then(|of_topic| of_topic.names.get(event.name))
            else {
                continue;
            };
            let mut own = versions.range(event.version..).filter(|(_, of)| **of == i);
            if let Some((own, _)) = own.next() {
                older.push((*own, event, i));
            }
        }
    }
    older.sort_by_key(|(own, ..)| *own);
    for (_, event, i) in older {
        let versions = topics.get_mut(event.topic).and_then(|of| of.names.get_mut(event.name));
        if let Some(versions) = versions {
            versions.entry(event.version).or_insert(i);
        }
    }
}
