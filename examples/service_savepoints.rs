//! Savepoints: a part of a transaction that fails is undone together with its events, and the rest
//! is committed.
//!
//! ```text
//! apples: reserved
//! pears: not reserved
//! plums: reserved
//! event: reserved apples
//! event: reserved plums
//! event: order of 2 items
//! ```

use std::error::Error;

use outbox::testing::emitted;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

/// What happened to alice's order.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders")]
struct Happened {
    #[event(key)]
    customer: String,
    what: String,
}

impl Happened {
    fn to_alice(what: impl Into<String>) -> Self {
        Self { customer: "alice".into(), what: what.into() }
    }
}

#[transactional_outbox(tx in outbox)]
async fn place_order(outbox: &Outbox<Sqlite>, items: &[&str]) -> Result<(), OutboxError> {
    let mut reserved = 0;
    for item in items {
        match reserve(tx, item).await {
            Ok(()) => {
                println!("{item}: reserved");
                reserved += 1;
            }
            // Its changes and its event are gone. The order continues.
            Err(_) => println!("{item}: not reserved"),
        }
    }
    tx.emit(Happened::to_alice(format!("order of {reserved} items")))?;
    Ok(())
}

/// In a savepoint of its caller, since `tx` is a transaction already. Without the attribute, it
/// would be a part of its caller's transaction that cannot be undone alone.
#[transactional_outbox(tx in tx)]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, item: &str) -> Result<(), OutboxError> {
    tx.emit(Happened::to_alice(format!("reserved {item}")))?;
    let update = sqlx::query("update stock set free = free - 1 where item = $1").bind(item);
    update.execute(&mut *tx).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table stock (item text, free integer check (free >= 0))").await?;
    pool.execute("insert into stock values ('apples', 9), ('pears', 0), ('plums', 1)").await?;

    place_order(&outbox, &["apples", "pears", "plums"]).await?;

    for event in emitted(&outbox).await?.of::<Happened>()? {
        println!("event: {}", event.what);
    }
    Ok(())
}
