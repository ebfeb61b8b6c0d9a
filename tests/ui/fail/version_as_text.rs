use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", version = "2")]
struct Created(#[event(key)] u64);

fn main() {}
