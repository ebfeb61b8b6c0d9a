//! A shape in one line, as the lock has it.
//!
//! | text | shape |
//! |---|---|
//! | `string`, `string(uuid)`, `bytes`, `bool`, `null`, `any` | |
//! | `u8` … `i128`, `integer`, `integer(1..=9)`, `f32`, `f64`, `number` | |
//! | `T?` | `null`, or a `T` |
//! | `[T]`, `[T; 3]`, `(T, U)`, `map<T>` | |
//! | `{ a: T, b: default T, c: optional T }` | an object; `closed { … }` refuses other fields, `..T` is flattened into it |
//! | `"eur" \| "usd"` | one of these values |
//! | `T \| U` | one of these, untagged |
//! | `enum { card: T, cash }`, `enum(type) { … }` | a union |
//! | `Name`, `@"name"` | a type that is named |
//! | `schema {…}` | what is only known as a JSON schema |

use std::fmt::{self, Display, Formatter};

use super::{Field, Integer, Object, Precision, Presence, Shape, Tagging, Union, Value};

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Integer(integer) => integer.fmt(f),
            Self::Number(Precision::Single) => f.write_str("f32"),
            Self::Number(Precision::Double) => f.write_str("f64"),
            Self::Number(Precision::Unknown) => f.write_str("number"),
            Self::Text(None) => f.write_str("string"),
            Self::Text(Some(format)) => write!(f, "string({})", Word(format)),
            Self::Bytes => f.write_str("bytes"),
            Self::List { items, length: None } => write!(f, "[{items}]"),
            Self::List { items, length: Some(length) } => write!(f, "[{items}; {length}]"),
            Self::Tuple(parts) => {
                f.write_str("(")?;
                separated(f, parts, ", ")?;
                f.write_str(if parts.len() == 1 { ",)" } else { ")" })
            }
            Self::Map(values) => write!(f, "map<{values}>"),
            Self::Object(object) => object.fmt(f),
            Self::Values(values) => separated(f, values, " | "),
            Self::Union(union) => union.fmt(f),
            // As text, a part that is itself several would be parts of this one.
            Self::AnyOf(parts) => separated(f, parts.iter().map(Grouped), " | "),
            Self::Nullable(shape) => write!(f, "{}?", Grouped(shape)),
            Self::Named(name) if is_a_type(name) => f.write_str(name),
            Self::Named(name) => write!(f, "@{}", Quoted(name)),
            Self::Opaque(schema) => write!(f, "schema {schema}"),
        }
    }
}

/// In parentheses, if what follows or precedes it would else be taken for a part of it.
struct Grouped<'a>(&'a Shape);

impl Display for Grouped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let several = match self.0 {
            Shape::Values(values) => values.len() != 1,
            Shape::AnyOf(_) => true,
            _ => false,
        };
        if several { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

impl Display for Integer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        f.write_str("integer(")?;
        if let Some(min) = self.min {
            min.fmt(f)?;
        }
        f.write_str("..")?;
        if let Some(max) = self.max {
            write!(f, "={max}")?;
        }
        f.write_str(")")
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.closed {
            f.write_str("closed ")?;
        }
        let fields = self.fields.iter().map(|(name, field)| format!("{}: {field}", Word(name)));
        let flattened = self.flattened.iter().map(|shape| format!("..{}", Grouped(shape)));
        in_braces(f, fields.chain(flattened))
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = match (self.presence, &self.shape) {
            (Presence::Defaulted, Shape::Nullable(_)) => "",
            (Presence::Required, Shape::Nullable(_)) => "required ",
            (Presence::Required, _) => "",
            (Presence::Defaulted, _) => "default ",
            (Presence::Optional, _) => "optional ",
            (Presence::Unreadable, _) => "unreadable ",
        };
        write!(f, "{word}{}", self.shape)
    }
}

impl Display for Union {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.tagging {
            Tagging::External => f.write_str("enum ")?,
            Tagging::Internal(tag) => write!(f, "enum({}) ", Word(tag))?,
        }
        in_braces(
            f,
            self.variants.iter().map(|(name, content)| match content {
                None => Word(name).to_string(),
                Some(content) => format!("{}: {content}", Word(name)),
            }),
        )
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Quoted(text).fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

fn in_braces(f: &mut Formatter<'_>, parts: impl Iterator<Item = String>) -> fmt::Result {
    let mut any = false;
    for part in parts {
        f.write_str(if any { ", " } else { "{ " })?;
        f.write_str(&part)?;
        any = true;
    }
    f.write_str(if any { " }" } else { "{}" })
}

fn separated<T: Display>(
    f: &mut Formatter<'_>,
    parts: impl IntoIterator<Item = T>,
    separator: &str,
) -> fmt::Result {
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

/// A name: in quotes, unless it is a plain word.
pub(crate) struct Word<'a>(pub(crate) &'a str);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty() && self.0.chars().all(is_of_a_word);
        if plain { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// A text in quotes, as JSON has it, without a control character.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() || is_invisible(c) => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Whether it changes how what is around it is shown. All of these are of the basic plane.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

pub(super) fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether the name of a type needs no mark: no shape begins with a capital letter.
fn is_a_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(is_of_a_word)
}
