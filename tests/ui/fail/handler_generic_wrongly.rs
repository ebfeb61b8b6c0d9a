use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Borrowed<'a>(#[event(key)] &'a str);

#[event_handler]
async fn any_event(tx: &mut OutboxTx<'_, Sqlite>, event: impl DomainEvent) -> sqlx::Result<()> {
    tx.emit(event).unwrap();
    Ok(())
}

#[event_handler]
async fn named_lifetime<'a>(
    tx: &mut OutboxTx<'_, Sqlite>,
    event: Borrowed<'a>,
) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(event.0).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn named_lifetime_of_the_state<'a>(
    tx: &mut OutboxTx<'_, Sqlite>,
    _: Created,
    name: &&'a str,
) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(*name).execute(tx).await?;
    Ok(())
}

fn main() {}
