use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created")]
struct OrderCreatedV1(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", version = 3)]
enum OrderEvent {
    #[event(name = "order.paid")]
    Paid(#[event(key)] u64),
    #[event(name = "order.created", upcast_from = OrderCreatedV1)]
    Created(#[event(key)] u64),
}

impl From<OrderCreatedV1> for OrderEvent {
    fn from(old: OrderCreatedV1) -> Self {
        Self::Created(old.0)
    }
}

fn main() {}
