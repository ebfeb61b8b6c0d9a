//! The spans `send {topic}` of a batch.

use std::borrow::Cow;

use tracing::{Span, field};

use super::{Batch, DeliveryReport};
use crate::error::OutboxError;
use crate::observe::target;
use crate::record::{EventRecord, StoredEvent, TRACEPARENT, readable_key};
use crate::trace::{Relation, Tracing, is_sampled};

/// Most links of a span. A batch may have some thousand events.
const MOST_LINKS: usize = 32;
/// Most topics of a batch that have a span of their own. The others have one in common.
const MOST_TOPICS: usize = 32;

/// One span for each topic of a batch. Dropped, they end without a result.
pub(crate) struct SendSpans(Vec<SendSpan>);

struct SendSpan {
    /// Indexes of its events.
    places: Vec<usize>,
    span: Span,
}

/// The events of one topic in a batch. Without a topic: those of all further ones.
struct OfTopic<'e> {
    topic: Option<&'e str>,
    places: Vec<usize>,
}

impl SendSpans {
    /// Begins the spans of a batch; none if tracing is off. `system`: where to it is sent.
    /// `on_brokers`: the name of a topic there.
    pub(crate) fn open<'e>(
        batch: &Batch<'e>,
        system: &'static str,
        on_brokers: impl Fn(&'e str) -> Cow<'e, str>,
    ) -> Self {
        if !batch.tracing.is_on() {
            return Self(Vec::new());
        }
        let spans = by_topic(batch.events).into_iter().map(|of_topic| {
            let topic = of_topic.topic.map(&on_brokers);
            let events = Events { all: batch.events, places: &of_topic.places };
            let span = events.span(system, topic.as_deref());
            events.relate(&span, batch.tracing);
            SendSpan { places: of_topic.places, span }
        });
        Self(spans.collect())
    }

    /// Ends the spans, with the first failure of their events if there is one. `error_type`: what a
    /// refusal is called at the broker.
    pub(crate) fn close(
        self,
        reports: &[DeliveryReport],
        error_type: impl Fn(&OutboxError) -> Option<String>,
    ) {
        for SendSpan { places, span } in self.0 {
            let mut of_topic = places.iter().filter_map(|place| reports.get(*place));
            if let Some(failed) = of_topic.find(|report| !report.is_delivered()) {
                let error = match failed {
                    DeliveryReport::Refused(error)
                    | DeliveryReport::EventRefused(error)
                    | DeliveryReport::TopicRefused(error) => error_type(error),
                    DeliveryReport::Delivered | DeliveryReport::NotSent => None,
                };
                span.record("error.type", error.as_deref().unwrap_or_else(|| kind(failed)));
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", failed.to_string());
            }
        }
    }
}

/// What became of an event, if the broker has no name for it.
fn kind(report: &DeliveryReport) -> &'static str {
    match report {
        DeliveryReport::Delivered => "_OTHER",
        DeliveryReport::Refused(_) => "refused",
        DeliveryReport::EventRefused(_) => "event_refused",
        DeliveryReport::TopicRefused(_) => "topic_refused",
        DeliveryReport::NotSent => "not_sent",
    }
}

/// The events of a batch, by their topics.
fn by_topic(events: &[StoredEvent]) -> Vec<OfTopic<'_>> {
    let mut topics = Vec::<OfTopic<'_>>::new();
    for (place, event) in events.iter().enumerate() {
        let topic = &*event.record.topic;
        let known = topics.iter().position(|of| of.topic == Some(topic));
        let of_topic = known.unwrap_or_else(|| {
            let is_full = topics.len() >= MOST_TOPICS;
            if topics.len() <= MOST_TOPICS {
                topics.push(OfTopic { topic: (!is_full).then_some(topic), places: Vec::new() });
            }
            topics.len() - 1
        });
        topics[of_topic].places.push(place);
    }
    topics
}

/// Some events of a batch.
struct Events<'e> {
    all: &'e [StoredEvent],
    places: &'e [usize],
}

impl<'e> Events<'e> {
    fn records(&self) -> impl Iterator<Item = &'e EventRecord> {
        self.places.iter().filter_map(|place| self.all.get(*place)).map(|event| &event.record)
    }

    fn span(&self, system: &'static str, topic: Option<&str>) -> Span {
        let one = self.records().next().filter(|_| self.places.len() == 1);
        tracing::info_span!(
            target: target::TRACE,
            parent: None,
            "send",
            otel.name = topic.map_or_else(|| "send".to_owned(), |topic| format!("send {topic}")),
            otel.kind = "client",
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
            messaging.system = system,
            messaging.operation.name = "send",
            "messaging.operation.type" = "send",
            messaging.destination.name = topic,
            messaging.batch.message_count = self.places.len() as i64,
            messaging.message.id = one.map(|record| field::display(record.id)),
            messaging.kafka.message.key =
                one.and_then(|record| record.key.as_deref()).map(readable_key),
            outbox.event.name = one.map(|record| &*record.name),
            "error.type" = field::Empty,
        )
    }

    /// Links the span to the creation contexts of its events. If they have one in common, that is
    /// its parent as well: then one trace shows all that became of a request.
    fn relate(&self, span: &Span, tracing: &Tracing) {
        let relate = |record: &EventRecord, relation| {
            tracing.relate(span, &|name| record.headers.get(name), relation)
        };
        if let Some(record) = self.in_common() {
            relate(record, Relation::Parent);
        }
        for record in self.to_link() {
            relate(record, Relation::Link);
        }
    }

    /// An event whose creation context is that of all others.
    fn in_common(&self) -> Option<&'e EventRecord> {
        let first = self.records().next()?;
        let traceparent = first.headers.get(TRACEPARENT);
        let is_alone = self.places.len() == 1;
        let agree = || self.records().all(|other| other.headers.get(TRACEPARENT) == traceparent);
        (is_alone || traceparent.is_some() && agree()).then_some(first)
    }

    /// Events with different creation contexts, as many as there are links. Those whose traces are
    /// recorded come first.
    fn to_link(&self) -> Vec<&'e EventRecord> {
        let (mut recorded, mut others) = (Vec::new(), Vec::new());
        for record in self.records() {
            let traceparent = record.headers.get(TRACEPARENT);
            let links =
                if traceparent.is_some_and(is_sampled) { &mut recorded } else { &mut others };
            let is_new = |known: &&EventRecord| {
                traceparent.is_none() || known.headers.get(TRACEPARENT) != traceparent
            };
            let has_headers = record.headers.iter().next().is_some();
            if links.len() < MOST_LINKS && has_headers && links.iter().all(is_new) {
                links.push(record);
            }
            if recorded.len() == MOST_LINKS {
                break;
            }
        }
        recorded.extend(others);
        recorded.truncate(MOST_LINKS);
        recorded
    }
}
