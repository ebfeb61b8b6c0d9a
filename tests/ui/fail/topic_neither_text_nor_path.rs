use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = 7)]
struct Created(#[event(key)] u64);

fn main() {}
