//! The serializer between a value and `serde_json`'s.

use std::fmt::Display;

use serde::ser::{
    Serialize, SerializeMap, SerializeStruct, SerializeStructVariant, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};

pub(super) fn value<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let inner = &mut serde_json::Serializer::new(out);
    value.serialize(Payload { inner, bare: false })
}

pub(super) fn content_of_variant<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let inner = &mut serde_json::Serializer::new(out);
    value.serialize(Payload { inner, bare: true })
}

/// Serializes the outermost value of a payload. What is inside of it is `inner`'s.
struct Payload<S> {
    inner: S,
    /// Whether a variant is written without its name.
    bare: bool,
}

/// The fields of a tuple variant, with or without its name.
enum Tuple<S: Serializer> {
    Named(S::SerializeTupleVariant),
    Bare(S::SerializeTupleStruct),
}

/// The fields of a struct variant, with or without its name.
enum Struct<S: Serializer> {
    Named(S::SerializeStructVariant),
    Bare(S::SerializeStruct),
}

/// Methods that serialize a value of one type as `inner` does.
macro_rules! as_inner {
    ($($method:ident($ty:ty))*) => {$(
        fn $method(self, value: $ty) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for Payload<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = S::SerializeSeq;
    type SerializeTuple = S::SerializeTuple;
    type SerializeTupleStruct = S::SerializeTupleStruct;
    type SerializeTupleVariant = Tuple<S>;
    type SerializeMap = S::SerializeMap;
    type SerializeStruct = S::SerializeStruct;
    type SerializeStructVariant = Struct<S>;

    fn serialize_unit_struct(self, _: &'static str) -> Result<S::Ok, S::Error> {
        empty_object(self.inner)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        if self.bare {
            return empty_object(self.inner);
        }
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        if self.bare {
            // An enum in the variant is data, and keeps its names.
            return value.serialize(Self { bare: false, ..self });
        }
        self.inner.serialize_newtype_variant(name, index, variant, value)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Tuple<S>, S::Error> {
        if self.bare {
            return self.inner.serialize_tuple_struct(variant, len).map(Tuple::Bare);
        }
        self.inner.serialize_tuple_variant(name, index, variant, len).map(Tuple::Named)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Struct<S>, S::Error> {
        if self.bare {
            return self.inner.serialize_struct(variant, len).map(Struct::Bare);
        }
        self.inner.serialize_struct_variant(name, index, variant, len).map(Struct::Named)
    }

    as_inner! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32)
        serialize_u64(u64) serialize_u128(u128) serialize_f32(f32) serialize_f64(f64)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<S::SerializeSeq, S::Error> {
        self.inner.serialize_seq(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<S::SerializeTuple, S::Error> {
        self.inner.serialize_tuple(len)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<S::SerializeTupleStruct, S::Error> {
        self.inner.serialize_tuple_struct(name, len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<S::SerializeMap, S::Error> {
        self.inner.serialize_map(len)
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<S::SerializeStruct, S::Error> {
        self.inner.serialize_struct(name, len)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

fn empty_object<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_map(Some(0))?.end()
}

impl<S: Serializer> SerializeTupleVariant for Tuple<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        match self {
            Self::Named(fields) => fields.serialize_field(value),
            Self::Bare(fields) => fields.serialize_field(value),
        }
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(fields) => fields.end(),
            Self::Bare(fields) => fields.end(),
        }
    }
}

impl<S: Serializer> SerializeStructVariant for Struct<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        match self {
            Self::Named(fields) => fields.serialize_field(key, value),
            Self::Bare(fields) => fields.serialize_field(key, value),
        }
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
        match self {
            Self::Named(fields) => fields.skip_field(key),
            Self::Bare(fields) => fields.skip_field(key),
        }
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(fields) => fields.end(),
            Self::Bare(fields) => fields.end(),
        }
    }
}
