//! Tests of a handler without Kafka: an event that comes twice, a crash before the commit, a
//! failure, a message that cannot be read.
//!
//! ```text
//! died before the commit: RolledBack
//! came again: Handled
//! came once more: Duplicate
//! not enough stock: Failed { class: Permanent, error: "sold out" }
//! not JSON: Undecodable
//! 1 reserved
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{Classify, DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    item: String,
}

#[derive(Debug, thiserror::Error, Classify)]
enum ReserveError {
    #[error("sold out")]
    #[classify(permanent)] // no other attempt can help
    SoldOut,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[event_handler]
async fn reserve(tx: &mut OutboxTx<'_, Sqlite>, order: OrderPlaced) -> Result<(), ReserveError> {
    let update = "update stock set reserved = reserved + 1 where item = $1 and reserved < free";
    let updated = sqlx::query(update).bind(&order.item).execute(&mut *tx).await?;
    if updated.rows_affected() == 0 {
        return Err(ReserveError::SoldOut);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table stock (item text, free integer, reserved integer)").await?;
    pool.execute("insert into stock values ('apples', 9, 0), ('pears', 0, 0)").await?;
    // As a consumer does it: in a transaction, with the inbox.
    let inventory = HandlerTest::new(outbox, reserve())?;

    let apples = TestMessage::of(&OrderPlaced { item: "apples".into() })?;
    let died = inventory.deliver_without_commit(&apples).await?;
    assert_eq!(died, Delivery::RolledBack);
    println!("died before the commit: {died:?}");
    println!("came again: {:?}", inventory.deliver(&apples).await?);
    println!("came once more: {:?}", inventory.deliver(&apples).await?);

    let pears = TestMessage::of(&OrderPlaced { item: "pears".into() })?;
    println!("not enough stock: {:?}", inventory.deliver(&pears).await?);
    let garbage = inventory.deliver(&pears.payload("garbage")).await?;
    assert!(matches!(garbage, Delivery::Undecodable(_)));
    println!("not JSON: Undecodable");

    let reserved = "select reserved from stock where item = 'apples'";
    let reserved: i64 = sqlx::query_scalar(reserved).fetch_one(&pool).await?;
    assert_eq!(reserved, 1);
    println!("{reserved} reserved");
    Ok(())
}
