//! `outbox events list`.

use std::time::SystemTime;

use outbox::admin::{EventFilter, ListedEvent};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;

use super::{State, word};
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::{self, ABSENT};
use crate::{times, values};

/// List events, the newest first
///
/// Without a key, it reads from the newest event backwards until it has found enough. Events whose
/// space was reclaimed are gone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of which this became
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those on this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only those with this name, such as order.created
    #[arg(long)]
    name: Option<String>,
    /// Only those with this key: the fastest to find
    #[arg(long)]
    key: Option<String>,
    /// Only those that occurred then or later: a time, or how long ago, such as 5m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    since: Option<SystemTime>,
    /// Only those that occurred before
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    until: Option<SystemTime>,
    /// Only those with a lower number: what comes after the last one of a list
    #[arg(long, value_name = "SEQ")]
    before: Option<i64>,
    /// The most to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    with_outbox!(context.outbox().await?, outbox => listed(args, context, &outbox).await)
}

async fn listed<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
) -> Result<(), Failure> {
    let events = outbox.list_events(&args.filter(), args.before, args.limit).await?;
    if events.is_empty() && !context.output.is_for_programs() {
        context.output.say("no such event is in the outbox");
    }
    context.output.list(events.iter().map(EventRow::new))
}

impl Args {
    fn filter(&self) -> EventFilter {
        let mut filter = EventFilter::all();
        if let Some(state) = self.state {
            filter = filter.state(state.into());
        }
        if let Some(topic) = &self.topic {
            filter = filter.topic(topic);
        }
        if let Some(name) = &self.name {
            filter = filter.name(name);
        }
        if let Some(key) = &self.key {
            filter = filter.key(key.as_bytes());
        }
        if let Some(since) = self.since {
            filter = filter.occurred_from(since);
        }
        if let Some(until) = self.until {
            filter = filter.occurred_before(until);
        }
        filter
    }
}

/// What programs read.
#[derive(Debug, Serialize)]
struct EventRow {
    seq: i64,
    id: String,
    state: &'static str,
    lane: i16,
    topic: String,
    key: Option<String>,
    name: String,
    version: u32,
    occurred_at: Option<String>,
    bytes: u64,
    #[serde(skip)]
    age: String,
}

impl EventRow {
    fn new(event: &ListedEvent) -> Self {
        Self {
            seq: event.seq,
            id: event.id.to_string(),
            state: word(event.state),
            lane: event.lane.number(),
            topic: event.topic.clone(),
            key: event.key.as_deref().map(text::readable),
            name: event.name.clone(),
            version: event.version,
            occurred_at: event.occurred_at.and_then(times::exact),
            bytes: event.bytes,
            age: event
                .occurred_at
                .map_or_else(|| ABSENT.to_owned(), |at| times::short(times::age(at))),
        }
    }
}

impl Row for EventRow {
    const COLUMNS: &'static [&'static str] = &["ID", "STATE", "TOPIC", "KEY", "NAME", "AGE"];
    const WIDE: &'static [&'static str] = &["SEQ", "LANE", "VERSION", "BYTES", "OCCURRED"];

    fn cells(&self) -> Vec<String> {
        let or_absent = |text: Option<&String>| text.cloned().unwrap_or_else(|| ABSENT.to_owned());
        vec![
            self.id.clone(),
            self.state.to_owned(),
            text::one_line(&self.topic),
            text::key(self.key.as_deref().map(str::as_bytes)),
            text::one_line(&self.name),
            self.age.clone(),
            self.seq.to_string(),
            self.lane.to_string(),
            self.version.to_string(),
            self.bytes.to_string(),
            or_absent(self.occurred_at.as_ref()),
        ]
    }
}
