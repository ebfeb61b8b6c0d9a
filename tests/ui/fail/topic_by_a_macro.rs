use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = format!("orders-{}", 1))]
struct Created(#[event(key)] u64);

fn main() {}
