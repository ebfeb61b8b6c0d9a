use outbox::{DomainEvent, Outbox, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn number(outbox: &Outbox<Sqlite>) -> u64 {
    let _ = tx.emit(Created(1));
    7
}

#[transactional_outbox(tx in outbox)]
async fn option(outbox: &Outbox<Sqlite>) -> Option<u64> {
    tx.emit(Created(1)).ok()?;
    None
}

#[transactional_outbox(tx in outbox)]
async fn opaque(outbox: &Outbox<Sqlite>) -> impl std::fmt::Debug {
    tx.emit(Created(1))
}

fn main() {}
