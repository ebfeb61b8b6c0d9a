use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "order-events")]
struct OrderCreated {
    order: u64,
    #[event(key)]
    customer: Option<u64>,
}

fn main() {}
