use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event]
    a: u64,
    #[event = "key"]
    b: u64,
    #[event(key)]
    c: u64,
}

fn main() {}
