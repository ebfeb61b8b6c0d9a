use outbox::DomainEvent;
use serde::Serialize;

struct Money(u64);

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    amount: Money,
}

fn main() {}
