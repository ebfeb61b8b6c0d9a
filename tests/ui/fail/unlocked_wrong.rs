use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", unlocked = true)]
struct WithAValue {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", unlocked, unlocked)]
struct Twice {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct OnAField {
    #[event(key)]
    order: u64,
    #[event(unlocked)]
    note: String,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
enum OnAVariant {
    #[event(unlocked)]
    Paid(#[event(key)] u64),
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(DomainEvent)]
#[event(transparent, unlocked)]
enum Transparent {
    Placed(Placed),
}

fn main() {}
