use outbox::DomainEvent;
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(Serialize)]
struct Paid {
    order: u64,
}

#[derive(DomainEvent)]
#[event(transparent)]
enum OrderEvent {
    Placed(Placed),
    Paid(Paid),
}

fn emit(tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>) -> Result<uuid::Uuid, outbox::OutboxError> {
    tx.emit(OrderEvent::Placed(Placed(1)))
}

fn main() {}
