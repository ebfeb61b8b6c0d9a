use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, DomainEvent)]
#[event(topic = "orders", readonly)]
enum OrderEvent {
    Placed(#[event(key)] u64),
}

#[derive(Deserialize, DomainEvent)]
#[event(topic = "orders", deserialize_only = true)]
struct PlacedV1 {
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", read_only)]
struct PaidV1 {
    order: u64,
}

fn main() {}
