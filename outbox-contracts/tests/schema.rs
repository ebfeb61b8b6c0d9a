//! What serde and schemars make of Rust types, as a shape.
#![cfg(feature = "schema")]
// Only their schemas are looked at.
#![allow(dead_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use outbox_contracts::schema::{emitted, handled, of_one, write};
use outbox_contracts::shape::Payload;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape, and the types in it.
fn text(payload: &Payload) -> String {
    let types = payload.types.iter().map(|(name, shape)| format!("; {name} = {shape}"));
    format!("{}{}", payload.shape, types.collect::<String>())
}

#[track_caller]
fn is<T: JsonSchema>(expected: &str) {
    assert_eq!(text(&emitted::<T>()), expected);
    // What is made of a shape is read as it: nothing is lost on the way to those who have no Rust.
    let schema = write(&emitted::<T>());
    let again = of_one(&schema);
    assert_eq!(write(&again), schema);
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Item {
    sku: String,
    count: u32,
    #[serde(rename = "unit-price")]
    price: f64,
    note: Option<String>,
    #[serde(default)]
    rank: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    discount: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    remark: String,
    #[serde(skip)]
    unseen: u8,
}

const ITEM: &str = "{ count: u32, discount: optional i64?, note: string?, rank: default u8, remark: optional string, sku: string, unit-price: f64 }";

#[test]
fn fields_are_written_and_read_as_serde_does_it() {
    is::<Item>(ITEM);
    let read = text(&handled::<Item>());
    let expected = "{ count: u32, discount: optional i64?, note: optional string?, rank: optional u8, remark: optional string, sku: string, unit-price: f64 }";
    assert_eq!(read, expected, "who only reads does not know what is written");
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scalars {
    a: bool,
    b: i8,
    c: usize,
    d: i128,
    e: f32,
    f: char,
    g: (),
    h: std::num::NonZeroU32,
    i: Cow<'static, str>,
    j: serde_json::Value,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Containers {
    a: Vec<u8>,
    b: [u8; 3],
    c: (u8, String),
    d: BTreeMap<String, Item>,
    e: HashMap<u32, u8>,
    f: HashSet<String>,
    g: Option<Item>,
    h: Option<Option<u8>>,
    i: Box<Option<Vec<u8>>>,
    j: Option<(u8, u8)>,
}

#[test]
fn scalars_and_containers() {
    is::<Scalars>(
        "closed { a: bool, b: i8, c: u64, d: i128, e: f32, f: string, g: null, h: integer(1..=4294967295), i: string, j: any }",
    );
    is::<Containers>(&format!(
        "{{ a: [u8], b: [u8; 3], c: (u8, string), d: map<Item>, e: map<u8>, f: [string], g: Item?, h: u8?, i: [u8]?, j: (u8, u8)? }}; Item = {ITEM}"
    ));
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Plain {
    A,
    /// With a word about it.
    #[serde(rename = "b")]
    B,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum External {
    Unit,
    New(Item),
    Tuple(u8, u16),
    Struct { x: u8 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Internal {
    Unit,
    New(Item),
    Struct { x: u8 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    New(Item),
    Tuple(u8, u16),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Untagged {
    Unit,
    New(Item),
    Text(String),
}

#[test]
fn each_form_of_an_enum() {
    is::<Plain>(r#""A" | "b""#);
    is::<External>(&format!(
        "enum {{ New: Item, Struct: {{ x: u8 }}, Tuple: (u8, u16), Unit }}; Item = {ITEM}"
    ));
    is::<Internal>(&format!(
        "enum(type) {{ new: Item, struct: {{ x: u8 }}, unit }}; Item = {ITEM}"
    ));
    is::<Adjacent>(&format!(
        "enum(t) {{ New: {{ c: Item }}, Tuple: {{ c: (u8, u16) }}, Unit }}; Item = {ITEM}"
    ));
    is::<Untagged>(
        &format!("null | Item | string; Item = {ITEM}")
            .replace("null | Item | string", "(Item | string)?"),
    );
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Tree {
    kids: Vec<Tree>,
    up: Option<Box<Tree>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Forest {
    trees: BTreeMap<String, Tree>,
}

#[test]
fn a_type_may_be_in_itself() {
    is::<Tree>("{ kids: [Tree], up: Tree? }; Tree = { kids: [Tree], up: Tree? }");
    is::<Forest>("{ trees: map<Tree> }; Tree = { kids: [Tree], up: Tree? }");
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    tree: Tree,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatEnum {
    a: u8,
    #[serde(flatten)]
    payment: Adjacent,
    #[serde(flatten)]
    rest: HashMap<String, String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Wrapper(Item);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Nothing;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Empty {}

#[test]
fn what_is_flattened_or_wrapped() {
    is::<Flat>("{ a: u8, kids: [Tree], up: Tree? }; Tree = { kids: [Tree], up: Tree? }");
    is::<FlatEnum>(&format!(
        "{{ a: u8, ..enum(t) {{ New: {{ c: Item }}, Tuple: {{ c: (u8, u16) }}, Unit }}, ..map<string> }}; Item = {ITEM}"
    ));
    is::<Wrapper>(ITEM);
    is::<Nothing>("null");
    is::<Empty>("{}");
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Ways {
    #[serde(rename(serialize = "out", deserialize = "in"))]
    a: u8,
    #[serde(skip_deserializing)]
    b: u8,
    #[serde(skip_serializing_if = "is_zero")]
    c: u8,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[test]
fn what_is_written_and_read_otherwise_is_as_it_is_written() {
    assert_eq!(text(&emitted::<Ways>()), "{ b: default u8, c: unreadable u8, out: default u8 }");
    assert_eq!(text(&handled::<Ways>()), "{ c: u8, in: u8 }");
}

#[test]
fn a_schema_that_is_none_of_ours_is_kept_as_it_is() {
    let schema = serde_json::json!({ "type": "object", "properties": { "a": { "if": true } } });
    assert_eq!(text(&of_one(&schema)), "{ a: optional schema {\"if\":true} }");
}
