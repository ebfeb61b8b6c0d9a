//! Words of other libraries for the class of an error.

use proc_macro2::TokenTree;
use syn::Token;
use syn::parse::ParseStream;

use crate::symbol::{PERMANENT, TRANSIENT, TRANSPARENT};

/// The class of a word that is not ours: `retryable`, `retry = false`, `class = "fatal"`.
pub(super) fn other_word(word: &str, input: ParseStream<'_>) -> Option<&'static str> {
    let ahead = input.fork();
    let given = ahead.parse::<Token![=]>().and_then(|_| ahead.parse::<TokenTree>()).ok();
    let given = given.map(|given| given.to_string());
    match (class_of(word), given.as_deref()) {
        (Some(PERMANENT), Some("false")) => Some(TRANSIENT),
        (Some(TRANSIENT), Some("false")) => Some(PERMANENT),
        (Some(class), _) => Some(class),
        (None, given) => class_of(given?.trim_matches('"')),
    }
}

/// The class that a word of another library means.
pub(super) fn class_of(word: &str) -> Option<&'static str> {
    match &*word.to_ascii_lowercase().replace('_', "") {
        "permanent" | "abort" | "businesserror" | "deadletter" | "discard" | "dlq" | "dlt"
        | "drop" | "fatal" | "ignore" | "invalid" | "nonretriable" | "nonretryable" | "noretry"
        | "nontransient" | "notretryable" | "park" | "poison" | "reject" | "skip" | "terminal"
        | "unrecoverable" => Some(PERMANENT),
        "transient" | "again" | "backoff" | "recoverable" | "requeue" | "retriable" | "retry"
        | "retryable" | "temporary" | "unavailable" => Some(TRANSIENT),
        "transparent" | "delegate" | "forward" | "from" | "inherit" | "inner" | "source" => {
            Some(TRANSPARENT)
        }
        _ => None,
    }
}
