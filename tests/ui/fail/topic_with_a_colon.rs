use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic: "t")]
struct Created(#[event(key)] u64);

fn main() {}
