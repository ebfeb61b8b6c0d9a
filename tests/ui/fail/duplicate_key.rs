use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", topic = "u")]
#[event(version = 1)]
#[event(version = 2)]
struct Created {
    #[event(key, key)]
    id: u64,
    #[event(header, header = "x-tenant")]
    tenant: String,
}

fn main() {}
