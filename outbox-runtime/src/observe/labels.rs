//! Values of labels that come from events. Each value is a series in the memory of whoever keeps
//! the metrics, so their number and their length have a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// What a topic and an event are called in the labels of all that are too many.
pub(crate) const OTHERS: &str = "(others)";

/// Pairs of a topic and an event that a process reports by their names.
const MOST: usize = 500;
/// Bytes of the longest name that is reported: no topic of Kafka's is longer.
const LONGEST: usize = 249;

static KNOWN: Mutex<Known> = Mutex::new(Known { pairs: 0, events: BTreeMap::new() });

struct Known {
    pairs: usize,
    /// The events of each topic.
    events: BTreeMap<String, BTreeSet<String>>,
}

/// The values of the labels `topic` and `event` for this topic and event.
pub(super) fn bounded<'e>(topic: &'e str, event: &'e str) -> (&'e str, &'e str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.admits(topic, event) { (topic, event) } else { (OTHERS, OTHERS) }
}

impl Known {
    fn admits(&mut self, topic: &str, event: &str) -> bool {
        if self.events.get(topic).is_some_and(|events| events.contains(event)) {
            return true;
        }
        if self.pairs >= MOST || topic.len().max(event.len()) > LONGEST {
            return false;
        }
        self.pairs += 1;
        self.events.entry(topic.to_owned()).or_default().insert(event.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_for_each_tenant_does_not_fill_the_memory() {
        let mut known = Known { pairs: 0, events: BTreeMap::new() };
        let mut admits = |topic: usize| known.admits(&format!("orders-{topic}"), "order.created");
        assert!((0..MOST).all(&mut admits));
        assert!(!admits(MOST), "one too many");
        assert!(admits(MOST - 1), "known ones are still reported by their names");
    }

    #[test]
    fn a_name_that_is_longer_than_any_topic_is_not_reported() {
        let mut known = Known { pairs: 0, events: BTreeMap::new() };
        assert!(!known.admits(&"t".repeat(LONGEST + 1), "e"));
        assert!(!known.admits("t", &"e".repeat(LONGEST + 1)));
        assert!(known.admits(&"t".repeat(LONGEST), "e"));
    }
}
