use super::*;

fn opened(envelope: &str) -> Result<Envelope, String> {
    Envelope::of(envelope.as_bytes())
}

/// An envelope with these members besides the required ones.
fn with(members: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"a-1","source":"/orders","type":"order.placed"{members}}}"#
    )
}

fn payload(members: &str) -> Vec<u8> {
    opened(&with(members)).unwrap().payload
}

fn refused(envelope: &str) -> String {
    opened(envelope).map(|_| ()).expect_err(envelope)
}

#[test]
fn a_content_type_of_envelopes_is_known_in_any_letter_case_and_with_parameters() {
    for content_type in [
        "application/cloudevents+json",
        "application/cloudevents+json; charset=utf-8",
        "APPLICATION/CloudEvents+JSON;charset=UTF-8",
        " application/cloudevents+json ",
    ] {
        let opened = open(content_type.as_bytes(), with("").as_bytes());
        assert!(matches!(opened, Some(Ok(_))), "{content_type}");
    }
    for content_type in [
        "application/json",
        "application/cloudevents",
        "application/cloudevents+jsonx",
        "application/cloudevents+avro",
        "x; application/cloudevents+json",
        "",
    ] {
        assert_eq!(open(content_type.as_bytes(), with("").as_bytes()), None, "{content_type}");
    }
    assert_eq!(open(b"\xff\xfe", b""), None);
}

#[test]
fn a_batch_is_refused_by_its_name() {
    for content_type in
        ["application/cloudevents-batch+json", "Application/CloudEvents-Batch+JSON; charset=utf-8"]
    {
        let error = open(content_type.as_bytes(), b"[]").unwrap().unwrap_err();
        assert!(error.contains("application/cloudevents-batch+json"), "{error}");
    }
}

#[test]
fn the_attributes_of_an_envelope_are_the_headers_of_binary_mode() {
    let envelope = opened(
        r#"{ "datacontenttype": "application/vnd.shop+json", "time": "2026-01-02T03:04:05Z",
        "dataversion": 3, "urgent": true, "tenant": "ac\u006de ü", "specversion": "1.0",
        "subject": null, "data": {}, "type": "order.placed", "source": "/orders", "id": "a-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }"#,
    );
    let envelope = envelope.unwrap();
    let mut headers: Vec<_> = envelope.headers().collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("ce_dataversion", "3"),
            ("ce_id", "a-1"),
            ("ce_source", "/orders"),
            ("ce_specversion", "1.0"),
            ("ce_tenant", "acme ü"),
            ("ce_time", "2026-01-02T03:04:05Z"),
            ("ce_traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("ce_type", "order.placed"),
            ("ce_urgent", "true"),
            ("content-type", "application/vnd.shop+json"),
        ]
    );
}

/// No number loses digits, and no member its place, on the way to a codec.
#[test]
fn json_is_handed_on_byte_for_byte_as_it_stands_in_the_envelope() {
    let data = r#"{ "cents" : 12345678901234567890123.10, "a":1,"a":2, "text":"\u00fc ü" }"#;
    for members in [
        format!(r#","data": {data} , "datacontenttype":"application/json; charset=utf-8""#),
        format!(r#","datacontenttype":"Text/JSON","data":{data}"#),
        format!(r#","data":{data}"#),
    ] {
        assert_eq!(payload(&members), data.as_bytes());
    }
    assert_eq!(payload(r#","data":"text""#), br#""text""#, "a string of JSON has its quotes");
    assert_eq!(payload(r#","data":null"#), b"null");
    let content_type = opened(&with(r#","data":1"#)).unwrap();
    assert_eq!(content_type.header(CONTENT_TYPE), Some("application/json"));
}

#[test]
fn text_and_bytes_are_handed_on_without_what_json_made_of_them() {
    let xml = r#","datacontenttype":"application/xml","data":"<a b=\"\u00fc\"/>""#;
    assert_eq!(payload(xml), "<a b=\"ü\"/>".as_bytes());
    let object = r#","datacontenttype":"application/xml","data":{"a":1}"#;
    assert_eq!(payload(object), br#"{"a":1}"#);
    for base64 in ["AP/+Cg==", "AP/+Cg", r"AP\/+Cg=="] {
        assert_eq!(payload(&format!(r#","data_base64":"{base64}""#)), b"\0\xff\xfe\n");
    }
    assert_eq!(payload(r#","data_base64":"","data":null"#), b"");
    let without = opened(&with(r#","data_base64":null"#)).unwrap();
    assert_eq!((&without.payload[..], without.header(CONTENT_TYPE)), (&b""[..], None));
}

#[test]
fn what_is_wrong_with_an_envelope_is_said() {
    for (envelope, hint) in [
        (String::new(), "EOF while parsing"),
        ("{".to_owned(), "EOF while parsing"),
        ("[]".to_owned(), "expected one object"),
        ("\"text\"".to_owned(), "expected one object"),
        (with("") + "{}", "trailing characters"),
        (with(r#","id":"a-2""#), "`id` is there twice"),
        (with(r#","data":1,"data":2"#), "`data` is there twice"),
        (with(r#","data":1,"data_base64":"AA==""#), "both `data` and `data_base64`"),
        (with(r#","data_base64":"A*==""#), "is not Base64"),
        (with(r#","data_base64":17"#), "`data_base64` is no text"),
        (with(r#","tenant":{"a":1}"#), "the attribute `tenant` is an object"),
        (with(r#","tenant":[]"#), "the attribute `tenant` is an array"),
        (with(r#","tenant":"\ud800""#), "the attribute `tenant` is no text"),
        (with(r#","subject":7"#), "the attribute `subject` is no text in quotes"),
        (with(r#","datacontenttype":true"#), "the attribute `datacontenttype` is no text"),
        (with("").replace("\"a-1\"", "17"), "the attribute `id` is no text in quotes"),
        (with("").replace("\"a-1\"", "\"\""), "the attribute `id` is empty"),
        (with("").replace("\"a-1\"", "null"), "the attribute `id` is missing"),
        (with("").replace("\"id\"", "\"ID\""), "the attribute `id` is missing"),
        (with("").replace("\"type\"", "\"kind\""), "the attribute `type` is missing"),
        (with("").replace("\"source\"", "\"from\""), "the attribute `source` is missing"),
        (with("").replace("\"1.0\"", "\"0.3\""), "`specversion` is `0.3`"),
    ] {
        let error = refused(&envelope);
        assert!(error.contains(hint), "{hint}: {error}");
    }
    let error = Envelope::of(b"{\"id\":\"\xff\"}").unwrap_err();
    assert!(error.contains("no UTF-8"), "{error}");
    let told = open(b"application/cloudevents+json", b"{").unwrap().unwrap_err();
    assert!(told.contains("structured mode") && told.contains("EOF"), "{told}");
}

#[test]
fn no_envelope_is_too_deep_too_wide_or_too_long_to_be_read_or_refused() {
    let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(payload(&format!(r#","data":{deep}"#)), deep.as_bytes());
    assert!(refused(&with(&format!(r#","tenant":{deep}"#))).contains("is an array"));
    assert!(refused(&"[".repeat(1_000_000)).contains("expected one object"));
    let unclosed = "{\"a\":".repeat(1_000_000);
    assert!(refused(&with(&format!(r#","data":{unclosed}"#))).contains("at line 1 column"));

    let members: String = (0..100_000).map(|n| format!(r#","x{n}":1"#)).collect();
    assert!(refused(&with(&members)).contains("more than 64 members"));
    let members: String = (0..60).map(|n| format!(r#","x{n}":1"#)).collect();
    assert_eq!(opened(&with(&members)).unwrap().headers().count(), MOST_MEMBERS);

    let long = "x".repeat(1 << 20);
    let error = refused(&with(&format!(r#","{long}":[]"#)));
    assert!(error.len() < 400, "an error is not as long as what it is about: {}", error.len());
    let id = opened(&with("").replace("a-1", &long)).unwrap();
    assert_eq!(id.header("ce_id").map(str::len), Some(1 << 20), "who asks for the id bounds it");
}

/// As `to_structured` of the package `cloudevents` 2.2 writes them.
#[test]
fn envelopes_of_the_sdk_for_python_are_read() {
    const BEGINNING: &str = r#"{"type": "com.example.order.placed", "source": "/shop", "id": "order-1", "specversion": "1.0", "#;
    const TIME: &str = r#""time": "2026-11-27T23:52:31.632696Z""#;
    for (rest, content_type, payload) in [
        (
            format!(r#"{TIME}, "data": {{"customer": "a", "n": 1}}}}"#),
            Some("application/json"),
            &br#"{"customer": "a", "n": 1}"#[..],
        ),
        (
            format!(
                r#""datacontenttype": "application/octet-stream", {TIME}, "data_base64": "AP8="}}"#
            ),
            Some("application/octet-stream"),
            b"\0\xff",
        ),
        (
            format!(r#""datacontenttype": "application/xml", {TIME}, "data": "<a/>"}}"#),
            Some("application/xml"),
            b"<a/>",
        ),
        (format!("{TIME}}}"), None, b""),
    ] {
        let envelope = opened(&format!("{BEGINNING}{rest}")).unwrap();
        assert_eq!((envelope.header(CONTENT_TYPE), &*envelope.payload), (content_type, payload));
        assert_eq!(envelope.header("ce_time"), Some("2026-11-27T23:52:31.632696Z"));
        assert_eq!(envelope.header("ce_id"), Some("order-1"));
    }
}
