//! The pages for EventCatalog.

use std::collections::BTreeMap;

use outbox_contracts::{EventName, Info, Lock, eventcatalog};
use serde_json::{Value as Json, json};

use crate::whole;

fn info() -> Info {
    Info { title: "Order service".to_owned(), version: "1.4.0".to_owned() }
}

fn files(lock: &Lock) -> BTreeMap<String, String> {
    let files = eventcatalog(lock, &info());
    let (all, by_path) =
        (files.len(), files.into_iter().map(|file| (file.path.join("/"), file.text)));
    let by_path: BTreeMap<_, _> = by_path.collect();
    assert_eq!(by_path.len(), all, "no file is written over another");
    by_path
}

/// The front matter, whose values are JSON, and what is below it.
fn page(text: &str) -> (BTreeMap<&str, Json>, &str) {
    let (front, body) = text.strip_prefix("---\n").unwrap().split_once("---\n\n").unwrap();
    let value = |line: &'_ str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let front = front.lines().map(|line| line.split_once(": ").unwrap());
    (front.map(|(name, text)| (name, value(text))).collect(), body)
}

#[test]
fn the_newest_version_of_an_event_is_its_page_and_older_ones_stay() {
    let mut lock = whole::lock();
    let older = EventName::new("orders", "order.placed", 1);
    lock.events.get_mut(&older).unwrap().retired = true;
    let files = files(&lock);
    let id = "orders.order.placed";
    let channel = json!({ "id": "orders", "version": "1.4.0" });

    let newest = &files[&format!("events/{id}/index.mdx")];
    let (front, body) = page(newest);
    assert_eq!((&front["id"], &front["version"]), (&json!(id), &json!("2.0.0")));
    assert_eq!(front["channels"], json!([channel]));
    assert_eq!(
        front["summary"],
        "Key: customer, shop. Events with the same key are in order. Headers: tenant. Media type: application/json."
    );
    assert!(body.contains("<SchemaViewer file=\"schema.json\" />"), "{body}");
    let schema: Json = serde_json::from_str(&files[&format!("events/{id}/schema.json")]).unwrap();
    assert_eq!(schema["title"], "order.placed v2");

    let (front, _) = page(&files[&format!("events/{id}/versioned/1.0.0/index.mdx")]);
    assert_eq!((&front["version"], &front["deprecated"]), (&json!("1.0.0"), &json!(true)));

    let (front, _) = page(&files["services/Order_service/index.mdx"]);
    let sends = front["sends"].as_array().unwrap();
    let sent = |version| json!({ "id": id, "version": version, "to": [channel] });
    assert!(sends.contains(&sent("2.0.0")) && !sends.contains(&sent("1.0.0")), "{sends:?}");
    let (front, _) = page(&files["channels/orders/index.mdx"]);
    assert_eq!((&front["address"], &front["protocols"]), (&json!("orders"), &json!(["kafka"])));
}

/// What is in a lock may be anybody's: a page of EventCatalog is compiled as a program.
#[test]
fn hostile_names_are_no_part_of_a_page_but_its_front_matter() {
    let hostile = "../\n---\n{process.exit()}<script>import x\u{202e}";
    let mut lock = Lock::default();
    for (name, mut contract) in whole::lock().events {
        let EventName { topic, name, version } = name;
        contract.key.push(hostile.to_owned());
        let name = EventName::new(topic + hostile, hostile.to_owned() + &name, version);
        lock.events.insert(name, contract);
    }
    for (path, text) in files(&lock) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        assert!(path.chars().all(plain) && !path.split('/').any(|part| part == ".."), "{path}");
        if path.ends_with(".mdx") {
            let (_, body) = page(&text);
            let parts = [
                "<NodeGraph />",
                "<SchemaViewer file=\"schema.json\" />",
                "<ChannelInformation />",
            ];
            assert!(body.lines().all(|line| line.is_empty() || parts.contains(&line)), "{body}");
        }
    }
}
