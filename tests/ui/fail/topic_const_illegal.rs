use outbox::DomainEvent;
use serde::Serialize;

const TOPIC: &str = "order events";

#[derive(Serialize, DomainEvent)]
#[event(topic = TOPIC)]
struct Created(#[event(key)] u64);

fn main() {}
