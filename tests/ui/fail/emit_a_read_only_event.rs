use outbox::{DomainEvent, OutboxError, OutboxTx};
use serde::Deserialize;

#[derive(Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", read_only)]
struct OrderPlacedV1 {
    order: u64,
}

fn emit(tx: &mut OutboxTx<'_, sqlx::Sqlite>) -> Result<(), OutboxError> {
    tx.emit(OrderPlacedV1 { order: 1 })?;
    Ok(())
}

fn main() {}
