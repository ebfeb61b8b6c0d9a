//! The places of `#[event(…)]`: which keys each knows, and what to say about the others.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{LitStr, Meta};

use super::words::{Given, Meaning};
use crate::errors;
use crate::symbol::{
    CODEC, CRATE, DUPLICATE, EMITTED_BY, HEADER, ID, KEY, KEYLESS, NAME, OCCURRED_AT, READ_ONLY,
    RENAME, TOPIC, TRANSPARENT, UNLOCKED, UPCAST_FROM, VERSION,
};

/// What is said about a key that is unknown in its place.
pub(super) struct Unknown {
    /// The key of this place that was meant.
    pub(super) meant: Option<&'static str>,
    /// Whether a topic or a key that is missing may have been meant.
    pub(super) garbles: bool,
    pub(super) error: syn::Error,
}

/// The place of an `#[event(…)]`, which decides which keys it knows.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Struct,
    Enum,
    Variant,
    Field,
}

impl Level {
    pub(super) const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Struct => &[
                TOPIC,
                NAME,
                VERSION,
                CODEC,
                KEYLESS,
                DUPLICATE,
                UPCAST_FROM,
                READ_ONLY,
                UNLOCKED,
                EMITTED_BY,
                TRANSPARENT,
                CRATE,
            ],
            Self::Enum => &[
                TOPIC,
                VERSION,
                CODEC,
                KEYLESS,
                DUPLICATE,
                UNLOCKED,
                EMITTED_BY,
                TRANSPARENT,
                CRATE,
            ],
            Self::Variant => &[TOPIC, NAME, VERSION, KEYLESS, DUPLICATE, UPCAST_FROM],
            Self::Field => &[KEY, HEADER, ID, OCCURRED_AT],
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Field => "key",
            _ => "topic = \"order-events\"",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Struct => "a struct",
            Self::Enum => "an enum",
            Self::Variant => "a variant",
            Self::Field => "a field",
        }
    }

    /// The example, with the text of `#[event = "…"]` in it.
    pub(super) fn example_with(self, meta: &Meta) -> String {
        let Meta::NameValue(given) = meta else { return self.example().to_owned() };
        match syn::parse2::<LitStr>(given.value.to_token_stream()) {
            Ok(text) => self.example_of(&text),
            Err(_) => self.example().to_owned(),
        }
    }

    fn example_of(self, text: &LitStr) -> String {
        let value = text.value();
        match self {
            Self::Field if self.keys().contains(&&*value) => value,
            Self::Field => format!("header = {value:?}"),
            Self::Variant => format!("name = {value:?}"),
            Self::Struct | Self::Enum => format!("topic = {value:?}"),
        }
    }

    /// What is said about something that is no word.
    pub(super) fn no_key(self, input: ParseStream<'_>) -> syn::Error {
        let example = match input.fork().parse::<LitStr>() {
            Ok(text) => self.example_of(&text),
            Err(_) => self.example().to_owned(),
        };
        input.error(format!("expected a key\nhelp: write `{example}`"))
    }

    pub(super) fn unknown(self, key: &Ident, given: &Given) -> Unknown {
        let word = key.to_string();
        let error = |first: String, help: String| {
            syn::Error::new(key.span(), format!("{first}\nhelp: {help}"))
        };
        let unknown = format!("unknown key `{word}`");
        match Meaning::of(&word) {
            Some(Meaning::Key(NAME)) if matches!(self, Self::Field) && word == RENAME => Unknown {
                meant: None,
                garbles: false,
                error: error(
                    unknown,
                    "a field is renamed for serde: `#[serde(rename = \"…\")]`".to_owned(),
                ),
            },
            Some(Meaning::Key(meant)) if self.keys().contains(&meant) => Unknown {
                meant: Some(meant),
                garbles: false,
                error: error(unknown, format!("write `{}`", given.written_as(meant))),
            },
            Some(Meaning::Key(meant)) => {
                let garbles = matches!(meant, KEY | TOPIC | TRANSPARENT);
                let error = if word == meant {
                    let help = self
                        .key_of_a_field(meant, given)
                        .unwrap_or_else(|| format!("put it {}", self.place(meant)));
                    error(format!("`{word}` does not go on {}", self.noun()), help)
                } else {
                    let help = self.key_of_a_field(meant, given).unwrap_or_else(|| {
                        format!("write `{}` {}", given.written_as(meant), self.place(meant))
                    });
                    error(unknown, help)
                };
                Unknown { meant: None, garbles, error }
            }
            Some(Meaning::Elsewhere(help)) => {
                Unknown { meant: None, garbles: false, error: error(unknown, help.to_owned()) }
            }
            None => {
                let (meant, help) = errors::suggestion(&word, self.keys());
                let error = syn::Error::new(key.span(), format!("{unknown}\n{help}"));
                Unknown { meant, garbles: meant.is_none(), error }
            }
        }
    }

    /// Where a key goes that does not go here.
    fn place(self, key: &str) -> &'static str {
        match self {
            _ if Self::Field.keys().contains(&key) => "on a field",
            Self::Field => "on the type",
            _ if key == READ_ONLY => "on a struct: an old version that is only read is one",
            Self::Enum if key == UPCAST_FROM => {
                "on the variant that it becomes: each variant is an event of its own"
            }
            Self::Enum => "on the variants: each variant is an event of its own",
            Self::Variant if key == TRANSPARENT => {
                "on the enum, of which each variant is then the event in it"
            }
            Self::Variant | Self::Struct => "on the enum",
        }
    }

    /// What to do if the key is said by the name of a field, as other libraries do.
    fn key_of_a_field(self, meant: &str, given: &Given) -> Option<String> {
        let (field, is_in_it) = given.field().filter(|_| meant == KEY)?;
        Some(if is_in_it {
            format!(
                "a key is a field of the event itself: add one for what is in `{field}`, and mark it `#[event(key)]`;\n\
                 \x20     or mark `{field}`, and add `#[derive(outbox::event::EventKey)]` to its type"
            )
        } else {
            format!("mark the field `{field}` with `#[event(key)]`")
        })
    }
}
