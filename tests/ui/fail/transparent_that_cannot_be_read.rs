use outbox::consume::{EventContext, handler_fn};
use outbox::testing::HandlerTest;
use outbox::{DomainEvent, Outbox, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders")]
struct Placed(#[event(key)] u64);

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders")]
struct Paid(#[event(key)] u64);

#[derive(DomainEvent)]
#[event(transparent)]
enum OrderEvent {
    Placed(Placed),
    Paid(Paid),
}

async fn reserve(
    _: &mut OutboxTx<'_, Sqlite>,
    _: OrderEvent,
    _: &EventContext,
) -> sqlx::Result<()> {
    Ok(())
}

fn test(outbox: Outbox<Sqlite>) {
    let _ = HandlerTest::new(outbox, handler_fn(reserve));
}

fn main() {}
