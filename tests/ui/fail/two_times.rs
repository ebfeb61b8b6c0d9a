use outbox::DomainEvent;
use serde::Serialize;

use std::time::SystemTime;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(occurred_at)]
    a: SystemTime,
    #[event(occurred_at)]
    b: SystemTime,
}

fn main() {}
