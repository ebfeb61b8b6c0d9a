use outbox::DomainEvent;
use serde::Serialize;

mod orders {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "order-events", name = "order.created")]
    struct OrderCreated(#[event(key)] u64);
}

mod copied {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "order-events", name = "order.created")]
    struct OrderCreated(#[event(key)] u64);
}

fn main() {}
