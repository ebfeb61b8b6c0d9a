//! The span `process {topic}` of an attempt.

use tracing::{Span, field};

use super::attempt::{Attempted, Failure, Group, Interruption};
use super::route::{Incoming, Route};
use crate::observe::target;
use crate::record::{CE_TYPE, REPLAYED, readable_key};
use crate::store::OutboxDatabase;
use crate::trace::{Relation, of_message};

/// Begins the span of an attempt. None if tracing is off, or if no handler takes the event: nothing
/// is done with it then.
pub(super) fn process<DB: OutboxDatabase>(group: &Group<DB>, incoming: &Incoming<'_, DB>) -> Span {
    let tracing = &group.outbox.core().tracing;
    if !tracing.is_on() || matches!(incoming.route, Route::NoHandler) {
        return Span::none();
    }
    let message = incoming.message;
    let span = new_span(&group.name, incoming);
    let comes_again = incoming.history.from_retry_topic || message.kept;
    let relation = if comes_again || message.has_header(REPLAYED) {
        Relation::Link
    } else {
        group.first_delivery
    };
    tracing.relate(&span, &|name| of_message(name, |name| message.header(name)), relation);
    span
}

/// What the span says of a message: where it was read, as OpenTelemetry's conventions ask for, also
/// if that is a retry topic.
fn new_span<DB: OutboxDatabase>(group: &str, incoming: &Incoming<'_, DB>) -> Span {
    let message = incoming.message;
    tracing::info_span!(
        target: target::TRACE,
        parent: None,
        "process",
        otel.name = format!("process {}", message.topic),
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = message.topic,
        messaging.destination.partition.id = field::display(message.partition),
        messaging.consumer.group.name = group,
        messaging.message.id = incoming.id.map(field::display),
        messaging.kafka.message.key = message.key.as_deref().map(readable_key),
        messaging.kafka.message.tombstone = message.payload().is_none().then_some(true),
        messaging.kafka.offset = message.offset,
        outbox.event.name = message.header(CE_TYPE),
        outbox.handler = incoming.handler_name(),
        outbox.attempt = i64::from(incoming.history.attempts) + 1,
        outbox.outcome = field::Empty,
        "error.type" = field::Empty,
    )
}

/// Notes in the span of an attempt how it ended.
pub(super) fn ended(span: &Span, attempted: Result<Attempted, &Failure>) {
    if span.is_disabled() {
        return;
    }
    match attempted {
        Ok(attempted) => {
            span.record("outbox.outcome", outcome(attempted));
        }
        Err(failure) => {
            let (kind, error) = described(failure);
            span.record("error.type", kind);
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error);
        }
    }
}

fn outcome(attempted: Attempted) -> &'static str {
    match attempted {
        Attempted::Handled { .. } => "handled",
        Attempted::Duplicate => "duplicate",
        Attempted::NoHandler => "no_handler",
        Attempted::BehindAnother => "behind_another",
        Attempted::InRetryTopic => "in_retry_topic",
        Attempted::RolledBack => "rolled_back",
    }
}

/// A name of the failure's kind, and what it says.
pub(super) fn described(failure: &Failure) -> (&'static str, String) {
    match failure {
        Failure::DatabaseAway(error) => ("database_away", error.to_string()),
        Failure::Interrupted { by, error } => {
            let kind = match by {
                Interruption::BeforeHandler | Interruption::Conflict => "conflict",
                Interruption::LostConnection => "lost_connection",
            };
            (kind, error.clone())
        }
        Failure::Handler { class, error } => (class.as_str(), error.clone()),
        Failure::Undecodable(error) => ("undecodable", error.clone()),
        Failure::Fatal(error) => ("fatal", error.to_string()),
    }
}
