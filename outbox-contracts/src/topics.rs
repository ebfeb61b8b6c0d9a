//! What a project wants its topics to be: the file `topics.toml`, which people write.
//!
//! It is no part of the lock. The lock is written from the types, by a test, and says what consumers
//! rely on; how many partitions a topic has, and for how long it keeps events, is a decision of those
//! who operate it.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::lock::{Lock, LockError, Source, Table, integer, table};

/// The version of the format that this version of outbox reads.
const FORMAT: i64 = 1;
/// Most partitions of a topic: more than any cluster is advised to have in all.
const MOST_PARTITIONS: u32 = 100_000;

/// What is wanted of topics that have events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// By their names, as the events declare them.
    pub topics: BTreeMap<String, Topic>,
}

/// What is wanted of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its number of partitions. `None`: as many as the brokers give a topic.
    pub partitions: Option<u32>,
    /// Its number of replicas. `None`: as many as the brokers give a topic.
    pub replicas: Option<u16>,
    /// Its settings, by Kafka's names.
    pub config: BTreeMap<String, Setting>,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Bool(bool),
}

impl Topics {
    /// Reads the file, for the topics of a lock. What it says of all topics is in each of them.
    ///
    /// # Errors
    /// If the text is no such file, or names a topic that has no event in the lock, with the line.
    pub fn parse(text: &str, lock: &Lock) -> Result<Self, LockError> {
        let source = Source::new(text);
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| source.line(&span));
            LockError::new(line, error.message())
        })?;
        let mut top = Table::new(&source, document.get_ref(), document.span()).of("topics.toml");
        let format =
            top.take("format").ok_or_else(|| top.wrong("`format` is missing: `format = 1`"))?;
        if integer(&source, format)? != FORMAT {
            return Err(source.error(format, "this version of outbox knows the format 1"));
        }
        let all = match top.take("all") {
            None => Topic::default(),
            Some(value) => topic(&source, value)?,
        };
        let live = lock.events.iter().filter(|(_, contract)| !contract.retired);
        let topics = live.map(|(event, _)| (event.topic.clone(), all.clone()));
        let mut topics: BTreeMap<String, Topic> = topics.collect();
        if let Some(named) = top.take("topics") {
            for (name, value) in table(&source, named)? {
                let Some(known) = topics.get_mut(&**name.get_ref()) else {
                    return Err(source.error(
                        value,
                        format!(
                            "the lock has no event on the topic `{}` that is not retired: correct the name, or delete what is said of it here",
                            name.get_ref().escape_debug()
                        ),
                    ));
                };
                let Topic { partitions, replicas, config } = topic(&source, value)?;
                known.partitions = partitions.or(known.partitions);
                known.replicas = replicas.or(known.replicas);
                known.config.extend(config);
            }
        }
        top.end()?;
        Ok(Self { topics })
    }
}

fn topic(source: &Source, value: &Spanned<DeValue<'_>>) -> Result<Topic, LockError> {
    let mut of_topic = Table::new(source, table(source, value)?, value.span()).of("topics.toml");
    let mut count = |key, most: u32| match of_topic.take(key) {
        None => Ok(None),
        Some(value) => match u32::try_from(integer(source, value)?) {
            Ok(count) if (1..=most).contains(&count) => Ok(Some(count)),
            _ => Err(source.error(value, format!("`{key}` is from 1 to {most}"))),
        },
    };
    let partitions = count("partitions", MOST_PARTITIONS)?;
    let replicas = count("replicas", u32::from(i16::MAX.unsigned_abs()))?;
    let mut config = BTreeMap::new();
    if let Some(settings) = of_topic.take("config") {
        for (name, value) in table(source, settings)? {
            config.insert(name.get_ref().to_string(), setting(source, value)?);
        }
    }
    of_topic.end()?;
    let replicas = replicas.and_then(|count| u16::try_from(count).ok());
    Ok(Topic { partitions, replicas, config })
}

fn setting(source: &Source, value: &Spanned<DeValue<'_>>) -> Result<Setting, LockError> {
    Ok(match value.get_ref() {
        DeValue::String(text) => Setting::Text(text.to_string()),
        DeValue::Boolean(value) => Setting::Bool(*value),
        DeValue::Integer(_) => Setting::Integer(integer(source, value)?),
        _ => {
            return Err(source.error(
                value,
                "a setting is a text, a whole number, true or false; one whose name has dots is in quotes: \"retention.ms\" = 604800000",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Contract, EventName};

    fn parse(text: &str) -> Result<Topics, String> {
        let mut lock = Lock::default();
        for (topic, retired) in [("orders", false), ("payments", false), ("gone", true)] {
            let contract = Contract { retired, ..Contract::default() };
            lock.events.insert(EventName::new(topic, "event", 1), contract);
        }
        Topics::parse(text, &lock).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_of_a_topic_counts_before_what_is_said_of_all() {
        let topics = parse(
            "format = 1\n[all]\nreplicas = 3\nconfig = { \"min.insync.replicas\" = 2, \"cleanup.policy\" = \"delete\" }\n\
             [topics.orders]\npartitions = 12\nconfig = { \"cleanup.policy\" = \"compact\", \"preallocate\" = true }\n",
        );
        let topics = topics.unwrap().topics;
        let text = |text: &str| Setting::Text(text.to_owned());
        let config = |of: &[(&str, Setting)]| {
            of.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        let two = Setting::Integer(2);
        let expected = [
            (
                "orders".to_owned(),
                Topic {
                    partitions: Some(12),
                    replicas: Some(3),
                    config: config(&[
                        ("min.insync.replicas", two.clone()),
                        ("cleanup.policy", text("compact")),
                        ("preallocate", Setting::Bool(true)),
                    ]),
                },
            ),
            (
                "payments".to_owned(),
                Topic {
                    partitions: None,
                    replicas: Some(3),
                    config: config(&[
                        ("min.insync.replicas", two),
                        ("cleanup.policy", text("delete")),
                    ]),
                },
            ),
        ];
        assert_eq!(topics, expected.into(), "the topic of retired events only is left out");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, said) in [
            ("[all]\n", "line 1: `format` is missing"),
            ("format = 2\n", "line 1: this version of outbox knows the format 1"),
            ("format = 1\n[topics.ordes]\n", "line 2: the lock has no event on the topic `ordes`"),
            ("format = 1\n[topics.gone]\n", "line 2: the lock has no event on the topic `gone`"),
            ("format = 1\n[all]\npartitions = 0\n", "line 3: `partitions` is from 1 to 100000"),
            ("format = 1\n[all]\nreplicas = 40000\n", "line 3: `replicas` is from 1 to 32767"),
            (
                "format = 1\n[all]\nretention = 1\n",
                "line 3: topics.toml has no key `retention` here",
            ),
            ("format = 1\n[all.config]\nretention.ms = 1\n", "line 3: a setting is a text"),
            ("format = 1\n[all.config]\na = 1.5\n", "line 3: a setting is a text"),
            ("format = 1\n[[topics]]\n", "line 2: a table belongs here"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
