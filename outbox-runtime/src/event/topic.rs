/// Returns `topic` if Kafka accepts it as a topic name, and otherwise fails: at compile time, since the derive
/// calls it in a constant.
///
/// Kafka's rule: 1 to 249 of the characters `[A-Za-z0-9._-]`, and neither `.` nor `..`
/// (`org.apache.kafka.common.internals.Topic`).
///
/// # Panics
/// If the name is not legal.
#[must_use]
#[allow(clippy::panic)] // evaluated by the compiler: the panic is the compile error
pub const fn checked_topic(topic: &'static str) -> &'static str {
    let bytes = topic.as_bytes();
    assert!(!bytes.is_empty(), "the topic of an event is empty");
    assert!(bytes.len() <= 249, "the topic of an event is longer than the 249 characters Kafka allows");
    assert!(
        !(bytes[0] == b'.' && (bytes.len() == 1 || (bytes.len() == 2 && bytes[1] == b'.'))),
        "the topic of an event must not be `.` or `..`"
    );
    let mut i = 0;
    while i < bytes.len() {
        assert!(
            matches!(bytes[i], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
            "the topic of an event has a character outside of A-Z, a-z, 0-9, `.`, `_` and `-`"
        );
        i += 1;
    }
    topic
}
