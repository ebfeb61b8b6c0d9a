use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    customer: Option<u64>,
    #[event(key)]
    region: std::option::Option<String>,
}

type Maybe = Option<u64>;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct BehindAnAlias {
    #[event(key)]
    customer: Maybe,
}

fn main() {}
