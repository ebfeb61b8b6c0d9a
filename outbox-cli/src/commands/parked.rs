//! `outbox parked`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use outbox::admin::{ParkedEvent, ParkedFilter, ParkedGroup, ParkedGrouping};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;
use uuid::Uuid;

use crate::confirm::Confirm;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::{self, ABSENT, counted, one_line, shortened, text_or_hex};
use crate::{times, values};

/// Events that are in memory at a time.
const PAGE: u32 = 500;
/// Most characters of a reason in a table.
const LONGEST_REASON: usize = 100;

/// Events that Kafka refused: list, show, release or discard them
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them: those of a topic and key are together, in their order
    List {
        #[command(flatten)]
        filter: Filter,
        /// Counts them instead, by what they have in common
        #[arg(long, value_enum, value_name = "WHAT")]
        group_by: Option<GroupBy>,
        /// Most events to list; 0 for all
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u64,
    },
    /// Print everything that is known of some: the reason, headers and payload
    Show {
        /// Their ids
        #[arg(value_parser = values::event_id, required = true, value_name = "ID")]
        ids: Vec<Uuid>,
    },
    /// Have a relay try some again at once, in order
    ///
    /// All parked events of the same topic and key are released with them, so that they stay in
    /// order. What is refused again is parked again.
    Release(Release),
    /// Give some up for good: they are not published
    ///
    /// The events behind a discarded one continue when they are tried again.
    Discard {
        /// Their ids
        #[arg(value_parser = values::event_id, required = true, value_name = "ID")]
        ids: Vec<Uuid>,
        /// Discards also those that were not refused, but wait behind another one
        #[arg(long)]
        even_if_they_wait: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// Which parked events: those that meet all conditions.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only those on this topic, as the events declare it
    #[arg(long)]
    topic: Option<String>,
    /// Only those with this key
    #[arg(long)]
    key: Option<String>,
    /// Only those with this name
    #[arg(long)]
    name: Option<String>,
    /// Only those refused for a reason like this; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct Which {
    /// Their ids
    #[arg(value_parser = values::event_id, value_name = "ID", group = "which", conflicts_with = "all")]
    ids: Vec<Uuid>,
    /// Those on this topic, as the events declare it
    #[arg(long, group = "which", conflicts_with = "all")]
    topic: Option<String>,
    /// Those with this key
    #[arg(long, group = "which", conflicts_with = "all")]
    key: Option<String>,
    /// Those with this name
    #[arg(long, group = "which", conflicts_with = "all")]
    name: Option<String>,
    /// Those refused for a reason like this; `*` stands for any characters
    #[arg(long, value_name = "PATTERN", group = "which", conflicts_with = "all")]
    reason: Option<String>,
    /// All of them
    #[arg(long, group = "which")]
    all: bool,
}

#[derive(Debug, Args)]
pub struct Release {
    #[command(flatten)]
    which: Which,
    /// Says how many events these are, and does nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    Reason,
    Topic,
    Key,
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    with_outbox!(context.outbox().await?, outbox => match command {
        Command::List { filter, group_by: Some(by), .. } => {
            let groups = outbox.parked_groups(&filter.filter(), by.grouping()).await?;
            context.output.list(groups.iter().map(|group| GroupRow::new(group, *by)))
        }
        Command::List { filter, limit, .. } => list(&outbox, context, &filter.filter(), *limit).await,
        Command::Show { ids } => show(&outbox, context, ids).await,
        Command::Release(args) => release(&outbox, context, args).await,
        Command::Discard { ids, even_if_they_wait, confirm } => {
            let is_to_be_done = confirm.is_to_be_done("gives up events for good")?;
            discard(&outbox, context, ids, is_to_be_done.then_some(*even_if_they_wait)).await
        }
    })
}

async fn list<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    context: &Context,
    filter: &ParkedFilter,
    limit: u64,
) -> Result<(), Failure> {
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut rows = context.output.list_of::<EventRow>();
    let mut last: Option<ParkedEvent> = None;
    while left > 0 {
        let at_most = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let mut page = outbox.parked_where(filter, last.as_ref(), at_most).await?;
        for event in &page {
            rows.push(&EventRow::new(event))?;
        }
        left -= page.len() as u64;
        last = page.pop();
        if last.is_none() {
            break;
        }
    }
    rows.end()?;
    if left == 0 && !context.output.is_for_programs() {
        context.output.say(format!(
            "the first {limit}: `--limit 0` lists all, `--group-by reason` counts them"
        ));
    }
    Ok(())
}

async fn show<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    context: &Context,
    ids: &[Uuid],
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for id in ids {
        let found = outbox.parked_where(&ParkedFilter::all().ids([*id]), None, 1).await?;
        match found.first() {
            None => missing.push(id.to_string()),
            Some(event) => context.output.one(&Details::new(event), || everything(event))?,
        }
    }
    none_is(&missing)
}

fn none_is(missing: &[String]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "not parked: {}. It may have been published or discarded: `outbox events show` says where an event is",
        missing.join(", ")
    )))
}

async fn release<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    context: &Context,
    args: &Release,
) -> Result<(), Failure> {
    let filter = args.which.filter();
    let events = if args.dry_run {
        outbox.count_parked(&filter).await?
    } else {
        outbox.release_parked_where(&filter).await?
    };
    let report = Released { events, done: !args.dry_run };
    context.output.one(&report, || {
        if args.dry_run {
            format!(
                "{} would be released, with the others of the same topic and key",
                counted(events, "event")
            )
        } else {
            format!("released {}", counted(events, "event"))
        }
    })
}

/// `insist`: whether it is done, and then also with those that wait.
async fn discard<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    context: &Context,
    ids: &[Uuid],
    insist: Option<bool>,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    let mut rows = context.output.list_of::<Discarded>();
    for id in ids {
        let is_parked = match insist {
            Some(true) => outbox.discard_parked_even_if_it_waits(*id).await,
            Some(false) => outbox.discard_parked(*id).await,
            None => {
                let filter = ParkedFilter::all().ids([*id]);
                outbox.count_parked(&filter).await.map(|count| count > 0)
            }
        };
        match is_parked {
            Ok(true) => rows.push(&Discarded { id: *id, discarded: insist.is_some() })?,
            Ok(false) => missing.push(id.to_string()),
            Err(error) => {
                // What was done before it is printed in any case.
                rows.end()?;
                return Err(error.into());
            }
        }
    }
    rows.end()?;
    none_is(&missing)
}

impl Filter {
    fn filter(&self) -> ParkedFilter {
        let Self { topic, key, name, reason } = self;
        narrowed(ParkedFilter::all(), topic, key, name, reason)
    }
}

impl Which {
    fn filter(&self) -> ParkedFilter {
        let Self { ids, topic, key, name, reason, .. } = self;
        let all = ParkedFilter::all();
        let of_ids = if ids.is_empty() { all } else { all.ids(ids.iter().copied()) };
        narrowed(of_ids, topic, key, name, reason)
    }
}

fn narrowed(
    mut filter: ParkedFilter,
    topic: &Option<String>,
    key: &Option<String>,
    name: &Option<String>,
    reason: &Option<String>,
) -> ParkedFilter {
    if let Some(topic) = topic {
        filter = filter.topic(topic);
    }
    if let Some(key) = key {
        filter = filter.key(key.as_bytes());
    }
    if let Some(name) = name {
        filter = filter.name(name);
    }
    if let Some(reason) = reason {
        filter = filter.reason(reason);
    }
    filter
}

impl GroupBy {
    fn grouping(self) -> ParkedGrouping {
        match self {
            Self::Reason => ParkedGrouping::Reason,
            Self::Topic => ParkedGrouping::Topic,
            Self::Key => ParkedGrouping::Key,
        }
    }
}

#[derive(Debug, Serialize)]
struct Released {
    events: u64,
    done: bool,
}

#[derive(Debug, Serialize)]
struct Discarded {
    id: Uuid,
    discarded: bool,
}

impl Row for Discarded {
    const COLUMNS: &'static [&'static str] = &["ID", "DISCARDED"];

    fn cells(&self) -> Vec<String> {
        let done = if self.discarded { "yes" } else { "no, a preview" };
        vec![self.id.to_string(), done.to_owned()]
    }
}

/// A parked event in a list.
#[derive(Debug, Serialize)]
struct EventRow {
    id: Uuid,
    topic: String,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    name: String,
    version: u32,
    lane: i16,
    seq: i64,
    attempts: u32,
    reason: Option<String>,
    waits_behind: Option<Uuid>,
    occurred_at: Option<String>,
    since: Option<String>,
}

impl EventRow {
    fn new(parked: &ParkedEvent) -> Self {
        let (key, key_hex) = text_or_hex(parked.event.key.as_deref());
        Self {
            id: parked.event.id,
            topic: parked.event.topic.to_string(),
            key,
            key_hex,
            name: parked.event.name.to_string(),
            version: parked.event.version,
            lane: parked.lane.number(),
            seq: parked.seq,
            attempts: parked.attempts,
            reason: parked.reason.clone(),
            waits_behind: parked.waits_behind,
            occurred_at: times::exact(parked.event.occurred_at),
            since: times::exact(parked.since),
        }
    }
}

impl Row for EventRow {
    const COLUMNS: &'static [&'static str] = &["ID", "TOPIC", "KEY", "EVENT", "ATTEMPTS", "REASON"];
    const WIDE: &'static [&'static str] = &["LANE", "SEQ", "OCCURRED", "SINCE"];

    fn cells(&self) -> Vec<String> {
        let absent = || ABSENT.to_owned();
        let hex = self.key_hex.as_ref().map(|hex| format!("0x{hex}"));
        let key = self.key.clone().or(hex);
        let reason = match (&self.reason, &self.waits_behind) {
            (Some(reason), _) => shortened(&one_line(reason), LONGEST_REASON),
            (None, Some(first)) => format!("waits behind {first}"),
            (None, None) => absent(),
        };
        vec![
            self.id.to_string(),
            one_line(&self.topic),
            text::key(key.as_deref().map(str::as_bytes)),
            format!("{} v{}", one_line(&self.name), self.version),
            self.attempts.to_string(),
            reason,
            self.lane.to_string(),
            self.seq.to_string(),
            self.occurred_at.clone().unwrap_or_else(absent),
            self.since.clone().unwrap_or_else(absent),
        ]
    }
}

/// All that is known of one, for programs.
#[derive(Debug, Serialize)]
struct Details {
    #[serde(flatten)]
    event: EventRow,
    content_type: String,
    headers: BTreeMap<String, String>,
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl Details {
    fn new(parked: &ParkedEvent) -> Self {
        let (payload, payload_hex) = text_or_hex(parked.event.payload.as_deref());
        Self {
            event: EventRow::new(parked),
            content_type: parked.event.content_type.to_string(),
            headers: headers(parked),
            payload,
            payload_hex,
        }
    }
}

fn headers(parked: &ParkedEvent) -> BTreeMap<String, String> {
    let headers = parked.event.headers.iter();
    headers.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// All that is known of one, for people.
fn everything(parked: &ParkedEvent) -> String {
    let event = &parked.event;
    let absent = || ABSENT.to_owned();
    let mut shown = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(shown, "{name:<14}{value}");
    };
    line("id", &event.id.to_string());
    line("event", &format!("{} v{}", one_line(&event.name), event.version));
    line("topic", &one_line(&event.topic));
    line("key", &event.key.as_deref().map_or_else(absent, |key| one_line(&text::readable(key))));
    line("lane, seq", &format!("{}, {}", parked.lane.number(), parked.seq));
    line("attempts", &parked.attempts.to_string());
    line("reason", &parked.reason.as_deref().map_or_else(absent, one_line));
    line("waits behind", &parked.waits_behind.map_or_else(absent, |id| id.to_string()));
    line("occurred", &times::exact(event.occurred_at).unwrap_or_else(absent));
    line("parked", &times::exact(parked.since).unwrap_or_else(absent));
    for (name, value) in headers(parked) {
        line("header", &format!("{}: {}", one_line(&name), one_line(&value)));
    }
    match event.payload.as_deref() {
        None => line("payload", "none, a tombstone"),
        Some(payload) => {
            line(
                "payload",
                &format!("{} bytes of {}", payload.len(), one_line(&event.content_type)),
            );
            for of_payload in text::readable(payload).lines() {
                let _ = writeln!(shown, "  {}", one_line(of_payload));
            }
        }
    }
    shown
}

/// Parked events that have something in common.
#[derive(Debug, Serialize)]
struct GroupRow {
    events: u64,
    keys: u64,
    oldest: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    what: String,
}

impl GroupRow {
    fn new(group: &ParkedGroup, by: GroupBy) -> Self {
        let (key, key_hex) = text_or_hex(group.key.as_deref());
        let topic = group.topic.as_deref().map(one_line);
        let what = match by {
            GroupBy::Topic => topic.unwrap_or_default(),
            GroupBy::Key => {
                format!("{} {}", topic.unwrap_or_default(), text::key(group.key.as_deref()))
            }
            GroupBy::Reason => match &group.reason {
                Some(reason) => shortened(&one_line(reason), LONGEST_REASON),
                None => "waits behind another event of its key".to_owned(),
            },
        };
        Self {
            events: group.events,
            keys: group.keys,
            oldest: group.oldest.and_then(times::exact),
            topic: group.topic.clone(),
            key,
            key_hex,
            reason: group.reason.clone(),
            what,
        }
    }
}

impl Row for GroupRow {
    const COLUMNS: &'static [&'static str] = &["EVENTS", "KEYS", "OLDEST", "GROUP"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.events.to_string(),
            self.keys.to_string(),
            self.oldest.clone().unwrap_or_else(|| ABSENT.to_owned()),
            self.what.clone(),
        ]
    }
}
