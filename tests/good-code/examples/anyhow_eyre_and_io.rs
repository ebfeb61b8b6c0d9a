use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::io;

#[transactional_outbox(tx in outbox)]
async fn with_anyhow(outbox: &Outbox<Sqlite>, id: &str) -> anyhow::Result<u64> {
    use anyhow::Context;
    anyhow::ensure!(!id.is_empty(), "no id");
    let id = id.parse().context("not a number")?;
    sqlx::query("select 1").execute(&mut *tx).await?;
    tx.emit(Created(id))?;
    if id > 9 {
        anyhow::bail!("too large");
    }
    Ok(id)
}

#[transactional_outbox(tx in outbox)]
async fn with_eyre(outbox: &Outbox<Sqlite>, id: &str) -> eyre::Result<u64> {
    let id = id.parse()?;
    tx.emit(Created(id))?;
    Ok(id)
}

#[transactional_outbox(tx in outbox)]
async fn with_io(outbox: &Outbox<Sqlite>, path: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    tx.emit(Created(text.len() as u64))?;
    Ok(text)
}

fn main() {
    let _ = (with_anyhow, with_eyre, with_io);
}
