//! The topics of a group: those with its events, and the retry and dead-letter topics of each.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::cluster::{Cluster, Missing, Topics, Unprepared, absent};
use super::topic_settings::{Fault, Kind, faults, of_new, spelled};
use crate::consume::message::{History, Message};
use crate::consume::route::Routes;
use crate::durations::LONGEST_WAIT;
use crate::error::OutboxError;
use crate::kafka::{Brokers, LONGEST_NAME, Properties, TopicPrefix, is_legal_topic};
use crate::observe::target;
use crate::store::OutboxDatabase;

/// The topic in which an event of `topic` waits for `delay`. Each delay has its own topic, so that
/// the events in a topic become due in the order in which they arrive. All names here are those on
/// the brokers.
pub(super) fn retry_topic(topic: &str, group: &str, delay: Duration) -> String {
    format!("{topic}.{group}.retry.{}", spelled(delay))
}

/// The topic for dead letters that are replayed.
pub(super) fn replay_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.retry.0")
}

pub(super) fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlt")
}

/// All topics of a consumer, by their names on the brokers.
#[derive(Debug)]
pub(super) struct Plan {
    group: String,
    /// Topics of the handlers' events, each with the name that the events declare.
    own: BTreeMap<String, &'static str>,
    /// Topics for retries and dead letters, each with its source and purpose.
    ours: BTreeMap<String, (String, Kind)>,
    /// Retry topics of delays that handlers had before a change, with their source: what is in them
    /// is still handled.
    former: HashMap<String, String>,
    brokers: Option<Brokers>,
    /// Sources that do not exist yet.
    awaited: Vec<String>,
    /// Longest time that an event may spend in retry topics, one after the other.
    longest_retry: Duration,
}

impl Plan {
    /// # Errors
    /// If Kafka would refuse the name of a topic.
    pub(super) fn new<DB: OutboxDatabase>(
        routes: &Routes<DB>,
        group: &str,
        prefix: &TopicPrefix,
    ) -> Result<Self, OutboxError> {
        let (mut own, mut ours) = (BTreeMap::new(), BTreeMap::new());
        let mut longest_retry = Duration::ZERO;
        for declared in routes.topics() {
            let topic = prefix.on_brokers(declared).into_owned();
            ours.insert(replay_topic(&topic, group), (topic.clone(), Kind::Replays));
            ours.insert(dead_letter_topic(&topic, group), (topic.clone(), Kind::DeadLetters));
            for schedule in routes.options_of(declared).filter_map(|options| options.schedule) {
                longest_retry = longest_retry.max(schedule.delays().sum());
                for delay in schedule.delays() {
                    let name = retry_topic(&topic, group, delay);
                    ours.insert(name, (topic.clone(), Kind::Retry(delay)));
                }
            }
            own.insert(topic, declared);
        }
        own.keys().try_for_each(|name| legal(name, "the topic of an event"))?;
        ours.keys().try_for_each(|name| legal(name, "a topic for retries or dead letters"))?;
        Ok(Self {
            group: group.to_owned(),
            own,
            ours,
            former: HashMap::new(),
            brokers: None,
            awaited: Vec::new(),
            longest_retry,
        })
    }

    pub(super) fn subscribed(&self) -> Vec<&str> {
        let retries = self.ours.iter().filter(|(_, (_, kind))| *kind != Kind::DeadLetters);
        let retries = retries.map(|(name, _)| name);
        self.own.keys().chain(retries).chain(self.former.keys()).map(String::as_str).collect()
    }

    /// The topics of its events: their names on the brokers, and as declared.
    pub(super) fn own_topics(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.own.iter().map(|(on_brokers, declared)| (on_brokers.as_str(), *declared))
    }

    /// Sources that did not exist when topics were last listed.
    pub(super) fn awaited(&self) -> &[String] {
        &self.awaited
    }

    /// The history of a message, with the topic that its event declares.
    pub(super) fn history(&self, message: &Message) -> History {
        let of = self.ours.get(&message.topic).map(|(source, kind)| (source, kind.delay()));
        match of.or_else(|| Some((self.former.get(&message.topic)?, LONGEST_WAIT))) {
            // The source comes from the topic's name, not from the header: others may write to the
            // topic too. The sender's clock may be wrong, but from now on the event waits no longer
            // than its topic's delay.
            Some((source, longest)) => {
                let resumed = message.resumed();
                let due = resumed.due.map(|due| due.min(SystemTime::now() + longest));
                let topic = self.declared(source);
                History { topic, due, from_retry_topic: true, ..resumed }
            }
            None => History { topic: self.declared(&message.topic), ..message.fresh() },
        }
    }

    fn declared(&self, on_brokers: &str) -> String {
        self.own.get(on_brokers).map_or(on_brokers, |declared| *declared).to_owned()
    }

    /// Longest time that an event may spend in retry topics, one after the other.
    pub(super) fn longest_retry(&self) -> Duration {
        self.longest_retry
    }

    /// Creates missing topics for retries and dead letters, or names them in an error, and checks
    /// the settings of those that exist.
    pub(super) async fn ensure(
        &mut self,
        properties: &Properties,
        create: bool,
    ) -> Result<(), Unprepared> {
        let brokers = self
            .brokers
            .get_or_insert_with(|| Brokers::new(properties, "the consumer does not start"));
        let topics = Topics::new(properties, brokers.clone()).map_err(Unprepared::ForGood)?;
        let partitions = topics.partitions().await?;
        let mut cluster = Cluster { partitions, ..Cluster::default() };
        self.note_sources(&cluster);
        let settings = topics.settings(&self.existing(&cluster)).await;
        cluster.settings = settings.map_err(Unprepared::NoAnswer)?;
        self.check(&cluster).map_err(Unprepared::ForGood)?;
        let missing = self.missing(&cluster);
        if missing.is_empty() {
            return Ok(());
        }
        if !create {
            let why = "they are not to be created (`create_topics(false)`)";
            return Err(Unprepared::ForGood(absent(&missing, why)));
        }
        topics.create(&missing).await
    }

    /// The topics for retries and dead letters that do not exist, as they are to be created.
    fn missing(&self, cluster: &Cluster) -> Vec<Missing<'_>> {
        let missing = self.ours.iter().filter(|(name, _)| !cluster.has(name));
        let missing = missing.map(|(name, (source, kind))| Missing {
            name,
            partitions: cluster.partitions.get(source).copied(),
            settings: of_new(*kind, cluster.source(source)),
        });
        missing.collect()
    }

    /// The topics that exist, of those whose settings matter.
    fn existing(&self, cluster: &Cluster) -> Vec<&str> {
        let all = self.own.keys().chain(self.ours.keys()).map(String::as_str);
        all.filter(|name| cluster.has(name)).collect()
    }

    /// Retry topics of delays that no handler has any more, by name, with their source.
    fn retry_topics_of_former_delays(&self, cluster: &Cluster) -> HashMap<String, String> {
        let of_source = |source| {
            let prefix = format!("{source}.{}.retry.", self.group);
            let names = cluster.partitions.keys().filter(move |name| {
                name.strip_prefix(&prefix).is_some_and(|delay| {
                    delay.starts_with(|c: char| c.is_ascii_digit())
                        && delay.chars().all(|c| c.is_ascii_alphanumeric())
                })
            });
            names.map(move |name| (name.clone(), String::clone(source)))
        };
        let found = self.own.keys().flat_map(of_source);
        found.filter(|(name, _)| !self.ours.contains_key(name)).collect()
    }

    /// Records which sources exist, and which retry topics of former delays.
    fn note_sources(&mut self, cluster: &Cluster) {
        self.former.extend(self.retry_topics_of_former_delays(cluster));
        let awaited = self.own.keys().filter(|topic| !cluster.has(topic));
        let awaited: Vec<String> = awaited.cloned().collect();
        for topic in awaited.iter().filter(|topic| !self.awaited.contains(topic)) {
            tracing::warn!(
                target: target::CONSUMER,
                group = self.group,
                topic,
                "the topic does not exist (yet), or this user may not describe it: the consumer waits for it, and looks every second. Is \
                 its name right?"
            );
        }
        self.awaited = awaited;
    }

    /// What is wrong with the topics for retries and dead letters that exist.
    fn faults(&self, cluster: &Cluster) -> Vec<(&str, Fault)> {
        let of_topic = |(name, (source, kind)): (_, &(String, Kind))| {
            let name: &String = name;
            let faults =
                faults(*kind, cluster.source(source), |setting| cluster.setting(name, setting));
            faults.into_iter().map(|fault| (name.as_str(), fault))
        };
        self.ours.iter().flat_map(of_topic).collect()
    }

    fn check(&self, cluster: &Cluster) -> Result<(), OutboxError> {
        let mut losing = Vec::new();
        for (topic, fault) in self.faults(cluster) {
            if fault.loses {
                losing.push(format!("`{topic}`: {fault}"));
            } else {
                tracing::warn!(target: target::CONSUMER, topic, "{fault} (`outbox topics diff`)");
            }
        }
        if losing.is_empty() {
            return Ok(());
        }
        Err(OutboxError::config(format!(
            "topics for retries and dead letters would lose events: {}. Nothing was consumed. Change them (`kafka-configs.sh --alter \
             --entity-type topics --entity-name NAME --add-config …`)",
            losing.join("; ")
        )))
    }
}

/// An error if Kafka refuses this name of a topic.
pub(super) fn legal(name: &str, of_what: &str) -> Result<(), OutboxError> {
    if is_legal_topic(name) {
        return Ok(());
    }
    Err(OutboxError::config(format!(
        "`{name}` ({} characters) would be the name of {of_what}, and Kafka refuses it: a topic's name may have letters, digits, \
         `.`, `_` and `-`, and {LONGEST_NAME} characters. Nothing was started. Choose another group or `topic_prefix`",
        name.chars().count()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    /// Of the group `shop`, whose handlers of `orders` have one retry topic.
    fn plan() -> Plan {
        plan_on("orders")
    }

    /// The same, where `topic` is the name of `orders` on the brokers.
    fn plan_on(topic: &str) -> Plan {
        let ours = [
            (dead_letter_topic(topic, "shop"), Kind::DeadLetters),
            (replay_topic(topic, "shop"), Kind::Replays),
            (retry_topic(topic, "shop", TEN_SECONDS), Kind::Retry(TEN_SECONDS)),
        ];
        Plan {
            group: "shop".to_owned(),
            own: BTreeMap::from([(topic.to_owned(), "orders")]),
            ours: ours.map(|(name, kind)| (name, (topic.to_owned(), kind))).into(),
            former: HashMap::new(),
            brokers: None,
            awaited: Vec::new(),
            longest_retry: TEN_SECONDS,
        }
    }

    /// A name, the number of partitions, and settings by name.
    type Topic<'t> = (&'t str, i32, &'t [(&'t str, &'t str)]);

    fn cluster(topics: &[Topic<'_>]) -> Cluster {
        let mut cluster = Cluster::default();
        for (topic, partitions, settings) in topics {
            cluster.partitions.insert((*topic).to_owned(), *partitions);
            let settings =
                settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            cluster.settings.insert((*topic).to_owned(), settings.collect());
        }
        cluster
    }

    fn setting<'m>(missing: &'m Missing<'_>, name: &str) -> &'m str {
        &missing.settings.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn what_is_missing_gets_the_partitions_and_the_room_of_its_source() {
        let plan = plan();
        let found = cluster(&[
            ("orders", 6, &[("max.message.bytes", "2000000")]),
            ("orders.shop.dlt", 6, &[]),
            ("orders.other.retry.10s", 6, &[]),
        ]);
        let missing = plan.missing(&found);
        let names: Vec<_> = missing.iter().map(|missing| missing.name).collect();
        assert_eq!(names, ["orders.shop.retry.0", "orders.shop.retry.10s"]);
        for missing in &missing {
            assert_eq!(missing.partitions, Some(6));
            assert_eq!(setting(missing, "max.message.bytes"), "2065536");
        }
    }

    #[test]
    fn without_their_source_all_are_missing_and_the_brokers_choose_the_partitions() {
        let plan = plan();
        let missing = plan.missing(&Cluster::default());
        assert_eq!(missing.len(), 3);
        assert!(missing.iter().all(|missing| missing.partitions.is_none()));
        let error = absent(&missing, "they are not created").to_string();
        assert!(missing.iter().all(|missing| error.contains(missing.name)), "{error}");
    }

    #[test]
    fn nothing_is_missing_where_all_exist_whatever_their_settings() {
        let plan = plan();
        let mut all: Vec<&str> = plan.ours.keys().map(String::as_str).collect();
        all.push("orders");
        let topics: Vec<_> = all.iter().map(|name| (*name, 1, &[][..])).collect();
        assert_eq!(plan.missing(&cluster(&topics)), []);
        assert!(plan.check(&cluster(&topics)).is_ok());
    }

    #[test]
    fn retry_topics_of_former_delays_are_still_consumed() {
        let mut plan = plan();
        let found = cluster(&[
            ("orders.shop.retry.1h30m", 1, &[]),
            ("orders.shop.retry.10s", 1, &[]),
            ("orders.shop.retry.0", 1, &[]),
            ("orders.shop.retry.by-hand", 1, &[]),
            ("orders.shopping.retry.1h", 1, &[]),
            ("payments.shop.retry.1h", 1, &[]),
        ]);
        plan.note_sources(&found);
        assert_eq!(
            plan.former,
            HashMap::from([("orders.shop.retry.1h30m".to_owned(), "orders".to_owned())])
        );
        assert!(plan.subscribed().contains(&"orders.shop.retry.1h30m"));
        assert_eq!(plan.awaited(), ["orders"], "of which there is none");
        plan.note_sources(&cluster(&[("orders", 1, &[])]));
        assert_eq!(plan.awaited(), [""; 0]);
    }

    #[test]
    fn with_a_prefix_all_names_are_those_on_the_brokers_and_an_event_has_the_topic_it_declares() {
        let mut plan = plan_on("e2e-orders");
        let found = cluster(&[
            ("orders", 3, &[]),
            ("orders.shop.retry.1h", 3, &[]),
            ("e2e-orders.shop.retry.1h", 1, &[]),
        ]);
        plan.note_sources(&found);
        assert_eq!(plan.awaited(), ["e2e-orders"], "another deployment's topic is not its own");
        let topics = [
            "e2e-orders",
            "e2e-orders.shop.retry.0",
            "e2e-orders.shop.retry.10s",
            "e2e-orders.shop.retry.1h",
        ];
        assert_eq!(plan.subscribed(), topics);
        for (i, topic) in topics.into_iter().enumerate() {
            let message = Message { topic: topic.to_owned(), ..Message::default() };
            let History { topic, from_retry_topic, .. } = plan.history(&message);
            assert_eq!((&*topic, from_retry_topic), ("orders", i > 0));
        }
    }

    #[test]
    fn a_topic_that_would_lose_events_is_refused_by_name() {
        let plan = plan();
        let found = cluster(&[
            ("orders.shop.retry.10s", 1, &[("retention.ms", "10000")]),
            ("orders.shop.retry.0", 1, &[("retention.bytes", "1")]),
            ("orders.shop.dlt", 1, &[("cleanup.policy", "compact")]),
        ]);
        let error = plan.check(&found).unwrap_err().to_string();
        for name in ["`orders.shop.retry.10s`", "`orders.shop.dlt`", "Nothing was consumed"] {
            assert!(error.contains(name), "{error}");
        }
        assert!(!error.contains("orders.shop.retry.0"), "that is a warning: {error}");
    }
}
