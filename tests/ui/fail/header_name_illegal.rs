use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
    #[event(header = "")]
    a: String,
    #[event(header = "x tenant")]
    b: String,
    #[event(header = "mandänt")]
    c: String,
    #[event(header = "x-d")]
    d: String,
    #[event(header = "X-D")]
    e: String,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Tuple(#[event(key, header)] u64);

fn main() {}
