use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event("order-events")]
struct Created(#[event(key)] u64);

fn main() {}
