//! Can a reader of one payload read all that is written as another?

use std::collections::BTreeSet;

use crate::shape::{Object, Payload, Presence, Shape, Tagging, Union, Value, below, variant};

/// Something that the reader cannot read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Where in the payload: `address.zip`, `items[].sku`, `payment<card>.number`. Empty for the
    /// whole.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The reader requires a field that is not always written, or never.
    Missing { ever_written: bool },
    /// The reader refuses a field that it does not know.
    Refused,
    /// The reader does not know a value or a variant.
    Value(String),
    /// The reader takes something else.
    Type { written: String, read: String },
}

/// Whether states before those that are compared count as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// Only these two.
    AsTheyAre,
    /// What the reader can do without may never have been written, whatever is said today.
    AnyEarlierWriter,
    /// What is always written may be required by some reader, whatever is said today.
    AnyEarlierReader,
}

/// All that a reader of `read` cannot read of what is written as `written`.
pub(crate) fn problems(
    written: &Payload,
    read: &Payload,
    strictness: Strictness,
) -> BTreeSet<Problem> {
    let mut reading = Reading {
        written,
        read,
        strictness,
        seen: BTreeSet::new(),
        depth: 0,
        problems: BTreeSet::new(),
    };
    reading.shape("", &written.shape, &read.shape);
    reading.problems
}

struct Reading<'a> {
    written: &'a Payload,
    read: &'a Payload,
    strictness: Strictness,
    /// The pairs that were compared, or are being compared: types may be in themselves.
    seen: BTreeSet<(usize, usize)>,
    depth: usize,
    problems: BTreeSet<Problem>,
}

/// How deep is looked. Types that are in themselves in different ways could be in each other for
/// very long.
const DEEPEST: usize = 256;

impl<'a> Reading<'a> {
    fn add(&mut self, path: &str, kind: Kind) {
        self.problems.insert(Problem { path: path.to_owned(), kind });
    }

    fn other_type(&mut self, path: &str, written: &Shape, read: &Shape) {
        self.add(path, Kind::Type { written: written.to_string(), read: read.to_string() });
    }

    fn shape(&mut self, path: &str, as_written: &'a Shape, as_read: &'a Shape) {
        let named = matches!(as_written, Shape::Named(_)) || matches!(as_read, Shape::Named(_));
        let (written, read) = (self.written.resolve(as_written), self.read.resolve(as_read));
        let (Some(written), Some(read)) = (written, read) else { return };
        let pair = (std::ptr::from_ref(written).addr(), std::ptr::from_ref(read).addr());
        if named && !self.seen.insert(pair) {
            return;
        }
        if self.depth == DEEPEST {
            // What was not compared may not fit.
            return self.other_type(path, as_written, as_read);
        }
        self.depth += 1;
        self.pair(path, written, read);
        self.depth -= 1;
    }

    fn pair(&mut self, path: &str, written: &'a Shape, read: &'a Shape) {
        match (written, read) {
            (_, Shape::Any) => {}
            (Shape::Nullable(written), Shape::Nullable(read)) => self.shape(path, written, read),
            (Shape::Null, Shape::Nullable(_)) => {}
            (written, Shape::Nullable(read)) => self.shape(path, written, read),
            (Shape::Nullable(inner), _) => {
                self.shape(path, &Shape::Null, read);
                self.shape(path, inner, read);
            }
            (Shape::AnyOf(parts), read) => {
                for part in parts {
                    self.shape(path, part, read);
                }
            }
            (written, Shape::AnyOf(parts)) => {
                if !parts.iter().any(|part| self.can_read(written, part)) {
                    self.other_type(path, written, read);
                }
            }
            (Shape::Object(written), Shape::Object(read)) => self.object(path, written, read),
            (Shape::Object(written), Shape::Map(values)) => {
                for (name, field) in &written.fields {
                    self.shape(&below(path, name), &field.shape, values);
                }
            }
            (Shape::Map(written), Shape::Map(read)) => {
                self.shape(&format!("{path}{{}}"), written, read);
            }
            (Shape::List { items, length }, Shape::List { items: read, length: needed })
                if needed.is_none() || needed == length =>
            {
                self.shape(&format!("{path}[]"), items, read);
            }
            (Shape::Tuple(parts), Shape::Tuple(read)) if parts.len() == read.len() => {
                for (i, (part, read)) in parts.iter().zip(read).enumerate() {
                    self.shape(&below(path, &i.to_string()), part, read);
                }
            }
            (Shape::Tuple(parts), Shape::List { items, length: None }) => {
                for (i, part) in parts.iter().enumerate() {
                    self.shape(&below(path, &i.to_string()), part, items);
                }
            }
            (Shape::Union(written), Shape::Union(read)) if written.tagging == read.tagging => {
                self.union(path, written, read);
            }
            (
                Shape::Values(values),
                Shape::Union(Union { tagging: Tagging::External, variants }),
            ) => {
                for value in values {
                    let known =
                        matches!(value, Value::Text(name) if variants.get(name) == Some(&None));
                    if !known {
                        self.add(path, Kind::Value(value.to_string()));
                    }
                }
            }
            (
                Shape::Union(Union { tagging: Tagging::External, variants }),
                Shape::Values(known),
            ) => {
                for (name, content) in variants {
                    if content.is_some() || !known.contains(&Value::Text(name.clone())) {
                        self.add(path, Kind::Value(format!("{name:?}")));
                    }
                }
            }
            (Shape::Values(values), Shape::Values(known)) => {
                for value in values.difference(known) {
                    self.add(path, Kind::Value(value.to_string()));
                }
            }
            // A reader of what all variants have in common.
            (Shape::Union(Union { tagging: Tagging::Internal(_), variants }), Shape::Object(_)) => {
                for (name, content) in variants {
                    match content {
                        Some(content) => self.shape(&variant(path, name), content, read),
                        None => self.nothing(&variant(path, name), read),
                    }
                }
            }
            (written, read) => {
                if !is_read_as(written, read) {
                    self.other_type(path, written, read);
                }
            }
        }
    }

    /// Whether there would be no problem.
    fn can_read(&mut self, written: &'a Shape, read: &'a Shape) -> bool {
        let mut inner = Reading {
            written: self.written,
            read: self.read,
            strictness: self.strictness,
            seen: self.seen.clone(),
            depth: self.depth,
            problems: BTreeSet::new(),
        };
        inner.shape("", written, read);
        inner.problems.is_empty()
    }

    fn object(&mut self, path: &str, written: &'a Object, read: &'a Object) {
        for (name, field) in &read.fields {
            let path = below(path, name);
            let was_required = field.presence.required()
                || (self.strictness == Strictness::AnyEarlierReader
                    && field.presence == Presence::Defaulted
                    && !matches!(field.shape, Shape::Nullable(_)));
            let is_written = written.fields.get(name).is_some_and(|field| {
                field.presence.always_written()
                    && (field.presence.required()
                        || self.strictness != Strictness::AnyEarlierWriter)
            });
            if was_required && !is_written {
                let ever_written = written.fields.contains_key(name);
                self.add(&path, Kind::Missing { ever_written });
            }
            if let Some(written) = written.fields.get(name) {
                self.shape(&path, &written.shape, &field.shape);
            }
        }
        if read.closed && read.flattened.is_empty() {
            for name in written.fields.keys().filter(|name| !read.fields.contains_key(*name)) {
                self.add(&below(path, name), Kind::Refused);
            }
        }
        if written.flattened.len() == read.flattened.len() {
            for (written, read) in written.flattened.iter().zip(&read.flattened) {
                self.shape(path, written, read);
            }
        } else if !read.flattened.is_empty() {
            let text = |object: &Object| Shape::Object(object.clone()).to_string();
            self.add(path, Kind::Type { written: text(written), read: text(read) });
        }
    }

    fn union(&mut self, path: &str, written: &'a Union, read: &'a Union) {
        for (name, content) in &written.variants {
            let inner = variant(path, name);
            match (content, read.variants.get(name)) {
                (_, None) => self.add(path, Kind::Value(format!("{name:?}"))),
                (None, Some(None)) => {}
                (Some(content), Some(Some(read))) => self.shape(&inner, content, read),
                // In a variant with a tag, nothing more is an object without fields.
                (Some(_), Some(None)) if matches!(read.tagging, Tagging::Internal(_)) => {}
                (None, Some(Some(read_content)))
                    if matches!(read.tagging, Tagging::Internal(_)) =>
                {
                    self.nothing(&inner, read_content);
                }
                (content, Some(read)) => {
                    let text = |content: &Option<Shape>| {
                        content.as_ref().map_or("nothing".to_owned(), ToString::to_string)
                    };
                    self.add(&inner, Kind::Type { written: text(content), read: text(read) });
                }
            }
        }
    }

    /// An object without fields is written.
    fn nothing(&mut self, path: &str, read: &'a Shape) {
        if let Some(Shape::Object(read)) = self.read.resolve(read) {
            for (name, field) in &read.fields {
                if field.presence.required() {
                    self.add(&below(path, name), Kind::Missing { ever_written: false });
                }
            }
        }
    }
}

/// Of shapes that have no others in them.
fn is_read_as(written: &Shape, read: &Shape) -> bool {
    match (written, read) {
        (Shape::Integer(written), Shape::Integer(read)) => read.has_all_of(*written),
        (Shape::Integer(written), Shape::Number(_)) => written.fits_a_double(),
        (Shape::Number(written), Shape::Number(read)) => written <= read,
        (Shape::Text(_) | Shape::Bytes, Shape::Text(None)) => true,
        (Shape::Values(values), Shape::Text(None)) => {
            values.iter().all(|value| matches!(value, Value::Text(_)))
        }
        (Shape::Values(values), Shape::Integer(read)) => values.iter().all(|value| match value {
            Value::Integer(number) => {
                let number = Some(i128::from(*number));
                read.has_all_of(crate::shape::Integer { min: number, max: number })
            }
            _ => false,
        }),
        (Shape::Values(values), Shape::Bool) => {
            values.iter().all(|value| matches!(value, Value::Bool(_)))
        }
        (written, read) => written == read,
    }
}
