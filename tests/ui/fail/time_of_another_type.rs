use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(occurred_at)]
    at: String,
}

fn main() {}
