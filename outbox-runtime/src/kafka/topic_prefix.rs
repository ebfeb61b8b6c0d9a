//! Names of topics: as events declare them, and as a deployment has them on the brokers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use outbox_event::__private::topic_problem;

use crate::error::OutboxError;

/// Kafka's limit for the name of a topic.
pub(crate) const LONGEST_NAME: usize = 249;

/// What the names of all topics of a deployment begin with on the brokers. Empty: nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicPrefix(Arc<str>);

impl TopicPrefix {
    /// # Errors
    /// If no topic could begin with it.
    pub(crate) fn new(prefix: &str) -> Result<Self, OutboxError> {
        if !is_legal_topic(&format!("{prefix}x")) {
            return Err(OutboxError::config(format!(
                "no topic of Kafka's can begin with the topic prefix `{}`: a topic's name may have letters, digits, `.`, `_` and \
                 `-`, and {LONGEST_NAME} characters with the prefix. Nothing was started. Choose a prefix such as `staging-`, or none",
                prefix.escape_debug()
            )));
        }
        Ok(Self(prefix.into()))
    }

    /// The name on the brokers of a topic that an event declares.
    pub(crate) fn on_brokers<'t>(&self, topic: &'t str) -> Cow<'t, str> {
        if self.0.is_empty() { topic.into() } else { format!("{}{topic}", self.0).into() }
    }
}

impl fmt::Debug for TopicPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether Kafka takes this as the name of a topic.
pub(crate) fn is_legal_topic(name: &str) -> bool {
    topic_problem(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_begins_with_the_prefix_on_the_brokers_and_without_one_is_as_declared() {
        let none = TopicPrefix::new("").unwrap();
        assert!(matches!(none.on_brokers("orders"), Cow::Borrowed("orders")));
        assert_eq!(TopicPrefix::new("e2e-7.").unwrap().on_brokers("orders"), "e2e-7.orders");
    }

    #[test]
    fn a_prefix_that_no_topic_can_have_is_refused() {
        let longest = "x".repeat(LONGEST_NAME - 1);
        assert!(TopicPrefix::new(&longest).is_ok());
        for prefix in [" ", "e2e/", "größe-", "a\nb", &format!("{longest}x")] {
            let error = TopicPrefix::new(prefix).unwrap_err().to_string();
            assert!(error.contains("topic prefix `") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_topic_is_legal_by_its_length_and_its_characters() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(LONGEST_NAME)] {
            assert!(is_legal_topic(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(!is_legal_topic(name), "{name}");
        }
    }
}
