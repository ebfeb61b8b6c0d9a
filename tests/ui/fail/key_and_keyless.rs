use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", keyless)]
struct Created {
    #[event(key)]
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", keyless)]
enum Event {
    A(#[event(key)] u64),
    #[event(keyless)]
    B(#[event(key)] u64),
}

fn main() {}
