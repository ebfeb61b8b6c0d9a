use outbox::{DomainEvent, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[event_handler]
async fn reserve(tx: &mut sqlx::Transaction<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(&mut **tx).await?;
    Ok(())
}

#[event_handler]
async fn connection(tx: &mut sqlx::PgConnection, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
    Ok(())
}

#[event_handler]
async fn pool(pool: &sqlx::SqlitePool, created: Created) -> sqlx::Result<()> {
    sqlx::query("select $1").bind(created.0 as i64).execute(pool).await?;
    Ok(())
}

fn main() {}
