//! `outbox inbox`.

use std::time::Duration;

use clap::{Args, Subcommand};
use outbox::admin::InboxStats;
use serde::Serialize;

use crate::confirm::Confirm;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::one_line;
use crate::{times, values};

/// What consumer groups remember as handled
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List each group: how many events it remembers, and since when
    Stats,
    /// Forget what a group handled long ago
    ///
    /// An event that comes again after it was forgotten is handled again: keep what can still come,
    /// by the retention of its topics or by a replay. Running consumers forget by themselves.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The consumer group
    #[arg(long)]
    group: String,
    /// How long ago it was handled, such as 30d
    #[arg(long, value_name = "DURATION", value_parser = values::positive_duration)]
    older_than: Duration,
    #[command(flatten)]
    confirm: Confirm,
}

/// A group's inbox.
#[derive(Debug, Serialize)]
struct InboxRow {
    group: String,
    handled: u64,
    /// Whether there are more than were counted.
    at_least: bool,
    oldest: Option<String>,
    latest: Option<String>,
}

impl Row for InboxRow {
    const COLUMNS: &'static [&'static str] = &["GROUP", "HANDLED", "OLDEST", "LATEST"];

    fn cells(&self) -> Vec<String> {
        let time = |time: &Option<String>| time.clone().unwrap_or_default();
        let more = if self.at_least { "+" } else { "" };
        vec![
            one_line(&self.group),
            format!("{}{more}", self.handled),
            time(&self.oldest),
            time(&self.latest),
        ]
    }
}

#[derive(Debug, Serialize)]
struct Forgotten {
    group: String,
    dry_run: bool,
    /// In a dry run, how many would be forgotten.
    events: u64,
    /// Whether there are more than were counted.
    at_least: bool,
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Stats => stats(context).await,
        Command::Forget(args) => forget(args, context).await,
    }
}

async fn stats(context: &Context) -> Result<(), Failure> {
    let stats = with_outbox!(context.outbox().await?, outbox => outbox.inbox_stats().await?);
    if stats.is_empty() {
        context
            .output
            .say("no consumer group of this outbox has handled an event, or all is forgotten");
    }
    context.output.list(stats.into_iter().map(|of| InboxRow {
        at_least: of.handled >= InboxStats::COUNTED,
        handled: of.handled,
        oldest: times::exact(of.oldest),
        latest: times::exact(of.latest),
        group: of.group,
    }))
}

async fn forget(args: &ForgetArgs, context: &Context) -> Result<(), Failure> {
    let ForgetArgs { group, older_than, confirm } = args;
    let does = confirm
        .is_to_be_done("forgets what was handled, which is then handled again if it comes again")?;
    let outbox = context.outbox().await?;
    let events = with_outbox!(outbox, outbox => match does {
        true => outbox.forget_handled(group, *older_than).await?,
        false => outbox.handled_longer_ago(group, *older_than).await?,
    });
    let at_least = !does && events >= InboxStats::COUNTED;
    let forgotten = Forgotten { group: group.clone(), dry_run: !does, events, at_least };
    context.output.one(&forgotten, || match does {
        true => format!("forgot {events} handled events of {}", one_line(group)),
        false => format!(
            "{events}{} handled events of {} would be forgotten; nothing was done",
            if at_least { " or more" } else { "" },
            one_line(group)
        ),
    })
}
