use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::*;

fn written<T: Serialize>(value: &T) -> String {
    let mut out = b"before:".to_vec();
    Json::encode_variant(value, &mut out).unwrap();
    String::from_utf8(out).unwrap().strip_prefix("before:").unwrap().to_owned()
}

fn whole<T: Serialize>(value: &T) -> String {
    let mut out = Vec::new();
    Json::encode(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn read<T: DeserializeOwned>(index: u32, payload: &str) -> Result<T, String> {
    let variant = Variant { name: "", index: Some(index) };
    Json::decode_variant(variant, payload.as_bytes()).map_err(|error| error.to_string())
}

/// Writes a variant, and reads it back as the variant with this index.
#[track_caller]
fn is_written<T>(value: T, index: u32, payload: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(written(&value), payload);
    assert_eq!(read(index, payload), Ok(value));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    order: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Midnight;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Status {
    Open,
    Closed { by: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Every<T> {
    WithFields {
        order_id: u64,
        #[serde(rename = "for")]
        customer: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<T>,
    },
    #[serde(rename = "n", alias = "other")]
    Newtype(T),
    Pair(u64, T),
    Unit,
    NoField {},
    NoElement(),
    Flat {
        order_id: u64,
        #[serde(flatten)]
        rest: BTreeMap<String, T>,
    },
    Kept(Status),
    Marker(Midnight),
    Optional(Option<u8>),
}

#[test]
fn a_variant_is_its_content() {
    type E = Every<u8>;
    let customer = "alice".to_owned();
    let fields = |note| E::WithFields { order_id: 1, customer: customer.clone(), note };
    is_written(fields(None), 0, r#"{"orderId":1,"for":"alice"}"#);
    is_written(fields(Some(2)), 0, r#"{"orderId":1,"for":"alice","note":2}"#);
    is_written(E::Newtype(3), 1, "3");
    is_written(E::Pair(4, 5), 2, "[4,5]");
    is_written(E::Unit, 3, "{}");
    is_written(E::NoField {}, 4, "{}");
    is_written(E::NoElement(), 5, "[]");
    let rest = BTreeMap::from([("x".to_owned(), 7)]);
    is_written(E::Flat { order_id: 6, rest }, 6, r#"{"orderId":6,"x":7}"#);
    is_written(E::Kept(Status::Open), 7, r#""Open""#);
    let by = "bob".to_owned();
    is_written(E::Kept(Status::Closed { by }), 7, r#"{"Closed":{"by":"bob"}}"#);
    is_written(E::Marker(Midnight), 8, "{}");
    is_written(E::Optional(None), 9, "null");
    is_written(E::Optional(Some(1)), 9, "1");
}

#[test]
fn a_newtype_variant_and_its_struct_are_the_same_payload() {
    let placed = || Placed { order: 1, note: Some("x".to_owned()) };
    assert_eq!(written(&Every::Newtype(placed())), whole(&placed()));
    assert_eq!(written(&Every::<u8>::Marker(Midnight)), whole(&Midnight));
    assert_eq!(written(&&Every::Newtype(&placed())), whole(&Box::new(placed())), "borrowed");
}

#[test]
fn what_has_no_fields_is_read_from_null_and_from_an_object() {
    for payload in ["null", "{}", r#"{"since": {"then": [1]}}"#, " {\n} "] {
        assert_eq!(read(3, payload), Ok(Every::<u8>::Unit), "{payload}");
        assert_eq!(read(8, payload), Ok(Every::<u8>::Marker(Midnight)), "{payload}");
        let midnight: Result<Midnight, _> = Json::decode(payload.as_bytes());
        assert_eq!(midnight.unwrap(), Midnight, "{payload}");
    }
    for payload in ["", "1", "[]", r#""Unit""#, "{", "{} {}", "nul"] {
        assert!(read::<Every<u8>>(3, payload).is_err(), "{payload}");
        assert!(<Json as Decode<Midnight>>::decode(payload.as_bytes()).is_err(), "{payload}");
    }
}

#[test]
fn another_content_is_refused() {
    assert!(read::<Every<u8>>(0, r#"{"orderId":1}"#).is_err(), "a field is missing");
    assert!(read::<Every<u8>>(0, r#"{"with-fields":{"orderId":1,"for":"alice"}}"#).is_err());
    assert!(read::<Every<u8>>(1, "300").is_err());
    assert!(read::<Every<u8>>(1, "3 4").is_err(), "something follows");
    assert!(read::<Every<u8>>(2, "[1]").is_err());
    assert!(read::<Every<u8>>(2, "[1,2,3]").is_err());
    assert!(read::<Every<u8>>(10, "3").is_err(), "there is no such variant");

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    enum Strict {
        Placed { order: u64 },
    }
    is_written(Strict::Placed { order: 1 }, 0, r#"{"order":1}"#);
    assert!(read::<Strict>(0, r#"{"order":1,"more":2}"#).is_err());
}

#[test]
fn a_skipped_variant_is_not_counted_when_reading() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum E {
        #[serde(alias = "a", alias = "b")]
        First(u8),
        #[serde(skip)]
        Skipped,
        Last(u8),
    }
    is_written(E::First(1), 0, "1");
    is_written(E::Last(1), 1, "1");
    assert!(Json::encode_variant(&E::Skipped, &mut Vec::new()).is_err());
    let skipped: Result<E, _> =
        Json::decode_variant(Variant { name: "Skipped", index: None }, b"{}");
    assert_eq!(
        skipped.unwrap_err().to_string(),
        "the variant `Skipped` is marked `#[serde(skip)]`"
    );
}

/// Serde's other forms of an enum have no map from the variant's name, and their own tags stay.
#[test]
fn tags_that_serde_was_asked_for_stay() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Internal {
        Unit,
        Placed(Placed),
        Fields {
            order: u64,
        },
        #[serde(other)]
        Unknown,
    }
    is_written(Internal::Unit, 0, r#"{"type":"Unit"}"#);
    let placed = || Placed { order: 1, note: None };
    is_written(Internal::Placed(placed()), 1, r#"{"type":"Placed","order":1}"#);
    is_written(Internal::Fields { order: 1 }, 2, r#"{"type":"Fields","order":1}"#);
    assert_eq!(read(0, r#"{"type":"New"}"#), Ok(Internal::Unknown));

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Unit,
        Placed(Placed),
    }
    is_written(Adjacent::Unit, 0, r#"{"t":"Unit"}"#);
    is_written(Adjacent::Placed(placed()), 1, r#"{"t":"Placed","c":{"order":1}}"#);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
        Placed(Placed),
        Unit,
    }
    is_written(Untagged::Number(1), 0, "1");
    is_written(Untagged::Placed(placed()), 1, r#"{"order":1}"#);
    is_written(Untagged::Unit, 2, "null");
}

#[test]
fn a_struct_is_as_serde_writes_it() {
    let placed = Placed { order: 1, note: None };
    assert_eq!(whole(&placed), r#"{"order":1}"#);
    assert_eq!(whole(&Every::<u8>::Pair(1, 2)), r#"{"pair":[1,2]}"#, "asked for the whole value");
    assert_eq!(whole(&Every::<u8>::Unit), r#""unit""#);
    assert_eq!(whole(&Every::<u8>::NoField {}), r#"{"no-field":{}}"#);
    assert_eq!(whole(&Every::<u8>::Newtype(1)), r#"{"n":1}"#);
    let data = (i128::MIN, u128::MAX, 1.5, 'x', Some("y"), (), Status::Open);
    assert_eq!(whole(&data), serde_json::to_string(&data).unwrap());
    let every: Every<u8> = Json::decode(br#"{"pair":[1,2]}"#).unwrap();
    assert_eq!(every, Every::Pair(1, 2));
}

#[test]
fn raw_json_is_kept_as_it_is() {
    #[derive(Serialize, Deserialize)]
    enum E {
        Raw(Box<RawValue>),
        Fields { raw: Box<RawValue> },
    }
    let raw = || RawValue::from_string(r#"{ "a" : 1.000 }"#.to_owned()).unwrap();
    let payload = written(&E::Raw(raw()));
    assert_eq!(payload, raw().get());
    let Ok(E::Raw(read_back)) = read(0, &payload) else { panic!("{payload}") };
    assert_eq!(read_back.get(), raw().get());
    let payload = written(&E::Fields { raw: raw() });
    assert_eq!(payload, r#"{"raw":{ "a" : 1.000 }}"#);
    let Ok(E::Fields { raw: read_back }) = read(1, &payload) else { panic!("{payload}") };
    assert_eq!(read_back.get(), raw().get());
}
