use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(header = "ce_type")]
    a: String,
    #[event(header = "Content-Type")]
    b: String,
    #[event(header)]
    traceparent: String,
    #[event(header = "outbox-attempt")]
    c: String,
}

fn main() {}
