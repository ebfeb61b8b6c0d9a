//! The page for people, in a browser.

use std::fs;

use outbox_contracts::{Contract, EventName, Lock, html};
use tempfile::TempDir;

use crate::browser::{look, see};
use crate::whole;

/// A telephone's, and a desk's.
const WIDTHS: [u32; 2] = [390, 1280];

#[test]
fn a_page_loads_nothing() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("index.html");
    fs::write(&file, html(&whole::lock(), "Orders")).unwrap();
    let looked = look(&file, &[]);
    assert!(looked.dom.contains("<title>Orders</title>"), "{:.2000}", looked.dom);
    assert!(!looked.asked_the_network);
    // A page that does is noticed.
    fs::write(&file, "<img src='http://example.org/'>").unwrap();
    assert!(look(&file, &[]).asked_the_network);
}

#[test]
fn what_a_consumer_must_know_is_visible_without_scripts_on_every_screen() {
    for seen in see(&html(&whole::lock(), "Orders"), &WIDTHS) {
        for part in [
            // Topics, events and versions; one that is retired.
            "orders",
            "payments",
            "order.placed version 1",
            "order.placed version 2",
            "payment list version 1",
            "gone version 1, retired",
            // Keys, headers, fields, types, examples.
            "customer",
            "tenant",
            "\"eur\" | \"usd\"",
            "enum { card: { number: string }, cash }",
            "Item",
            "a/b~1 #%25\"é",
            "\"fingerprint\": \"AAEC\"",
            "Readers refuse other fields.",
            "The lock does not say what is in the payload.",
        ] {
            assert!(seen.text.contains(part), "{part} at {}: {}", seen.width, seen.text);
        }
        assert_eq!(seen.broken, [""; 0]);
        assert!(seen.links >= 9, "each event has a link: {seen:?}");
        assert_eq!((seen.foreign, seen.doubled), (0, 0), "{seen:?}");
        assert_eq!(seen.wider, [""; 0], "at {}", seen.width);
    }
}

/// A pull request may have anything in the file.
#[test]
fn hostile_names_are_seen_as_text_and_fit_the_screen() {
    let names = [
        "<script>document.title='taken'</script>".to_owned(),
        "\"><img src=x onerror=alert(1)>&lt;b&gt;'".to_owned(),
        "</style></title><base href=//x>".to_owned(),
        "שלום".to_owned(),
        "w".repeat(10_000),
    ];
    let mut lock = Lock::default();
    for name in &names {
        let fields =
            format!("{{ {0}: string?, nest: enum {{ {0}: {{ {0}: {0} }} }} }}", json(name));
        let fields = fields.replace(&format!(": {} }}", json(name)), ": u8 }");
        let contract = Contract {
            content_type: name.clone(),
            key: vec![name.clone()],
            headers: [name.clone()].into(),
            payload: Some(outbox_contracts::shape::Payload::new(
                outbox_contracts::shape::parse(&fields).unwrap(),
            )),
            ..Contract::default()
        };
        lock.events.insert(EventName::new(name, name, 1), contract);
    }
    // It would turn the rest of its line around.
    lock.events.insert(EventName::new("a\u{202e}b", "\u{202e}", 1), Contract::default());
    for seen in see(&html(&lock, &names[0]), &WIDTHS) {
        for name in &names {
            // As topic, event, media type, key, header and field at least.
            let times = seen.text.matches(&**name).count();
            assert!(times >= 6, "{name:.50} is {times} times in {:.3000}", seen.text);
        }
        assert!(seen.text.contains("a\\u{202e}b") && !seen.text.contains('\u{202e}'));
        assert_eq!((seen.foreign, seen.doubled), (0, 0), "{:?}", seen.wider);
        assert_eq!(seen.broken, [""; 0]);
        assert_eq!(seen.wider, [""; 0], "at {}", seen.width);
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
