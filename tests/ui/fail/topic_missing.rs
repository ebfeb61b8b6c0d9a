use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
struct NoAttribute {
    #[event(key)]
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(version = 2)]
enum NoneOfThem {
    A(#[event(key)] u64),
    B(#[event(key)] u64),
}

#[derive(Serialize, DomainEvent)]
enum OneOfThem {
    #[event(topic = "a")]
    A(#[event(key)] u64),
    B(#[event(key)] u64),
}

fn main() {}
