use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

struct NoEvent(u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "order-events", name = "order.created", version = 2, upcast_from = NoEvent)]
struct OrderCreated(#[event(key)] u64);

impl From<NoEvent> for OrderCreated {
    fn from(old: NoEvent) -> Self {
        Self(old.0)
    }
}

fn main() {}
