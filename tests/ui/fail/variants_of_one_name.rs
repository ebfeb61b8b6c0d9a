use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum Event {
    #[event(name = "created")]
    A(#[event(key)] u64),
    #[event(name = "created")]
    B(#[event(key)] u64),
}

fn main() {}
