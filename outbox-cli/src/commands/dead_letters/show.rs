//! `outbox dead-letters show`. What is in a dead letter was written by others: no byte of it reaches
//! a terminal as a control sequence.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use outbox::consume::{DeadLetter, DeadLetterId, DeadLetters};

use super::row::{LetterRow, event, source};
use super::unknown;
use crate::context::Context;
use crate::failure::Failure;
use crate::text::{ABSENT, one_line, readable};
use crate::times;

/// Also those that were replayed or discarded, as long as Kafka has them.
pub async fn run(
    dead_letters: &DeadLetters,
    ids: &[DeadLetterId],
    context: &Context,
) -> Result<(), Failure> {
    let letters = dead_letters.get(ids.iter().copied()).await?;
    let found: BTreeSet<DeadLetterId> = letters.iter().map(DeadLetter::id).collect();
    let missing = ids.iter().filter(|id| !found.contains(id));
    let missing: Vec<DeadLetterId> = missing.copied().collect();
    if !missing.is_empty() {
        return Err(unknown(dead_letters, "shown", &missing));
    }
    for (i, letter) in letters.into_iter().enumerate() {
        let row = LetterRow::new(dead_letters, letter);
        let gap = if i == 0 { "" } else { "\n" };
        let text =
            || format!("{gap}{}", everything(&dead_letters.dead_letter_topic(), row.letter()));
        context.output.one(&row, text)?;
    }
    Ok(())
}

/// All that is known of one, for people.
fn everything(topic: &str, letter: &DeadLetter) -> String {
    let absent = || ABSENT.to_owned();
    let key = letter.key.as_deref().map_or_else(absent, |key| one_line(&readable(key)));
    let from = format!("{} on {}", source(letter), one_line(&letter.original_topic));
    let time = |time: Option<_>| time.and_then(times::exact).unwrap_or_else(absent);
    let mut shown = String::new();
    for (name, value) in [
        ("place", format!("{} on {topic}", letter.id())),
        ("came from", from),
        ("event", event(letter)),
        ("id", letter.event_id.map_or_else(absent, |id| id.to_string())),
        ("key", key),
        ("attempts", letter.attempts.to_string()),
        ("class", one_line(&letter.error_class)),
        ("first failure", time(letter.first_failure)),
        ("last failure", time(letter.last_failure)),
    ] {
        let _ = writeln!(shown, "{name:<15}{value}");
    }
    block(&mut shown, "error", &letter.error);
    let headers = letter.headers.iter().map(|(name, value)| {
        let value = value.as_deref().map_or_else(absent, |value| one_line(&readable(value)));
        format!("{}: {value}", one_line(name))
    });
    block(&mut shown, "headers", &headers.collect::<Vec<_>>().join("\n"));
    match (&letter.payload, letter.payload_left_out) {
        (Some(payload), _) => {
            block(&mut shown, &format!("payload, {} bytes", payload.len()), &readable(payload));
        }
        (None, Some(bytes)) => {
            let _ = writeln!(shown, "payload        left out, since it has {bytes} bytes");
        }
        (None, None) => shown.push_str("payload        none\n"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        let mut shown = String::new();
        block(&mut shown, "error", "one\ntwo\x07");
        assert_eq!(shown, "error\n  one\n  two\\u{7}\n");
    }
}
