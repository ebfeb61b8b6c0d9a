//! Dead letters as text. What is in them was written by others: no byte of it reaches a terminal as
//! a control sequence.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use outbox::consume::DeadLetter;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const HEADINGS: [&str; 7] = ["PLACE", "EVENT", "KEY", "ATTEMPTS", "CLASS", "LAST FAILURE", "ERROR"];
const LONGEST_KEY: usize = 40;
const LONGEST_ERROR: usize = 120;

/// The cells of a dead letter in a table.
pub type Row = [String; 7];

pub fn row(letter: &DeadLetter) -> Row {
    [
        letter.id().to_string(),
        event(letter),
        letter
            .key
            .as_deref()
            .map_or_else(absent, |key| shortened(&one_line(&text(key)), LONGEST_KEY)),
        letter.attempts.to_string(),
        one_line(&letter.error_class),
        seconds(letter.last_failure),
        shortened(&one_line(letter.error.lines().next().unwrap_or_default()), LONGEST_ERROR),
    ]
}

/// A line for each, below a line of column names.
pub fn table(rows: &[Row]) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let mut widths = [0; 7];
    for row in std::iter::once(&headings).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

/// All that is known of one, for people.
pub fn everything(topic: &str, letter: &DeadLetter) -> String {
    let mut shown = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(shown, "{name:<15}{value}");
    };
    line("place", &format!("{} on {topic}", letter.id()));
    line("event", &event(letter));
    line("id", &letter.event_id.map_or_else(absent, |id| id.to_string()));
    line("key", &letter.key.as_deref().map_or_else(absent, |key| one_line(&text(key))));
    let DeadLetter { original_topic, original_partition, original_offset, .. } = letter;
    line(
        "came from",
        &format!("{original_partition}:{original_offset} on {}", one_line(original_topic)),
    );
    line("attempts", &letter.attempts.to_string());
    line("class", &one_line(&letter.error_class));
    line("first failure", &millis(letter.first_failure));
    line("last failure", &millis(letter.last_failure));
    block(&mut shown, "error", &letter.error);
    let headers = letter.headers.iter().map(|(name, value)| {
        let value = value.as_deref().map_or_else(absent, |value| one_line(&text(value)));
        format!("{}: {value}", one_line(name))
    });
    block(&mut shown, "headers", &headers.collect::<Vec<_>>().join("\n"));
    match letter.payload.as_deref() {
        None => shown.push_str("payload        none\n"),
        Some(payload) => {
            block(&mut shown, &format!("payload, {} bytes", payload.len()), &text(payload))
        }
    }
    shown
}

/// A heading, and the lines under it.
fn block(shown: &mut String, heading: &str, lines: &str) {
    let _ = writeln!(shown, "{heading}");
    for line in lines.lines() {
        let _ = writeln!(shown, "  {}", one_line(line));
    }
}

/// All that is known of one, for programs: in `…_hex` what is not UTF-8.
pub fn json(letter: &DeadLetter) -> Value {
    let mut object = json!({
        "place": letter.id().to_string(),
        "partition": letter.partition,
        "offset": letter.offset,
        "event_id": letter.event_id.map(|id| id.to_string()),
        "name": letter.name,
        "version": letter.version,
        "original_topic": letter.original_topic,
        "original_partition": letter.original_partition,
        "original_offset": letter.original_offset,
        "attempts": letter.attempts,
        "error_class": letter.error_class,
        "error": letter.error,
        "first_failure": letter.first_failure.map(|time| millis(Some(time))),
        "last_failure": letter.last_failure.map(|time| millis(Some(time))),
    });
    let headers = letter.headers.iter().map(|(name, value)| {
        let mut header = json!({ "name": name });
        put(&mut header, "value", value.as_deref());
        header
    });
    object["headers"] = headers.collect();
    put(&mut object, "key", letter.key.as_deref());
    put(&mut object, "payload", letter.payload.as_deref());
    object
}

fn put(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object[name] = Value::Null,
        Some((_, Ok(text))) => object[name] = text.into(),
        Some((bytes, Err(_))) => object[format!("{name}_hex")] = hex(bytes).into(),
    }
}

fn event(letter: &DeadLetter) -> String {
    match (&letter.name, letter.version) {
        (Some(name), Some(version)) => format!("{} v{version}", one_line(name)),
        (Some(name), None) => one_line(name),
        (None, _) => absent(),
    }
}

fn absent() -> String {
    "-".to_owned()
}

/// As it is if it is UTF-8, otherwise its bytes.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Line ends and other control characters are written out.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Without the fraction.
fn seconds(time: Option<SystemTime>) -> String {
    rfc3339(time, |time| time.replace_nanosecond(0).ok())
}

fn millis(time: Option<SystemTime>) -> String {
    rfc3339(time, Some)
}

/// A time that RFC 3339 cannot say was not written by an outbox.
fn rfc3339(
    time: Option<SystemTime>,
    rounded: impl Fn(OffsetDateTime) -> Option<OffsetDateTime>,
) -> String {
    let nanos =
        time.and_then(|time| i128::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok());
    let time = nanos.and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    time.and_then(rounded).and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(absent)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [
            ["0:1", "order.placed v1", "é", "10", "transient", "-", ""],
            ["12:345", "-", "customer-1", "1", "permanent", "-", "never"],
        ];
        assert_eq!(
            table(&rows.map(|row| row.map(str::to_owned))),
            "PLACE   EVENT            KEY         ATTEMPTS  CLASS      LAST FAILURE  ERROR\n\
             0:1     order.placed v1  é           10        transient  -\n\
             12:345  -                customer-1  1         permanent  -             never\n"
        );
    }

    #[test]
    fn what_is_not_text_is_shown_as_its_bytes() {
        assert_eq!(text("αβ".as_bytes()), "αβ");
        assert_eq!(text(&[0xff, 0x00, 0x1b]), "0xff001b");
        let mut object = json!({});
        put(&mut object, "key", Some(b"alice"));
        put(&mut object, "payload", Some(&[0xff]));
        put(&mut object, "value", None);
        assert_eq!(object, json!({ "key": "alice", "payload_hex": "ff", "value": null }));
    }

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        assert_eq!(one_line("a\x1b[31mred\r\n\u{9b}b"), "a\\u{1b}[31mred\\r\\n\\u{9b}b");
        let mut shown = String::new();
        block(&mut shown, "error", "one\ntwo\x07");
        assert_eq!(shown, "error\n  one\n  two\\u{7}\n");
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        assert_eq!(shortened("éé", 2), "éé");
        assert_eq!(shortened("ééé", 2), "éé…");
    }

    #[test]
    fn times_are_rfc_3339_and_an_impossible_one_is_none() {
        let time = Some(UNIX_EPOCH + Duration::from_millis(1_764_021_339_250));
        assert_eq!(seconds(time), "2025-11-24T21:55:39Z");
        assert_eq!(millis(time), "2025-11-24T21:55:39.25Z");
        assert_eq!(millis(Some(UNIX_EPOCH + Duration::from_millis(u64::MAX))), "-");
        assert_eq!(millis(None), "-");
    }
}
