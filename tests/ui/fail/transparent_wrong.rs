use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(DomainEvent)]
#[event(transparent, topic = "orders")]
enum WithATopic {
    Placed(Placed),
}

#[derive(DomainEvent)]
#[event(transparent)]
enum WithAKey {
    #[event(name = "order.placed", keyless)]
    Placed(#[event(key)] Placed),
}

#[derive(DomainEvent)]
#[event(transparent)]
enum Shapes {
    Nothing,
    Fields { order: u64, customer: u64 },
    Placed(Placed),
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
enum OnAVariant {
    #[event(transparent)]
    Placed(Placed),
}

fn emit(tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>) -> Result<uuid::Uuid, outbox::OutboxError> {
    tx.emit(WithATopic::Placed(Placed(1)))?;
    tx.emit(Shapes::Nothing)
}

fn main() {}
