//! What is forbidden cannot be allowed by an expansion, so it has to do without.
#![forbid(
    unreachable_code,
    unused_assignments,
    unused_braces,
    unused_mut,
    unused_must_use,
    unused_parens,
    unused_variables,
    deprecated,
    dead_code,
    non_local_definitions
)]

use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in outbox)]
async fn borrows(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    sqlx::query("select 1").execute(&mut tx).await?;
    tx.emit(Created(1))?;
    nested(tx, 1).await
}

#[transactional_outbox(tx in tx)]
async fn nested(tx: &mut OutboxTx<'_, Sqlite>, id: u64) -> Result<(), OutboxError> {
    tx.emit(Created(id))?;
    Ok(())
}

#[transactional_outbox(tx in outbox)]
async fn diverges(outbox: &Outbox<Sqlite>) -> Result<u64, OutboxError> {
    tx.emit(Created(1))?;
    return Err(sqlx::Error::RowNotFound.into());
}

#[transactional_outbox(_tx in outbox)]
async fn to_do(outbox: &Outbox<Sqlite>) -> Result<u64, OutboxError> {
    todo!()
}

#[transactional_outbox(tx in outbox)]
async fn forever(outbox: &Outbox<Sqlite>) -> Result<u64, OutboxError> {
    loop {
        tx.emit(Created(1))?;
    }
}

#[transactional_outbox(tx in outbox, retry = 3)]
async fn again(
    outbox: &Outbox<Sqlite>,
    mut id: u64,
    mut ids: Vec<u64>,
) -> Result<u64, OutboxError> {
    id += 1;
    ids.push(id);
    for id in ids {
        tx.emit(Created(id))?;
    }
    panic!("{id}");
}

#[transactional_outbox(_tx in outbox, retry = 3)]
async fn unused_arguments(
    outbox: &Outbox<Sqlite>,
    _id: u64,
    _: Vec<u64>,
) -> Result<u64, OutboxError> {
    Ok(1)
}

macro_rules! named {
    ($name:ident $tx:ident $body:block) => {
        #[transactional_outbox($tx in outbox)]
        async fn $name(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> $body
    };
}
named!(by_macro tx { tx.emit(Created(1))?; Ok(()) });
named!(by_macro_mutably tx { sqlx::query("select 1").execute(&mut tx).await?; Ok(()) });

fn main() {
    let _ =
        (borrows, diverges, to_do, forever, again, unused_arguments, by_macro, by_macro_mutably);
}
