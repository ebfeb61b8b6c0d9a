//! Tenants in one program, each with tables of its own. Their relays share a publisher and a budget
//! of memory, and one that ends with an error is started again while the others run.
//!
//! ```text
//! mill: NotMigrated
//! orders of ["shop"]
//! orders of ["shop", "mill"]
//! ```

use std::error::Error;

use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, MemoryBudget, Outbox, OutboxError, Relay};
use serde::Serialize;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};
use tokio::task::JoinSet;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] &'static str);

/// In Postgres, a tenant has a schema (`.schema(tenant)`) or a database of its own.
fn open(pool: &SqlitePool, tenant: &str) -> Result<Outbox<Sqlite>, OutboxError> {
    Outbox::builder(pool.clone()).table_prefix(format!("{tenant}_")).build()
}

async fn place_order(outbox: &Outbox<Sqlite>, tenant: &'static str) -> Result<(), OutboxError> {
    let mut tx = outbox.begin().await?;
    tx.emit(OrderPlaced(tenant))?;
    tx.commit().await
}

/// Ends when its database or its tables cannot be used from the start, and otherwise never.
async fn publish(
    tenant: &'static str,
    outbox: Outbox<Sqlite>,
    // In production a clone of a `KafkaPublisher`: it shares connections and buffers.
    kafka: MemoryPublisher,
    budget: MemoryBudget,
) -> (&'static str, Result<(), OutboxError>) {
    let relay = Relay::builder(outbox, kafka).shared_memory(&budget).build();
    match relay {
        Ok(relay) => (tenant, relay.run(std::future::pending()).await),
        Err(error) => (tenant, Err(error)),
    }
}

fn tell_orders(kafka: &MemoryPublisher) {
    let keys = kafka.published().into_iter().filter_map(|event| event.key);
    let tenants: Vec<_> = keys.filter_map(|key| String::from_utf8(key).ok()).collect();
    println!("orders of {tenants:?}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let (shop, mill) = (open(&pool, "shop")?, open(&pool, "mill")?);
    shop.migrate().await?;
    let (kafka, budget) = (MemoryPublisher::new(), MemoryBudget::new(64 * 1024 * 1024));
    let mut relays = JoinSet::new();
    relays.spawn(publish("shop", shop.clone(), kafka.clone(), budget.clone()));
    relays.spawn(publish("mill", mill.clone(), kafka.clone(), budget.clone()));

    if let Some(Ok((tenant, Err(error)))) = relays.join_next().await {
        println!("{tenant}: {:?}", error.kind());
    }
    place_order(&shop, "shop").await?;
    kafka.wait_for(1).await;
    tell_orders(&kafka);

    mill.migrate().await?;
    relays.spawn(publish("mill", mill.clone(), kafka.clone(), budget));
    place_order(&mill, "mill").await?;
    kafka.wait_for(2).await;
    tell_orders(&kafka);
    Ok(())
}
