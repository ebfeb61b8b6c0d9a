//! `outbox topics`.

mod events;
pub mod files;
mod groups;
mod row;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use outbox::consume::{GroupTopics, TopicPlan};
use outbox::kafka::{EventTopics, EventTopicsPlan};

use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// The topics of events, and those for retries and dead letters of consumer groups
///
/// The topics of events are those of the lock events.lock, as the file topics.toml wants them:
/// --topics names it. Without it, only the topics of a group are looked at. No topic is deleted, and
/// none gets fewer partitions or other replicas.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  outbox topics diff --topics topics.toml\n  \
    outbox topics apply --topics topics.toml --group inventory --delay 10s\n  \
    outbox topics plan --topic orders --group inventory --delay 10s")]
pub enum Command {
    /// List what should be there: which topics exist, and what apply would do, in this order
    Plan(Changes),
    /// Create topics that are missing, and set the settings that topics.toml names
    ///
    /// It exits with 3 if something is still otherwise than it should be, which takes a person. Those
    /// for retries and dead letters that exist are not changed.
    Apply(Changes),
    /// List what is missing or wrong, and exit with 3 if there is anything
    Diff(Target),
}

#[derive(Debug, Args)]
pub struct Changes {
    #[command(flatten)]
    target: Target,
    /// Adds the partitions that topics of events lack by topics.toml. This breaks the order of keys
    ///
    /// A key belongs to a partition by their number, so most keys then belong to another one. New
    /// events of a key may be handled before earlier ones that consumers have not come to yet, and a
    /// compacted topic keeps an old value of a key beside its new one. First pause the relays, and
    /// wait until all consumer groups have handled all events of the topic. Partitions can never be
    /// taken away.
    #[arg(long, requires = "topics")]
    add_partitions: bool,
}

#[derive(Debug, Args)]
pub struct Target {
    /// The file topics.toml: partitions, replicas and settings of the topics of the lock
    #[arg(long, value_name = "FILE")]
    topics: Option<PathBuf>,
    /// The file with the events
    #[arg(long, value_name = "FILE", default_value = files::LOCK, requires = "topics")]
    lock: PathBuf,
    /// A topic of events, without the deployment's prefix; several are allowed [default with
    /// --topics: all of the lock]
    #[arg(long = "topic", value_name = "TOPIC", value_parser = NonEmptyStringValueParser::new())]
    only: Vec<String>,
    /// A consumer group, whose topics for retries and dead letters are meant, too; several are
    /// allowed
    #[arg(long = "group", value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    groups: Vec<String>,
    /// A delay of the groups' retry topics, as their handlers list it, such as 10s; several are
    /// allowed
    #[arg(
        long = "delay",
        value_name = "DURATION",
        value_parser = values::positive_duration,
        requires = "groups"
    )]
    delays: Vec<Duration>,
}

impl Command {
    /// What of the arguments clap cannot check by itself.
    pub fn check(&self) -> Result<(), String> {
        let (Self::Plan(Changes { target, .. })
        | Self::Apply(Changes { target, .. })
        | Self::Diff(target)) = self;
        if target.topics.is_none() && (target.only.is_empty() || target.groups.is_empty()) {
            return Err(
                "which topics are meant is not said: name the files of a project with --topics topics.toml --lock events.lock, \
                 or a consumer group with --topic orders --group inventory"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The topics that are meant.
struct Topics {
    /// `None`: only those of groups.
    events: Option<EventTopics>,
    groups: Vec<GroupTopics>,
}

/// What the cluster has of them.
struct Plans {
    events: Option<EventTopicsPlan>,
    groups: Vec<TopicPlan>,
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Plan(Changes { target, add_partitions }) => {
            let plans = target.topics(context)?.plans().await?;
            plans.say_what_is_unknown(context);
            let (steps, rest) = plans.of_events(*add_partitions);
            let of_groups = plans.groups.iter().flat_map(|plan| groups::rows(plan, "missing"));
            context.output.list(steps.into_iter().chain(of_groups).chain(rest))
        }
        Command::Apply(Changes { target, add_partitions }) => {
            apply(&target.topics(context)?, *add_partitions, context).await
        }
        Command::Diff(target) => {
            let plans = target.topics(context)?.plans().await?;
            plans.say_what_is_unknown(context);
            let (steps, rest) = plans.of_events(false);
            let of_groups = plans.groups.iter().flat_map(|plan| groups::rows(plan, "missing"));
            let all = steps.into_iter().chain(rest).chain(of_groups);
            context.output.list(all.filter(|row| row.state != row::EXISTS))?;
            let of_events = plans.events.iter().flat_map(events::what_differs);
            told(of_events.chain(groups::what_differs(&plans.groups, true)).collect())
        }
    }
}

async fn apply(topics: &Topics, add_partitions: bool, context: &Context) -> Result<(), Failure> {
    let mut of_events = None;
    if let Some(events) = &topics.events {
        let before = events.plan().await?;
        events.create(&before).await?;
        if add_partitions {
            events.add_partitions(&before).await?;
        }
        events.set(&before).await?;
        of_events = Some((before, events.plan().await?));
    }
    // Those of groups have as many partitions as the topics of events have now.
    let plans = Plans { events: None, groups: plans_of(&topics.groups).await? };
    plans.say_what_is_unknown(context);
    for (group, plan) in topics.groups.iter().zip(&plans.groups) {
        group.create(plan).await?;
    }
    let rows =
        of_events.iter().flat_map(|(before, after)| events::changed(before, after, add_partitions));
    let of_groups = plans.groups.iter().flat_map(|plan| groups::rows(plan, "created"));
    context.output.list(rows.chain(of_groups))?;
    let left = of_events.iter().flat_map(|(_, after)| events::what_differs(after));
    told(left.chain(groups::what_differs(&plans.groups, false)).collect())
}

impl Target {
    fn topics(&self, context: &Context) -> Result<Topics, Failure> {
        let (events, names) = match &self.topics {
            None => (None, self.only.clone()),
            Some(file) => {
                let mut topics = files::read(file, &self.lock)?;
                files::keep(&mut topics, &self.only, &self.lock)?;
                let names = topics.topics.keys().cloned().collect();
                (Some(files::event_topics(&topics, context)?), names)
            }
        };
        let mut groups = Vec::new();
        for topic in &names {
            for group in &self.groups {
                let of_group = GroupTopics::builder(context.kafka()?).topic(topic).group(group);
                let of_group = of_group.topic_prefix(context.topic_prefix());
                let delayed = self.delays.iter().fold(of_group, |of, delay| of.retry_delay(*delay));
                groups.push(delayed.build()?);
            }
        }
        Ok(Topics { events, groups })
    }
}

impl Topics {
    async fn plans(&self) -> Result<Plans, Failure> {
        let events = match &self.events {
            None => None,
            Some(events) => Some(events.plan().await?),
        };
        let mut groups = plans_of(&self.groups).await?;
        if let Some(events) = &events {
            groups.iter_mut().for_each(|plan| groups::once_created(plan, events));
        }
        Ok(Plans { events, groups })
    }
}

async fn plans_of(groups: &[GroupTopics]) -> Result<Vec<TopicPlan>, Failure> {
    let mut plans = Vec::with_capacity(groups.len());
    for group in groups {
        plans.push(group.plan().await?);
    }
    Ok(plans)
}

impl Plans {
    /// What `apply` would do to the topics of events, in its order; and what else there is to them.
    fn of_events(&self, add_partitions: bool) -> (Vec<row::TopicRow>, Vec<row::TopicRow>) {
        self.events.as_ref().map(|plan| events::rows(plan, add_partitions)).unwrap_or_default()
    }

    fn say_what_is_unknown(&self, context: &Context) {
        let is_planned = |name: &str| {
            self.events.iter().flat_map(|plan| &plan.topics).any(|topic| topic.name == name)
        };
        for plan in &self.groups {
            if plan.source_partitions.is_none() && !is_planned(&plan.source) {
                context.output.say(format_args!(
                    "the topic `{}` does not exist (yet): others would get as many partitions as the brokers give a topic. \
                     Create it first",
                    plan.source
                ));
            }
        }
    }
}

/// The exit code: whether anything is otherwise than it should be.
fn told(different: Vec<String>) -> Result<(), Failure> {
    if different.is_empty() { Ok(()) } else { Err(Failure::condition(different.join("\n"))) }
}
