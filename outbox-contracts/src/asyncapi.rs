//! An AsyncAPI document of the events of a lock.
//!
//! It describes what the services of the lock send, by version 3.0.0 of the
//! [specification](https://www.asyncapi.com/docs/reference/specification/v3.0.0) and version 0.5.0 of
//! its [bindings for Kafka](https://www.asyncapi.com/docs/reference/bindings/kafka).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::ids::Ids;
use crate::lock::{Contract, EventName, Lock};
use crate::schema::{Dialect, Writer};
use crate::shape::Payload;
use crate::topics::{Setting, Topic, Topics};

const BINDING_VERSION: &str = "0.5.0";

/// What a document says of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its title: the name of the service or the team.
    pub title: String,
    /// Its version, such as that of a release.
    pub version: String,
}

/// The document. Each topic is a channel, and each version of an event a message, with an
/// example if its shape has one. A retired event is left out.
///
/// `wanted` is what is said of the topics, if anything is.
///
/// Its schemas are those of AsyncAPI itself, a superset of JSON Schema draft 7.
#[must_use]
pub fn asyncapi(lock: &Lock, info: &Info, wanted: &Topics) -> Json {
    let events = lock.events.iter().filter(|(_, contract)| !contract.retired);
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    let mut topics = BTreeMap::<&str, Vec<String>>::new();
    let (mut message_ids, mut schema_ids) = (Ids::default(), Ids::default());
    for (name, contract) in events {
        let id = message_ids.of_event(name);
        let schema = contract.payload.as_ref().map(|payload| {
            let types = payload.types.keys();
            let types = types.map(|of| (&**of, schema_ids.new_id(&format!("{id}.{of}"))));
            let types: BTreeMap<&str, String> = types.collect();
            schemas_of(payload, &types, &mut schemas)
        });
        messages.insert(id.clone(), message(name, contract, schema));
        topics.entry(&name.topic).or_default().push(id);
    }
    let mut channel_ids = Ids::default();
    for (topic, messages) in topics {
        let id = channel_ids.new_id(topic);
        let part = |message: &String| (message.clone(), reference("components/messages", message));
        channels.insert(
            id.clone(),
            json!({
                "address": topic,
                "messages": messages.iter().map(part).collect::<Map<_, _>>(),
                "bindings": { "kafka": topic_binding(topic, wanted.topics.get(topic)) },
            }),
        );
        let of_channel = format!("channels/{id}/messages");
        operations.insert(
            format!("send.{id}"),
            json!({
                "action": "send",
                "channel": reference("channels", &id),
                "messages": messages.iter().map(|of| reference(&of_channel, of)).collect::<Vec<_>>(),
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": info.title, "version": info.version },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

fn topic_binding(name: &str, wanted: Option<&Topic>) -> Json {
    let mut binding = json!({ "topic": name, "bindingVersion": BINDING_VERSION });
    let Some(Topic { partitions, replicas, config }) = wanted else { return binding };
    if let Some(partitions) = partitions {
        binding["partitions"] = json!(partitions);
    }
    if let Some(replicas) = replicas {
        binding["replicas"] = json!(replicas);
    }
    if !config.is_empty() {
        let config = config.iter().map(|(name, value)| (name.clone(), setting(name, value)));
        binding["topicConfiguration"] = Json::Object(config.collect());
    }
    binding
}

fn setting(name: &str, value: &Setting) -> Json {
    match value {
        // A list in the binding, and one text on the brokers.
        Setting::Text(text) if name == "cleanup.policy" => {
            json!(text.split(',').map(str::trim).collect::<Vec<_>>())
        }
        Setting::Text(text) => json!(text),
        Setting::Integer(number) => json!(number),
        Setting::Bool(value) => json!(value),
    }
}

/// Adds the schemas of the named types, and returns that of the payload.
fn schemas_of(
    payload: &Payload,
    types: &BTreeMap<&str, String>,
    schemas: &mut Map<String, Json>,
) -> Json {
    // A name that nothing has leads nowhere, as in the lock.
    let of = |name: &str| {
        format!("#/components/schemas/{}", types.get(name).map_or(name, String::as_str))
    };
    let writer = Writer { dialect: Dialect::Draft7, reference: &of };
    for (name, shape) in &payload.types {
        if let Some(id) = types.get(&**name) {
            schemas.insert(id.clone(), writer.shape(shape));
        }
    }
    writer.shape(&payload.shape)
}

fn message(name: &EventName, contract: &Contract, schema: Option<Json>) -> Json {
    let EventName { name, version, .. } = name;
    let mut message = Map::from_iter([
        ("name".to_owned(), json!(name)),
        ("title".to_owned(), json!(format!("{name} v{version}"))),
        ("contentType".to_owned(), json!(contract.content_type)),
        ("headers".to_owned(), headers(name, *version, contract)),
    ]);
    message.extend(schema.map(|schema| ("payload".to_owned(), schema)));
    let example = contract.payload.as_ref().and_then(Payload::example);
    message.extend(example.map(|of| ("examples".to_owned(), json!([{ "payload": of }]))));
    let mut binding = json!({ "bindingVersion": BINDING_VERSION });
    if !contract.key.is_empty() {
        let parts: Vec<String> = contract.key.iter().map(|part| format!("`{part}`")).collect();
        binding["key"] = json!({
            "type": "string",
            "description": format!("{}. Events with the same key are in order.", parts.join(":")),
        });
    }
    message.insert("bindings".to_owned(), json!({ "kafka": binding }));
    Json::Object(message)
}

/// Those of CloudEvents in its binary mode, and the event's own.
fn headers(name: &str, version: u32, contract: &Contract) -> Json {
    let mut properties = json!({
        "ce_specversion": { "const": "1.0" },
        "ce_id": {
            "type": "string",
            "format": "uuid",
            "description": "The same each time that the event is delivered.",
        },
        "ce_type": { "const": name },
        "ce_source": { "type": "string", "format": "uri-reference" },
        "ce_time": { "type": "string", "format": "date-time" },
        "ce_dataversion": { "const": version.to_string() },
        "content-type": { "const": contract.content_type },
    });
    let required: Vec<String> =
        properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    for header in &contract.headers {
        properties[header] = json!({ "type": "string" });
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn reference(of: &str, id: &str) -> Json {
    json!({ "$ref": format!("#/{of}/{id}") })
}
