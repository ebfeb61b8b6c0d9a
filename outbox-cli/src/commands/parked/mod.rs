//! `outbox parked`.

mod rows;

use clap::{Args, Subcommand};
use outbox::admin::{ParkedEvent, ParkedFilter};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;
use uuid::Uuid;

use rows::{Details, EventRow, GroupBy, GroupRow, everything};

use crate::confirm::Confirm;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::counted;
use crate::values;

/// Events that are in memory at a time.
const PAGE: u32 = 500;

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
