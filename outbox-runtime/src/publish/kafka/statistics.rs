//! What is read of librdkafka's statistics. They have about 2 KB for each partition, every second;
//! of rdkafka's own `Statistics`, which has all of it, a producer of many topics would use a few
//! fields.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Statistics<'s> {
    #[serde(borrow)]
    brokers: HashMap<String, Broker<'s>>,
    #[serde(borrow)]
    pub(super) topics: HashMap<String, Topic<'s>>,
}

#[derive(Deserialize)]
struct Broker<'s> {
    #[serde(borrow)]
    state: Cow<'s, str>,
}

#[derive(Deserialize)]
pub(super) struct Topic<'s> {
    #[serde(borrow, rename = "topic")]
    pub(super) name: Cow<'s, str>,
    pub(super) partitions: HashMap<String, Partition>,
}

/// librdkafka's counters of a partition. Of a topic whose partitions are not known yet, it has the
/// number -1.
#[derive(Deserialize)]
pub(super) struct Partition {
    #[serde(rename = "partition")]
    pub(super) id: i32,
    /// Events that wait to be sent,
    #[serde(rename = "msgq_cnt")]
    pub(super) queued: i64,
    /// that wait to be put into a request,
    #[serde(rename = "xmit_msgq_cnt")]
    pub(super) to_transmit: i64,
    /// and that are with a broker.
    #[serde(rename = "msgs_inflight")]
    pub(super) in_flight: i64,
    /// Number of the last event that was acknowledged.
    #[serde(rename = "acked_msgid")]
    pub(super) acknowledged: u64,
    /// Events sent, repetitions included.
    #[serde(rename = "txmsgs")]
    pub(super) sent: u64,
}

impl Statistics<'_> {
    /// Whether the client is connected to a broker.
    pub(super) fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| crate::observe::is_connected_in(&broker.state))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::client::ClientContext;
    use rdkafka::config::FromClientConfigAndContext;
    use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

    use super::*;

    /// Passes on the statistics of a producer.
    struct Raw(std::sync::mpsc::Sender<Vec<u8>>);

    impl ClientContext for Raw {
        fn stats_raw(&self, statistics: &[u8]) {
            let _ = self.0.send(statistics.to_vec());
        }
    }

    impl ProducerContext for Raw {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
    }

    /// Of the librdkafka that is linked, which may call its fields differently one day: stalled
    /// topics would never be found.
    #[test]
    fn the_statistics_of_librdkafka_say_what_waits_for_a_topic_that_takes_nothing() {
        let (told, statistics) = std::sync::mpsc::channel();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1").set("statistics.interval.ms", "10");
        let producer: ThreadedProducer<Raw> =
            ThreadedProducer::from_config_and_context(&config, Raw(told)).unwrap();
        let topic = "a-topic";
        producer.send(BaseRecord::<[u8], [u8]>::to(topic).payload(b"an event")).unwrap();
        let waiting =
            std::iter::from_fn(|| statistics.recv_timeout(std::time::Duration::from_secs(30)).ok())
                .find_map(|raw| {
                    let parsed: Statistics<'_> = serde_json::from_slice(&raw).unwrap();
                    assert!(!parsed.is_connected(), "no broker is there");
                    let topic = parsed.topics.get(topic)?;
                    let waiting = topic.partitions.values().map(|of| of.queued + of.to_transmit);
                    (waiting.sum::<i64>() == 1).then(|| topic.name.clone().into_owned())
                });
        assert_eq!(waiting.as_deref(), Some(topic));
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }

    #[test]
    fn a_partition_is_read_with_all_its_counters() {
        let raw = br#"{"name": "outbox#producer-1", "ts": 1, "msg_cnt": 3,
            "brokers": {"b:9092/1": {"name": "b:9092/1", "state": "UPDATE", "req": {"Produce": 2}}},
            "topics": {"orders": {"topic": "orders", "age": 7, "batchsize": {"min": 0}, "partitions": {
                "3": {"partition": 3, "broker": 1, "msgq_cnt": 1, "msgq_bytes": 9, "xmit_msgq_cnt": 2,
                      "msgs_inflight": 4, "txmsgs": 5, "acked_msgid": 6}}}}}"#;
        let read: Statistics<'_> = serde_json::from_slice(raw).unwrap();
        assert!(read.is_connected());
        let Partition { id, queued, to_transmit, in_flight, acknowledged, sent } =
            read.topics["orders"].partitions["3"];
        assert_eq!((id, queued, to_transmit, in_flight, acknowledged, sent), (3, 1, 2, 4, 6, 5));
    }
}
