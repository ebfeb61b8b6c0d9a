use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn forgotten(tx: &mut OutboxTx<'_, Sqlite>) -> sqlx::Result<()> {
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn changed(tx: &mut OutboxTx<'_, Sqlite>, created: &mut Created) -> sqlx::Result<()> {
    created.0 += 1;
    sqlx::query("select 1").execute(tx).await?;
    Ok(())
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Borrowed<'a>(#[event(key)] &'a str);

#[event_handler]
async fn borrowed(tx: &mut OutboxTx<'_, Sqlite>, event: Borrowed<'_>) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(event.0).execute(tx).await?;
    Ok(())
}

fn main() {}
