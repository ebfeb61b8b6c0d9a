use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::Outbox;
use outbox::consume::{Consumer, ConsumerBuilder, EventContext};

struct Service;

#[event_handler]
async fn event_first(created: Created, tx: &mut OutboxTx<'_, Sqlite>) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn context_before_event(
    _: &mut OutboxTx<'_, Sqlite>,
    context: &EventContext,
    created: Created,
) -> sqlx::Result<()> {
    drop((context.attempt, created));
    Ok(())
}

#[event_handler]
async fn state_before_event(
    _: &mut OutboxTx<'_, Sqlite>,
    service: &Service,
    created: Created,
) -> sqlx::Result<()> {
    let _ = (service, created);
    Ok(())
}

// Adds no error: they are handlers, in the wrong order.
fn consumer(outbox: Outbox<Sqlite>) -> ConsumerBuilder<Sqlite> {
    Consumer::builder(outbox, "127.0.0.1:9092")
        .handler(event_first())
        .handler(context_before_event())
        .handler(state_before_event(Service))
}

fn main() {}
