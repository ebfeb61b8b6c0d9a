use std::error::Error;
use std::fmt;

use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

type Answer<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
type Done = Answer<()>;

#[derive(Debug)]
enum OrderError {
    Number(std::num::ParseIntError),
    Database(sqlx::Error),
    Outbox(OutboxError),
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Error for OrderError {}

impl From<std::num::ParseIntError> for OrderError {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::Number(error)
    }
}

impl From<sqlx::Error> for OrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<OutboxError> for OrderError {
    fn from(error: OutboxError) -> Self {
        Self::Outbox(error)
    }
}

#[transactional_outbox(tx in outbox)]
async fn own_error(outbox: &Outbox<Sqlite>, text: &str) -> Result<u64, OrderError> {
    let id = text.parse()?;
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(id))?;
    Ok(id)
}

#[transactional_outbox(tx in outbox)]
async fn boxed_error(
    outbox: &Outbox<Sqlite>,
    text: &str,
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    if text.is_empty() {
        return Err("empty".into());
    }
    tx.emit(Created(text.parse()?))?;
    Ok(text.bytes().collect())
}

#[transactional_outbox(tx in outbox)]
async fn alias(outbox: &Outbox<Sqlite>) -> Answer<Option<Box<dyn fmt::Debug + Send>>> {
    tx.emit(Created("1".parse()?))?;
    Ok(Some(Box::new(1)))
}

#[transactional_outbox(tx in outbox)]
async fn alias_of_alias(outbox: &Outbox<Sqlite>) -> Done {
    tx.emit(Created("1".parse()?))?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn diverges(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    todo!()
}

fn main() {
    let _ = (own_error, boxed_error, alias, alias_of_alias, diverges);
}
