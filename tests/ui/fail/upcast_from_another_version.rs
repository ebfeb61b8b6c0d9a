use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created")]
struct OrderCreatedV1(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created", version = 3, upcast_from = OrderCreatedV1)]
struct OrderCreated(#[event(key)] u64);

impl From<OrderCreatedV1> for OrderCreated {
    fn from(old: OrderCreatedV1) -> Self {
        Self(old.0)
    }
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.paid", version = 2, upcast_from = OrderCreatedV1)]
struct OrderPaid(#[event(key)] u64);

impl From<OrderCreatedV1> for OrderPaid {
    fn from(old: OrderCreatedV1) -> Self {
        Self(old.0)
    }
}

fn main() {}
