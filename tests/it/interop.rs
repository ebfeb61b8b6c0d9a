//! Clients of others read what a relay publishes with its default settings.

use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox};
use serde::Serialize;
use serde_json::{Value, json};
use xtask::Reader;

use crate::support::relays::drain_to;
use crate::support::{kafka, migrated, sqlite};

#[derive(Serialize, DomainEvent)]
#[event(topic = "interop", name = "order.placed", version = 2, unlocked)]
struct Placed {
    #[event(key)]
    customer: &'static str,
    #[event(header = "tenant")]
    tenant: &'static str,
    total: i64,
}

/// Publishes an event that is easily read wrong, and returns its id and its payload.
async fn published(prefix: &str) -> (String, Value) {
    let (pool, _directory) = sqlite(1).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let (customer, tenant, total) = ("Åsa \u{1f600}", "tñ", i64::MAX);
    let mut tx = outbox.begin().await.unwrap();
    let id = tx.emit(Placed { customer, tenant, total }).unwrap();
    tx.commit().await.unwrap();
    let publisher = KafkaPublisher::builder(kafka()).topic_prefix(prefix).build().unwrap();
    assert_eq!(drain_to(&outbox, publisher).await, 1);
    (id.to_string(), json!({ "customer": customer, "tenant": tenant, "total": total }))
}

fn prefix() -> String {
    format!("{}.", uuid::Uuid::now_v7())
}

fn read(reader: Reader<'_>, prefix: &str) -> String {
    let read = reader.read(&kafka(), &format!("{prefix}interop"), 1).unwrap();
    assert_eq!(read.len(), 1, "{read:?}");
    read.into_iter().next().unwrap()
}

#[tokio::test]
async fn kcat_reads_key_headers_and_payload() {
    let prefix = prefix();
    let (id, payload) = published(&prefix).await;
    let record: Value = serde_json::from_str(&read(Reader::Kcat, &prefix)).unwrap();
    assert_eq!(record["key"], payload["customer"]);
    let sent: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
    assert_eq!(sent, payload);
    let headers = record["headers"].as_array().unwrap();
    let header = |name: &str| {
        let at = headers.iter().step_by(2).position(|header| header == name);
        headers[2 * at.unwrap_or_else(|| panic!("{name} in {headers:?}")) + 1].as_str().unwrap()
    };
    assert_eq!(header("ce_id"), id);
    assert_eq!(header("ce_type"), "order.placed");
    assert_eq!(header("ce_dataversion"), "2");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("tenant"), "tñ");
}

#[tokio::test]
async fn the_sdk_of_cloud_events_for_java_reads_a_record_as_an_event() {
    let prefix = prefix();
    let (id, payload) = published(&prefix).await;
    let event = read(Reader::CloudEventsForJava, &prefix);
    for part in [
        &format!("CloudEvent{{id='{id}', source="),
        "type='order.placed'",
        "datacontenttype='application/json'",
        "dataversion=2",
    ] {
        assert!(event.contains(part), "{part} in {event}");
    }
    // As Java shows bytes: with a sign.
    let (_, data) = event.split_once("BytesCloudEventData{value=[").unwrap();
    let (data, _) = data.split_once(']').unwrap();
    let data: Vec<u8> =
        data.split(", ").map(|byte| byte.parse::<i8>().unwrap().cast_unsigned()).collect();
    assert_eq!(serde_json::from_slice::<Value>(&data).unwrap(), payload);
}

#[tokio::test]
async fn the_sdk_of_cloud_events_for_python_reads_a_record_as_an_event() {
    let prefix = prefix();
    let (id, payload) = published(&prefix).await;
    let event: Value = serde_json::from_str(&read(Reader::CloudEventsForPython, &prefix)).unwrap();
    // As text: other clients write a larger number otherwise.
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("id", &*id),
        ("type", "order.placed"),
        ("dataversion", "2"),
        ("datacontenttype", "application/json"),
        ("partitionkey", payload["customer"].as_str().unwrap()),
    ] {
        assert_eq!(event[attribute], value, "{event}");
    }
    let time = event["time"].as_str().unwrap();
    assert!(time.ends_with("+00:00"), "a time that is read, in UTC: {time}");
    assert_eq!(event["data"], payload);
}

#[tokio::test]
async fn springs_deserializer_reads_a_payload() {
    let prefix = prefix();
    published(&prefix).await;
    let read = read(Reader::Spring, &prefix);
    assert_eq!(read, "{customer=Åsa \u{1f600}, tenant=tñ, total=9223372036854775807}");
}
