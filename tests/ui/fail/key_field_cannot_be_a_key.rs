use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize)]
struct Money(f64);

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created {
    #[event(key)]
    amount: Money,
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum Event {
    A {
        #[event(key)]
        amount: f64,
    },
}

fn main() {}
