use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum OneWithout {
    A(#[event(key)] u64),
    B,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum AllWithout {
    A,
    B,
}

fn main() {}
