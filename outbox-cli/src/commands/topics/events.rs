//! The topics of events: what a cluster has otherwise than topics.toml says, and what is done.

use outbox::kafka::{EventTopic, EventTopicsPlan, TopicDifference};

use super::row::{EXISTS, TopicRow};
use crate::text::counted;

/// What is done about a difference, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Create,
    AddPartitions,
    Set,
}

fn step(difference: &TopicDifference, add_partitions: bool) -> Option<Step> {
    match difference {
        TopicDifference::Missing { .. } => Some(Step::Create),
        TopicDifference::FewerPartitions { .. } => add_partitions.then_some(Step::AddPartitions),
        TopicDifference::Setting { has: Some(_), .. } => Some(Step::Set),
        _ => None,
    }
}

/// What is to be done, in that order; and what else there is to the topics.
pub fn rows(plan: &EventTopicsPlan, add_partitions: bool) -> (Vec<TopicRow>, Vec<TopicRow>) {
    let (mut steps, mut rest) = (Vec::new(), Vec::new());
    for topic in &plan.topics {
        if topic.differences.is_empty() {
            rest.push(TopicRow {
                partitions: topic.partitions,
                ..TopicRow::new(&topic.name, EXISTS)
            });
        }
        for difference in &topic.differences {
            let row = row(topic, difference, add_partitions);
            match step(difference, add_partitions) {
                Some(step) => steps.push((step, row)),
                None => rest.push(row),
            }
        }
    }
    steps.sort_by_key(|(step, _)| *step);
    (steps.into_iter().map(|(_, row)| row).collect(), rest)
}

/// What was done, and how topics are that nothing was done to. `after`: what the cluster has now.
pub fn changed(
    before: &EventTopicsPlan,
    after: &EventTopicsPlan,
    add_partitions: bool,
) -> Vec<TopicRow> {
    let mut rows = Vec::new();
    for topic in &before.topics {
        for difference in &topic.differences {
            if let Some(step) = step(difference, add_partitions) {
                let state = match step {
                    Step::Create => "created",
                    Step::AddPartitions => "partitions-added",
                    Step::Set => "set",
                };
                rows.push((step, TopicRow { state, ..row(topic, difference, add_partitions) }));
            }
        }
    }
    rows.sort_by_key(|(step, _)| *step);
    let mut rows: Vec<TopicRow> = rows.into_iter().map(|(_, row)| row).collect();
    let (left, rest) = self::rows(after, add_partitions);
    let is_changed = |row: &TopicRow| {
        row.state == EXISTS && rows.iter().any(|changed| changed.topic == row.topic)
    };
    let others: Vec<TopicRow> =
        left.into_iter().chain(rest).filter(|row| !is_changed(row)).collect();
    rows.extend(others);
    rows
}

fn row(topic: &EventTopic, difference: &TopicDifference, add_partitions: bool) -> TopicRow {
    use TopicDifference as Is;
    let (has, needs, setting) = match difference {
        Is::FewerPartitions { has, wanted } | Is::MorePartitions { has, wanted } => {
            (Some(has.to_string()), Some(wanted.to_string()), None)
        }
        Is::Replicas { has, wanted } => {
            let has: Vec<String> = has.iter().map(usize::to_string).collect();
            (Some(has.join(",")), Some(wanted.to_string()), None)
        }
        Is::Setting { name, has, wanted } => {
            (has.clone(), Some(wanted.clone()), Some(name.clone()))
        }
        _ => (None, None, None),
    };
    let (state, detail) = match difference {
        Is::Missing { partitions, replicas, settings } => {
            let number = |number: Option<u64>, what| match number {
                Some(number) => counted(number, what),
                None => format!("the brokers' default of {what}s"),
            };
            let mut all = vec![
                number(partitions.map(u64::from), "partition"),
                number(replicas.map(u64::from), "replica"),
            ];
            let settings: Vec<String> =
                settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.extend(settings.iter().cloned());
            return TopicRow {
                partitions: *partitions,
                settings,
                detail: all.join(", "),
                ..TopicRow::new(&topic.name, "missing")
            };
        }
        Is::FewerPartitions { .. } if add_partitions => {
            ("fewer-partitions", format!("{difference}"))
        }
        Is::FewerPartitions { .. } => {
            ("fewer-partitions", format!("{difference}: none are added without --add-partitions"))
        }
        Is::MorePartitions { .. } => (
            "more-partitions",
            format!("{difference}: correct the file, or move the events to a new topic"),
        ),
        Is::Replicas { .. } => (
            "replicas",
            format!(
                "{difference}: correct the file, or move replicas with kafka-reassign-partitions.sh"
            ),
        ),
        Is::Setting { has: Some(_), .. } => ("setting", format!("{difference}")),
        Is::Setting { .. } => ("setting", format!("{difference}: correct the name in the file")),
        _ => ("unreadable", format!("{difference}")),
    };
    TopicRow {
        partitions: topic.partitions,
        setting,
        has,
        needs,
        detail,
        ..TopicRow::new(&topic.name, state)
    }
}

/// What is otherwise than the files say, and what to do. Nothing if nothing is.
pub fn what_differs(plan: &EventTopicsPlan) -> Option<String> {
    let all = || plan.differences().map(|(_, difference)| difference);
    let differences = all().count() as u64;
    if differences == 0 {
        return None;
    }
    let topics = plan.topics.iter().filter(|topic| !topic.differences.is_empty()).count() as u64;
    let mut said = format!(
        "{} between the cluster and the files, of {}",
        counted(differences, "difference"),
        counted(topics, "topic")
    );
    let applied = all().filter(|difference| step(difference, false).is_some()).count() as u64;
    if applied > 0 {
        said.push_str(&format!(". `outbox topics apply` mends {applied} of them"));
    }
    if all().any(|difference| matches!(difference, TopicDifference::FewerPartitions { .. })) {
        said.push_str(
            ". Partitions are added only with --add-partitions, since that breaks the order of keys: its help says how not to",
        );
    }
    let by_hand = all().filter(|difference| step(difference, true).is_none()).count() as u64;
    if by_hand > 0 {
        said.push_str(&format!(". What to do about {by_hand} of them is for a person to decide: they are never changed here"));
    }
    Some(said)
}
