use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", keyless = true)]
struct Created(u64);

fn main() {}
