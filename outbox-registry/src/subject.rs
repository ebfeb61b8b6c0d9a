//! Under which name a registry keeps the schemas of an event.

/// How the subject is named under which a registry keeps an event's schemas. The three are those of
/// Confluent's clients. All who write and read a topic must use one of them.
///
/// A registry compares the versions of a subject with each other. So a topic on which there are
/// several events needs a strategy with the name of the record in it, else the second event is
/// refused as an incompatible version of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubjectStrategy {
    /// `<topic>-value`: one event on a topic. It is what Confluent's clients do by default.
    #[default]
    TopicName,
    /// The full name of the record: the event is the same on all topics.
    RecordName,
    /// `<topic>-<full name of the record>`: several events on a topic.
    TopicRecordName,
}

impl SubjectStrategy {
    /// `prefix`: of topics. `record` is asked only if the name has it in it.
    pub(crate) fn subject<E>(
        self,
        prefix: &str,
        topic: &str,
        record: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        Ok(match self {
            Self::TopicName => format!("{prefix}{topic}-value"),
            Self::RecordName => record()?,
            Self::TopicRecordName => format!("{prefix}{topic}-{}", record()?),
        })
    }
}

/// As a segment of a URL's path.
pub(crate) fn escaped(subject: &str) -> String {
    let mut segment = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn subjects_are_named_as_confluents_strategies_do() {
        let named = |strategy: SubjectStrategy, prefix| {
            let record = || Ok::<_, Infallible>("shop.OrderPlaced".to_owned());
            strategy.subject(prefix, "orders", record).unwrap()
        };
        assert_eq!(named(SubjectStrategy::TopicName, ""), "orders-value");
        assert_eq!(named(SubjectStrategy::RecordName, "eu."), "shop.OrderPlaced");
        assert_eq!(named(SubjectStrategy::TopicRecordName, ""), "orders-shop.OrderPlaced");
        assert_eq!(named(SubjectStrategy::TopicRecordName, "eu."), "eu.orders-shop.OrderPlaced");
    }

    #[test]
    fn a_subject_is_one_segment_of_a_path() {
        assert_eq!(escaped("orders-value"), "orders-value");
        assert_eq!(escaped(":.ctx:a/b c?"), "%3A.ctx%3Aa%2Fb%20c%3F");
    }
}
