use outbox::DomainEvent;
use serde::Serialize;

struct Avro;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", codec = Avro)]
struct Created {
    #[event(key)]
    id: u64,
}

fn main() {}
