use outbox::{DomainEvent, OutboxError, OutboxTx, event_handler};
use serde::Deserialize;

#[derive(Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", read_only)]
struct OrderPlacedV1 {
    order: u64,
}

#[event_handler]
async fn reserve(
    tx: &mut OutboxTx<'_, sqlx::Sqlite>,
    event: OrderPlacedV1,
) -> Result<(), OutboxError> {
    let _ = (tx, event.order);
    Ok(())
}

fn main() {}
