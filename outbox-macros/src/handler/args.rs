//! The options. What they may be is decided in [`model`](super::model).

use proc_macro2::TokenStream;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Ident, LitInt, LitStr, Path, Token, bracketed};

use super::aliases;
use crate::errors::{self, Errors};
use crate::grammar::{self, Once, Value, value};
use crate::symbol::{
    ATTEMPTS, CRATE, FOREIGN, GROUP, LATER_EVENTS, LONGEST_PAUSE, ONLY, PAUSE, RETRY_TOPICS,
    SHARED_TRANSACTION, TIMEOUT,
};

const OPTIONS: [&str; 11] = [
    GROUP,
    ATTEMPTS,
    PAUSE,
    LONGEST_PAUSE,
    RETRY_TOPICS,
    LATER_EVENTS,
    TIMEOUT,
    FOREIGN,
    ONLY,
    SHARED_TRANSACTION,
    CRATE,
];

#[derive(Default)]
pub(super) struct Args {
    pub(super) group: Once<LitStr>,
    pub(super) attempts: Once<Attempts>,
    pub(super) pause: Once<LitStr>,
    pub(super) longest_pause: Once<LitStr>,
    pub(super) retry_topics: Once<Delays>,
    pub(super) later_events: Once<LitStr>,
    pub(super) timeout: Once<LitStr>,
    pub(super) foreign: Once<LitStr>,
    pub(super) only: Once<Names>,
    pub(super) shared_transaction: Once<LitInt>,
    pub(super) krate: Once<Path>,
}

pub(super) enum Attempts {
    Number(LitInt),
    Word(LitStr),
}

pub(super) struct Delays(pub(super) Vec<LitStr>);

/// Names of events.
pub(super) struct Names(pub(super) Vec<LitStr>);

impl Args {
    // Input:  group = "inventory", attempts = 3
    // Output: Args { group: "inventory", attempts: 3 }
    pub(super) fn parse(errors: &Errors, tokens: TokenStream) -> Self {
        let mut args = Self::default();
        let parsed = (|input: ParseStream<'_>| {
            grammar::list(errors, input, |input| args.entry(input));
            Ok(())
        })
        .parse2(tokens);
        errors.ok(parsed);
        args
    }

    fn entry(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let Some(key) = grammar::word(input) else {
            return Err(input.error("expected an option\nhelp: write `group = \"inventory\"`"));
        };
        match &*key.to_string() {
            GROUP => self.group.set(&key, value(&key, input, "group = \"inventory\"")),
            ATTEMPTS => self.attempts.set(&key, value(&key, input, "attempts = 5")),
            PAUSE => self.pause.set(&key, value(&key, input, "pause = \"100ms\"")),
            LONGEST_PAUSE => {
                self.longest_pause.set(&key, value(&key, input, "longest_pause = \"10s\""))
            }
            RETRY_TOPICS => {
                self.retry_topics.set(&key, value(&key, input, "retry_topics = [\"10s\", \"5m\"]"))
            }
            LATER_EVENTS => {
                self.later_events.set(&key, value(&key, input, "later_events = \"wait\""))
            }
            TIMEOUT => self.timeout.set(&key, value(&key, input, "timeout = \"30s\"")),
            FOREIGN => self.foreign.set(&key, value(&key, input, "foreign = \"place\"")),
            ONLY => self.only.set(&key, value(&key, input, "only = [\"order.placed\"]")),
            SHARED_TRANSACTION => {
                self.shared_transaction.set(&key, value(&key, input, "shared_transaction = 50"))
            }
            CRATE => self.krate.set(&key, value(&key, input, "crate = my_crate::outbox")),
            unknown => Err(syn::Error::new(
                key.span(),
                format!("unknown option `{unknown}`\n{}", help(&key)),
            )),
        }
    }
}

/// Help for an option of another library, or for one that does not exist.
fn help(key: &Ident) -> String {
    let word = key.to_string();
    match aliases::help(&word) {
        Some(help) => format!("help: {help}"),
        None => errors::suggestion(&word, &OPTIONS).1,
    }
}

impl Value for Attempts {
    const EXPECTED: &'static str = "a whole number from 1, or \"unlimited\"";
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            input.parse().map(Self::Word)
        } else {
            input.parse().map(Self::Number)
        }
    }
}

impl Value for Delays {
    const EXPECTED: &'static str = "a list of times, such as [\"10s\", \"5m\"]";
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        texts(input).map(Self)
    }
}

impl Value for Names {
    const EXPECTED: &'static str = "a list of the names of events, such as [\"order.placed\"]";
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        texts(input).map(Self)
    }
}

fn texts(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    let list;
    bracketed!(list in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}
