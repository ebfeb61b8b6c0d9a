//! The bytes before a payload: `00`, and the id of its schema as a big-endian `i32`. Protobuf adds
//! which message of its file the payload is. Newer clients may write these bytes into the header
//! `__value_schema_id` instead, with `01` and a GUID: a consumer puts them before the payload, and they
//! are read here.
//!
//! It is what Confluent documents as the wire format ("Formats, Serializers, and Deserializers for
//! Schema Registry", section "Wire format"), and what its clients write: `MessageIndexes.java` of
//! `confluentinc/schema-registry`, and the payloads of its client for Python, with which the tests
//! here compare.

use std::fmt;

use outbox_event::CodecError;

/// Before an id that is a number.
const MAGIC: u8 = 0;
/// Before a GUID.
const MAGIC_OF_GUID: u8 = 1;
/// Longest list of indexes that is read. No file that is known nests messages as deep.
#[cfg(feature = "protobuf")]
const MOST_INDEXES: usize = 64;

pub(crate) fn write(id: i32, out: &mut Vec<u8>) {
    let [a, b, c, d] = id.to_be_bytes();
    out.extend_from_slice(&[MAGIC, a, b, c, d]);
}

/// By which a payload names its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SchemaId {
    /// Of one registry.
    Number(i32),
    /// Of the schema, whatever the registry.
    Guid(u128),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Number(id) => id.fmt(f),
            Self::Guid(guid) => {
                let part =
                    |from: u32, digits: u32| (guid >> (4 * from)) & ((1 << (4 * digits)) - 1);
                let [a, b, c, d, e] = [(24, 8), (20, 4), (16, 4), (12, 4), (0, 12)]
                    .map(|(at, digits)| part(at, digits));
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
        }
    }
}

/// The id, and what follows it.
pub(crate) fn read(payload: &[u8]) -> Result<(SchemaId, &[u8]), CodecError> {
    let [first, rest @ ..] = payload else {
        return Err(CodecError::new("the payload is empty: it has no schema id"));
    };
    let read = match *first {
        MAGIC => rest
            .split_first_chunk()
            .map(|(id, rest)| (SchemaId::Number(i32::from_be_bytes(*id)), rest)),
        MAGIC_OF_GUID => rest
            .split_first_chunk()
            .map(|(guid, rest)| (SchemaId::Guid(u128::from_be_bytes(*guid)), rest)),
        _ => {
            return Err(CodecError::new(format!(
                "the payload begins with the byte {first:02x} and not with 00, as one with a schema id does, and it has \
                 no header `__value_schema_id`: what wrote it uses no schema registry, or another framing than Confluent's",
            )));
        }
    };
    read.ok_or_else(|| {
        CodecError::new(
            "the payload ends within its schema id: it is cut off, or has another framing",
        )
    })
}

/// Writes which message of its file the payload is: the number of indexes and each of them, from the
/// outermost message in, as zigzag varints. The first message of a file is a single `00`.
#[cfg(feature = "protobuf")]
pub(crate) fn write_indexes(indexes: &[u32], out: &mut Vec<u8>) {
    if indexes == [0] {
        return out.push(0);
    }
    write_varint(indexes.len() as u64, out);
    for index in indexes {
        write_varint(u64::from(*index), out);
    }
}

/// The indexes, and what follows them. The first message of a file is read in both of its forms: the
/// long one, `02 00`, is what a client writes that does not know the short one.
#[cfg(feature = "protobuf")]
pub(crate) fn read_indexes(mut bytes: &[u8]) -> Result<(Vec<u32>, &[u8]), CodecError> {
    let malformed = || CodecError::new("the payload does not say which message of its file it is");
    let len = read_varint(&mut bytes).ok_or_else(malformed)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= MOST_INDEXES).ok_or_else(malformed)?;
    if len == 0 {
        return Ok((vec![0], bytes));
    }
    let mut indexes = Vec::with_capacity(len);
    for _ in 0..len {
        let index = read_varint(&mut bytes).and_then(|index| u32::try_from(index).ok());
        indexes.push(index.ok_or_else(malformed)?);
    }
    Ok((indexes, bytes))
}

/// No length and no index is negative, so zigzag is a doubling.
#[cfg(feature = "protobuf")]
fn write_varint(value: u64, out: &mut Vec<u8>) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// `None`: it is cut off, longer than five bytes, or negative.
#[cfg(feature = "protobuf")]
fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (value & 1 == 0).then_some(value >> 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_zero_and_four_bytes() {
        let mut out = b"before".to_vec();
        write(0x0102_0304, &mut out);
        assert_eq!(out, b"before\x00\x01\x02\x03\x04");
        let id = SchemaId::Number(0x0102_0304);
        assert_eq!(read(b"\x00\x01\x02\x03\x04rest").unwrap(), (id, &b"rest"[..]));
    }

    /// The header of `vectors.py`.
    #[test]
    fn a_guid_is_a_one_and_its_bytes() {
        let header = b"\x01\x01\x8f\x00\x00\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x0a\x0b";
        let (id, rest) =
            read(&[&header[..], b"rest"].concat()).map(|(id, rest)| (id, rest.to_vec())).unwrap();
        assert_eq!(
            (id.to_string().as_str(), &*rest),
            ("018f0000-0000-7000-8000-000000000a0b", &b"rest"[..])
        );
        assert!(read(&header[..16]).is_err());
    }

    #[test]
    fn what_has_no_id_is_refused_with_what_it_begins_with() {
        let json = read(br#"{"order":1}"#).unwrap_err().to_string();
        assert!(json.contains("the byte 7b"), "{json}");
        for cut in [&b""[..], &[0], &[0, 1, 2, 3]] {
            assert!(read(cut).is_err());
        }
    }

    /// The indexes in `vectors.py`, and long ones by the rule.
    #[cfg(feature = "protobuf")]
    const INDEXES: &[(&[u32], &[u8])] = &[
        (&[0], &[0]),
        (&[1], &[2, 2]),
        (&[1, 0], &[4, 2, 0]),
        (&[1, 1], &[4, 2, 2]),
        (&[63], &[2, 126]),
        (&[64], &[2, 0x80, 1]),
        (&[0, 300], &[4, 0, 0xd8, 4]),
    ];

    #[cfg(feature = "protobuf")]
    #[test]
    fn which_message_it_is_is_written_as_confluents_clients_do() {
        for (indexes, bytes) in INDEXES {
            let mut out = Vec::new();
            write_indexes(indexes, &mut out);
            assert_eq!(out, *bytes, "{indexes:?}");
            out.extend_from_slice(b"rest");
            assert_eq!(read_indexes(&out).unwrap(), (indexes.to_vec(), &b"rest"[..]));
        }
        assert_eq!(read_indexes(&[2, 0, 9]).unwrap(), (vec![0], &[9][..]));
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn indexes_that_are_none_are_an_error_and_ask_for_no_memory() {
        for bytes in
            [&b""[..], &[2], &[0x80], &[1], &[4, 2], &[0xfe, 0xff, 0xff, 0xff, 0x0f], &[0xff; 12]]
        {
            assert!(read_indexes(bytes).is_err(), "{bytes:?}");
        }
    }
}
