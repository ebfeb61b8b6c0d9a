use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::rc::Rc;

#[event_handler]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
    let id = Rc::new(created.0 as i64);
    sqlx::query("select 1").execute(&mut *tx).await?;
    sqlx::query("select $1").bind(*id).execute(tx).await?;
    Ok(())
}

fn main() {}
