//! What a consumer reads that was written by another schema than its own.

use outbox::DomainEvent;
use outbox::codec::Decode;
use outbox_registry::{Avro, RegisteredEvent, Registry, RegistryErrorKind};

use crate::events::{AVRO, AVRO_2, avro_event};
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
    use outbox::codec::Encode;

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
