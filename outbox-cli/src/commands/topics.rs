//! `outbox topics`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use outbox::consume::{GroupTopics, TopicPlan};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::values;

/// The topics for retries and dead letters of a consumer group
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what should be there: which topics exist, and which would be created
    Plan(Target),
    /// Create those that are missing; none that exists is changed
    Apply(Target),
    /// List what is missing or wrong, and exit with 3 if there is anything
    Diff(Target),
}

#[derive(Debug, Args)]
pub struct Target {
    /// The topic of the events, without the deployment's prefix
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// The consumer group
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    group: String,
    /// A delay of the group's retry topics, as its handlers list it, such as 10s; several are
    /// allowed
    #[arg(long = "delay", value_name = "DURATION", value_parser = values::positive_duration)]
    delays: Vec<Duration>,
}

/// A topic, or a setting of one that is wrong.
#[derive(Debug, Serialize)]
struct TopicRow {
    topic: String,
    /// `exists`, `missing`, `created`, `loses-events` or `narrow`.
    state: &'static str,
    partitions: Option<u32>,
    /// The setting that is wrong.
    setting: Option<&'static str>,
    has: Option<String>,
    needs: Option<String>,
    /// The settings of a topic that is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<String>,
    detail: String,
}

impl Row for TopicRow {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "STATE", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.state.to_owned(), self.detail.clone()]
    }
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let (Command::Plan(target) | Command::Apply(target) | Command::Diff(target)) = command;
    let topics = target.topics(context)?;
    let plan = topics.plan().await?;
    if plan.source_partitions.is_none() {
        context.output.say(format_args!(
            "the topic `{}` does not exist (yet): others would get as many partitions as the brokers give a topic. Create it first",
            plan.source
        ));
    }
    match command {
        Command::Plan(_) => context.output.list(rows(&plan, "missing")),
        Command::Apply(_) => {
            topics.create(&plan).await?;
            context.output.list(rows(&plan, "created"))?;
            after(&plan, false)
        }
        Command::Diff(_) => {
            let different = rows(&plan, "missing").into_iter().filter(|row| row.state != "exists");
            context.output.list(different)?;
            after(&plan, true)
        }
    }
}

impl Target {
    fn topics(&self, context: &Context) -> Result<GroupTopics, Failure> {
        let topics = GroupTopics::builder(context.kafka()?).topic(&self.topic).group(&self.group);
        let topics = topics.topic_prefix(context.topic_prefix());
        Ok(self.delays.iter().fold(topics, |topics, delay| topics.retry_delay(*delay)).build()?)
    }
}

/// `missing`: what topics that the plan misses are called.
fn rows(plan: &TopicPlan, missing: &'static str) -> Vec<TopicRow> {
    let existing = plan.existing.iter().map(|topic| TopicRow {
        detail: match plan.unreadable.contains(topic) {
            true => {
                "its settings cannot be read: that takes the right to DescribeConfigs".to_owned()
            }
            false => String::new(),
        },
        ..TopicRow::new(topic, "exists")
    });
    let planned = plan.missing.iter().map(|planned| {
        let settings = planned.settings.iter().map(|(name, value)| format!("{name}={value}"));
        let settings: Vec<String> = settings.collect();
        let partitions =
            planned.partitions.map_or("the brokers' default of".to_owned(), |n| n.to_string());
        TopicRow {
            partitions: planned.partitions,
            detail: format!("{partitions} partitions, {}", settings.join(", ")),
            settings,
            ..TopicRow::new(&planned.name, missing)
        }
    });
    let faults = plan.faults.iter().map(|fault| TopicRow {
        setting: Some(fault.setting),
        has: Some(fault.has.clone()),
        needs: Some(fault.needs.clone()),
        detail: fault.said.clone(),
        ..TopicRow::new(&fault.topic, if fault.loses { "loses-events" } else { "narrow" })
    });
    existing.chain(planned).chain(faults).collect()
}

impl TopicRow {
    fn new(topic: &str, state: &'static str) -> Self {
        Self {
            topic: topic.to_owned(),
            state,
            partitions: None,
            setting: None,
            has: None,
            needs: None,
            settings: Vec::new(),
            detail: String::new(),
        }
    }
}

/// The exit code: whether the cluster differs from what the group needs. `missing`: whether topics
/// that the plan misses count.
fn after(plan: &TopicPlan, missing: bool) -> Result<(), Failure> {
    let mut different = Vec::new();
    if missing && !plan.missing.is_empty() {
        different.push(format!(
            "{} topics are missing: `outbox topics apply` creates them",
            plan.missing.len()
        ));
    }
    if !plan.faults.is_empty() {
        let alter = plan.faults.iter().map(|fault| {
            format!(
                "\n  kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {}={}",
                fault.topic, fault.setting, fault.needs
            )
        });
        let alter: String = alter.collect();
        different.push(format!(
            "{} settings are wrong, and were not changed:{alter}",
            plan.faults.len()
        ));
    }
    if different.is_empty() { Ok(()) } else { Err(Failure::condition(different.join("\n"))) }
}
