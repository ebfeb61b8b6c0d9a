//! `outbox events show`: where is my event?

mod report;

use std::collections::BTreeSet;

use outbox::admin::{EventFilter, FoundEvent};
use outbox::consume::{DeadLetterFilter, DeadLetters, TopicSearch};
use outbox::event::EventRecord;
use outbox::{Outbox, OutboxDatabase};
use uuid::Uuid;

use report::{DeadLetterPlace, Places, Report};

use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// Where is my event?
///
/// Shows its rows in the outbox and what became of each, the relay of its lane, whether it is
/// parked, where it is on its topic, which consumer groups of this database have handled it, and
/// whether it is a dead letter. Kafka is asked if brokers are named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, as the header ce_id and the log have it
    #[arg(value_parser = values::event_id, value_name = "ID", required_unless_present = "key")]
    id: Option<Uuid>,
    /// The newest event with this key: faster than by the id, which no index has
    #[arg(long, conflicts_with = "id")]
    key: Option<String>,
    /// Only of this topic
    #[arg(long, requires = "key")]
    topic: Option<String>,
    /// Look for its dead letter of this consumer group, besides the groups that this database
    /// knows, and say if it has not handled it; several are allowed
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    with_outbox!(context.outbox().await?, outbox => shown(args, context, &outbox).await)
}

async fn shown<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
) -> Result<(), Failure> {
    let found = outbox.find_event(args.id(outbox).await?).await?;
    let mut report = Report::new(&found);
    report.groups(&outbox.groups_of_event(found.id).await?, &args.groups);
    let groups = args.groups_of(outbox, &report).await?;
    let mut failed = None;
    if let Some(event) = found.event.as_ref().filter(|_| context.names_brokers()) {
        // What the database knows is shown even if Kafka is away.
        failed = ask_kafka(context, event, &groups, &mut report).await.err();
        report.kafka_error = failed.as_ref().map(Failure::to_string);
    }
    if is_nowhere(&found, &report) {
        return Err(failed.unwrap_or_else(|| {
            Failure::failed(format!(
                "no event {} is in the outbox: its space was reclaimed, or it was never here. Are schema and prefix right?",
                found.id
            ))
        }));
    }
    context.output.one(&report, || report.text())?;
    failed.map_or(Ok(()), Err)
}

fn is_nowhere(found: &FoundEvent, report: &Report) -> bool {
    found.copies.is_empty()
        && found.parked.is_empty()
        && found.discarded.is_empty()
        && !report.knows_groups()
}

async fn ask_kafka(
    context: &Context,
    event: &EventRecord,
    groups: &BTreeSet<String>,
    report: &mut Report,
) -> Result<(), Failure> {
    let kafka = context.kafka()?;
    let search = TopicSearch::new(kafka.clone()).topic_prefix(context.topic_prefix());
    report.places = Some(Places::new(&search.find(event).await?));
    for group in groups {
        let letters = DeadLetters::builder(kafka.clone())
            .topic(event.topic.as_ref())
            .topic_prefix(context.topic_prefix())
            .group(group)
            .build()?;
        let open = letters.select(DeadLetterFilter::all().event_id(event.id)).await?;
        let topic = letters.dead_letter_topic();
        let places = open.ids().map(|id| DeadLetterPlace::new(group, &topic, &id.to_string()));
        report.dead_letters.extend(places);
    }
    Ok(())
}

impl Args {
    async fn id<DB: OutboxDatabase>(&self, outbox: &Outbox<DB>) -> Result<Uuid, Failure> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let key = self.key.as_deref().unwrap_or_default();
        let mut filter = EventFilter::all().key(key.as_bytes());
        if let Some(topic) = &self.topic {
            filter = filter.topic(topic);
        }
        let newest = outbox.list_events(&filter, None, 1).await?;
        newest.first().map(|event| event.id).ok_or_else(|| {
            Failure::failed("no event with this key is in the outbox: their space was reclaimed, or there were none")
        })
    }

    /// The groups whose dead letters are looked at.
    async fn groups_of<DB: OutboxDatabase>(
        &self,
        outbox: &Outbox<DB>,
        report: &Report,
    ) -> Result<BTreeSet<String>, Failure> {
        let known = outbox.inbox_stats().await?.into_iter().map(|stats| stats.group);
        let named = self.groups.iter().cloned().chain(report.named_groups());
        Ok(known.chain(named).collect())
    }
}
