use outbox::DomainEvent;
use serde::Serialize;

use outbox::OutboxTx;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created<T> {
    #[event(key)]
    id: T,
}

fn emit(tx: &mut OutboxTx<'_, sqlx::Sqlite>) {
    drop(tx.emit(Created { id: 1.5 }));
}

fn main() {}
