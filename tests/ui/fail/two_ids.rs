use outbox::DomainEvent;
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key, id)]
    a: Uuid,
    #[event(id)]
    b: Uuid,
}

fn main() {}
