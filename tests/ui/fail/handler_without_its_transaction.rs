use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn nothing() -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn event_alone(created: Created) -> sqlx::Result<()> {
    drop(created);
    Ok(())
}

#[event_handler]
async fn the_wrong_way_round(created: Created, tx: &mut OutboxTx<'_, Sqlite>) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn shared(tx: &OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    let _ = tx;
    Ok(())
}

#[event_handler]
async fn owned(tx: OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
    drop(tx);
    Ok(())
}

fn main() {}
