use outbox::{DomainEvent, Outbox, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use axum::http::StatusCode;

#[transactional_outbox(tx in outbox)]
async fn of_sqlx(outbox: &Outbox<Sqlite>) -> Result<u64, sqlx::Error> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    Ok(1)
}

#[transactional_outbox(tx in outbox)]
async fn result_of_sqlx(outbox: &Outbox<Sqlite>) -> sqlx::Result<u64> {
    sqlx::query("select 1").execute(&mut *tx).await?;
    Ok(1)
}

#[transactional_outbox(tx in outbox)]
async fn for_axum(outbox: &Outbox<Sqlite>) -> Result<String, (StatusCode, String)> {
    tx.emit(Created(1)).map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
    Ok(String::new())
}

#[transactional_outbox(tx in outbox)]
async fn text(outbox: &Outbox<Sqlite>) -> Result<(), String> {
    tx.emit(Created(1)).map_err(|error| error.to_string())?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn of_std(outbox: &Outbox<Sqlite>) -> Result<(), std::num::ParseIntError> {
    let _ = tx.emit(Created("1".parse()?));
    Ok(())
}

fn main() {}
