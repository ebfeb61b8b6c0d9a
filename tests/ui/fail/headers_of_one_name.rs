use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(header = "x-tenant")]
    a: String,
    #[event(header = "X-Tenant")]
    b: String,
}

fn main() {}
