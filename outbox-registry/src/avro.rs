//! Avro, by apache-avro.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroSchema, Schema};
use outbox_event::{Codec, CodecError, Decode, Encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::{Format, RegisteredEvent, sealed};
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
    const CONTENT_TYPE: &'static str = "application/x-confluent-avro";
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
    const TYPE: &'static str = "AVRO";
    const NEEDS_WHOLE_SCHEMA: bool = true;
    type Writer = GenericDatumWriter<'static>;
    type Reader = AvroReader;

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
    Schema::parse_str(text).map_err(|error| error.to_string())
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
