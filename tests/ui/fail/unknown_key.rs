use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topik = "t", versoin = 2, partitions = 3, topic = "t")]
struct Created {
    #[event(keyy, key)]
    id: u64,
    #[event(headr = "x-tenant")]
    tenant: String,
}

fn main() {}
