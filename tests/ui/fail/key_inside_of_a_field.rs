use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize)]
struct Customer {
    id: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", key = customer.id)]
struct Placed {
    customer: Customer,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", key = "customer.id")]
struct Paid {
    customer: Customer,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Shipped {
    #[event(key = customer.id)]
    customer: Customer,
}

fn main() {}
