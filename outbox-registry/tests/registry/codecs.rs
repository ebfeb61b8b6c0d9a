//! Payloads are, byte for byte, those of Confluent's own serializers. `vectors.py` made them.

use outbox::DomainEvent;
use outbox::codec::{Codec, Decode, Encode};
use outbox_registry::{JsonSchema, Registry, RegistryErrorKind, SubjectStrategy};
use serde::{Deserialize, Serialize};

use crate::events::{AVRO, JSON, PROTO, PROTO_REORDERED, avro_event, protobuf_event};
use crate::stand_in::StandIn;

const ID: i32 = 0x0102_0304;

fn encoded<E: DomainEvent>(event: &E) -> Vec<u8> {
    let mut out = Vec::new();
    E::Codec::encode(event, &mut out).unwrap();
    out
}

fn decoded<E: DomainEvent<Codec: Decode<E>>>(payload: &[u8]) -> Result<E, String> {
    <E::Codec as Decode<E>>::decode(payload).map_err(|error| error.to_string())
}

#[test]
fn avro_is_what_confluents_serializer_writes() {
    // The record's name in the schema, and another one: apache-avro reads them in two ways.
    avro_event!(OrderPlaced, "avro", AVRO);
    avro_event!(Renamed, "renamed", AVRO);
    let stand_in = StandIn::start();
    stand_in.register("avro-value", ID, "AVRO", AVRO);
    stand_in.register("renamed-value", ID, "AVRO", AVRO);
    let registry = Registry::connect(stand_in.config()).unwrap();
    registry.emits::<OrderPlaced>().unwrap().reads::<OrderPlaced>().unwrap();
    registry.emits::<Renamed>().unwrap().reads::<Renamed>().unwrap();

    let payload = b"\x00\x01\x02\x03\x04\x06o-1\xc4\x13\x00";
    written_and_read(&OrderPlaced { order: "o-1".into(), cents: 1250, note: None }, payload);
    written_and_read(&Renamed { order: "o-1".into(), cents: 1250, note: None }, payload);
    let note = Some("fast".to_owned());
    let payload = b"\x00\x01\x02\x03\x04\x06o-1\xc4\x13\x02\x08fast";
    written_and_read(
        &OrderPlaced { order: "o-1".into(), cents: 1250, note: note.clone() },
        payload,
    );
    written_and_read(&Renamed { order: "o-1".into(), cents: 1250, note }, payload);
}

/// And neither with a byte too many, nor cut off anywhere.
fn written_and_read<E>(event: &E, payload: &[u8])
where
    E: DomainEvent<Codec: Decode<E>> + PartialEq + std::fmt::Debug,
{
    assert_eq!(encoded(event), payload);
    assert_eq!(decoded::<E>(payload).unwrap(), *event);
    let longer = [payload, b"\0"].concat();
    assert!(decoded::<E>(&longer).unwrap_err().contains("1 bytes are left"));
    for end in 0..payload.len() {
        assert!(decoded::<E>(&payload[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn protobuf_is_what_confluents_serializer_writes() {
    protobuf_event!(Placed, "protobuf", "shop.Placed", PROTO);
    let stand_in = StandIn::start();
    stand_in.register("protobuf-value", ID, "PROTOBUF", PROTO);
    Registry::connect(stand_in.config())
        .unwrap()
        .emits::<Placed>()
        .unwrap()
        .reads::<Placed>()
        .unwrap();
    let event = Placed { order: "o-1".into(), cents: 1250 };
    let payload = b"\x00\x01\x02\x03\x04\x02\x02\x0a\x03o-1\x10\xe2\x09";
    assert_eq!(encoded(&event), payload);
    assert_eq!(decoded::<Placed>(payload).unwrap(), event);
    // The first message of the file, whose field would be read as the order.
    let other = decoded::<Placed>(b"\x00\x01\x02\x03\x04\x00\x0a\x03o-1").unwrap_err();
    assert!(other.contains("message [0]") && other.contains("[1]"), "{other}");
}

#[test]
fn the_first_message_of_a_file_is_one_zero_and_a_nested_one_is_its_path() {
    protobuf_event!(Other, "first", "shop.Other", PROTO);
    protobuf_event!(Line, "line", "shop.Placed.Line", PROTO);
    protobuf_event!(Note, "note", "shop.Placed.Note", PROTO);
    let stand_in = StandIn::start();
    for subject in ["first-value", "line-value", "note-value"] {
        stand_in.register(subject, ID, "PROTOBUF", PROTO);
    }
    let registry = Registry::connect(stand_in.config()).unwrap();
    registry.emits::<Other>().unwrap().emits::<Line>().unwrap().emits::<Note>().unwrap();
    let (order, cents) = ("o-1".to_owned(), 0);
    let other = encoded(&Other { order: order.clone(), cents });
    assert_eq!(other, b"\x00\x01\x02\x03\x04\x00\x0a\x03o-1");
    let line = encoded(&Line { order: order.clone(), cents });
    assert_eq!(line, b"\x00\x01\x02\x03\x04\x04\x02\x00\x0a\x03o-1");
    assert_eq!(encoded(&Note { order, cents }), b"\x00\x01\x02\x03\x04\x04\x02\x02\x0a\x03o-1");
}

#[test]
fn a_message_is_where_the_registrys_text_has_it() {
    protobuf_event!(Placed, "reordered", "shop.Placed", PROTO);
    let stand_in = StandIn::start();
    let answer =
        serde_json::json!({ "id": ID, "schemaType": "PROTOBUF", "schema": PROTO_REORDERED });
    stand_in.answer(200, answer.to_string());
    Registry::connect(stand_in.config()).unwrap().emits::<Placed>().unwrap();
    let payload = encoded(&Placed { order: "o-1".into(), cents: 1250 });
    assert_eq!(payload, b"\x00\x01\x02\x03\x04\x00\x0a\x03o-1\x10\xe2\x09");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "json", name = "order.placed", codec = JsonSchema, unlocked)]
struct Placed {
    #[event(key)]
    order: String,
    cents: i64,
}
outbox_registry::json_schema!(Placed, JSON);

#[test]
fn json_is_what_confluents_serializer_writes() {
    let stand_in = StandIn::start();
    stand_in.register("json-value", ID, "JSON", JSON);
    Registry::connect(stand_in.config()).unwrap().emits::<Placed>().unwrap();
    let event = Placed { order: "o-1".into(), cents: 1250 };
    let payload = b"\x00\x01\x02\x03\x04{\"order\":\"o-1\",\"cents\":1250}";
    assert_eq!(encoded(&event), payload);
    assert_eq!(decoded::<Placed>(payload).unwrap(), event);
    let bare = decoded::<Placed>(br#"{"order":"o-1","cents":1}"#).unwrap_err();
    assert!(bare.contains("the byte 7b and not with 00"), "{bare}");
}

#[test]
fn several_events_of_a_topic_have_subjects_of_their_own() {
    avro_event!(Placed, "several", AVRO);
    let stand_in = StandIn::start();
    stand_in.register("eu.several-shop.OrderPlaced", 7, "AVRO", AVRO);
    let by_topic = Registry::connect(stand_in.config()).unwrap();
    let error = by_topic.emits::<Placed>().unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::NotRegistered);
    let config = stand_in.config().subjects(SubjectStrategy::TopicRecordName).topic_prefix("eu.");
    Registry::connect(config).unwrap().emits::<Placed>().unwrap();
    let event = Placed { order: "o-1".into(), cents: 1, note: None };
    assert_eq!(encoded(&event)[..5], [0, 0, 0, 0, 7]);
}

#[test]
fn no_payload_with_an_id_says_that_it_is_plain_json() {
    // A tool that believes it would fail at the first byte; and contracts compare it.
    assert_eq!(JsonSchema::CONTENT_TYPE, "application/x-confluent-json");
    assert_eq!(Placed::DESCRIPTORS[0].content_type, JsonSchema::CONTENT_TYPE);
}
