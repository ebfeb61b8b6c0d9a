//! Writes a lock: one block for each event, sorted, with one line for each thing that may change.

use std::fmt::{self, Display, Formatter};

use super::{Contract, EventName, FORMAT, Lock};
use crate::mode::Mode;
use crate::shape::{Payload, Quoted, Shape, Tagging, Value, Word};

const HEAD: &str = "\
# The events of this project, as consumers rely on them. Commit this file, and review its changes:
# `outbox contracts diff` words them.
";

pub(super) fn lock(lock: &Lock, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{HEAD}format = {FORMAT}")?;
    if lock.mode != Mode::default() {
        writeln!(f, "mode = \"{}\"", lock.mode)?;
    }
    for (name, contract) in &lock.events {
        event(f, name, contract)?;
    }
    Ok(())
}

fn event(f: &mut Formatter<'_>, name: &EventName, contract: &Contract) -> fmt::Result {
    writeln!(f, "\n[[event]]")?;
    writeln!(f, "topic = {}", Quoted(&name.topic))?;
    writeln!(f, "name = {}", Quoted(&name.name))?;
    writeln!(f, "version = {}", name.version)?;
    writeln!(f, "content-type = {}", Quoted(&contract.content_type))?;
    list(f, "key", contract.key.iter().map(|field| Quoted(field)))?;
    list(f, "headers", contract.headers.iter().map(|header| Quoted(header)))?;
    list(f, "reads", contract.reads.iter())?;
    if let Some(mode) = contract.mode {
        writeln!(f, "mode = \"{mode}\"")?;
    }
    if contract.retired {
        writeln!(f, "retired = true")?;
    }
    match &contract.payload {
        Some(known) => payload(f, known),
        None => Ok(()),
    }
}

fn payload(f: &mut Formatter<'_>, payload: &Payload) -> fmt::Result {
    shape(f, "event", &payload.shape)?;
    for (name, named) in &payload.types {
        let table = format!("event.types.{}", Word(name));
        // Of tables that have none but tables, TOML needs no line.
        if !matches!(named, Shape::Object(object) if !object.closed && object.flattened.is_empty())
        {
            writeln!(f, "\n[{table}]")?;
        }
        shape(f, &table, named)?;
    }
    if !payload.removed.is_empty() {
        writeln!(f, "\n[event.removed]")?;
        rows(f, payload.removed.iter())?;
    }
    Ok(())
}

/// The keys of a table that has a shape, and the tables in it.
fn shape(f: &mut Formatter<'_>, table: &str, shape: &Shape) -> fmt::Result {
    match shape {
        Shape::Object(object) => {
            if object.closed {
                writeln!(f, "closed = true")?;
            }
            list(
                f,
                "flattened",
                object.flattened.iter().map(|shape| OwnQuoted(shape.to_string())),
            )?;
            writeln!(f, "\n[{table}.fields]")?;
            rows(f, object.fields.iter())
        }
        Shape::Union(union) => {
            if let Tagging::Internal(tag) = &union.tagging {
                writeln!(f, "tag = {}", Quoted(tag))?;
            }
            writeln!(f, "\n[{table}.variants]")?;
            let variants = union.variants.iter().map(|(name, content)| {
                let content = content.as_ref().map(ToString::to_string);
                (name, content.unwrap_or_else(|| super::payload::UNIT.to_owned()))
            });
            rows(f, variants)
        }
        Shape::Values(values) if values.iter().all(|value| matches!(value, Value::Text(_))) => {
            writeln!(f, "values = [")?;
            for value in values {
                writeln!(f, "    {value},")?;
            }
            writeln!(f, "]")
        }
        other => writeln!(f, "shape = {}", Quoted(&other.to_string())),
    }
}

fn rows<'a, T: Display>(
    f: &mut Formatter<'_>,
    rows: impl Iterator<Item = (&'a String, T)>,
) -> fmt::Result {
    for (name, value) in rows {
        writeln!(f, "{} = {}", Word(name), Quoted(&value.to_string()))?;
    }
    Ok(())
}

/// A list in one line, unless it is empty.
fn list<T: Display>(
    f: &mut Formatter<'_>,
    key: &str,
    values: impl Iterator<Item = T>,
) -> fmt::Result {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    if values.is_empty() { Ok(()) } else { writeln!(f, "{key} = [{}]", values.join(", ")) }
}

/// As [`Quoted`], of a text that nobody else has.
struct OwnQuoted(String);

impl Display for OwnQuoted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Quoted(&self.0).fmt(f)
    }
}
