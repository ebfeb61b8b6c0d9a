/// Why Kafka would refuse `topic`. `None`: it would not. The rule: 1 to 249 of the characters
/// `[A-Za-z0-9._-]`, and neither `.` nor `..` (`org.apache.kafka.common.internals.Topic`).
#[must_use]
pub const fn problem(topic: &str) -> Option<&'static str> {
    let bytes = topic.as_bytes();
    if bytes.is_empty() {
        return Some("the topic of an event is empty: Kafka refuses it");
    }
    if bytes.len() > 249 {
        return Some("the topic of an event is longer than the 249 characters that Kafka allows");
    }
    if bytes[0] == b'.' && (bytes.len() == 1 || (bytes.len() == 2 && bytes[1] == b'.')) {
        return Some("the topic of an event is `.` or `..`: Kafka refuses these two");
    }
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-') {
            return Some(
                "the topic of an event has a character that Kafka refuses: it takes A-Z, a-z, 0-9, `.`, `_` and `-`",
            );
        }
        i += 1;
    }
    None
}
