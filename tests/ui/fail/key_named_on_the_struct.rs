use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", key = "id")]
struct Created {
    id: u64,
}

fn main() {}
