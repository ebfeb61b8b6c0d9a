//! What is known of an event, as it is printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use outbox::admin::{FoundEvent, GroupEvent, GroupState};
use outbox::consume::TopicPlaces;
use serde::Serialize;

use super::super::word;
use crate::text::{self, ABSENT};
use crate::times;

/// What programs read.
#[derive(Debug, Serialize)]
pub struct Report {
    id: String,
    event: Option<Event>,
    rows: Vec<Place>,
    relay: Option<Relay>,
    parked: Vec<Parked>,
    discarded: Vec<Discarded>,
    /// Absent if Kafka was not asked, or did not say.
    pub places: Option<Places>,
    /// Why Kafka did not say where the event is, or whether it is a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_error: Option<String>,
    groups: Vec<Group>,
    /// Those that were asked for, and that the tables say nothing of.
    not_handled: Vec<String>,
    pub dead_letters: Vec<DeadLetterPlace>,
}

#[derive(Debug, Serialize)]
struct Event {
    topic: String,
    key: Option<String>,
    name: String,
    version: u32,
    occurred_at: Option<String>,
    content_type: String,
    headers: BTreeMap<String, String>,
    payload_bytes: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Place {
    seq: i64,
    lane: i16,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Relay {
    id: String,
    host: Option<String>,
    pid: Option<u32>,
    version: Option<String>,
}

#[derive(Debug, Serialize)]
struct Parked {
    seq: i64,
    reason: Option<String>,
    waits_behind: Option<String>,
    attempts: u32,
    since: Option<String>,
}

#[derive(Debug, Serialize)]
struct Discarded {
    seq: i64,
    reason: Option<String>,
    at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Places {
    topic: String,
    messages: Vec<Message>,
    searched: u64,
    is_complete: bool,
}

#[derive(Debug, Serialize)]
struct Message {
    partition: i32,
    offset: i64,
    timestamp: Option<String>,
}

#[derive(Debug, Serialize)]
struct Group {
    group: String,
    state: &'static str,
    since: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct DeadLetterPlace {
    group: String,
    topic: String,
    place: String,
}

impl DeadLetterPlace {
    pub fn new(group: &str, topic: &str, place: &str) -> Self {
        Self { group: group.to_owned(), topic: topic.to_owned(), place: place.to_owned() }
    }
}

impl Places {
    pub fn new(found: &TopicPlaces) -> Self {
        let message = |place: &outbox::consume::TopicPlace| Message {
            partition: place.partition,
            offset: place.offset,
            timestamp: place.timestamp.and_then(times::exact),
        };
        Self {
            topic: found.topic.clone(),
            messages: found.places.iter().map(message).collect(),
            searched: found.searched,
            is_complete: found.is_complete,
        }
    }
}

impl Report {
    pub fn new(found: &FoundEvent) -> Self {
        let rows = found.copies.iter().map(|copy| Place {
            seq: copy.seq,
            lane: copy.lane.number(),
            state: word(copy.state),
        });
        let parked = found.parked.iter().map(|parked| Parked {
            seq: parked.seq,
            reason: parked.reason.clone(),
            waits_behind: parked.waits_behind.map(|id| id.to_string()),
            attempts: parked.attempts,
            since: times::exact(parked.since),
        });
        let discarded = found.discarded.iter().map(|discarded| Discarded {
            seq: discarded.seq,
            reason: discarded.reason.clone(),
            at: times::exact(discarded.at),
        });
        Self {
            id: found.id.to_string(),
            event: found.event.as_ref().map(Event::new),
            rows: rows.collect(),
            relay: found.relay.as_ref().map(|relay| Relay {
                id: relay.id.to_string(),
                host: relay.host.clone(),
                pid: relay.pid,
                version: relay.version.clone(),
            }),
            parked: parked.collect(),
            discarded: discarded.collect(),
            places: None,
            kafka_error: None,
            groups: Vec::new(),
            not_handled: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    /// What the tables know of the groups, and which of them were asked for.
    pub fn groups(&mut self, groups: &[GroupEvent], asked: &[String]) {
        let group = |group: &GroupEvent| Group {
            group: group.group.clone(),
            state: match group.state {
                GroupState::Handled => "handled",
                GroupState::InRetryTopic => "in a retry topic",
                GroupState::Waits => "waits behind an earlier event of its key",
                _ => "unknown",
            },
            since: times::exact(group.since),
        };
        self.groups = groups.iter().map(group).collect();
        let unknown = asked.iter().filter(|asked| groups.iter().all(|of| of.group != **asked));
        self.not_handled = unknown.cloned().collect();
    }

    pub fn knows_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    pub fn named_groups(&self) -> impl Iterator<Item = String> + '_ {
        self.groups.iter().map(|group| group.group.clone())
    }

    /// What people read.
    pub fn text(&self) -> String {
        let mut lines = Lines::default();
        lines.add("id", &self.id);
        if let Some(event) = &self.event {
            lines.add("topic", &text::one_line(&event.topic));
            lines.add("key", event.key.as_deref().map_or(ABSENT, |key| key));
            lines.add("name", &format!("{} (version {})", event.name, event.version));
            lines.add("occurred", event.occurred_at.as_deref().unwrap_or(ABSENT));
        }
        for row in &self.rows {
            lines.add("row", &format!("{} of lane {}: {}", row.seq, row.lane, row.state));
        }
        if let Some(relay) = &self.relay {
            lines.add("relay", &relay.text());
        } else if self.rows.iter().any(|row| row.state == "pending") {
            lines.add("relay", "no relay holds its lane");
        }
        for parked in &self.parked {
            lines.add("parked", &parked.text());
        }
        for discarded in &self.discarded {
            lines.add("discarded", discarded.at.as_deref().unwrap_or(ABSENT));
        }
        self.kafka(&mut lines);
        for group in &self.groups {
            let since = group.since.as_deref().unwrap_or(ABSENT);
            lines.add("group", &format!("{}: {}, since {since}", group.group, group.state));
        }
        for group in &self.not_handled {
            let tables =
                "has not handled it, as far as these tables know; a consumer may have its own";
            lines.add("group", &format!("{group}: {tables}"));
        }
        for letter in &self.dead_letters {
            let DeadLetterPlace { group, topic, place } = letter;
            lines.add("dead letter", &format!("{place} on {topic}, of the group {group}"));
        }
        lines.0
    }

    fn kafka(&self, lines: &mut Lines) {
        if let Some(error) = &self.kafka_error {
            lines.add("on Kafka", &format!("not known: {error}"));
        }
        let Some(Places { topic, messages, searched, is_complete }) = &self.places else {
            if self.kafka_error.is_none() {
                let why = match &self.event {
                    Some(_) => "not asked, since no brokers were named",
                    None => "not asked, since without its row nothing says on which topic it is",
                };
                lines.add("on Kafka", why);
            }
            return;
        };
        for Message { partition, offset, .. } in messages {
            lines.add("on Kafka", &format!("{partition}:{offset} on {topic}"));
        }
        if messages.is_empty() {
            let so_far = if *is_complete { "" } else { ", until the time was up" };
            let read = format!("not found on {topic} among {searched} messages{so_far}");
            lines.add("on Kafka", &read);
        }
    }
}

impl Event {
    fn new(event: &outbox::event::EventRecord) -> Self {
        let headers = event.headers.iter();
        Self {
            topic: event.topic.to_string(),
            key: event.key.as_deref().map(text::readable),
            name: event.name.to_string(),
            version: event.version,
            occurred_at: times::exact(event.occurred_at),
            content_type: event.content_type.to_string(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            payload_bytes: event.payload.as_ref().map(Vec::len),
        }
    }
}

impl Relay {
    fn text(&self) -> String {
        let host = self.host.as_deref().unwrap_or("an unknown host");
        let pid = self.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        let version =
            self.version.as_deref().map_or_else(String::new, |v| format!(", version {v}"));
        format!("{} on {host}{pid}{version}", self.id)
    }
}

impl Parked {
    fn text(&self) -> String {
        let since = self.since.as_deref().unwrap_or(ABSENT);
        match (&self.waits_behind, &self.reason) {
            (Some(head), _) => format!("since {since}, behind event {head}"),
            (None, Some(reason)) => {
                let attempts = text::counted(self.attempts, "attempt");
                format!("since {since}, after {attempts}: {reason}")
            }
            (None, None) => format!("since {since}"),
        }
    }
}

/// Lines of a name and a value, which are aligned.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name:<12} {}", text::one_line(value));
    }
}
