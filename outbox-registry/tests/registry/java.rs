//! A registry that is none of ours, and a consumer in Java that reads by it what an outbox
//! published. Kafka is that of `KAFKA_BROKERS`.

use outbox::DomainEvent;
use outbox::codec::Encode;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use outbox_registry::{Checked, Registry, RegistryConfig, RegistryErrorKind, Schema, SchemaFormat};
use sqlx::sqlite::SqlitePoolOptions;
use xtask::servers::SchemaRegistry;
use xtask::{Reader, ScratchDir};

use crate::events::{AVRO, AVRO_2, JSON, PROTO, avro_event, protobuf_event};

avro_event!(Placed, "java", AVRO);
protobuf_event!(Shipped, "shipments", "shop.Placed", PROTO);

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "payments", name = "payment.taken", codec = outbox_registry::JsonSchema, unlocked)]
struct Taken {
    #[event(key)]
    order: String,
}
outbox_registry::json_schema!(Taken, JSON);

fn id_in<E: DomainEvent>(event: &E) -> i32 {
    let mut payload = Vec::new();
    E::Codec::encode(event, &mut payload).unwrap();
    i32::from_be_bytes(payload[1..5].try_into().unwrap())
}

#[tokio::test]
async fn a_consumer_in_java_reads_an_event_in_avro_by_a_registry() {
    let kafka = std::env::var("KAFKA_BROKERS").expect(
        "KAFKA_BROKERS is not set: run `eval \"$(cargo xtask up)\"`, or `cargo xtask test`",
    );
    let scratch = ScratchDir::new("registry").unwrap();
    let server = SchemaRegistry::start(scratch.path()).unwrap();
    let prefix = format!("{}.", uuid::Uuid::now_v7());
    let topic = format!("{prefix}java");
    let registry =
        Registry::connect(RegistryConfig::new(server.url()).topic_prefix(&prefix)).unwrap();

    // In the order of a deployment.
    let missing = registry.emits::<Placed>().unwrap_err();
    assert_eq!(missing.kind(), RegistryErrorKind::NotRegistered, "{missing}");
    let subject = format!("{topic}-value");
    let check = |text| registry.check_schema(&subject, &Schema::new(SchemaFormat::Avro, text));
    assert_eq!(check(AVRO).unwrap(), Checked::New);
    let id = registry.register::<Placed>().unwrap();
    assert_eq!(check(AVRO).unwrap(), Checked::Registered(id));
    registry.emits::<Placed>().unwrap().reads::<Placed>().unwrap();

    let pool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    let placed = Placed { order: "o-1".into(), cents: 1250, note: None };
    assert_eq!(id_in(&placed), id);
    tx.emit(placed).unwrap();
    tx.emit(Placed { order: "o-1".into(), cents: -3, note: Some("schön".into()) }).unwrap();
    tx.commit().await.unwrap();
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build().unwrap();
    assert_eq!(Relay::new(outbox, publisher).drain().await.unwrap(), 2);

    assert_eq!(
        Reader::Avro(&server).read(&kafka, &topic, 2).unwrap(),
        [
            r#"{"order": "o-1", "cents": 1250, "note": null}"#,
            r#"{"order": "o-1", "cents": -3, "note": "schön"}"#
        ]
    );

    // A version that readers of the first one could not read.
    server.set_compatibility(&subject, "FULL_TRANSITIVE").unwrap();
    let incompatible = check(AVRO_2).unwrap_err();
    assert_eq!(incompatible.kind(), RegistryErrorKind::Incompatible, "{incompatible}");
    assert!(incompatible.to_string().contains("customer"), "{incompatible}");
    let refused =
        registry.register_schema(&subject, &Schema::new(SchemaFormat::Avro, AVRO_2)).unwrap_err();
    assert_eq!(refused.kind(), RegistryErrorKind::Incompatible, "{refused}");

    let id = registry.register::<Shipped>().unwrap();
    registry.emits::<Shipped>().unwrap().reads::<Shipped>().unwrap();
    assert_eq!(id_in(&Shipped { order: "o-1".into(), cents: 1 }), id);
    let id = registry.register::<Taken>().unwrap();
    registry.emits::<Taken>().unwrap().reads::<Taken>().unwrap();
    assert_eq!(id_in(&Taken { order: "o-1".into() }), id);
}
