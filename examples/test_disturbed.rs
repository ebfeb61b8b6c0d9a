//! A test that gives a handler what a consumer gets on a bad day: events that come again, crashes
//! before the commit, several keys at once. It finds the handler that keeps a part of its work
//! outside of the transaction.
//!
//! ```text
//! counted in the database: nothing is found
//! counted in memory: events were counted twice
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use outbox::testing::{HandlerTest, Seed, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Executor, Sqlite, sqlite::SqlitePoolOptions};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced {
    #[event(key)]
    customer: String,
}

/// Right: an attempt that is rolled back, or an event that comes again, counts nothing.
#[event_handler(group = "right")]
async fn count(tx: &mut OutboxTx<'_, Sqlite>, _: OrderPlaced) -> Result<(), sqlx::Error> {
    tx.execute("update total set orders = orders + 1").await?;
    Ok(())
}

/// Wrong: no rollback reaches this number.
#[event_handler(group = "wrong")]
async fn count_in_memory(
    _: &mut OutboxTx<'_, Sqlite>,
    _: OrderPlaced,
    total: &Arc<AtomicI64>,
) -> Result<(), sqlx::Error> {
    total.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table total (orders integer); insert into total values (0)").await?;
    let orders = ["alice", "bob", "alice", "carol", "bob", "alice"];
    let orders = orders.map(|customer| OrderPlaced { customer: customer.into() });
    let messages: Vec<_> = orders.iter().map(TestMessage::of).collect::<Result<_, _>>()?;

    // A seed decides what happens. A finding names it, and the same seed does the same again.
    let right = HandlerTest::new(outbox.clone(), count())?;
    let check = right.disturbed(messages.clone(), Seed::from(1)).check(async |handled| {
        let total = sqlx::query_scalar("select orders from total").fetch_one(&pool).await;
        assert_eq!(total.ok(), Some(handled.events.len() as i64));
    });
    assert_eq!(check.await?.events.len(), 6);
    println!("counted in the database: nothing is found");

    let total = Arc::new(AtomicI64::new(0));
    let wrong = HandlerTest::new(outbox, count_in_memory(total.clone()))?;
    let check = wrong.disturbed(messages, Seed::from(1)).check(async |handled| {
        assert_eq!(total.load(Ordering::SeqCst), handled.events.len() as i64, "counted twice");
    });
    assert!(check.await.unwrap_err().to_string().contains("counted twice"));
    println!("counted in memory: events were counted twice");
    Ok(())
}
