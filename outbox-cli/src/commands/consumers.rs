//! `outbox consumers`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use outbox::admin::WaitingKeys;
use outbox::consume::{ConsumerGroups, GroupLag};
use serde::Serialize;

use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::{ABSENT, one_line};
use crate::times;

/// How far consumer groups are
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List each group and topic: what it is behind by, since when, and which keys wait
    ///
    /// Groups are found by their dead-letter topics. The keys that wait are read from the consumers'
    /// database, if one is named.
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this group
    #[arg(long)]
    group: Option<String>,
    /// Only this topic of events, without the deployment's prefix
    #[arg(long)]
    topic: Option<String>,
}

/// A group on a topic.
#[derive(Debug, Serialize)]
struct GroupRow {
    group: String,
    /// As events declare it, and as `--topic` takes it.
    topic: String,
    /// `null`: this user may not ask for it.
    members: Option<u32>,
    lag: u64,
    /// `null`: there is nothing behind.
    oldest: Option<String>,
    oldest_age_seconds: Option<f64>,
    in_retry_topics: u64,
    /// `null`: no database was named.
    waiting_keys: Option<u64>,
    /// Events that are kept in the database behind an earlier one of their key.
    kept_events: Option<u64>,
}

impl Row for GroupRow {
    const COLUMNS: &'static [&'static str] =
        &["GROUP", "TOPIC", "MEMBERS", "LAG", "OLDEST", "IN RETRY TOPICS", "WAITING KEYS"];
    const WIDE: &'static [&'static str] = &["KEPT EVENTS"];

    fn cells(&self) -> Vec<String> {
        let number =
            |number: Option<u64>| number.map_or_else(|| ABSENT.to_owned(), |n| n.to_string());
        let age = self.oldest_age_seconds.map(std::time::Duration::from_secs_f64);
        vec![
            one_line(&self.group),
            one_line(&self.topic),
            number(self.members.map(u64::from)),
            self.lag.to_string(),
            age.map_or_else(|| ABSENT.to_owned(), times::short),
            self.in_retry_topics.to_string(),
            number(self.waiting_keys),
            number(self.kept_events),
        ]
    }
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let Command::List(args) = command;
    let prefix = context.topic_prefix();
    let mut groups = ConsumerGroups::new(context.kafka()?);
    if let Some(group) = &args.group {
        groups = groups.group(group);
    }
    if let Some(topic) = &args.topic {
        groups = groups.topic(format!("{prefix}{topic}"));
    }
    let lags = groups.lag().await?;
    let waiting = match context.settings.database {
        Some(_) => Some(waiting(context).await?),
        None => None,
    };
    if lags.is_empty() {
        context.output.say(
            "no consumer group has a dead-letter topic, or none that was asked for: `<topic>.<group>.dlt` is created when a consumer \
             first starts",
        );
    }
    let rows = lags.into_iter().map(|lag| GroupRow::new(lag, prefix, waiting.as_ref()));
    context.output.list(rows)
}

/// By group and topic, as events declare it.
type Waiting = BTreeMap<(String, String), WaitingKeys>;

async fn waiting(context: &Context) -> Result<Waiting, Failure> {
    let keys = with_outbox!(context.outbox().await?, outbox => outbox.waiting_keys().await?);
    Ok(keys.into_iter().map(|of| ((of.group.clone(), of.topic.clone()), of)).collect())
}

impl GroupRow {
    fn new(lag: GroupLag, prefix: &str, waiting: Option<&Waiting>) -> Self {
        let declared = lag.topic.strip_prefix(prefix).unwrap_or(&lag.topic).to_owned();
        let keys = waiting.map(|waiting| waiting.get(&(lag.group.clone(), declared.clone())));
        let count = |of: fn(&WaitingKeys) -> u64| keys.map(|keys| keys.map_or(0, of));
        Self {
            waiting_keys: count(|keys| keys.keys),
            kept_events: count(|keys| keys.kept),
            oldest: lag.oldest.and_then(times::exact),
            oldest_age_seconds: lag
                .oldest
                .map(|oldest: SystemTime| times::age(oldest).as_secs_f64()),
            group: lag.group,
            topic: declared,
            members: lag.members,
            lag: lag.lag,
            in_retry_topics: lag.in_retry_topics,
        }
    }
}
