use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::OutboxTx;
use sqlx::{Executor, SqliteConnection, SqliteExecutor};

async fn by_connection(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(connection).await?;
    Ok(())
}

async fn by_executor(executor: impl SqliteExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(executor).await?;
    Ok(())
}

async fn by_generic<'e, E: Executor<'e, Database = Sqlite>>(
    executor: E,
) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(executor).await?;
    Ok(())
}

async fn by_outbox_tx(tx: &mut OutboxTx<'_, Sqlite>, id: u64) -> Result<(), OutboxError> {
    by_connection(tx).await?;
    tx.emit(Created(id))?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    by_connection(tx).await?;
    by_connection(&mut *tx).await?;
    by_connection(&mut **tx).await?;
    by_executor(&mut *tx).await?;
    by_executor(&mut **tx).await?;
    by_generic(&mut *tx).await?;
    by_generic(&mut tx).await?;
    sqlx::query("select 1").fetch_optional(&mut tx).await?;
    by_outbox_tx(tx, 1).await?;
    (&mut *tx).execute("select 1").await?;
    let by_option = async |tx: Option<&mut OutboxTx<'_, Sqlite>>| -> Result<(), OutboxError> {
        if let Some(tx) = tx {
            by_outbox_tx(tx, 2).await?;
        }
        Ok(())
    };
    by_option(Some(tx)).await?;
    Ok(())
}

fn assert_send<T: Send>(_: T) {}

fn main() {
    let _ = |outbox: &Outbox<Sqlite>| assert_send(create(outbox));
}
