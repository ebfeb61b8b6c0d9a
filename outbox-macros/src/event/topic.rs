//! Kafka's rule for topic names (`org.apache.kafka.common.internals.Topic`), checked where the name
//! is typed.

const LONGEST: usize = 249;

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// What is wrong with `topic`, and the way out.
pub(super) fn check(topic: &str) -> Result<(), String> {
    const RULE: &str = "a Kafka topic is named with 1 to 249 letters, digits, `.`, `_` and `-`";
    if topic.is_empty() {
        return Err(format!("the topic is empty\nhelp: {RULE}: `topic = \"order-events\"`"));
    }
    if topic == "." || topic == ".." {
        return Err(format!("`{topic}` is not a topic: Kafka refuses `.` and `..`\nhelp: {RULE}"));
    }
    if let Some(illegal) = topic.chars().find(|c| !is_legal(*c)) {
        let legal: String = topic.chars().map(|c| if is_legal(c) { c } else { '-' }).collect();
        return Err(format!(
            "the name of a topic cannot have {illegal:?} in it\nhelp: {RULE}: `topic = {legal:?}`"
        ));
    }
    if topic.len() > LONGEST {
        return Err(format!(
            "the topic is {} characters long; Kafka allows {LONGEST}\nhelp: shorten it by {}",
            topic.len(),
            topic.len() - LONGEST
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rule_decides() {
        for legal in ["a", "order-events", "Orders.v1_0", "...", &"x".repeat(249)] {
            assert_eq!(check(legal), Ok(()), "{legal}");
        }
        for illegal in
            ["", ".", "..", "order events", "ordré", "a/b", "a:b", "a\n", &"x".repeat(250)]
        {
            assert!(check(illegal).is_err(), "{illegal}");
        }
    }
}
