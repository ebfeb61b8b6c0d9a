use outbox::DomainEvent;
use serde::Serialize;

type Customer = Option<u64>;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    customer: Customer,
}

fn main() {}
