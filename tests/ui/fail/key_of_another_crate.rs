use outbox::DomainEvent;
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Waited {
    #[event(key)]
    time: Duration,
    #[event(header)]
    least: Duration,
}

fn main() {}
