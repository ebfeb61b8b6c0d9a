//! What arrives in Kafka.

use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::Sqlite;
use uuid::Uuid;

use super::support::*;

struct Topic {
    admin: AdminClient<DefaultClientContext>,
    prefix: String,
}

impl Topic {
    fn new() -> Self {
        let prefix = format!("tail-{}-", Uuid::now_v7().simple());
        let client = ClientConfig::new().set("bootstrap.servers", server("KAFKA_BROKERS")).clone();
        Self { admin: client.create().unwrap(), prefix }
    }

    async fn create(&self) {
        let name = format!("{}orders", self.prefix);
        let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1));
        for created in self.admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
    }

    async fn publish(&self, outbox: &Outbox<Sqlite>) {
        let publisher =
            KafkaPublisher::builder(&*server("KAFKA_BROKERS")).topic_prefix(&self.prefix);
        let drain = Relay::new(outbox.clone(), publisher.build().unwrap()).drain();
        tokio::time::timeout(BOUND, drain).await.unwrap().unwrap();
    }

    fn tail(&self, arguments: &[&str]) -> Tail {
        let brokers = server("KAFKA_BROKERS");
        let kafka =
            ["-b", &brokers, "--topic-prefix", &self.prefix, "--topic", "orders", "-o", "json"];
        Tail::start(&[&kafka[..], arguments].concat())
    }

    async fn delete(&self) {
        let name = format!("{}orders", self.prefix);
        let deleted = self.admin.delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
        deleted[0].as_ref().unwrap();
    }
}

#[tokio::test]
async fn what_arrives_in_kafka_is_shown_from_the_end_or_from_a_time() {
    let (file, topic) = (File::new().await, Topic::new());
    topic.create().await;
    let old = emit(&file.outbox, placed("ann")).await;
    topic.publish(&file.outbox).await;
    let new_only = topic.tail(&["--from", "kafka", "-n", "1", "--payload", "json"]);
    let since = topic.tail(&["--from", "kafka", "--since", "1h", "--key", "ann", "-n", "2"]);
    let both = topic.tail(&["--from", "both", "-D", &file.url, "-n", "2"]);
    let none = topic.tail(&["--from", "kafka", "--since", "1h", "--name", "order.paid"]);
    for tail in [&new_only, &since, &both, &none] {
        tail.until_said("following the topic orders");
    }
    let new = emit(&file.outbox, placed("ann")).await;
    let seen = both.json();
    assert_eq!((&seen["from"], &seen["id"]), (&"outbox".into(), &new.to_string().into()));
    topic.publish(&file.outbox).await;
    stable().bind(|| insta::assert_snapshot!(new_only.line(), @r#"{"from":"kafka","occurred_at":"[time]","topic":"orders","seq":null,"lane":null,"partition":0,"offset":1,"key":"ann","key_hex":null,"name":"order.placed","version":2,"id":"[----------------id----------------]","payload_bytes":37,"payload":{"customer":"ann","email":"ann@shop"},"payload_hex":null,"payload_hidden":null}"#));
    let seen = both.json();
    assert_eq!((&seen["from"], &seen["id"]), (&"kafka".into(), &new.to_string().into()));
    assert_eq!(
        [since.json()["id"].clone(), since.json()["id"].clone()],
        [old, new].map(|id| id.to_string())
    );
    for tail in [new_only, since, both] {
        assert_eq!(tail.ended().code(), Some(0));
    }
    none.terminate();
    assert!(none.lines.recv_timeout(BOUND).is_err(), "it shows what was not asked for");
    topic.delete().await;
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_waited_for_and_shown_from_its_beginning() {
    let (file, topic) = (File::new().await, Topic::new());
    let tail = topic.tail(&["--from", "kafka", "-n", "1"]);
    tail.until_said("the topic orders does not exist (yet)");
    topic.create().await;
    let id = emit(&file.outbox, placed("ann")).await;
    topic.publish(&file.outbox).await;
    assert_eq!(tail.json()["id"], id.to_string());
    assert_eq!(tail.ended().code(), Some(0));
    topic.delete().await;
}
