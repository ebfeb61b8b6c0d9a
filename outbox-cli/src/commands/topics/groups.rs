//! The topics for retries and dead letters of consumer groups.

use outbox::consume::TopicPlan;
use outbox::kafka::{EventTopicsPlan, TopicDifference};

use super::row::{EXISTS, TopicRow};

/// The plan as it will be once the topic of the events is created, if it is among those that are
/// missing.
pub fn once_created(plan: &mut TopicPlan, events: &EventTopicsPlan) {
    if plan.source_partitions.is_some() {
        return;
    }
    let source = events.topics.iter().find(|topic| topic.name == plan.source);
    let wanted = source.and_then(|source| {
        source.differences.iter().find_map(|difference| match difference {
            TopicDifference::Missing { partitions, .. } => Some(*partitions),
            _ => None,
        })
    });
    let Some(partitions) = wanted else { return };
    for planned in &mut plan.missing {
        planned.partitions = partitions;
        // They follow from those of that topic.
        planned.settings.clear();
    }
}

/// `missing`: what topics that the plan misses are called.
pub fn rows(plan: &TopicPlan, missing: &'static str) -> Vec<TopicRow> {
    let existing = plan.existing.iter().map(|topic| TopicRow {
        detail: match plan.unreadable.contains(topic) {
            true => {
                "its settings cannot be read: that takes the right to DescribeConfigs".to_owned()
            }
            false => String::new(),
        },
        ..TopicRow::new(topic, EXISTS)
    });
    let planned = plan.missing.iter().map(|planned| {
        let settings = planned.settings.iter().map(|(name, value)| format!("{name}={value}"));
        let settings: Vec<String> = settings.collect();
        let partitions =
            planned.partitions.map_or("the brokers' default of".to_owned(), |n| n.to_string());
        let of_settings = match &*settings {
            [] => "and settings by those of its topic, which is created first".to_owned(),
            settings => settings.join(", "),
        };
        TopicRow {
            partitions: planned.partitions,
            detail: format!("{partitions} partitions, {of_settings}"),
            settings,
            ..TopicRow::new(&planned.name, missing)
        }
    });
    let faults = plan.faults.iter().map(|fault| TopicRow {
        setting: Some(fault.setting.to_owned()),
        has: Some(fault.has.clone()),
        needs: Some(fault.needs.clone()),
        detail: fault.said.clone(),
        ..TopicRow::new(&fault.topic, if fault.loses { "loses-events" } else { "narrow" })
    });
    existing.chain(planned).chain(faults).collect()
}

/// What the cluster has otherwise than the groups need it. `missing`: whether topics that the plans
/// miss count.
pub fn what_differs(plans: &[TopicPlan], missing: bool) -> impl Iterator<Item = String> {
    let absent: usize = plans.iter().map(|plan| plan.missing.len()).sum();
    let absent = (missing && absent > 0)
        .then(|| format!("{absent} topics are missing: `outbox topics apply` creates them"));
    let faults: Vec<_> = plans.iter().flat_map(|plan| &plan.faults).collect();
    let wrong = (!faults.is_empty()).then(|| {
        let alter = faults.iter().map(|fault| {
            format!(
                "\n  kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {}={}",
                fault.topic, fault.setting, fault.needs
            )
        });
        let alter: String = alter.collect();
        format!("{} settings are wrong, and were not changed:{alter}", faults.len())
    });
    absent.into_iter().chain(wrong)
}
