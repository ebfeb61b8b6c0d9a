//! A consumer in Java reads what an outbox published. Kafka is that of `KAFKA_BROKERS`.
//!
//! The deserializer is Apicurio's, set to the framing of Confluent's clients, which are not on Maven
//! Central. The registry is a stand-in.

use std::process::Command;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use outbox_registry::Registry;
use sqlx::sqlite::SqlitePoolOptions;

use crate::events::{AVRO, avro_event};
use crate::stand_in::StandIn;

avro_event!(Placed, "java", AVRO);

#[tokio::test]
async fn a_consumer_in_java_reads_an_event_in_avro() {
    let kafka = std::env::var("KAFKA_BROKERS").expect(
        "KAFKA_BROKERS is not set: run `eval \"$(cargo xtask up)\"`, or `cargo xtask test`",
    );
    let prefix = format!("{}.", uuid::Uuid::now_v7());
    let topic = format!("{prefix}java");
    let stand_in = StandIn::start();
    stand_in.register(&format!("{topic}-value"), 0x0102_0304, "AVRO", AVRO);
    Registry::connect(stand_in.config().topic_prefix(&prefix)).unwrap().emits::<Placed>().unwrap();

    let pool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(Placed { order: "o-1".into(), cents: 1250, note: None }).unwrap();
    tx.emit(Placed { order: "o-1".into(), cents: -3, note: Some("schön".into()) }).unwrap();
    tx.commit().await.unwrap();
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build().unwrap();
    assert_eq!(Relay::new(outbox, publisher).drain().await.unwrap(), 2);

    let java = xtask::avro_consumer(&kafka, &topic, &stand_in.url, 2).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "120"]).arg(java.get_program()).args(java.get_args());
    command.envs(java.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = command.output().expect("`timeout` runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}", ran.status);
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "{\"order\": \"o-1\", \"cents\": 1250, \"note\": null}\n\
         {\"order\": \"o-1\", \"cents\": -3, \"note\": \"schön\"}\n"
    );
}
