//! What a consumer reads that was written by another schema than its own.

use outbox::DomainEvent;
use outbox::codec::{Decode, Encode};
use outbox_registry::{Avro, RegisteredEvent, Registry, RegistryErrorKind};

use crate::events::{AVRO, AVRO_2, NOTE, NOTED, NOTED_EVENT, TEXT, avro_event, framed};
use crate::stand_in::StandIn;

/// `{"order": "o-1", "customer": "c", "cents": 1250, "note": null}` by the second schema.
fn second(id: u8) -> Vec<u8> {
    [&[0, 0, 0, 0, id][..], b"\x06o-1\x02c\xc4\x13\x00"].concat()
}

/// Is not there in all versions.
const WITHOUT_CENTS: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"}]}"#;

/// A registry with the event's own schema, with the id 1, which is read at start.
fn read_by_its_own_schema<E>(subject: &str) -> StandIn
where
    E: DomainEvent<Codec = Avro> + RegisteredEvent<Avro>,
{
    let stand_in = StandIn::start();
    stand_in.register(subject, 1, "AVRO", AVRO);
    Registry::connect(stand_in.config()).unwrap().reads::<E>().unwrap();
    stand_in
}

#[test]
fn an_event_of_another_version_is_read_by_the_schema_that_wrote_it() {
    avro_event!(Placed, "versions", AVRO);
    let stand_in = StandIn::start();
    stand_in.register("versions-value", 1, "AVRO", WITHOUT_CENTS);
    stand_in.register("versions-value", 2, "AVRO", AVRO_2);
    Registry::connect(stand_in.config()).unwrap().reads::<Placed>().unwrap();
    let asked = stand_in.asked().len();
    let event: Placed = Avro::decode(&second(2)).unwrap();
    assert_eq!(event, Placed { order: "o-1".into(), cents: 1250, note: None });
    // One that lacks what the type needs cannot be, and no attempt would help.
    let error = <Avro as Decode<Placed>>::decode(b"\0\0\0\0\x01\x06o-1").unwrap_err();
    assert!(error.to_string().contains("the schema 1"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(stand_in.asked().len(), asked, "both were fetched at start");
}

#[test]
fn a_schema_that_is_registered_later_is_fetched_once() {
    avro_event!(Placed, "later", AVRO);
    let stand_in = read_by_its_own_schema::<Placed>("later-value");
    stand_in.register("later-value", 2, "AVRO", AVRO_2);
    for _ in 0..3 {
        let event: Placed = Avro::decode(&second(2)).unwrap();
        assert_eq!(event.cents, 1250);
    }
    let asked = stand_in.asked();
    assert_eq!(asked.iter().filter(|line| line.contains("/schemas/ids/")).count(), 1, "{asked:?}");
}

#[test]
fn a_schema_is_read_with_the_types_of_those_that_it_refers_to() {
    avro_event!(Placed, "referring", AVRO);
    let stand_in = StandIn::start();
    stand_in.register("texts", 3, "AVRO", AVRO);
    stand_in.register("texts", 4, "AVRO", TEXT);
    stand_in.register("notes", 5, "AVRO", NOTE);
    stand_in.refer(5, &[("shop.Text", "texts", 2)]);
    stand_in.register("referring-value", 6, "AVRO", NOTED);
    stand_in.refer(6, &[("shop.Note", "notes", 1)]);
    Registry::connect(stand_in.config()).unwrap().reads::<Placed>().unwrap();
    // Later, too: the same by another id.
    stand_in.register("referring-value", 7, "AVRO", NOTED);
    stand_in.refer(7, &[("shop.Note", "notes", 1)]);
    for id in [6, 7, 7] {
        let event: Placed = Avro::decode(&framed(id, NOTED_EVENT)).unwrap();
        assert_eq!(event, Placed { order: "o-1".into(), cents: 1250, note: None });
    }
    let asked = stand_in.asked();
    let asked_for = |part: &str| asked.iter().filter(|line| line.contains(part)).count();
    assert_eq!(asked_for("/texts/versions/2?deleted=true"), 2, "once for each id: {asked:?}");
}

#[test]
fn an_event_waits_for_a_schema_to_which_its_own_refers() {
    avro_event!(Placed, "waiting", AVRO);
    let stand_in = read_by_its_own_schema::<Placed>("waiting-value");
    stand_in.register("waiting-value", 6, "AVRO", NOTED);
    stand_in.refer(6, &[("shop.Note", "lost", 1)]);
    let error = <Avro as Decode<Placed>>::decode(&framed(6, NOTED_EVENT)).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("does not have version 1 of lost"), "{error}");
}

#[test]
fn schemas_that_refer_to_each_other_are_refused_and_not_asked_for_again() {
    avro_event!(Placed, "circle", AVRO);
    let stand_in = read_by_its_own_schema::<Placed>("circle-value");
    stand_in.register("circle-value", 6, "AVRO", NOTED);
    stand_in.refer(6, &[("shop.Note", "notes", 1)]);
    stand_in.register("notes", 5, "AVRO", NOTE);
    stand_in.refer(5, &[("shop.Note", "notes", 1)]);
    let refused = || <Avro as Decode<Placed>>::decode(&framed(6, NOTED_EVENT)).unwrap_err();
    let error = refused();
    assert!(!error.is_transient() && error.to_string().contains("refers to itself"), "{error}");
    let asked = stand_in.asked().len();
    refused();
    assert_eq!(stand_in.asked().len(), asked);
}

#[test]
fn an_event_is_written_by_its_schema_that_the_registry_has_in_parts() {
    const WHOLE: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
        {"name": "order", "type": "string"}, {"name": "cents", "type": "long"},
        {"name": "note", "type": ["null", {"type": "record", "name": "Text", "fields": [
            {"name": "line", "type": "string"}]}]}]}"#;
    avro_event!(Placed, "parts", WHOLE);
    let parts = WHOLE.split_once("{\"type\": \"record\", \"name\": \"Text\"").unwrap().0;
    let parts = format!("{parts}\"Text\"]}}]}}");
    let stand_in = StandIn::start();
    stand_in.register("texts", 4, "AVRO", TEXT);
    let references = serde_json::json!([{ "name": "shop.Text", "subject": "texts", "version": 1 }]);
    let found = serde_json::json!({ "id": 9, "schema": parts, "references": references });
    stand_in.answer_once(200, found.to_string());
    Registry::connect(stand_in.config()).unwrap().emits::<Placed>().unwrap();
    let event = Placed { order: "o-1".into(), cents: 1250, note: None };
    let mut out = Vec::new();
    Avro::encode(&event, &mut out).unwrap();
    assert_eq!(out, framed(9, b"\x06o-1\xc4\x13\x00"));
}

#[test]
fn an_id_that_the_registry_does_not_have_is_tried_again_and_not_asked_for_each_time() {
    avro_event!(Placed, "unknown", AVRO);
    let stand_in = read_by_its_own_schema::<Placed>("unknown-value");
    let asked = stand_in.asked().len();
    for _ in 0..3 {
        let error = <Avro as Decode<Placed>>::decode(&second(9)).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("no schema 9"), "{error}");
    }
    assert_eq!(stand_in.asked().len(), asked + 1);
}

#[test]
fn a_registry_that_is_away_makes_no_dead_letters() {
    avro_event!(Placed, "away", AVRO);
    let stand_in = read_by_its_own_schema::<Placed>("away-value");
    stand_in.answer(503, "{}");
    for id in [2, 3] {
        let error = <Avro as Decode<Placed>>::decode(&second(id)).unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("503"), "{error}");
    }
    // What is known is read all the same.
    let event: Placed = Avro::decode(b"\0\0\0\0\x01\x06o-1\xc4\x13\x00").unwrap();
    assert_eq!(event.order, "o-1");
}

#[test]
fn an_event_is_not_read_before_start() {
    avro_event!(Placed, "before", AVRO);
    let error = <Avro as Decode<Placed>>::decode(&second(1)).unwrap_err().to_string();
    assert!(error.contains("event `order.placed`") && error.contains("reads"), "{error}");
}

#[test]
fn a_subject_without_schemas_ends_the_start_of_its_consumer() {
    avro_event!(Placed, "none", AVRO);
    let stand_in = StandIn::start();
    let error = Registry::connect(stand_in.config()).unwrap().reads::<Placed>().unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::NotRegistered);
    assert!(error.to_string().contains("none-value"), "{error}");
}

#[test]
fn without_a_registry_tests_read_what_they_write() {
    avro_event!(Placed, "memory", AVRO);
    // Two tests, of one process.
    for _ in 0..2 {
        Registry::in_memory().emits::<Placed>().unwrap();
        Registry::in_memory().reads::<Placed>().unwrap();
    }
    let event = Placed { order: "o-1".into(), cents: 1, note: None };
    let mut out = Vec::new();
    Avro::encode(&event, &mut out).unwrap();
    let read: Placed = Avro::decode(&out).unwrap();
    assert_eq!(read, event);
}
