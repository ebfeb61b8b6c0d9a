//! What is shown of an outbox: plain data, in which no text has control characters.

use std::time::{Duration, SystemTime};

use outbox::admin::{ParkedGroup, PauseScope, Status};
use outbox::consume::GroupLag;

use crate::commands::relay::RelayRow;
use crate::text::one_line;
use crate::times;

/// What the database said last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    pub pending: u64,
    pub pending_is_estimate: bool,
    pub oldest: Option<Duration>,
    pub parked: u64,
    /// There are more than were counted.
    pub parked_or_more: bool,
    pub oldest_parked: Option<Duration>,
    pub set_aside: u64,
    /// `None`: the database has no ring.
    pub leaves_free: Option<u32>,
    pub lanes: Vec<Lane>,
    pub relays: Vec<Relay>,
    pub pauses: Vec<Pause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub number: i16,
    pub pending: u64,
    pub oldest: Option<Duration>,
    pub owner: Owner,
    pub is_paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// No relay: nothing publishes the lane's events.
    Nobody,
    /// Its place in [`Snapshot::relays`].
    Relay(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Where it is found: `host:pid`, or its id.
    pub place: String,
    pub state: &'static str,
    pub version: String,
    pub up: Duration,
    /// Since its last sign of life.
    pub silent: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub text: String,
    pub is_of_all: bool,
    pub lasts: Duration,
}

/// The parked events of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedTopic {
    /// As its events declare it, and as the database has it.
    pub topic: String,
    pub events: u64,
    pub keys: u64,
    pub oldest: Option<Duration>,
}

/// A consumer group on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub group: String,
    /// As events declare it, without the deployment's prefix.
    pub topic: String,
    /// `None`: this user may not ask for it.
    pub members: Option<u32>,
    pub lag: u64,
    pub oldest: Option<Duration>,
    pub in_retry_topics: u64,
}

impl From<&Status> for Snapshot {
    fn from(status: &Status) -> Self {
        let age = |time: SystemTime| status.at.duration_since(time).unwrap_or_default();
        let pauses = status.pauses.iter();
        Self {
            pending: status.backlog,
            pending_is_estimate: status.backlog_is_estimate,
            oldest: status.oldest_pending.map(age),
            parked: status.parked,
            parked_or_more: status.parked + status.set_aside >= Status::COUNTED,
            oldest_parked: status.oldest_parked.map(age),
            set_aside: status.set_aside,
            leaves_free: status.leaves_free,
            lanes: lanes(status),
            relays: relays(status),
            pauses: pauses
                .map(|pause| Pause {
                    text: one_line(&pause.to_string()),
                    is_of_all: pause.scope == PauseScope::All,
                    lasts: age(pause.since),
                })
                .collect(),
        }
    }
}

impl Snapshot {
    pub fn is_paused(&self) -> bool {
        self.pauses.iter().any(|pause| pause.is_of_all)
    }
}

fn lanes(status: &Status) -> Vec<Lane> {
    let age = |time: SystemTime| status.at.duration_since(time).unwrap_or_default();
    let place = |owner| status.relays.iter().position(|relay| relay.id == owner);
    let is_paused = |lane| {
        let scopes = status.pauses.iter().map(|pause| &pause.scope);
        scopes
            .into_iter()
            .any(|scope| *scope == PauseScope::All || *scope == PauseScope::Lane(lane))
    };
    let lanes = status.lanes.iter().map(|lane| Lane {
        number: lane.lane.number(),
        pending: lane.backlog,
        oldest: lane.oldest_pending.map(age),
        owner: lane.owner.and_then(place).map_or(Owner::Nobody, Owner::Relay),
        is_paused: is_paused(lane.lane),
    });
    lanes.collect()
}

fn relays(status: &Status) -> Vec<Relay> {
    let age = |time: SystemTime| status.at.duration_since(time).unwrap_or_default();
    let relays = status.relays.iter().map(|relay| {
        let row = RelayRow::new(relay, status.at);
        Relay {
            place: row.place(),
            state: row.state,
            version: row.version.as_deref().map(one_line).unwrap_or_default(),
            up: age(relay.started),
            silent: relay.last_sign.map(age),
        }
    });
    relays.collect()
}

impl From<ParkedGroup> for ParkedTopic {
    fn from(group: ParkedGroup) -> Self {
        Self {
            topic: group.topic.unwrap_or_default(),
            events: group.events,
            keys: group.keys,
            oldest: group.oldest.map(times::age),
        }
    }
}

impl Group {
    /// `prefix`: what the deployment's topics begin with on the brokers.
    pub fn new(lag: GroupLag, prefix: &str) -> Self {
        Self {
            topic: lag.topic.strip_prefix(prefix).unwrap_or(&lag.topic).to_owned(),
            group: lag.group,
            members: lag.members,
            lag: lag.lag,
            oldest: lag.oldest.map(times::age),
            in_retry_topics: lag.in_retry_topics,
        }
    }
}
