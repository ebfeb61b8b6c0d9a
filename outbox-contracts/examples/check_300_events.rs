//! How long it takes to compare 300 events with their lock, as their tests do it:
//! `cargo run --package outbox-contracts --features schema --example check_300_events`.

use std::time::Instant;

use outbox_contracts::Lock;
use outbox_contracts::program::{self, Content, Declared, Role, Wire};
use outbox_event::EventDescriptor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Item {
    sku: String,
    count: u32,
    price: Option<u64>,
}

/// As large as events usually are.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    customer: String,
    tenant: String,
    note: Option<String>,
    items: Vec<Item>,
    address: Option<(String, String)>,
}

fn declared(i: usize) -> Vec<Declared> {
    let name = Box::leak(format!("order.event{i}").into_boxed_str());
    let json = "application/json";
    let event = EventDescriptor::new("orders", name, 1, json, &["customer"], &[]);
    program::described::<Order>(
        Role::Emitted,
        &[event],
        &[],
        &[Wire::new(Content::Whole, &["customer"])],
    )
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the lock");
    let begin = Instant::now();
    let all: Vec<_> = (0..300).flat_map(declared).collect();
    println!("their types described in {:?}", begin.elapsed());
    let lock: Lock = program::lock_of(&all);
    std::fs::write(folder.path().join("events.lock"), lock.to_string())
        .expect("the lock is written");
    let manifest = folder.path().to_str();
    let begin = Instant::now();
    for each in &all {
        program::check(manifest, std::slice::from_ref(each));
    }
    println!("300 events compared in {:?}", begin.elapsed());
}
