use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize)]
struct CustomerId(u64);

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed {
    #[event(key)]
    customer: CustomerId,
}

fn main() {}
