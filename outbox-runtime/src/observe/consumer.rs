//! Reports metrics of consumers and of clients of Kafka. Without the feature `metrics`, all of this
//! does nothing.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::meter::Meter;
#[cfg(feature = "metrics")]
use super::{labels::OTHERS, meter::age, table::name};
use crate::consume::ErrorClass;

/// An event in labels.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
pub(crate) struct HandledEvent<'e> {
    pub(crate) topic: &'e str,
    /// Name of an event that has a handler. `None`: it has none, and its name may be anything.
    pub(crate) name: Option<&'e str>,
}

impl Meter {
    #[cfg(feature = "metrics")]
    fn of_event(&self, event: HandledEvent<'_>) -> [(&'static str, String); 2] {
        let HandledEvent { topic, name } = event;
        [("topic", topic.to_owned()), ("event", name.unwrap_or(OTHERS).to_owned())]
    }

    /// Has a consumer appear with zeros: `events` are those that it handles.
    pub(crate) fn register_consumer(
        &self,
        events: impl IntoIterator<Item = (&'static str, &'static str)>,
        results: &[&'static str],
    ) {
        #[cfg(not(feature = "metrics"))]
        let _ = (events, results);
        #[cfg(feature = "metrics")]
        for (topic, event) in events {
            let event = HandledEvent { topic, name: Some(event) };
            for result in results {
                self.count_handled(event, result, 0);
            }
            for class in [ErrorClass::Transient, ErrorClass::Permanent] {
                self.count_failed(event, class, 0);
            }
            // A handle is enough.
            drop(metrics::histogram!(name::HANDLING, self.labels(self.of_event(event))));
            self.topic_lag(topic, 0);
            self.oldest_of_topic(topic, None);
        }
    }

    /// Counts an event that is done.
    pub(crate) fn handled(&self, event: HandledEvent<'_>, result: &'static str) {
        #[cfg(feature = "metrics")]
        self.count_handled(event, result, 1);
        let _ = (event, result);
    }

    #[cfg(feature = "metrics")]
    fn count_handled(&self, event: HandledEvent<'_>, result: &'static str, by: u64) {
        let more = self.of_event(event).into_iter().chain([("result", result.to_owned())]);
        metrics::counter!(name::HANDLED, self.labels(more)).increment(by);
    }

    pub(crate) fn handler_failed(&self, event: HandledEvent<'_>, class: ErrorClass) {
        #[cfg(feature = "metrics")]
        self.count_failed(event, class, 1);
        let _ = (event, class);
    }

    #[cfg(feature = "metrics")]
    fn count_failed(&self, event: HandledEvent<'_>, class: ErrorClass, by: u64) {
        let class = [("class", class.as_str().to_owned())];
        let more = self.of_event(event).into_iter().chain(class);
        metrics::counter!(name::HANDLER_FAILURES, self.labels(more)).increment(by);
    }

    /// Measures the time of an attempt.
    pub(crate) async fn handling<T>(
        &self,
        event: HandledEvent<'_>,
        attempt: impl Future<Output = T>,
    ) -> T {
        let begun = Instant::now();
        let attempted = attempt.await;
        self.handling_took(event, begun.elapsed());
        attempted
    }

    /// Reports the time of an attempt.
    pub(crate) fn handling_took(&self, event: HandledEvent<'_>, time: Duration) {
        #[cfg(feature = "metrics")]
        metrics::histogram!(name::HANDLING, self.labels(self.of_event(event)))
            .record(time.as_secs_f64());
        let _ = (event, time);
    }

    /// Reports how many messages of a topic are not done.
    pub(crate) fn topic_lag(&self, topic: &str, messages: u64) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(name::CONSUMER_LAG, self.labels([("topic", topic.to_owned())]))
            .set(messages as f64);
        let _ = (topic, messages);
    }

    /// Reports when the oldest message of a topic that is in hand was written.
    pub(crate) fn oldest_of_topic(&self, topic: &str, written: Option<SystemTime>) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(name::CONSUMER_OLDEST, self.labels([("topic", topic.to_owned())]))
            .set(written.map_or(0.0, age));
        let _ = (topic, written);
    }

    pub(crate) fn consumer_broker_up(&self, up: bool) {
        #[cfg(feature = "metrics")]
        {
            let group = self.group().map(|group| metrics::Label::new("group", group.clone()));
            let client = metrics::Label::from_static_parts("client", "consumer");
            let labels: Vec<_> = [client].into_iter().chain(group).collect();
            metrics::gauge!(name::BROKER_UP, labels).set(f64::from(u8::from(up)));
        }
        let _ = up;
    }
}

pub(crate) fn publisher_broker_up(up: bool) {
    #[cfg(feature = "metrics")]
    metrics::gauge!(name::BROKER_UP, "client" => "publisher").set(f64::from(u8::from(up)));
    let _ = up;
}

/// Open dead letters of a group. They are of no outbox: the group's inbox may be anywhere.
pub(crate) fn dead_letters_open(group: &str, topic: &str, open: u64) {
    #[cfg(feature = "metrics")]
    {
        let labels = [("group", group.to_owned()), ("topic", topic.to_owned())];
        metrics::gauge!(name::DEAD_LETTERS_OPEN, &labels).set(open as f64);
    }
    let _ = (group, topic, open);
}

/// Whether librdkafka is connected to a broker, by its statistics.
pub(crate) fn is_connected(statistics: &rdkafka::Statistics) -> bool {
    statistics.brokers.values().any(|broker| is_connected_in(&broker.state))
}

/// Whether librdkafka is connected to a broker in this state.
pub(crate) fn is_connected_in(state: &str) -> bool {
    // `UPDATE`: connected, and asking for metadata.
    matches!(state, "UP" | "UPDATE")
}
