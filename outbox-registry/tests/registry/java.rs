//! A registry that is none of ours, and consumers in Java that read by it what an outbox published.
//! Kafka is that of `KAFKA_BROKERS`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use outbox::codec::{Decode, Encode};
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use outbox_registry::{
    Avro, Checked, Registry, RegistryConfig, RegistryErrorKind, Schema, SchemaFormat,
};
use sqlx::sqlite::SqlitePoolOptions;
use xtask::servers::SchemaRegistry;
use xtask::{Reader, ScratchDir};

use crate::events::{
    AVRO, AVRO_2, NOTE, NOTED, NOTED_EVENT, PROTO, TEXT, avro_event, framed, protobuf_event,
};

/// One registry for the tests that run at the same time.
struct Server {
    registry: SchemaRegistry,
    // Removed after it has ended.
    _scratch: ScratchDir,
}

fn server() -> Arc<Server> {
    static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let scratch = ScratchDir::new("registry").unwrap();
        let registry = SchemaRegistry::start(scratch.path()).unwrap();
        let server = Arc::new(Server { registry, _scratch: scratch });
        *running = Arc::downgrade(&server);
        server
    })
}

/// Topics of one test.
fn prefix() -> String {
    format!("{}.", uuid::Uuid::now_v7())
}

fn kafka() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: run `eval \"$(cargo xtask up)\"`, or `cargo xtask test`")
}

async fn publish<E: DomainEvent>(prefix: &str, events: Vec<E>) {
    let pool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    let outbox = Outbox::new(pool);
    outbox.migrate().await.unwrap();
    let mut tx = outbox.begin().await.unwrap();
    let published = events.len() as u64;
    tx.emit_all(events).unwrap();
    tx.commit().await.unwrap();
    let publisher = KafkaPublisher::builder(kafka()).topic_prefix(prefix).build().unwrap();
    assert_eq!(Relay::new(outbox, publisher).drain().await.unwrap(), published);
}

avro_event!(Placed, "java", AVRO);
protobuf_event!(Shipped, "shipments", "shop.Placed", PROTO);

/// With which Java compares what it reads.
const TAKEN: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "PaymentTaken",
    "type": "object", "required": ["order", "cents"],
    "properties": {"order": {"type": "string"}, "cents": {"type": "integer"}}}"#;

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "payments", name = "payment.taken", codec = outbox_registry::JsonSchema, unlocked)]
struct Taken {
    #[event(key)]
    order: String,
    cents: i64,
}
outbox_registry::json_schema!(Taken, TAKEN);

fn id_in<E: DomainEvent>(event: &E) -> i32 {
    let mut payload = Vec::new();
    E::Codec::encode(event, &mut payload).unwrap();
    i32::from_be_bytes(payload[1..5].try_into().unwrap())
}

#[tokio::test]
async fn a_consumer_in_java_reads_an_event_in_avro_by_a_registry() {
    let server = &server().registry;
    let prefix = prefix();
    let topic = format!("{prefix}java");
    let config = RegistryConfig::new(server.url()).topic_prefix(&prefix);
    let registry = Registry::connect(config).unwrap();

    // In the order of a deployment.
    let missing = registry.emits::<Placed>().unwrap_err();
    assert_eq!(missing.kind(), RegistryErrorKind::NotRegistered, "{missing}");
    let subject = format!("{topic}-value");
    let check = |text| registry.check_schema(&subject, &Schema::new(SchemaFormat::Avro, text));
    assert_eq!(check(AVRO).unwrap(), Checked::New);
    let id = registry.register::<Placed>().unwrap();
    assert_eq!(check(AVRO).unwrap(), Checked::Registered(id));
    registry.emits::<Placed>().unwrap().reads::<Placed>().unwrap();

    let placed = Placed { order: "o-1".into(), cents: 1250, note: None };
    assert_eq!(id_in(&placed), id);
    let noted = Placed { order: "o-1".into(), cents: -3, note: Some("schön".into()) };
    publish(&prefix, vec![placed, noted]).await;
    assert_eq!(
        Reader::Avro(server).read(&kafka(), &topic, 2).unwrap(),
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
}

#[tokio::test]
async fn a_consumer_in_java_reads_json_by_its_schema() {
    let server = &server().registry;
    let prefix = prefix();
    let config = RegistryConfig::new(server.url()).topic_prefix(&prefix);
    let registry = Registry::connect(config).unwrap();
    let id = registry.register::<Taken>().unwrap();
    registry.emits::<Taken>().unwrap().reads::<Taken>().unwrap();
    let taken = Taken { order: "schön".into(), cents: -3 };
    assert_eq!(id_in(&taken), id);
    publish(&prefix, vec![taken]).await;
    assert_eq!(
        Reader::JsonSchema(server).read(&kafka(), &format!("{prefix}payments"), 1).unwrap(),
        [r#"{"order":"schön","cents":-3}"#]
    );
}

#[test]
fn a_schema_of_protobuf_is_found_by_the_registry_that_has_it() {
    let server = &server().registry;
    let config = RegistryConfig::new(server.url()).topic_prefix(prefix());
    let registry = Registry::connect(config).unwrap();
    let id = registry.register::<Shipped>().unwrap();
    registry.emits::<Shipped>().unwrap().reads::<Shipped>().unwrap();
    assert_eq!(id_in(&Shipped { order: "o-1".into(), cents: 1 }), id);
}

#[test]
fn schemas_that_refer_to_others_are_registered_and_read() {
    avro_event!(Noted, "noted", AVRO);
    let server = &server().registry;
    let prefix = prefix();
    let config = RegistryConfig::new(server.url()).topic_prefix(&prefix);
    let registry = Registry::connect(config).unwrap();
    let of = |name: &str| format!("{prefix}{name}");
    let avro = |text| Schema::new(SchemaFormat::Avro, text);
    let register = |subject: &str, schema| registry.register_schema(&of(subject), &schema).unwrap();
    register("texts", avro(TEXT));
    let note = avro(NOTE).reference("shop.Text", of("texts"), 1);
    register("notes", note.clone());
    let noted = avro(NOTED).reference("shop.Note", of("notes"), 1);
    let id = register("noted-value", noted.clone());
    let checked = registry.check_schema(&of("noted-value"), &noted).unwrap();
    assert_eq!(checked, Checked::Registered(id));
    registry.reads::<Noted>().unwrap();
    let event: Noted = Avro::decode(&framed(id, NOTED_EVENT)).unwrap();
    assert_eq!(event, Noted { order: "o-1".into(), cents: 1250, note: None });
}

#[test]
fn a_registry_with_tls_is_asked_if_its_authority_is_trusted_and_else_it_is_said_what_to_do() {
    let server = &server().registry;
    let config = || RegistryConfig::new(server.secure_url()).basic_auth("orders", "s3cret");
    let check = |config| {
        let registry = Registry::connect(config).unwrap();
        registry.check_schema("tls-value", &Schema::new(SchemaFormat::Avro, AVRO))
    };
    let pem = |path: PathBuf| fs::read(path).unwrap();
    let certificates = server.certificates();
    let trusted = config().certificates(pem(certificates.authority()));
    assert_eq!(check(trusted).unwrap(), Checked::New);
    let other = config().certificates(pem(certificates.other_authority()));
    for untrusted in [config(), other] {
        let error = check(untrusted).unwrap_err();
        assert_eq!(error.kind(), RegistryErrorKind::Config, "{error}");
        let said = format!("{error} {error:?}");
        for part in ["certificate", "nothing was sent", "RegistryConfig::certificates"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // The second one is Base64 of both.
        assert!(!said.contains("s3cret") && !said.contains("b3JkZXJzOnMzY3JldA"), "{said}");
    }
}
