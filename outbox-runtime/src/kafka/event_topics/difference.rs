//! What a cluster has otherwise than it is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::WantedTopic;

/// What a cluster has of topics, and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventTopicsPlan {
    /// The topics that are wanted, in the order of their names.
    pub topics: Vec<EventTopic>,
}

impl EventTopicsPlan {
    /// All differences, each with its topic.
    pub fn differences(&self) -> impl Iterator<Item = (&EventTopic, &TopicDifference)> {
        self.topics
            .iter()
            .flat_map(|topic| topic.differences.iter().map(move |found| (topic, found)))
    }
}

/// A topic that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventTopic {
    /// Its name on the brokers.
    pub name: String,
    /// Its number of partitions. `None`: it does not exist.
    pub partitions: Option<u32>,
    /// What is otherwise than it is wanted. Empty: nothing.
    pub differences: Vec<TopicDifference>,
}

/// What of a topic is otherwise than it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicDifference {
    /// The topic does not exist, or this user may not describe it.
    Missing {
        /// Its number of partitions. `None`: as many as the brokers give a topic.
        partitions: Option<u32>,
        /// Its number of replicas. `None`: as many as the brokers give a topic.
        replicas: Option<u16>,
        /// Its settings, by name.
        settings: BTreeMap<String, String>,
    },
    /// It has fewer partitions.
    FewerPartitions {
        /// Its number of partitions.
        has: u32,
        /// The number that is wanted.
        wanted: u32,
    },
    /// It has more partitions, which cannot be changed.
    MorePartitions {
        /// Its number of partitions.
        has: u32,
        /// The number that is wanted.
        wanted: u32,
    },
    /// Some of its partitions have another number of replicas, which is not changed here.
    Replicas {
        /// The numbers of replicas that its partitions have.
        has: BTreeSet<usize>,
        /// The number that is wanted.
        wanted: u16,
    },
    /// A setting has another value.
    Setting {
        /// Kafka's name.
        name: String,
        /// Its value. `None`: the brokers know no such setting.
        has: Option<String>,
        /// The value that is wanted.
        wanted: String,
    },
    /// Settings are wanted, and this user may not read those that it has, so that none is changed.
    Unreadable,
}

impl fmt::Display for TopicDifference {
    /// What is so, and what it means.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { .. } => {
                f.write_str("it does not exist, or this user may not describe it")
            }
            Self::FewerPartitions { has, wanted } => write!(
                f,
                "its number of partitions is {has} instead of {wanted}; with more of them, keys belong to other ones, and later \
                 events of a key may be handled before its earlier ones"
            ),
            Self::MorePartitions { has, wanted } => write!(
                f,
                "its number of partitions is {has} instead of {wanted}; Kafka cannot take partitions away"
            ),
            Self::Replicas { has, wanted } => {
                let has: Vec<String> = has.iter().map(usize::to_string).collect();
                let has = has.join(" or ");
                write!(f, "the number of replicas of its partitions is {has} instead of {wanted}")
            }
            Self::Setting { name, has: Some(has), wanted } => {
                write!(f, "`{name}` is {has} instead of {wanted}")
            }
            Self::Setting { name, has: None, wanted } => {
                write!(f, "the brokers know no setting `{name}`, which should be {wanted}")
            }
            Self::Unreadable => f.write_str(
                "its settings cannot be read, which takes the right to DescribeConfigs and a login without OAUTHBEARER",
            ),
        }
    }
}

/// What the brokers say of a topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) partitions: u32,
    /// Whether each partition has a leader, so that events can be written to it.
    pub(super) has_leaders: bool,
    /// Numbers of replicas that its partitions have.
    pub(super) replicas: BTreeSet<usize>,
    /// `None`: they were not asked for, or this user may not read them.
    pub(super) settings: Option<BTreeMap<String, String>>,
}

pub(super) fn differences(wanted: &WantedTopic, found: Option<&Found>) -> Vec<TopicDifference> {
    let Some(found) = found else {
        let WantedTopic { partitions, replicas, settings } = wanted.clone();
        return vec![TopicDifference::Missing { partitions, replicas, settings }];
    };
    let mut differences = Vec::new();
    let has = found.partitions;
    match wanted.partitions {
        Some(wanted) if has < wanted => {
            differences.push(TopicDifference::FewerPartitions { has, wanted });
        }
        Some(wanted) if has > wanted => {
            differences.push(TopicDifference::MorePartitions { has, wanted });
        }
        _ => {}
    }
    if let Some(wanted) = wanted.replicas
        && found.replicas.iter().any(|has| *has != usize::from(wanted))
    {
        differences.push(TopicDifference::Replicas { has: found.replicas.clone(), wanted });
    }
    match &found.settings {
        None if wanted.settings.is_empty() => {}
        None => differences.push(TopicDifference::Unreadable),
        Some(has) => differences.extend(of_settings(&wanted.settings, has)),
    }
    differences
}

fn of_settings(
    wanted: &BTreeMap<String, String>,
    has: &BTreeMap<String, String>,
) -> impl Iterator<Item = TopicDifference> {
    wanted.iter().filter_map(|(name, wanted)| {
        let has = has.get(name);
        let is_alike = has.is_some_and(|has| are_alike(has, wanted));
        (!is_alike).then(|| TopicDifference::Setting {
            name: name.clone(),
            has: has.cloned(),
            wanted: wanted.clone(),
        })
    })
}

/// Whether two texts are one value. Brokers spell numbers and lists in their own way, so `0.50`
/// comes back as `0.5`.
pub(super) fn are_alike(one: &str, other: &str) -> bool {
    if one.trim().eq_ignore_ascii_case(other.trim()) {
        return true;
    }
    if let (Ok(one), Ok(other)) = (one.trim().parse::<i64>(), other.trim().parse::<i64>()) {
        return one == other;
    }
    if let (Ok(one), Ok(other)) = (one.trim().parse::<f64>(), other.trim().parse::<f64>()) {
        return one == other;
    }
    let items = |list: &str| -> BTreeSet<String> {
        list.split(',').map(|item| item.trim().to_ascii_lowercase()).collect()
    };
    items(one) == items(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partitions: u32, settings: &[(&str, &str)]) -> Found {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Found {
            partitions,
            replicas: [1].into(),
            settings: Some(settings.collect()),
            ..Found::default()
        }
    }

    #[test]
    fn what_nobody_wants_is_no_difference() {
        let has = found(6, &[("retention.ms", "1")]);
        assert_eq!(differences(&WantedTopic::default(), Some(&has)), []);
        let unreadable = Found { settings: None, ..found(6, &[]) };
        assert_eq!(differences(&WantedTopic::default(), Some(&unreadable)), []);
    }

    #[test]
    fn each_difference_is_found() {
        let wanted = WantedTopic::default().partitions(12).replicas(3);
        let wanted = wanted.setting("retention.ms", "2").setting("retention.sm", "2");
        let said = |has: &Found| -> Vec<String> {
            differences(&wanted, Some(has)).iter().map(ToString::to_string).collect()
        };
        let of_settings = [
            "`retention.ms` is 1 instead of 2",
            "the brokers know no setting `retention.sm`, which should be 2",
        ];
        let fewer = said(&found(6, &[("retention.ms", "1")]));
        assert!(fewer[0].starts_with("its number of partitions is 6 instead of 12; with more"));
        assert_eq!(fewer[1], "the number of replicas of its partitions is 1 instead of 3");
        assert_eq!(fewer[2..], of_settings);
        let more = said(&Found { replicas: [3].into(), settings: None, ..found(13, &[]) });
        assert!(more[0].ends_with("Kafka cannot take partitions away"), "{more:?}");
        assert!(more[1].starts_with("its settings cannot be read"), "{more:?}");
        let missing = differences(&wanted, None);
        let [TopicDifference::Missing { partitions, replicas, settings }] = &*missing else {
            panic!("{missing:?}")
        };
        assert_eq!((*partitions, *replicas, settings.len()), (Some(12), Some(3), 2));
    }

    /// A difference that is none would be set again at each run, and never be gone.
    #[test]
    fn a_value_is_as_the_brokers_spell_it() {
        for (has, wanted) in [
            ("0.5", "0.50"),
            ("-1", " -1"),
            ("true", "TRUE"),
            ("compact,delete", "delete, compact"),
            ("604800000", "604800000"),
        ] {
            assert!(are_alike(has, wanted), "{has} {wanted}");
        }
        for (has, wanted) in [
            ("9223372036854775807", "9223372036854775806"),
            ("compact", "compact,delete"),
            ("true", "false"),
            ("", "0"),
        ] {
            assert!(!are_alike(has, wanted), "{has} {wanted}");
        }
    }
}
