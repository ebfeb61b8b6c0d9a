//! JSON schemas, and the AsyncAPI document.

use jsonschema::{Draft, Validator};
use outbox_contracts::{EventName, Info, Lock, Topics, asyncapi, schema};
use serde_json::{Value as Json, json};

use crate::whole;

fn validator(schema: &Json, draft: Draft) -> Validator {
    let options = jsonschema::options().with_draft(draft).should_validate_formats(true);
    options.build(schema).unwrap_or_else(|error| panic!("no schema: {error}: {schema:#}"))
}

#[track_caller]
fn takes(validator: &Validator, value: &Json, what: &str) {
    let errors = validator.iter_errors(value).map(|error| {
        format!("{} ({}): {error:.300}\n", error.instance_path(), error.schema_path())
    });
    let errors: String = errors.collect();
    assert!(errors.is_empty(), "{what}:\n{errors}{value:#.2000}");
}

fn document(lock: &Lock) -> Json {
    asyncapi(lock, &info(), &Topics::default())
}

fn info() -> Info {
    Info { title: "Orders".to_owned(), version: "1.4.0".to_owned() }
}

fn official() -> Validator {
    let schema = include_str!("../asyncapi/3.0.0.json");
    validator(&serde_json::from_str(schema).unwrap(), Draft::Draft7)
}

#[test]
fn a_document_is_valid_by_the_official_schema_of_asyncapi() {
    let official = official();
    takes(&official, &document(&whole::lock()), "a lock with each kind of shape");
    takes(&official, &document(&Lock::default()), "a lock without events");
    // The schema does judge: a document that says less, or something else, is refused.
    for (place, wrong) in [
        ("/info", json!({ "title": "Orders" })),
        ("/channels/orders/bindings/kafka/partitions", json!("many")),
        ("/operations/send.orders/action", json!("shout")),
        ("/components/schemas/orders.order.placed.v2.Item/type", json!("thing")),
    ] {
        let mut document = document(&whole::lock());
        let (parent, key) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = wrong;
        assert!(!official.is_valid(&document), "{place}");
    }
}

#[test]
fn what_is_wanted_of_topics_is_said_as_the_official_schema_has_it() {
    let lock = whole::lock();
    let wanted = "format = 1\n[all]\nreplicas = 3\nconfig = { \"retention.ms\" = -1 }\n[topics.orders]\npartitions = 12\n\
                  config = { \"cleanup.policy\" = \"compact,delete\", \"compression.type\" = \"zstd\" }\n";
    let document = asyncapi(&lock, &info(), &Topics::parse(wanted, &lock).unwrap());
    takes(&official(), &document, "with topics");
    let orders = &document["channels"]["orders"]["bindings"]["kafka"];
    let expected = json!({
        "topic": "orders", "partitions": 12, "replicas": 3, "bindingVersion": "0.5.0",
        "topicConfiguration": {
            "cleanup.policy": ["compact", "delete"], "compression.type": "zstd", "retention.ms": -1,
        },
    });
    assert_eq!(*orders, expected);
}

/// What is in a lock may be anybody's.
#[test]
fn hostile_names_make_a_valid_document() {
    let hostile = "#/~1 \"{$ref}\u{202e}</script>\u{1f}";
    let mut lock = Lock::default();
    for (name, contract) in whole::lock().events {
        let EventName { topic, name, version } = name;
        let name = EventName::new(topic + hostile, hostile.to_owned() + &name, version);
        lock.events.insert(name, contract);
    }
    takes(&official(), &document(&lock), "hostile names");
}

#[test]
fn each_example_of_a_document_is_valid_by_its_own_schema() {
    let document = document(&whole::lock());
    let messages = document["components"]["messages"].as_object().unwrap();
    let mut judged = 0;
    for (id, message) in messages {
        let Some(payload) = message.get("payload") else {
            assert_eq!(id, "scans.scan.v1");
            continue;
        };
        let mut schema = payload.clone();
        schema["components"] = document["components"].clone();
        let validator = validator(&schema, Draft::Draft7);
        let Some(examples) = message.get("examples") else {
            assert_eq!(id, "payments.endless.v1", "only what has no end is without one");
            continue;
        };
        judge(&validator, &examples[0]["payload"], id);
        judged += 1;
    }
    assert_eq!(judged, messages.len() - 2);
}

#[test]
fn each_json_schema_is_valid_and_takes_its_example() {
    for (name, contract) in whole::lock().events {
        let Some(payload) = contract.payload else { continue };
        let schema = schema::write(&payload);
        let meta = jsonschema::draft202012::meta::validate(&schema);
        meta.unwrap_or_else(|error| panic!("{name}: {error}: {schema:#}"));
        let validator = validator(&schema, Draft::Draft202012);
        if let Some(example) = payload.example() {
            judge(&validator, &example, &name.to_string());
        }
    }
}

/// Takes the example, and takes neither anything at all, nor the example without one of its fields
/// if that is required.
fn judge(validator: &Validator, example: &Json, what: &str) {
    takes(validator, example, what);
    assert!(!validator.is_valid(&json!([null, "nothing of the kind"])), "{what}");
    let Json::Object(fields) = example else { return };
    for field in fields.keys() {
        let mut without = fields.clone();
        without.remove(field);
        let optional = ["remark", "unread", "key"].contains(&&**field);
        assert_eq!(validator.is_valid(&Json::Object(without)), optional, "{what} without {field}");
        if *field != "anything" {
            let mut wrong = fields.clone();
            wrong.insert(field.clone(), json!({ "no such": [] }));
            assert!(!validator.is_valid(&Json::Object(wrong)), "{what} with another {field}");
        }
    }
}
