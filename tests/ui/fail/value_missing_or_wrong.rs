use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic, name = 3, version = "1", keyless = true, codec = "Json")]
struct Created {
    #[event(key = true)]
    id: u64,
    #[event(header = tenant)]
    tenant: String,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = 7 version = -1)]
struct Other {
    #[event]
    a: u64,
    #[event = "key"]
    b: u64,
    #[event(key)]
    c: u64,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t", name = "", version = 4294967296)]
struct Large(#[event(key)] u64);

fn main() {}
