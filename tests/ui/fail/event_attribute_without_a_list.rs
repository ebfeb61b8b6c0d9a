use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event = "orders"]
struct Placed {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event("orders")]
struct Paid {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
enum OrderEvent {
    #[event = "order.shipped"]
    Shipped(#[event(key)] u64),
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Closed {
    #[event = "key"]
    order: u64,
}

fn main() {}
