//! Which statements a future has run, as sqlx logs them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

/// sqlx logs each statement to this target when it ends, and when it is given up.
const TARGET: &str = "sqlx::query";
/// Most characters of a statement that are shown.
const LONGEST: usize = 120;

/// Sees the statements of what runs in it, and passes all log lines on.
pub(super) struct Statements {
    dispatch: Dispatch,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Statements {
    pub(super) fn new() -> Self {
        let seen = Arc::default();
        let next = dispatcher::get_default(Dispatch::clone);
        Self { dispatch: Dispatch::new(Seeing { next, seen: Arc::clone(&seen) }), seen }
    }

    /// Runs what may run statements.
    pub(super) fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&self.dispatch, run)
    }

    /// Those that were logged since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Seeing {
    next: Dispatch,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Seeing {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked again at each line: the answer of `next` may be for its own target only.
        _ = self.next.register_callsite(metadata);
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.next.enabled(metadata) || metadata.target() == TARGET
    }

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == TARGET {
            let mut statement = Statement::default();
            event.record(&mut statement);
            // A ping is an empty one.
            if let Some(shown) = statement.shown() {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
            }
        }
        if self.next.enabled(event.metadata()) {
            self.next.event(event);
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.next.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.next.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.next.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.next.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.next.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.next.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.next.try_close(id)
    }
}

/// The fields of sqlx's log line: the statement's first words, and all of it if it has more.
#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
}

impl Statement {
    fn shown(&self) -> Option<String> {
        let text = if self.whole.trim().is_empty() { &self.summary } else { &self.whole };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("`{}…`", &text[..end]),
            None => format!("`{text}`"),
        };
        (!text.is_empty()).then_some(shown)
    }
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
