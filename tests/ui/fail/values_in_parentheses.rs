use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic("orders"), version(2), codec(outbox::codec::Json))]
struct Placed {
    #[event(key)]
    order: u64,
    #[event(header("x-tenant"))]
    tenant: String,
}

fn main() {}
