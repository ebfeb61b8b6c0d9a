//! The options, judged.

use syn::{LitInt, LitStr};

use super::args::{Args, Attempts};
use crate::errors::Errors;

/// All of them are valid, or absent. Times in milliseconds.
#[derive(Default)]
pub(super) struct Options {
    pub(super) group: Option<String>,
    pub(super) attempts: Option<Limit>,
    /// The first and the longest.
    pub(super) pauses: Option<(u64, u64)>,
    pub(super) schedule: Option<(Vec<u64>, Later)>,
    pub(super) timeout: Option<u64>,
    pub(super) foreign: Option<Foreign>,
    /// Names of events.
    pub(super) only: Option<Vec<String>>,
    /// Most events in one transaction.
    pub(super) shared_transaction: Option<u32>,
}

#[derive(Clone, Copy)]
pub(super) enum Limit {
    Attempts(u32),
    None,
}

/// A variant of the runtime's `LaterEvents`.
#[derive(Clone, Copy)]
pub(super) enum Later {
    Wait,
    Overtake,
}

/// A variant of the runtime's `ForeignId`.
pub(super) enum Foreign {
    Place,
    Key,
    Header(String),
}

/// The first and the longest pause, each used if only the other one is given: those of the
/// runtime's `HandlerOptions`.
const DEFAULT_PAUSES: (u64, u64) = (100, 10_000);
/// Bounds of the runtime's `HandlerOptions`. What exceeds them would be refused when the consumer
/// is built.
const LONGEST_TIME: u64 = 30 * 86_400_000;
const SHORTEST_TIMEOUT: u64 = 10;
const MOST_RETRY_TOPICS: usize = 16;
const MOST_SHARED: u32 = 1_000;

impl Options {
    pub(super) fn new(errors: &Errors, args: &Args) -> Self {
        Self {
            group: args.group.get().and_then(|group| self::group(errors, group)),
            attempts: args.attempts.get().and_then(|given| attempts(errors, given)),
            pauses: pauses(errors, args),
            schedule: schedule(errors, args),
            timeout: args.timeout.get().and_then(|time| timeout(errors, time)),
            foreign: args.foreign.get().and_then(|given| foreign(errors, given)),
            only: only(errors, args),
            shared_transaction: args
                .shared_transaction
                .get()
                .and_then(|given| shared(errors, given)),
        }
    }
}

fn group(errors: &Errors, group: &LitStr) -> Option<String> {
    let name = group.value();
    let legal = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !legal {
        errors.at(
            group.span(),
            "a group is part of the names of topics: letters, digits, `.`, `_` and `-`\nhelp: write `group = \"inventory\"`",
        );
    }
    legal.then_some(name)
}

fn attempts(errors: &Errors, given: &Attempts) -> Option<Limit> {
    let (span, what) = match given {
        Attempts::Word(word) if word.value() == "unlimited" => return Some(Limit::None),
        Attempts::Word(word) => (word.span(), format!("{:?}", word.value())),
        Attempts::Number(number) => match number.base10_parse() {
            Ok(attempts @ 1..) => return Some(Limit::Attempts(attempts)),
            _ => (number.span(), number.to_string()),
        },
    };
    errors.at(
        span,
        format!(
            "`{what}` is not a number of attempts, of which the first counts\n\
             help: write `attempts = 5`, or `attempts = \"unlimited\"` to never give up"
        ),
    );
    None
}

fn pauses(errors: &Errors, args: &Args) -> Option<(u64, u64)> {
    let [first, longest] = [&args.pause, &args.longest_pause]
        .map(|given| given.get().and_then(|time| millis(errors, time)));
    match (first, longest) {
        (Some(first), Some(longest)) if longest < first => {
            if let Some(given) = args.longest_pause.get() {
                errors.at(
                    given.span(),
                    "the longest pause is shorter than the first\nhelp: swap them, or leave one out",
                );
            }
            None
        }
        (Some(first), Some(longest)) => Some((first, longest)),
        (Some(first), None) => Some((first, first.max(DEFAULT_PAUSES.1))),
        (None, Some(longest)) => Some((longest.min(DEFAULT_PAUSES.0), longest)),
        (None, None) => None,
    }
}

fn schedule(errors: &Errors, args: &Args) -> Option<(Vec<u64>, Later)> {
    const CHOICE: &str = "help: say `later_events = \"wait\"` to keep the order: they wait behind it, and all of them are late;\n\
                          \x20     or `later_events = \"overtake\"` to give the order up: they are handled at once";
    let (topics, later) = (args.retry_topics.key(), args.later_events.key());
    match (topics, later) {
        (Some(topics), None) => errors.at(
            topics.span(),
            format!("while an event waits in a retry topic, what becomes of the later events of its key?\n{CHOICE}"),
        ),
        (None, Some(later)) => errors.at(
            later.span(),
            "without retry topics, the later events of a key wait anyway\n\
             help: remove this, or add `retry_topics = [\"10s\", \"5m\"]`",
        ),
        _ => {}
    }
    let later = args.later_events.get().and_then(|given| match &*given.value() {
        "wait" => Some(Later::Wait),
        "overtake" => Some(Later::Overtake),
        other => {
            errors.at(
                given.span(),
                format!("`{other}` is nothing that later events can do\n{CHOICE}"),
            );
            None
        }
    });
    let topics = topics?;
    let delays = args.retry_topics.get()?;
    if delays.0.is_empty() {
        errors.at(
            topics.span(),
            "there is no retry topic in this list\nhelp: write `retry_topics = [\"10s\", \"5m\"]`, or remove it",
        );
    }
    not_too_many(errors, &delays.0);
    if let Some(Attempts::Word(unlimited)) = args.attempts.get()
        && unlimited.value() == "unlimited"
    {
        errors.at(
            unlimited.span(),
            "no event would ever get to a retry topic: the attempts before it do not end\n\
             help: write `attempts = 5`, or remove `retry_topics`",
        );
    }
    // Not a `filter_map`: all mistakes are to be found.
    let millis: Vec<_> = delays.0.iter().map(|time| millis(errors, time)).collect();
    Some((millis.into_iter().collect::<Option<_>>()?, later?))
}

fn not_too_many(errors: &Errors, delays: &[LitStr]) {
    if let Some(first_too_many) = delays.get(MOST_RETRY_TOPICS) {
        errors.at(
            first_too_many.span(),
            format!(
                "these are {} retry topics, and a handler has up to {MOST_RETRY_TOPICS}\nhelp: remove this and what follows",
                delays.len()
            ),
        );
    }
}

fn foreign(errors: &Errors, given: &LitStr) -> Option<Foreign> {
    let text = given.value();
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["place"] => Some(Foreign::Place),
        ["key"] => Some(Foreign::Key),
        ["header", name] => Some(Foreign::Header(name.to_owned())),
        _ => {
            errors.at(
                given.span(),
                "by what is a message without the headers of an event recognised when it comes again?\n\
                 help: write `foreign = \"place\"` (topic, partition and offset), `foreign = \"key\"`,\n\
                 \x20     or `foreign = \"header x-request-id\"`",
            );
            None
        }
    }
}

fn only(errors: &Errors, args: &Args) -> Option<Vec<String>> {
    let (key, names) = (args.only.key()?, args.only.get()?);
    if names.0.is_empty() {
        errors.at(
            key.span(),
            "the handler would take no event\nhelp: write `only = [\"order.placed\"]`, or remove it",
        );
    }
    Some(names.0.iter().map(LitStr::value).collect())
}

fn shared(errors: &Errors, events: &LitInt) -> Option<u32> {
    let help = match events.base10_parse() {
        Ok(events @ 2..=MOST_SHARED) => return Some(events),
        Ok(1) => "remove it: without it, each event has a transaction of its own".to_owned(),
        Ok(0) => "write `shared_transaction = 50`, or remove it".to_owned(),
        _ => format!("write `shared_transaction = {MOST_SHARED}` or less"),
    };
    errors.at(
        events.span(),
        format!(
            "a transaction is shared by 2 to {MOST_SHARED} events, and not by {events}\nhelp: {help}"
        ),
    );
    None
}

fn timeout(errors: &Errors, time: &LitStr) -> Option<u64> {
    let millis = millis(errors, time)?;
    if millis < SHORTEST_TIMEOUT {
        errors.at(
            time.span(),
            format!("`{}` is shorter than 10 ms\nhelp: write \"10ms\" or more", time.value()),
        );
        return None;
    }
    Some(millis)
}

/// A time as `500ms`, `10s`, `5m`, `2h`, `1d`.
fn millis(errors: &Errors, time: &LitStr) -> Option<u64> {
    let text = time.value();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    let millis = millis.filter(|millis| *millis > 0);
    let problem = match millis {
        Some(..=LONGEST_TIME) => return millis,
        Some(_) => format!("`{text}` is longer than 30 days\nhelp: write \"30d\" or less"),
        None => format!(
            "`{text}` is not a time\nhelp: write \"500ms\", \"10s\", \"5m\", \"2h\" or \"1d\""
        ),
    };
    errors.at(time.span(), problem);
    None
}
