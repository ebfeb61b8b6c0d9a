//! What a codec costs beyond its library: `cargo run --release -p outbox-registry --features
//! avro,protobuf --example encode`.
//!
//! The library alone writes the same value into the same buffer, by a writer that is made once.

use std::hint::black_box;
use std::time::Instant;

use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroSchema, Schema};
use outbox::DomainEvent;
use outbox::codec::Encode;
use outbox_registry::{Avro, Protobuf, Registry};
use prost::Message;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, AvroSchema, DomainEvent)]
#[event(topic = "avro", name = "order.placed", codec = Avro, unlocked)]
struct InAvro {
    #[event(key)]
    order: String,
    customer: String,
    cents: i64,
    items: Vec<String>,
    note: Option<String>,
}
outbox_registry::avro!(InAvro);

#[derive(Message, DomainEvent)]
#[event(topic = "protobuf", name = "order.placed", codec = Protobuf, unlocked)]
struct InProtobuf {
    #[event(key)]
    #[prost(string, tag = "1")]
    order: String,
    #[prost(string, tag = "2")]
    customer: String,
    #[prost(int64, tag = "3")]
    cents: i64,
    #[prost(string, repeated, tag = "4")]
    items: Vec<String>,
    #[prost(string, optional, tag = "5")]
    note: Option<String>,
}
outbox_registry::protobuf!(
    InProtobuf,
    "Order",
    r#"syntax = "proto3"; message Order { string order = 1; string customer = 2; int64 cents = 3;
       repeated string items = 4; optional string note = 5; }"#
);

const ROUNDS: u32 = 40;
const EVENTS: u32 = 50_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::in_memory();
    registry.emits::<InAvro>()?.emits::<InProtobuf>()?;
    let (order, customer) = ("7f9c24e8-3b12-4f0a".to_owned(), "alice@example.org".to_owned());
    let items = vec!["apples".to_owned(), "pears".to_owned(), "a basket".to_owned()];
    let note = Some("leave it at the door".to_owned());
    let avro = InAvro {
        order: order.clone(),
        customer: customer.clone(),
        cents: 1250,
        items: items.clone(),
        note: note.clone(),
    };
    let protobuf = InProtobuf { order, customer, cents: 1250, items, note };

    let schema: Schema = InAvro::get_schema();
    let writer = GenericDatumWriter::builder(&schema).build()?;
    let alone = |out: &mut Vec<u8>| writer.write_ser(out, black_box(&avro)).map(drop).is_ok();
    compare("avro", alone, |out| Avro::encode(black_box(&avro), out).is_ok());
    let alone = |out: &mut Vec<u8>| black_box(&protobuf).encode(out).is_ok();
    compare("protobuf", alone, |out| Protobuf::encode(black_box(&protobuf), out).is_ok());
    Ok(())
}

/// The fastest round of each, by turns, so that both meet the same disturbances.
fn compare(name: &str, alone: impl Fn(&mut Vec<u8>) -> bool, codec: impl Fn(&mut Vec<u8>) -> bool) {
    let mut fastest = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        fastest[0] = fastest[0].min(round(&alone));
        fastest[1] = fastest[1].min(round(&codec));
    }
    let [alone, codec] = fastest;
    println!("{name}: alone {alone:.1} ns, codec {codec:.1} ns an event: {:.3}x", codec / alone);
}

fn round(encode: impl Fn(&mut Vec<u8>) -> bool) -> f64 {
    let mut out = Vec::with_capacity(256);
    let begin = Instant::now();
    for _ in 0..EVENTS {
        out.clear();
        assert!(encode(&mut out), "every event is written");
        black_box(&out);
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS)
}
