//! Reads what [`text`](super::text) writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::text::is_of_a_word;
use super::{Field, Integer, Object, Precision, Presence, Shape, Tagging, Union, Value};

/// Deepest that shapes may be in each other: what is read may be anybody's.
const DEEPEST: usize = 64;

/// A text that is no shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAShape {
    /// What is wrong.
    pub what: String,
    /// From which byte of the text on.
    pub at: usize,
}

impl fmt::Display for NotAShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at its character {}", self.what, self.at + 1)
    }
}

impl std::error::Error for NotAShape {}

/// Reads a shape.
///
/// # Errors
/// If the text is none.
pub fn parse(text: &str) -> Result<Shape, NotAShape> {
    whole(text, Parser::shape)
}

/// Reads a shape, and what is before it on the field that has it.
///
/// # Errors
/// If the text is none.
pub fn parse_field(text: &str) -> Result<Field, NotAShape> {
    whole(text, Parser::field)
}

fn whole<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Parser<'a>) -> Result<T, NotAShape>,
) -> Result<T, NotAShape> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let read = read(&mut parser)?;
    parser.skip_spaces();
    if parser.at < text.len() {
        Err(parser.wrong("there is more than one shape"))
    } else {
        Ok(read)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn wrong(&self, what: impl Into<String>) -> NotAShape {
        NotAShape { what: what.into(), at: self.at }
    }

    /// Whether `token` comes next. If so, it is passed.
    fn eat(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn expect(&mut self, token: &str) -> Result<(), NotAShape> {
        if self.eat(token) { Ok(()) } else { Err(self.wrong(format!("`{token}` is missing"))) }
    }

    /// The word that comes next, which may be empty.
    fn peek_word(&mut self) -> &'a str {
        self.skip_spaces();
        let rest = self.rest();
        &rest[..rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len())]
    }

    /// A name: a word, or a text in quotes.
    fn name(&mut self) -> Result<String, NotAShape> {
        let word = self.peek_word();
        if !word.is_empty() {
            self.at += word.len();
            return Ok(word.to_owned());
        }
        match self.json()? {
            serde_json::Value::String(name) => Ok(name),
            _ => Err(self.wrong("a name is missing")),
        }
    }

    /// The JSON value that comes next.
    fn json(&mut self) -> Result<serde_json::Value, NotAShape> {
        self.skip_spaces();
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            _ => Err(self.wrong("a value of JSON is missing")),
        }
    }

    fn field(&mut self) -> Result<Field, NotAShape> {
        let presence = match self.peek_word() {
            "required" => Some(Presence::Required),
            "default" => Some(Presence::Defaulted),
            "optional" => Some(Presence::Optional),
            "unreadable" => Some(Presence::Unreadable),
            _ => None,
        };
        if presence.is_some() {
            self.at += self.peek_word().len();
        }
        let shape = self.shape()?;
        let usual = match shape {
            Shape::Nullable(_) => Presence::Defaulted,
            _ => Presence::Required,
        };
        Ok(Field { shape, presence: presence.unwrap_or(usual) })
    }

    fn shape(&mut self) -> Result<Shape, NotAShape> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(format!("more than {DEEPEST} shapes are in each other")));
        }
        let mut parts = vec![self.one()?];
        while self.eat("|") {
            parts.push(self.one()?);
        }
        self.depth -= 1;
        if parts.iter().all(|part| matches!(part, Shape::Values(_))) {
            let values = parts.into_iter().flat_map(|part| match part {
                Shape::Values(values) => values,
                _ => BTreeSet::new(),
            });
            return Ok(Shape::Values(values.collect()));
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Shape::AnyOf(parts) })
    }

    /// A shape that is not one of several, and the `?` after it.
    fn one(&mut self) -> Result<Shape, NotAShape> {
        let mut shape = self.without_mark()?;
        while self.eat("?") {
            shape = shape.nullable();
        }
        Ok(shape)
    }

    fn without_mark(&mut self) -> Result<Shape, NotAShape> {
        self.skip_spaces();
        let word = self.peek_word();
        match self.rest().chars().next() {
            Some('"') => self.name().map(|text| one_of(Value::Text(text))),
            Some('@') => {
                self.at += 1;
                self.name().map(Shape::Named)
            }
            Some('[') => self.list(),
            Some('(') => self.tuple(),
            Some('{') => self.object(false),
            Some('A'..='Z') => self.name().map(Shape::Named),
            Some('0'..='9' | '-') => match word.parse() {
                Ok(number) => {
                    self.at += word.len();
                    Ok(one_of(Value::Integer(number)))
                }
                Err(_) => Err(self.wrong(format!("`{word}` is no whole number"))),
            },
            Some(_) if !word.is_empty() => self.word(word),
            _ => Err(self.wrong("a shape is missing")),
        }
    }

    fn word(&mut self, word: &str) -> Result<Shape, NotAShape> {
        let before = self.at;
        self.at += word.len();
        Ok(match word {
            "any" => Shape::Any,
            "null" => Shape::Null,
            "bool" => Shape::Bool,
            "true" => one_of(Value::Bool(true)),
            "false" => one_of(Value::Bool(false)),
            "f32" => Shape::Number(Precision::Single),
            "f64" => Shape::Number(Precision::Double),
            "number" => Shape::Number(Precision::Unknown),
            "bytes" => Shape::Bytes,
            "string" if self.eat("(") => {
                let format = self.name()?;
                self.expect(")")?;
                Shape::Text(Some(format))
            }
            "string" => Shape::Text(None),
            "integer" if self.eat("(") => self.bounds()?,
            "map" => {
                self.expect("<")?;
                let values = self.shape()?;
                self.expect(">")?;
                Shape::Map(Box::new(values))
            }
            "closed" => return self.object(true),
            "enum" => return self.union(),
            "schema" => Shape::Opaque(self.json()?),
            word => match Integer::named(word) {
                Some(integer) => Shape::Integer(integer),
                None => {
                    self.at = before;
                    return Err(self.wrong(format!("`{word}` is no shape")));
                }
            },
        })
    }

    /// `1..=9)`, with neither, either or both of the numbers.
    fn bounds(&mut self) -> Result<Shape, NotAShape> {
        let min = self.number()?;
        self.expect("..")?;
        let max = if self.eat("=") { self.number()? } else { None };
        self.expect(")")?;
        Ok(Shape::Integer(Integer { min, max }))
    }

    fn number(&mut self) -> Result<Option<i128>, NotAShape> {
        let word = self.peek_word();
        let number = match word {
            "" => return Ok(None),
            word => word.parse().map_err(|_| self.wrong(format!("`{word}` is no whole number")))?,
        };
        self.at += word.len();
        Ok(Some(number))
    }

    fn list(&mut self) -> Result<Shape, NotAShape> {
        self.expect("[")?;
        let items = Box::new(self.shape()?);
        let length = match self.eat(";") {
            false => None,
            true => match self.number()?.and_then(|number| u64::try_from(number).ok()) {
                Some(length) => Some(length),
                None => return Err(self.wrong("the length of the list is missing")),
            },
        };
        self.expect("]")?;
        Ok(Shape::List { items, length })
    }

    /// A tuple, or a shape in parentheses.
    fn tuple(&mut self) -> Result<Shape, NotAShape> {
        self.expect("(")?;
        let mut parts = Vec::new();
        let mut is_tuple = true;
        while !self.eat(")") {
            parts.push(self.shape()?);
            if !self.eat(",") {
                self.expect(")")?;
                is_tuple = parts.len() != 1;
                break;
            }
        }
        Ok(if is_tuple { Shape::Tuple(parts) } else { parts.remove(0) })
    }

    fn object(&mut self, closed: bool) -> Result<Shape, NotAShape> {
        let mut object = Object { closed, ..Object::default() };
        self.in_braces(|parser| {
            if parser.eat("..") {
                object.flattened.push(parser.one()?);
                return Ok(());
            }
            let name = parser.name()?;
            parser.expect(":")?;
            let field = parser.field()?;
            unique(parser, &mut object.fields, name, field)
        })?;
        Ok(Shape::Object(object))
    }

    fn union(&mut self) -> Result<Shape, NotAShape> {
        let mut tagging = Tagging::External;
        if self.eat("(") {
            tagging = Tagging::Internal(self.name()?);
            self.expect(")")?;
        }
        let mut variants = BTreeMap::new();
        self.in_braces(|parser| {
            let name = parser.name()?;
            let content = if parser.eat(":") { Some(parser.shape()?) } else { None };
            unique(parser, &mut variants, name, content)
        })?;
        Ok(Shape::Union(Union { tagging, variants }))
    }

    fn in_braces(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), NotAShape>,
    ) -> Result<(), NotAShape> {
        self.expect("{")?;
        while !self.eat("}") {
            each(self)?;
            if !self.eat(",") {
                return self.expect("}");
            }
        }
        Ok(())
    }
}

fn one_of(value: Value) -> Shape {
    Shape::Values(BTreeSet::from([value]))
}

fn unique<T>(
    parser: &Parser<'_>,
    map: &mut BTreeMap<String, T>,
    name: String,
    value: T,
) -> Result<(), NotAShape> {
    if map.contains_key(&name) {
        return Err(parser.wrong(format!("`{name}` is there twice")));
    }
    map.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in [
            "any",
            "string(date-time)?",
            "string(\"a b\")",
            "[u32; 3]",
            "integer(1..=9)",
            "integer(-3..)",
            "(u8,)",
            "(u8, [string])",
            "()",
            "map<f64>",
            "\"eur\" | \"usd\"",
            "(\"eur\" | \"usd\")?",
            "1 | 2 | true",
            "string | (\"a\" | \"b\") | null",
            "{}",
            "closed { a: string, b: default u8, c: optional i64?, d: bool?, e: required bool? }",
            "{ \"\": Item, \"a b\": unreadable string, ..Payment, ..(string | u8) }",
            "enum { card: { number: string }, cash }",
            "enum(type) { \"a:b\": Item }",
            "enum(\"a b\") {}",
            "@\"lower\"",
            "schema {\"pattern\":\"}\"}",
            "{ \"\\u202e\\u000a\\\"\": string }",
        ] {
            let shape = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(shape.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, what, at) in [
            ("", "a shape is missing", 0),
            ("strin", "`strin` is no shape", 0),
            ("[u8", "`]` is missing", 3),
            ("{ a: u8, a: u8 }", "`a` is there twice", 15),
            ("u8 u8", "there is more than one shape", 3),
            ("integer(a..)", "`a` is no whole number", 8),
            ("é", "a shape is missing", 0),
        ] {
            assert_eq!(parse(text), Err(NotAShape { what: what.to_owned(), at }), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err(), "its depth is bounded");
    }
}
