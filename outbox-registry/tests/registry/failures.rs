//! What ends the start of a process that emits: no event is written by an id that is not its own.

use std::net::TcpListener;
use std::time::Duration;

use outbox::codec::Encode;
use outbox_registry::{Avro, Registry, RegistryConfig, RegistryError, RegistryErrorKind};
use serde_json::json;

use crate::events::{AVRO, AVRO_2, PROTO, avro_event, protobuf_event};
use crate::stand_in::StandIn;

avro_event!(Placed, "failures", AVRO);

fn refused(config: RegistryConfig, kind: RegistryErrorKind, words: &[&str]) -> RegistryError {
    let error = Registry::connect(config).unwrap().emits::<Placed>().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} has no {word}");
    }
    // Whatever it was, no event is written.
    let event = Placed { order: "o-1".into(), cents: 1, note: None };
    let mut out = Vec::new();
    let unresolved = Avro::encode(&event, &mut out).unwrap_err().to_string();
    assert!(unresolved.contains("registry.emits") && out.is_empty(), "{unresolved}");
    error
}

#[test]
fn a_schema_that_is_not_registered_is_an_error_that_says_where_and_nothing_is_registered() {
    let stand_in = StandIn::start();
    stand_in.register("failures-value", 1, "AVRO", AVRO_2);
    refused(
        stand_in.config(),
        RegistryErrorKind::NotRegistered,
        &[
            "`order.placed` version 1",
            "failures-value",
            "Schema not found",
            "Register",
            "TopicRecordName",
        ],
    );
    let asked = stand_in.asked();
    assert_eq!(
        asked,
        ["POST /subjects/failures-value", "POST /subjects/failures-value?normalize=true"]
    );
}

#[test]
fn an_answer_that_is_not_the_schema_is_refused() {
    let stand_in = StandIn::start();
    stand_in.answer(200, json!({ "id": 5, "schema": AVRO_2 }).to_string());
    refused(stand_in.config(), RegistryErrorKind::Schema, &["another schema"]);
    stand_in.answer(200, json!({ "id": 5, "schema": PROTO, "schemaType": "PROTOBUF" }).to_string());
    refused(stand_in.config(), RegistryErrorKind::Schema, &["PROTOBUF and not AVRO"]);
    let referring = json!({ "id": 5, "schema": AVRO, "references": [{ "name": "a" }] });
    stand_in.answer(200, referring.to_string());
    refused(stand_in.config(), RegistryErrorKind::Answer, &["no answer of a schema registry"]);
    for body in
        ["<html>", "{}", r#"{"id": -1, "schema": "{}"}"#, r#"{"id": 4294967296, "schema": ""}"#]
    {
        stand_in.answer(200, body);
        refused(stand_in.config(), RegistryErrorKind::Answer, &["no answer of a schema registry"]);
    }
    stand_in.answer(302, "");
    refused(stand_in.config(), RegistryErrorKind::Answer, &["302"]);
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let stand_in = StandIn::start();
    stand_in.answer(200, "x".repeat(9 << 20));
    refused(stand_in.config(), RegistryErrorKind::Unreachable, &["limit"]);
}

#[test]
fn credentials_are_sent_and_a_refusal_of_them_does_not_show_them() {
    let stand_in = StandIn::start();
    stand_in.answer(401, r#"{"error_code": 401, "message": "Unauthorized"}"#);
    let error = refused(
        stand_in.config().basic_auth("orders", "s3cret"),
        RegistryErrorKind::Denied,
        &["401", "Unauthorized"],
    );
    assert!(!error.to_string().contains("s3cret"));
    // base64 of "orders:s3cret", in lower case as all that the stand-in shows of headers.
    assert!(stand_in.last_headers().contains("authorization: basic b3jkzxjzonmzy3jlda=="));
    refused(stand_in.config().bearer_token("abc"), RegistryErrorKind::Denied, &[]);
    assert!(stand_in.last_headers().contains("authorization: bearer abc"));
}

#[test]
fn a_registry_that_does_not_answer_in_time_is_an_error() {
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = RegistryConfig::new(format!("http://{}", silent.local_addr().unwrap()))
        .timeout(Duration::from_millis(50));
    refused(config, RegistryErrorKind::Unreachable, &["within 0.05 s"]);
}

#[test]
fn the_next_url_is_asked_if_one_cannot_answer() {
    protobuf_event!(Moved, "moved", "shop.Placed", PROTO);
    let (away, ill, well) = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        (format!("http://{}", gone.local_addr().unwrap()), StandIn::start(), StandIn::start())
    };
    ill.answer(500, r#"{"error_code": 50003, "message": "Error while forwarding the request"}"#);
    well.register("moved-value", 3, "PROTOBUF", PROTO);
    let urls = format!("{away},{},{}", ill.url, well.url);
    Registry::connect(RegistryConfig::new(urls)).unwrap().emits::<Moved>().unwrap();
    let both = RegistryConfig::new(format!("{away},{}", ill.url));
    refused(both, RegistryErrorKind::Unreachable, &[&*away, &*ill.url, "forwarding"]);
}

#[test]
fn a_pipeline_registers_and_is_told_if_consumers_could_not_read_it() {
    avro_event!(New, "new", AVRO);
    let stand_in = StandIn::start();
    let registry = Registry::connect(stand_in.config()).unwrap();
    stand_in.answer(200, r#"{"id": 12}"#);
    assert_eq!(registry.register::<New>().unwrap(), 12);
    assert_eq!(stand_in.asked(), ["POST /subjects/new-value/versions"]);
    stand_in.answer(409, r#"{"error_code": 409, "message": "READER_FIELD_MISSING_DEFAULT_VALUE"}"#);
    let error = registry.register::<New>().unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Incompatible);
    assert!(error.to_string().contains("new-value (READER_FIELD"), "{error}");
}

#[test]
fn one_event_has_one_id_in_a_process() {
    avro_event!(Twice, "twice", AVRO);
    let (one, other) = (StandIn::start(), StandIn::start());
    one.register("twice-value", 1, "AVRO", AVRO);
    other.register("twice-value", 2, "AVRO", AVRO);
    let registry = Registry::connect(one.config()).unwrap();
    registry.emits::<Twice>().unwrap().emits::<Twice>().unwrap();
    let error = Registry::connect(other.config()).unwrap().emits::<Twice>().unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Config);
}

/// A short payload could end the process that reads it.
#[test]
fn a_schema_that_contains_itself_ends_the_start() {
    const NODE: &str = r#"{"type": "record", "name": "Placed", "fields": [
        {"name": "order", "type": "string"}, {"name": "before", "type": ["null", "Placed"]}]}"#;
    avro_event!(Recursive, "recursive", NODE);
    let stand_in = StandIn::start();
    stand_in.register("recursive-value", 7, "AVRO", NODE);
    let registry = Registry::connect(stand_in.config()).unwrap();
    for error in [registry.emits::<Recursive>(), registry.reads::<Recursive>()] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), RegistryErrorKind::Schema);
        assert!(error.to_string().contains("`Placed` contains itself"), "{error}");
    }
}
