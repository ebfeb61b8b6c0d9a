//! An inventory service: consumes what `examples/orders` publishes, and reserves each order once.
//!
//! ```sh
//! eval "$(cargo xtask up)"
//! cargo run --example inventory
//! ```

use std::error::Error;
use std::time::Duration;

use outbox::consume::{Consumer, EventContext, EventHandler};
use outbox::{DomainEvent, Outbox, OutboxTx};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, Postgres};
use uuid::Uuid;

/// The event as this service sees it: the fields that it needs.
#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed", version = 1)]
struct OrderPlaced {
    order_id: Uuid,
    #[event(key)]
    customer: String,
    number: i64,
}

struct Inventory;

impl EventHandler<Postgres> for Inventory {
    type Event = OrderPlaced;
    type Error = sqlx::Error;

    /// What it does on `tx` is done once for each event, however often the event comes.
    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        order: OrderPlaced,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("insert into reservation (order_id, customer, number) values ($1, $2, $3)")
            .bind(order.order_id)
            .bind(&order.customer)
            .bind(order.number)
            .execute(tx)
            .await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let setting = |name| {
        std::env::var(name).map_err(|_| {
            format!("{name} is not set: `eval \"$(cargo xtask up)\"` starts servers and sets it")
        })
    };
    // Lazily: the first to need a connection is `migrate`, whose error says what to look for.
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy(&setting("DATABASE_URL")?)?;
    // Its own tables, as if in a database of its own: only the inbox is used.
    let outbox = Outbox::builder(pool).table_prefix("inventory_outbox_").build()?;
    outbox.migrate().await?;
    outbox
        .pool()
        .execute(
            // `place` shows the order in which they were reserved; nothing but the inbox prevents a second row.
            "create table if not exists reservation
               (place bigserial, order_id uuid not null, customer text not null, number bigint not null)",
        )
        .await?;

    let consumed = Consumer::new(outbox, setting("KAFKA_BROKERS")?, "inventory")
        .handler(Inventory)
        .property("allow.auto.create.topics", "true")
        // How long the partitions of an instance that was killed wait for another. librdkafka's default is 45 s.
        .property("session.timeout.ms", "10000")
        .run(async { _ = tokio::signal::ctrl_c().await })
        .await?;
    println!("{} orders reserved, {} came again and were skipped", consumed.handled, consumed.duplicates);
    Ok(())
}
