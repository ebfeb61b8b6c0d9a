use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "order events/v1", keyless)]
struct Characters;

#[derive(Serialize, DomainEvent)]
#[event(topic = "", keyless)]
struct Empty;

#[derive(Serialize, DomainEvent)]
#[event(topic = "..", keyless)]
struct Dots;

#[derive(Serialize, DomainEvent)]
#[event(topic = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", keyless)]
struct Long;

#[derive(Serialize, DomainEvent)]
#[event(topic = "bad topic", keyless)]
enum OnceForAllVariants {
    A,
    B,
}

fn main() {}
