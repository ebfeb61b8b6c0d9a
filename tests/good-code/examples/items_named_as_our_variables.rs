//! A pattern is an item of its name, if there is one, whatever the hygiene of the two.
#![allow(non_upper_case_globals, non_camel_case_types, unused)]

use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

macro_rules! items {
    ($($constant:ident $structure:ident $variable:ident;)*) => {$(
        const $constant: u8 = 1;
        struct $structure;
        static $variable: u8 = 1;
    )*};
}
items! {
    result outcome transaction;
    run error attempts;
    begun refused value;
    held kept options;
    headers version payload;
    field0 field1 event;
    context argument source;
    id key state;
    service body finish;
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
enum Created {
    Here {
        #[event(key)]
        here: u64,
        #[event(header)]
        tenant: String,
    },
    There(#[event(key)] u64, #[event(key)] u64),
}

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t", name = "paid")]
struct Paid(#[event(key)] u64);

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t", name = "paid", version = 2, upcast_from = Paid)]
struct PaidLater(#[event(key)] u64, #[event(header = "tenant")] String);

impl From<Paid> for PaidLater {
    fn from(paid: Paid) -> Self {
        Self(paid.0, String::new())
    }
}

#[transactional_outbox(tx in outbox)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created::There(1, 2))?;
    nested(tx).await
}

#[transactional_outbox(tx in tx)]
async fn nested(tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Paid(1))?;
    Ok(())
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn again(outbox: &Outbox<Sqlite>, tenant: String) -> Result<(), OutboxError> {
    tx.emit(PaidLater(1, tenant))?;
    Ok(())
}

fn main() {
    let _ = (create, again);
}
