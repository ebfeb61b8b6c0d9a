use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", key)]
struct Created {
    #[event(key, topic = "t")]
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", name = "event")]
enum Event {
    #[event(codec = outbox::codec::Json)]
    A(#[event(key)] u64),
}

fn main() {}
