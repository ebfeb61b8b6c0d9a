//! The pages of a catalogue of [EventCatalog](https://www.eventcatalog.dev): a service, its channels
//! and its events.
//!
//! EventCatalog's own importer of AsyncAPI documents asks for a licence key. These are the files that
//! it would write: front matter, and components of EventCatalog's that show what it says.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::asyncapi::Info;
use crate::ids::Ids;
use crate::lock::{Contract, EventName, Lock};
use crate::schema;

/// A file of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogFile {
    /// The folders from the catalogue's own, and the name: letters, digits, `.`, `-` and `_`.
    pub path: Vec<String>,
    /// What is in it.
    pub text: String,
}

/// The files of the service that `info` names. Each topic is a channel. The newest version of an event
/// is its page, and the older ones are in `versioned`; a version `2` is called `2.0.0`, since
/// EventCatalog compares such. A retired event is shown as deprecated, and the service does not send it.
#[must_use]
pub fn eventcatalog(lock: &Lock, info: &Info) -> Vec<CatalogFile> {
    let mut events = BTreeMap::<(&str, &str), Vec<(&EventName, &Contract)>>::new();
    let (mut channel_ids, mut event_ids) = (Ids::default(), Ids::default());
    let mut channels = BTreeMap::<&str, String>::new();
    for (name, contract) in &lock.events {
        events.entry((&name.topic, &name.name)).or_default().push((name, contract));
        channels.entry(&name.topic).or_insert_with(|| channel_ids.new_id(&name.topic));
    }
    let (mut files, mut sends) = (Vec::new(), Vec::new());
    for ((topic, name), mut versions) in events {
        let id = event_ids.new_id(&format!("{topic}.{name}"));
        let channel = json!({ "id": channels[topic], "version": info.version });
        versions.sort_by_key(|(name, _)| name.version);
        let newest = versions.last().map(|(name, _)| name.version);
        for (name, contract) in versions {
            let mut folder = vec!["events".to_owned(), id.clone()];
            if Some(name.version) != newest {
                folder.extend(["versioned".to_owned(), version(name)]);
            }
            if !contract.retired {
                sends.push(json!({ "id": id, "version": version(name), "to": [channel] }));
            }
            files.extend(event(&folder, &id, name, contract, &channel));
        }
    }
    for (topic, id) in channels {
        let front = [
            ("id", json!(id)),
            ("name", json!(topic)),
            ("version", json!(info.version)),
            ("address", json!(topic)),
            ("protocols", json!(["kafka"])),
        ];
        files.push(page(&["channels".to_owned(), id], &front, "<ChannelInformation />\n"));
    }
    let id = Ids::default().new_id(&info.title);
    let front = [
        ("id", json!(id)),
        ("name", json!(info.title)),
        ("version", json!(info.version)),
        ("sends", json!(sends)),
    ];
    files.push(page(&["services".to_owned(), id], &front, "<NodeGraph />\n"));
    files
}

fn version(name: &EventName) -> String {
    format!("{}.0.0", name.version)
}

fn event(
    folder: &[String],
    id: &str,
    name: &EventName,
    contract: &Contract,
    channel: &Json,
) -> Vec<CatalogFile> {
    let mut front = vec![
        ("id", json!(id)),
        ("name", json!(name.name)),
        ("version", json!(version(name))),
        ("summary", json!(summary(contract))),
        ("channels", json!([channel])),
    ];
    if contract.retired {
        front.push(("deprecated", json!(true)));
    }
    let Some(payload) = &contract.payload else {
        return vec![page(folder, &front, "<NodeGraph />\n")];
    };
    front.push(("schemaPath", json!(SCHEMA)));
    let schema = CatalogFile {
        path: folder.iter().cloned().chain([SCHEMA.to_owned()]).collect(),
        text: format!("{:#}\n", schema::document(name, payload)),
    };
    let body = format!("<NodeGraph />\n\n<SchemaViewer file=\"{SCHEMA}\" />\n");
    vec![page(folder, &front, &body), schema]
}

const SCHEMA: &str = "schema.json";

fn summary(contract: &Contract) -> String {
    let key = match &*contract.key {
        [] => "No key: events have no order.".to_owned(),
        parts => format!("Key: {}. Events with the same key are in order.", parts.join(", ")),
    };
    let headers: Vec<&str> = contract.headers.iter().map(String::as_str).collect();
    let headers = match &*headers {
        [] => String::new(),
        names => format!(" Headers: {}.", names.join(", ")),
    };
    format!("{key}{headers} Media type: {}.", contract.content_type)
}

/// A page. A value in JSON is one of YAML, too, whatever is in it.
fn page(folder: &[String], front: &[(&str, Json)], body: &str) -> CatalogFile {
    let front: String = front.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    CatalogFile {
        path: folder.iter().cloned().chain(["index.mdx".to_owned()]).collect(),
        text: format!("---\n{front}---\n\n{body}"),
    }
}
