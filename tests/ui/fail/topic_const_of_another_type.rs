use outbox::DomainEvent;
use serde::Serialize;

const TOPIC: u64 = 7;

#[derive(Serialize, DomainEvent)]
#[event(topic = TOPIC)]
struct Created(#[event(key)] u64);

fn main() {}
