use super::*;

fn message(headers: &[(&str, &str)]) -> Message {
    Message { key: Some(b"alice".to_vec()), ..without_key(headers) }
}

pub(in crate::consume) fn without_key(headers: &[(&str, &str)]) -> Message {
    Message {
        topic: "orders".to_owned(),
        partition: 3,
        offset: 7,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
            .collect(),
        ..Message::default()
    }
}

#[test]
fn a_foreign_message_is_recognised_by_what_the_handler_says() {
    let at = |offset: i64, headers: &[(&str, &str)]| {
        let mut message = message(headers);
        message.offset = offset;
        move |rule| message.id(&message.fresh(), Some(rule))
    };
    let (one, same, other) = (at(7, &[("x", "1")]), at(8, &[("x", "1")]), at(7, &[("x", "2")]));
    let by_header = ForeignId::Header("x");
    assert_eq!(one(by_header), same(by_header));
    assert_ne!(one(by_header), other(by_header));
    assert_ne!(one(ForeignId::Place), same(ForeignId::Place));
    assert_eq!(one(ForeignId::Key), other(ForeignId::Key));
    assert_eq!(one(ForeignId::Header("y")), None, "nothing to recognise it by");
    assert_eq!(message(&[]).id(&message(&[]).fresh(), None), None);
    let id = Uuid::now_v7();
    assert_eq!(at(1, &[(CE_ID, &id.to_string())])(ForeignId::Place), Some(id), "its own id first");
}

fn id_of(headers: &[(&str, &str)]) -> Option<Uuid> {
    message(headers).id(&message(&[]).fresh(), None)
}

#[test]
fn a_cloud_event_is_recognised_by_its_source_and_id_wherever_it_is() {
    let event = [(CE_SOURCE, "/shop"), (CE_ID, "42")];
    let id = id_of(&event);
    assert!(id.is_some());
    let mut elsewhere = message(&event);
    elsewhere.topic = "orders.shop.retry.10s".to_owned();
    (elsewhere.partition, elsewhere.offset, elsewhere.timestamp) = (0, 99, Some(1));
    elsewhere.key = None;
    let history = History { topic: "orders".to_owned(), ..elsewhere.fresh() };
    assert_eq!(elsewhere.id(&history, None), id, "on a retry topic");
    assert_ne!(elsewhere.id(&elsewhere.fresh(), None), id, "an event of another topic");
    for other in [
        [(CE_SOURCE, "/shop"), (CE_ID, "43")],
        [(CE_SOURCE, "/shop2"), (CE_ID, "42")],
        // The same characters in the same order.
        [(CE_SOURCE, "/sho"), (CE_ID, "p42")],
        [(CE_SOURCE, "/shop4"), (CE_ID, "2")],
        [(CE_SOURCE, ""), (CE_ID, "42")],
    ] {
        assert!(id_of(&other).is_some_and(|other| Some(other) != id), "{other:?}");
    }
    let uuid = Uuid::now_v7();
    for source in ["/a", "/b"] {
        let own = id_of(&[(CE_SOURCE, source), (CE_ID, &uuid.to_string())]);
        assert_eq!(own, Some(uuid), "a UUID is unique by itself");
    }
}

/// By its key, every further event of that key would be skipped; by its place, one that its producer
/// repeats would be handled twice.
#[test]
fn what_a_handler_says_of_messages_without_an_id_is_not_asked_for_a_cloud_event() {
    let event = message(&[(CE_SOURCE, "/shop"), (CE_ID, "42"), ("x-request", "r1")]);
    let id = |message: &Message, rule| message.id(&message.fresh(), rule);
    for rule in [ForeignId::Key, ForeignId::Place, ForeignId::Header("x-request")] {
        assert_eq!(id(&event, Some(rule)), id(&event, None), "{rule:?}");
    }
    // But it is if it names the id itself.
    let restarted = message(&[(CE_SOURCE, "/shop-2"), (CE_ID, "42")]);
    let by_id = Some(ForeignId::Header(CE_ID));
    assert_ne!(id(&event, None), id(&restarted, None));
    assert_eq!(id(&event, by_id), id(&restarted, by_id));
}

#[test]
fn an_empty_header_is_nothing_to_recognise_a_message_by() {
    let by = |name| Some(ForeignId::Header(name));
    let message = message(&[("x-request", ""), (CE_ID, "")]);
    assert_eq!(message.id(&message.fresh(), by("x-request")), None);
    assert_eq!(message.id(&message.fresh(), by(CE_ID)), None);
}

#[test]
fn an_id_that_cannot_be_taken_is_shown() {
    let longest = "x".repeat(LONGEST_ID);
    assert!(id_of(&[(CE_ID, &longest)]).is_some());
    let too_long = format!("{longest}y");
    for (value, hint) in [
        (Some(&b""[..]), "`ce_id` is empty"),
        (Some(too_long.as_bytes()), "`ce_id` has 1025 bytes, of which at most 1024 are taken"),
        (Some(b"a\xff"), r"`ce_id` is not UTF-8: `a\xff`"),
        (None, "`ce_id` has no value"),
    ] {
        let mut message = message(&[]);
        message.headers.push((CE_ID.to_owned(), value.map(<[u8]>::to_vec)));
        assert_eq!(message.id(&message.fresh(), None), None);
        let why = message.why_no_id(None);
        assert!(why.contains(hint) && why.len() < 500, "{why}");
    }
    let why = message(&[]).why_no_id(Some(ForeignId::Header("x-request")));
    assert!(why.contains("`ce_id` is missing, and the header `x-request`"), "{why}");
}

#[test]
fn an_envelope_counts_and_not_the_copies_of_it_beside() {
    let mut message = message(&[
        ("Content-Type", "application/cloudevents+json"),
        (CE_TYPE, "a copy"),
        ("ce_tenant", "a copy"),
        ("x-request", "r1"),
    ]);
    let envelope = r#"{"specversion":"1.0","id":"42","source":"/s","type":"t","data":"x"}"#;
    message.payload = Some(envelope.as_bytes().to_vec());
    assert_eq!((message.name(), message.payload()), (Some(("t", 1)), Some(&br#""x""#[..])));
    assert!(!message.has_header("ce_tenant"));
    let context = message.context(&message.fresh(), Uuid::nil(), "t", 1);
    let mut headers: Vec<_> = context.headers.iter().collect();
    headers.sort_unstable();
    let expected = [
        ("ce_id", "42"),
        ("ce_source", "/s"),
        ("ce_specversion", "1.0"),
        ("ce_type", "t"),
        ("content-type", "application/json"),
        ("x-request", "r1"),
    ];
    assert_eq!(headers, expected);
    let in_binary_mode = id_of(&[(CE_SOURCE, "/s"), (CE_ID, "42")]);
    assert_eq!(message.id(&message.fresh(), None), in_binary_mode);
    assert_eq!(message.payload.as_deref(), Some(envelope.as_bytes()), "as it is sent on");

    message.payload = None;
    message.opened = Opened::default();
    assert_eq!(message.name(), Some(("a copy", 1)), "a tombstone has no envelope");
}

#[test]
fn a_message_that_is_no_event_says_what_it_seems_to_be() {
    let why = |content_type: &str| message(&[(CONTENT_TYPE, content_type)]).why_no_event();
    let unread = why("application/CloudEvents+avro");
    assert!(unread.contains("`ce_type` is missing"), "{unread}");
    assert!(unread.contains("`application/CloudEvents+avro`: of CloudEvents"), "{unread}");
    assert!(!why("application/json").contains("CloudEvents"));
}
