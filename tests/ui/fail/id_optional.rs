use outbox::DomainEvent;
use serde::Serialize;

use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    customer: u64,
    #[event(id)]
    id: Option<Uuid>,
}

fn main() {}
