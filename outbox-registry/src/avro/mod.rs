//! Avro, by apache-avro.

mod references;

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::Name;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroSchema, Schema};
use outbox_event::{Codec, CodecError, Decode, Encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::{Format, Join, RegisteredEvent, SchemaFormat, sealed};
use crate::frame;

/// Avro's binary encoding, with the schema's id before it. [`avro!`](crate::avro) says which schema
/// an event has.
///
/// The event is written by serde with its own schema, and read with the one that it was written by:
/// fields that the type does not have are skipped, and fields that the payload does not have are
/// their defaults.
#[derive(Debug, Clone, Copy)]
pub struct Avro;

impl Codec for Avro {
    const CONTENT_TYPE: &'static str = SchemaFormat::Avro.content_type();
}

/// The schema of the derive.
pub fn derived<T: AvroSchema>() -> Result<String, String> {
    serde_json::to_string(&T::get_schema()).map_err(|error| error.to_string())
}

/// Reads what was written by one schema.
#[doc(hidden)]
pub struct AvroReader {
    reader: GenericDatumReader<'static>,
    /// Whether serde may read the bytes without a `Value` in between. That is so if they were written
    /// by the event's own schema, and if each record in it has the name of its type in Rust: a schema
    /// that is a text of yours may name it otherwise.
    is_direct: AtomicBool,
}

impl AvroReader {
    fn read<T: DeserializeOwned>(&self, bytes: &mut &[u8]) -> Result<T, CodecError> {
        let is_direct = self.is_direct.load(Ordering::Relaxed);
        if is_direct {
            let mut rest = *bytes;
            if let Ok(value) = self.reader.read_deser(&mut rest) {
                *bytes = rest;
                return Ok(value);
            }
        }
        let mut rest = Bytes { rest: bytes, ended: false };
        let value = self.reader.read_value(&mut rest).map_err(CodecError::new)?;
        if rest.ended {
            return Err(CodecError::new("the payload is cut off"));
        }
        let value = apache_avro::from_value(&value).map_err(CodecError::new)?;
        if is_direct {
            // It was the name, and will be.
            self.is_direct.store(false, Ordering::Relaxed);
        }
        Ok(value)
    }
}

/// Bytes that remember whether more of them were wanted: apache-avro reads a union that is not there
/// as null.
struct Bytes<'r, 'b> {
    rest: &'r mut &'b [u8],
    ended: bool,
}

impl Read for Bytes<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.ended |= self.rest.len() < out.len();
        self.rest.read(out)
    }
}

impl sealed::Sealed for Avro {}

impl Format for Avro {
    const TYPE: SchemaFormat = SchemaFormat::Avro;
    const JOIN: Option<Join> = Some(references::joined);
    type Writer = GenericDatumWriter<'static>;
    type Reader = AvroReader;

    fn check(own: &str) -> Result<(), String> {
        parse(own).map(drop)
    }

    fn record(own: &str, _: &str) -> Result<String, String> {
        let schema = parse(own)?;
        let name = schema.name().ok_or("it is no record, so that it has no name for a subject")?;
        Ok(name.fullname(None))
    }

    fn writer(own: &str, _: &str, registered: &str) -> Result<Self::Writer, String> {
        let (own, registered) = (parse(own)?, parse(registered)?);
        // What writes by one schema under the id of another loses the event for all its readers.
        if own.canonical_form() != registered.canonical_form() {
            return Err("the registry answers with another schema than it was asked for".to_owned());
        }
        GenericDatumWriter::builder(kept(own)).build().map_err(|error| error.to_string())
    }

    fn reader(own: &str, _: &str, written: &str) -> Result<Self::Reader, String> {
        let (own, written) = (parse(own)?, parse(written)?);
        let is_own = own.canonical_form() == written.canonical_form();
        let reader = if is_own {
            GenericDatumReader::builder(kept(written)).build()
        } else {
            SchemaCompatibility::can_read(&written, &own).map_err(|error| error.to_string())?;
            GenericDatumReader::builder(kept(written)).reader_schema(kept(own)).build()
        };
        let reader = reader.map_err(|error| error.to_string())?;
        Ok(AvroReader { reader, is_direct: AtomicBool::new(is_own) })
    }
}

fn parse(text: &str) -> Result<Schema, String> {
    let schema = Schema::parse_str(text).map_err(|error| error.to_string())?;
    depth(&schema, &mut Vec::new(), &mut HashMap::new())?;
    Ok(schema)
}

/// Most types that are in each other. apache-avro reads each by a call of its own, which takes up to
/// 100 KB of the stack in a debug build, and the process ends where there is none left.
const DEEPEST: usize = 32;

/// How many types of a schema are in each other. `open`: the records around it. `known`: the depth of
/// those that came before.
///
/// # Errors
/// If they are too many, or if one contains itself: it is its payloads that would say how many.
fn depth<'s>(
    schema: &'s Schema,
    open: &mut Vec<&'s Name>,
    known: &mut HashMap<&'s Name, usize>,
) -> Result<usize, String> {
    let mut deepest = 0;
    let mut inner = |schema: &'s Schema, open: &mut Vec<&'s Name>| {
        depth(schema, open, known).map(|depth| deepest = deepest.max(depth))
    };
    match schema {
        Schema::Array(array) => inner(&array.items, open)?,
        Schema::Map(map) => inner(&map.types, open)?,
        Schema::Union(union) => {
            union.variants().iter().try_for_each(|variant| inner(variant, open))?;
        }
        Schema::Record(record) => {
            open.push(&record.name);
            record.fields.iter().try_for_each(|field| inner(&field.schema, open))?;
            open.pop();
            known.insert(&record.name, deepest + 1);
        }
        Schema::Ref { name } if open.contains(&name) => {
            return Err(format!(
                "`{}` contains itself, which is not supported: a short payload could be nested so deep that the \
                 process that reads it ends",
                name.fullname(None)
            ));
        }
        Schema::Ref { name } => return Ok(known.get(name).copied().unwrap_or(1)),
        _ => {}
    }
    if deepest < DEEPEST {
        return Ok(deepest + 1);
    }
    Err(format!("more than {DEEPEST} of its types are in each other, which is not supported"))
}

/// A schema for the rest of the process, as its reader or writer: apache-avro's borrow it. Each of an
/// event is kept once, and their number is bounded (`readers.rs`).
fn kept(schema: Schema) -> &'static Schema {
    Box::leak(Box::new(schema))
}

impl<T: RegisteredEvent<Self> + Serialize> Encode<T> for Avro {
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let (id, writer) = T::slot().writer()?;
        frame::write(id, out);
        writer.write_ser(out, value).map_err(CodecError::new)?;
        Ok(())
    }
}

impl<T: RegisteredEvent<Self> + DeserializeOwned> Decode<T> for Avro {
    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        let (id, mut rest) = frame::read(payload)?;
        let value = T::slot().reader(id)?.read(&mut rest)?;
        if rest.is_empty() {
            return Ok(value);
        }
        Err(CodecError::new(format!(
            "{} bytes are left after the event: the payload is not of the schema {id}, which it names",
            rest.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records in each other: as many, but for the union of each field and a `long` inside.
    fn nested(records: usize) -> String {
        let mut schema = "\"long\"".to_owned();
        for n in 0..records {
            schema = format!(
                r#"{{"type": "record", "name": "R{n}", "fields": [{{"name": "f", "type": ["null", {schema}]}}]}}"#
            );
        }
        schema
    }

    #[test]
    fn a_record_that_contains_itself_is_refused_and_one_that_comes_twice_is_not() {
        let node = r#"{"type": "record", "name": "Node", "namespace": "shop", "fields": [
            {"name": "next", "type": ["null", {"type": "array", "items": "Node"}]}]}"#;
        let refused = parse(node).unwrap_err();
        assert!(refused.contains("`shop.Node` contains itself"), "{refused}");
        let twice = r#"{"type": "record", "name": "Pair", "fields": [
            {"name": "a", "type": {"type": "record", "name": "Item", "fields": []}},
            {"name": "b", "type": "Item"}]}"#;
        parse(twice).unwrap();
    }

    /// On a thread of a test, whose stack is that of a runtime's threads.
    #[test]
    fn the_deepest_schema_that_is_taken_is_read_on_a_small_stack() {
        let records = (DEEPEST - 1) / 2;
        let schema = nested(records);
        let reader = Avro::reader(&schema, "", &schema).unwrap();
        let payload = [vec![2; records], vec![2]].concat();
        let value = reader.reader.read_value(&mut &payload[..]).unwrap();
        drop(value);
        let refused = parse(&nested(records + 1)).unwrap_err();
        assert!(refused.contains("more than 32"), "{refused}");
        // By a name, too.
        let half = nested(records / 2 + 1);
        let named = half.replace("\"R", "\"S").replace("\"long\"", "\"R0\"");
        let both = format!(
            r#"{{"type": "record", "name": "Both", "fields": [{{"name": "a", "type": {half}}}, {{"name": "b", "type": {named}}}]}}"#
        );
        parse(&both).unwrap();
        let named = nested(records)
            .replace("\"R", "\"S")
            .replace("\"long\"", &format!("\"R{}\"", records / 2));
        let both = format!(
            r#"{{"type": "record", "name": "Both", "fields": [{{"name": "a", "type": {half}}}, {{"name": "b", "type": {named}}}]}}"#
        );
        assert!(parse(&both).is_err());
    }
}
