use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(header = tenant)]
    tenant: String,
}

fn main() {}
