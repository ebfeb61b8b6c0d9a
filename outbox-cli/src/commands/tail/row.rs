//! An event as a line.

use outbox::admin::TailedEvent;
use outbox::consume::TailedMessage;
use serde::Serialize;
use serde_json::Value;

use super::Args;
use super::payload::Payload;
use crate::output::{Format, Output};
use crate::text::{self, ABSENT};
use crate::times;

/// Most characters of a payload in a table.
const PAYLOAD_CHARS: usize = 400;

/// What programs read.
#[derive(Debug, Serialize)]
pub struct TailRow {
    /// `outbox` or `kafka`.
    from: &'static str,
    occurred_at: Option<String>,
    topic: String,
    /// Of an event in the outbox.
    seq: Option<i64>,
    lane: Option<i16>,
    /// Of a message in Kafka.
    partition: Option<i32>,
    offset: Option<i64>,
    key: Option<String>,
    key_hex: Option<String>,
    name: Option<String>,
    version: Option<u32>,
    id: Option<String>,
    payload_bytes: Option<u64>,
    #[serde(flatten)]
    shown: Option<Shown>,
    #[serde(skip)]
    cells: Cells,
}

/// A payload, with `--payload`.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    pub payload: Option<Value>,
    pub payload_hex: Option<String>,
    /// Why it is not shown.
    pub payload_hidden: Option<&'static str>,
}

/// What only people read.
#[derive(Debug)]
struct Cells {
    time: String,
    key: String,
}

/// Headings of a table's columns.
pub fn headings(output: Output, payload: Payload) -> Vec<&'static str> {
    let mut headings = vec!["TIME", "FROM", "PLACE", "TOPIC", "KEY", "NAME", "ID"];
    if output.format == Format::Wide {
        headings.extend(["VERSION", "BYTES"]);
    }
    if payload != Payload::None {
        headings.push("PAYLOAD");
    }
    headings
}

impl TailRow {
    pub fn of_outbox(args: &Args, event: TailedEvent) -> Self {
        let (key, key_hex) = text::text_or_hex(event.key.as_deref());
        Self {
            from: "outbox",
            seq: Some(event.seq),
            lane: Some(event.lane.number()),
            partition: None,
            offset: None,
            shown: shown(args, event.payload.as_deref(), event.payload_bytes),
            cells: Cells::new(event.occurred_at, event.key.as_deref()),
            occurred_at: event.occurred_at.and_then(times::exact),
            topic: event.topic,
            key,
            key_hex,
            name: Some(event.name),
            version: Some(event.version),
            id: Some(event.id.to_string()),
            payload_bytes: event.payload_bytes,
        }
    }

    pub fn of_kafka(args: &Args, message: TailedMessage) -> Self {
        let (key, key_hex) = text::text_or_hex(message.key.as_deref());
        Self {
            from: "kafka",
            seq: None,
            lane: None,
            partition: Some(message.partition),
            offset: Some(message.offset),
            shown: shown(args, message.payload.as_deref(), message.payload_bytes),
            cells: Cells::new(message.timestamp, message.key.as_deref()),
            occurred_at: message.timestamp.and_then(times::exact),
            topic: message.topic,
            key,
            key_hex,
            name: message.name,
            version: message.version,
            id: message.id.map(|id| id.to_string()),
            payload_bytes: message.payload_bytes,
        }
    }

    /// A cell for each of the [`headings`].
    pub fn cells(&self, output: Output) -> Vec<String> {
        let number =
            |number: Option<u64>| number.map_or_else(|| ABSENT.to_owned(), |n| n.to_string());
        let absent = || ABSENT.to_owned();
        let place = match (self.seq, self.partition, self.offset) {
            (Some(seq), ..) => seq.to_string(),
            (_, Some(partition), Some(offset)) => format!("{partition}:{offset}"),
            _ => absent(),
        };
        let mut cells = vec![
            self.cells.time.clone(),
            self.from.to_owned(),
            place,
            text::one_line(&self.topic),
            self.cells.key.clone(),
            self.name.as_deref().map_or_else(absent, text::one_line),
            self.id.clone().unwrap_or_else(absent),
        ];
        if output.format == Format::Wide {
            cells.extend([number(self.version.map(u64::from)), number(self.payload_bytes)]);
        }
        cells.extend(self.shown.as_ref().map(|shown| shown.cell(output)));
        cells
    }
}

fn shown(args: &Args, payload: Option<&[u8]>, bytes: Option<u64>) -> Option<Shown> {
    let is_shown = args.payload != Payload::None;
    is_shown.then(|| args.payload.shown(payload, bytes.is_none(), &args.redact))
}

impl Shown {
    fn cell(&self, output: Output) -> String {
        let text = match self {
            Self { payload: Some(value), .. } => text::one_line(&value.to_string()),
            Self { payload_hex: Some(hex), .. } => hex.clone(),
            Self { payload_hidden, .. } => format!("({})", payload_hidden.unwrap_or(ABSENT)),
        };
        if output.format == Format::Wide { text } else { text::shortened(&text, PAYLOAD_CHARS) }
    }
}

impl Cells {
    fn new(time: Option<std::time::SystemTime>, key: Option<&[u8]>) -> Self {
        let time = time.and_then(times::seconds).unwrap_or_else(|| ABSENT.to_owned());
        Self { time, key: text::key(key) }
    }
}
