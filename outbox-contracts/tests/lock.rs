//! The file: what is written is read again, and what cannot be read is said with its line.

use std::io::ErrorKind;
use std::path::Path;

use outbox_contracts::Lock;

const WHOLE: &str = r#"# The events of this project, as consumers rely on them. Commit this file, and review its changes:
# `outbox contracts diff` words them.
format = 1
mode = "full"

[[event]]
topic = "a\u000a]"
name = "\u202ename\""
version = 1
content-type = "application/avro"
retired = true

[[event]]
topic = "orders"
name = "order.placed"
version = 1
content-type = "application/json"
key = ["customer", "shop"]
headers = ["region", "tenant"]
closed = true
flattened = ["Payment"]

[event.fields]
"a b" = "[Currency]"
"a.b" = "default u8"
customer = "string"
next = "Tree?"

[event.types.Currency]
values = [
    "eur",
    "usd",
]

[event.types.Payment]
tag = "type"

[event.types.Payment.variants]
card = "{ number: string }"
cash = "unit"

[event.types.Tree.fields]
kids = "[Tree]"

[event.removed]
note = "string?"

[[event]]
topic = "orders"
name = "order.placed"
version = 2
content-type = "application/json"
reads = [1]
mode = "backward-transitive"
shape = "(u8, string)"
"#;

#[test]
fn what_is_written_is_read_as_it_was() {
    let lock = Lock::parse(WHOLE).unwrap();
    assert_eq!(lock.to_string(), WHOLE);
    assert_eq!(Lock::parse(&lock.to_string()).unwrap(), lock);
}

#[test]
fn the_order_in_a_file_does_not_matter() {
    let lock = Lock::parse(WHOLE).unwrap();
    let (head, events) = WHOLE.split_once("\n[[event]]").unwrap();
    let mut events: Vec<&str> = events.split("\n[[event]]").collect();
    events.reverse();
    let turned = format!("{head}\n[[event]]{}", events.join("\n[[event]]"));
    assert_eq!(Lock::parse(&turned).unwrap().to_string(), lock.to_string());
}

#[test]
fn each_event_and_field_has_a_line() {
    let lock = Lock::parse(WHOLE).unwrap();
    let event = lock.events.keys().nth(1).unwrap();
    assert_eq!(lock.line(event, ""), Some(13));
    assert_eq!(lock.line(event, "key"), Some(18));
    assert_eq!(lock.line(event, "fields.customer"), Some(26));
    assert_eq!(lock.line(event, "fields.no such field"), Some(13), "that of the event");
}

#[test]
fn an_error_names_the_line_and_the_way_out() {
    let event = "[[event]]\ntopic = 'a'\nname = 'b'\nversion = 1\ncontent-type = 'c'\n";
    for (text, line, what) in [
        ("", 1, "is it a lock of events?"),
        ("format = 1\nformt = 2", 2, "no key `formt`"),
        ("format = 2", 1, "use the version of outbox that wrote it"),
        ("format = '1'", 1, "a whole number"),
        ("format = 1\nmode = 'fulll'", 2, "full-transitive"),
        ("format = 1\n[[event]\n", 2, ""),
        ("format = 1\n[[event]]\nname = 'a'", 2, "`topic` is missing"),
        ("format = 1\n<<<<<<< HEAD\n", 2, "a merge conflict"),
        ("format = 1\n=======\n", 2, "a merge conflict"),
        (&format!("format = 1\n{event}version2 = 2"), 7, "no key `version2`"),
        (&format!("format = 1\n{}", event.replace('1', "0")), 5, "from 1"),
        (&format!("format = 1\n{event}{event}"), 7, "on line 2"),
        (&format!("format = 1\n{event}[event.fields]\na = 'strin'"), 8, "`strin` is no shape"),
        (&format!("format = 1\n{event}[event.fields]\na = 1"), 8, "a text"),
        (&format!("format = 1\n{event}[event.fields]\na = 'B'"), 2, "the type `B` is named"),
        (&format!("format = 1\n{event}shape = 'u8'\nvalues = ['a']"), 2, "more than one"),
        (&format!("format = 1\n{event}shape = 'u8'\n[event.types.A]"), 8, "`A` has no shape"),
    ] {
        let error = Lock::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error}\n{text}");
        assert!(error.to_string().contains(what), "{error}\n{text}");
    }
}

/// A pull request can have any bytes in the file.
#[test]
fn no_text_makes_it_panic() {
    for end in 0..WHOLE.len() {
        let Some(start) = WHOLE.get(..end) else { continue };
        let _ = Lock::parse(start);
        for intruder in ["\"", "[", "=", "\u{0}", "é", "1e9", "{"] {
            let _ = Lock::parse(&format!("{start}{intruder}{}", WHOLE.get(end..).unwrap()));
        }
    }
}

#[test]
fn what_is_accepted_keeps_what_people_wrote_and_what_was_removed() {
    let mut lock = Lock::parse(WHOLE).unwrap();
    let name = lock.events.keys().nth(1).unwrap().clone();
    let mut contract = lock.events[&name].clone();
    assert!(!lock.accept(&name, contract.clone()), "nothing changed");
    let event = "[[event]]\ntopic = 'orders'\nname = 'order.placed'\nversion = 1\ncontent-type = 'application/json'\n";
    let now =
        Lock::parse(&format!("format = 1\n{event}[event.fields]\ncustomer = 'string'")).unwrap();
    contract.payload = now.events[&name].payload.clone();
    assert!(lock.accept(&name, contract.clone()));
    let removed = &lock.events[&name].payload.as_ref().unwrap().removed;
    let removed: Vec<String> = removed.iter().map(|(path, was)| format!("{path}: {was}")).collect();
    let expected = [
        "\"a b\": [\"eur\" | \"usd\"]",
        "\"a.b\": u8",
        "next: { kids: [any] }?",
        "note: string?",
        "type: enum(type) { card: { number: string }, cash }",
        "<card>.number: string",
    ];
    for expected in expected {
        assert!(removed.iter().any(|removed| removed == expected), "{expected}: {removed:#?}");
    }
    assert_eq!(removed.len(), expected.len());
    // A field that comes back is no removed one any more.
    let back = Lock::parse(&format!(
        "format = 1\n{event}[event.fields]\nnote = 'string?'\ncustomer = 'string'"
    ));
    contract.payload = back.unwrap().events[&name].payload.clone();
    assert!(lock.accept(&name, contract));
    let text = lock.to_string();
    assert!(!text.contains("\n[event.removed]\nnote"), "{text}");
    assert_eq!(Lock::parse(&text).unwrap(), lock);
}

/// A pull request may have anything in the file.
#[test]
fn types_that_would_fill_the_memory_written_out_are_refused() {
    let event = "format = 1\n[[event]]\ntopic = \"t\"\nname = \"n\"\nversion = 1\ncontent-type = \"c\"\n\
                 [event.fields]\na = \"T0\"\n";
    let of = |types: usize, fields: &str| {
        let mut text = event.to_owned();
        for i in 0..types {
            let next = if i + 1 < types { format!("T{}", i + 1) } else { "u8".to_owned() };
            let fields = fields.replace("NEXT", &next);
            text.push_str(&format!("[event.types.T{i}.fields]\n{fields}"));
        }
        Lock::parse(&text)
    };
    let doubling = "a = \"NEXT\"\nb = \"NEXT\"\n";
    of(8, doubling).unwrap();
    let refused = of(30, doubling).unwrap_err().to_string();
    assert!(refused.contains("more than 10000 parts"), "{refused}");
    let refused = of(60_000, "a = \"NEXT\"\n").unwrap_err().to_string();
    assert!(refused.contains("more than 32 types are in each other"), "{refused}");
}

/// A path that names something else is no reason to read without an end.
#[test]
fn no_more_is_read_than_a_lock_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.lock");
    let of = |path| Lock::text_of(path).map_err(|error| error.kind());
    assert_eq!(of(&path), Err(ErrorKind::NotFound));
    assert_eq!(of(folder.path()), Err(ErrorKind::IsADirectory));
    std::fs::write(&path, WHOLE).unwrap();
    assert_eq!(of(&path).as_deref(), Ok(WHOLE));
    std::fs::File::create(&path).unwrap().set_len(Lock::MOST_BYTES + 1).unwrap();
    assert_eq!(of(&path), Err(ErrorKind::FileTooLarge));
    assert_eq!(of(Path::new("/dev/zero")), Err(ErrorKind::FileTooLarge));
    std::fs::write(&path, [0xff]).unwrap();
    assert_eq!(of(&path), Err(ErrorKind::InvalidData));
}
