use outbox::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = "")]
struct NoLock {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = "git:origin/main")]
struct NoFileOfARevision {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = "git:--output=x:events.lock")]
struct AnOptionOfGit {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by)]
struct WithoutAValue {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = 1)]
struct ANumber {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = "../orders/events.lock", emitted_by = "events.lock")]
struct Twice {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", emitted_by = "../orders/events.lock", unlocked)]
struct ComparedWithNothing {
    #[event(key)]
    order: u64,
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders")]
enum OnAVariant {
    #[event(emitted_by = "../orders/events.lock")]
    Paid(#[event(key)] u64),
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(DomainEvent)]
#[event(transparent, emitted_by = "../orders/events.lock")]
enum Transparent {
    Placed(Placed),
}

fn main() {}
