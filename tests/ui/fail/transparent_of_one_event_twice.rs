use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(DomainEvent)]
#[event(transparent)]
enum OrderEvent {
    Placed(Placed),
    PlacedAgain(Box<Placed>),
}

fn main() {}
