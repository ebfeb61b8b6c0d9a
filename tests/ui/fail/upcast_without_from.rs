use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created")]
struct OrderCreatedV1(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created", version = 2, upcast_from = OrderCreatedV1)]
struct OrderCreated(#[event(key)] u64);

fn main() {}
