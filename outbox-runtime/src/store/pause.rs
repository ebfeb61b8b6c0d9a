//! What operators have paused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::admin::at;
use super::row::row;
use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;

/// Something that relays do not publish until it is resumed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Pause {
    /// What is paused.
    pub scope: PauseScope,
    /// Why, in the words of who paused it.
    pub reason: String,
    /// Who paused it.
    pub by: String,
    /// Time at which it was paused, by the clock of the database (SQLite: of the host).
    pub since: SystemTime,
}

/// What a pause is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PauseScope {
    /// Everything.
    All,
    /// A lane: its events wait in their order.
    Lane(Lane),
    /// A topic, as its events declare it: they are set aside as parked events are, and all other
    /// topics continue.
    Topic(String),
}

/// Most characters of a pause's reason, and of the name of who paused.
const MOST_CHARACTERS: usize = 1_000;

/// Most pauses of an outbox: a relay reads all of them whenever it renews its lease.
pub(crate) const MOST_PAUSES: i64 = 1_000;

row! {
    /// A pause, as stores return it.
    pub(crate) struct PauseRow {
        scope: String,
        target: String,
        reason: String,
        paused_by: String,
        since_micros: i64,
    }
}

impl PauseScope {
    /// As it is stored: the kind, and which one of it.
    pub(crate) fn stored(&self) -> (&'static str, String) {
        match self {
            Self::All => ("all", String::new()),
            Self::Lane(lane) => ("lane", lane.number().to_string()),
            Self::Topic(topic) => ("topic", topic.clone()),
        }
    }

    fn of_stored(scope: &str, target: String) -> Self {
        match (scope, target.parse().ok().and_then(Lane::new)) {
            ("topic", _) => Self::Topic(target),
            ("lane", Some(lane)) => Self::Lane(lane),
            // A row that was written by hand says at least that something is to wait.
            _ => Self::All,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OutboxError> {
        match self {
            Self::Topic(topic) if topic.is_empty() || topic.contains('\0') => {
                Err(OutboxError::config(
                    "the topic to be paused or resumed is empty or contains a NUL: no event is on such a topic. Nothing was \
                     changed",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Lane(lane) => write!(f, "lane {}", lane.number()),
            Self::Topic(topic) => write!(f, "topic `{topic}`"),
        }
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, reason, by, .. } = self;
        write!(f, "{scope} is paused by {by}: {reason}")
    }
}

impl From<PauseRow> for Pause {
    fn from(row: PauseRow) -> Self {
        let PauseRow { scope, target, reason, paused_by, since_micros } = row;
        let scope = PauseScope::of_stored(&scope, target);
        Self { scope, reason, by: paused_by, since: at(since_micros) }
    }
}

/// A text of an operator, as it is stored.
pub(crate) fn storable(text: &str) -> String {
    text.trim().chars().filter(|c| *c != '\0').take(MOST_CHARACTERS).collect()
}

pub(crate) fn too_many_pauses() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "{MOST_PAUSES} lanes and topics are paused already, and nothing more was: resume some, or pause everything"
        ),
    )
}

/// The pauses as a relay obeys them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Paused {
    pub(crate) all: bool,
    lanes: Vec<Lane>,
    /// The paused topics, each with what is noted at its events.
    pub(crate) topics: Arc<BTreeMap<String, String>>,
}

impl Paused {
    pub(crate) fn of(pauses: &[Pause]) -> Self {
        let mut paused = Self::default();
        let mut topics = BTreeMap::new();
        for pause in pauses {
            match &pause.scope {
                PauseScope::All => paused.all = true,
                PauseScope::Lane(lane) => paused.lanes.push(*lane),
                PauseScope::Topic(topic) => {
                    topics.insert(topic.clone(), pause.to_string());
                }
            }
        }
        paused.topics = Arc::new(topics);
        paused
    }

    /// Whether nothing of the lane is published.
    pub(crate) fn holds(&self, lane: Lane) -> bool {
        self.all || self.lanes.contains(&lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(scope: PauseScope) -> Pause {
        let (reason, by) = ("a bad release".to_owned(), "ann".to_owned());
        Pause { scope, reason, by, since: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn what_is_stored_of_a_pause_is_read_back_and_anything_else_pauses_everything() {
        let lane = Lane::from_number(7);
        for scope in
            [PauseScope::All, PauseScope::Lane(lane), PauseScope::Topic("orders".to_owned())]
        {
            let (kind, target) = scope.stored();
            assert_eq!(PauseScope::of_stored(kind, target), scope);
        }
        for (kind, target) in [("lane", "16"), ("lane", "-1"), ("lane", "x"), ("team", "orders")] {
            assert_eq!(PauseScope::of_stored(kind, target.to_owned()), PauseScope::All);
        }
    }

    #[test]
    fn a_relay_obeys_all_pauses_at_once() {
        let lane = Lane::from_number;
        let topic = PauseScope::Topic("orders".to_owned());
        let paused = Paused::of(&[pause(PauseScope::Lane(lane(3))), pause(topic)]);
        assert!(paused.holds(lane(3)) && !paused.holds(lane(4)));
        assert_eq!(paused.topics["orders"], "topic `orders` is paused by ann: a bad release");
        assert!(Paused::of(&[pause(PauseScope::All)]).holds(lane(4)));
    }

    #[test]
    fn a_text_of_an_operator_can_be_stored() {
        assert_eq!(storable(" a\0b \n"), "ab");
        assert_eq!(storable(&"ä".repeat(5_000)).chars().count(), MOST_CHARACTERS);
    }
}
