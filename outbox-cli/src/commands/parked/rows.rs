//! Parked events, as they are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum;
use outbox::admin::{ParkedEvent, ParkedGroup, ParkedGrouping};
use serde::Serialize;
use uuid::Uuid;

use crate::output::Row;
use crate::text::{self, ABSENT, one_line, shortened, text_or_hex};
use crate::times;

/// Most characters of a reason in a table.
const LONGEST_REASON: usize = 100;

/// A parked event in a list.
#[derive(Debug, Serialize)]
pub struct EventRow {
    id: Uuid,
    topic: String,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    name: String,
    version: u32,
    lane: i16,
    seq: i64,
    attempts: u32,
    reason: Option<String>,
    waits_behind: Option<Uuid>,
    occurred_at: Option<String>,
    since: Option<String>,
}

impl EventRow {
    pub fn new(parked: &ParkedEvent) -> Self {
        let (key, key_hex) = text_or_hex(parked.event.key.as_deref());
        Self {
            id: parked.event.id,
            topic: parked.event.topic.to_string(),
            key,
            key_hex,
            name: parked.event.name.to_string(),
            version: parked.event.version,
            lane: parked.lane.number(),
            seq: parked.seq,
            attempts: parked.attempts,
            reason: parked.reason.clone(),
            waits_behind: parked.waits_behind,
            occurred_at: times::exact(parked.event.occurred_at),
            since: times::exact(parked.since),
        }
    }
}

impl Row for EventRow {
    const COLUMNS: &'static [&'static str] = &["ID", "TOPIC", "KEY", "EVENT", "ATTEMPTS", "REASON"];
    const WIDE: &'static [&'static str] = &["LANE", "SEQ", "OCCURRED", "SINCE"];

    fn cells(&self) -> Vec<String> {
        let absent = || ABSENT.to_owned();
        let hex = self.key_hex.as_ref().map(|hex| format!("0x{hex}"));
        let key = self.key.clone().or(hex);
        let reason = match (&self.reason, &self.waits_behind) {
            (Some(reason), _) => shortened(&one_line(reason), LONGEST_REASON),
            (None, Some(first)) => format!("waits behind {first}"),
            (None, None) => absent(),
        };
        vec![
            self.id.to_string(),
            one_line(&self.topic),
            text::key(key.as_deref().map(str::as_bytes)),
            format!("{} v{}", one_line(&self.name), self.version),
            self.attempts.to_string(),
            reason,
            self.lane.to_string(),
            self.seq.to_string(),
            self.occurred_at.clone().unwrap_or_else(absent),
            self.since.clone().unwrap_or_else(absent),
        ]
    }
}

/// All that is known of one, for programs.
#[derive(Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    event: EventRow,
    content_type: String,
    headers: BTreeMap<String, String>,
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl Details {
    pub fn new(parked: &ParkedEvent) -> Self {
        let (payload, payload_hex) = text_or_hex(parked.event.payload.as_deref());
        Self {
            event: EventRow::new(parked),
            content_type: parked.event.content_type.to_string(),
            headers: headers(parked),
            payload,
            payload_hex,
        }
    }
}

fn headers(parked: &ParkedEvent) -> BTreeMap<String, String> {
    let headers = parked.event.headers.iter();
    headers.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// All that is known of one, for people.
pub fn everything(parked: &ParkedEvent) -> String {
    let event = &parked.event;
    let absent = || ABSENT.to_owned();
    let mut shown = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(shown, "{name:<14}{value}");
    };
    line("id", &event.id.to_string());
    line("event", &format!("{} v{}", one_line(&event.name), event.version));
    line("topic", &one_line(&event.topic));
    line("key", &event.key.as_deref().map_or_else(absent, |key| one_line(&text::readable(key))));
    line("lane, seq", &format!("{}, {}", parked.lane.number(), parked.seq));
    line("attempts", &parked.attempts.to_string());
    line("reason", &parked.reason.as_deref().map_or_else(absent, one_line));
    line("waits behind", &parked.waits_behind.map_or_else(absent, |id| id.to_string()));
    line("occurred", &times::exact(event.occurred_at).unwrap_or_else(absent));
    line("parked", &times::exact(parked.since).unwrap_or_else(absent));
    for (name, value) in headers(parked) {
        line("header", &format!("{}: {}", one_line(&name), one_line(&value)));
    }
    match event.payload.as_deref() {
        None => line("payload", "none, a tombstone"),
        Some(payload) => {
            line(
                "payload",
                &format!("{} bytes of {}", payload.len(), one_line(&event.content_type)),
            );
            for of_payload in text::readable(payload).lines() {
                let _ = writeln!(shown, "  {}", one_line(of_payload));
            }
        }
    }
    shown
}

/// What parked events are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    Reason,
    Topic,
    Key,
}

impl GroupBy {
    pub fn grouping(self) -> ParkedGrouping {
        match self {
            Self::Reason => ParkedGrouping::Reason,
            Self::Topic => ParkedGrouping::Topic,
            Self::Key => ParkedGrouping::Key,
        }
    }
}

/// Parked events that have something in common.
#[derive(Debug, Serialize)]
pub struct GroupRow {
    events: u64,
    keys: u64,
    oldest: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    what: String,
}

impl GroupRow {
    pub fn new(group: &ParkedGroup, by: GroupBy) -> Self {
        let (key, key_hex) = text_or_hex(group.key.as_deref());
        let topic = group.topic.as_deref().map(one_line);
        let what = match by {
            GroupBy::Topic => topic.unwrap_or_default(),
            GroupBy::Key => {
                format!("{} {}", topic.unwrap_or_default(), text::key(group.key.as_deref()))
            }
            GroupBy::Reason => match &group.reason {
                Some(reason) => shortened(&one_line(reason), LONGEST_REASON),
                None => "waits behind another event of its key".to_owned(),
            },
        };
        Self {
            events: group.events,
            keys: group.keys,
            oldest: group.oldest.and_then(times::exact),
            topic: group.topic.clone(),
            key,
            key_hex,
            reason: group.reason.clone(),
            what,
        }
    }
}

impl Row for GroupRow {
    const COLUMNS: &'static [&'static str] = &["EVENTS", "KEYS", "OLDEST", "GROUP"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.events.to_string(),
            self.keys.to_string(),
            self.oldest.clone().unwrap_or_else(|| ABSENT.to_owned()),
            self.what.clone(),
        ]
    }
}
