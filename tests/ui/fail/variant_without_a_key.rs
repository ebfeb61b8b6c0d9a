use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum OrderEvent {
    Placed(#[event(key)] u64),
    Audited(u64),
}

fn main() {}
