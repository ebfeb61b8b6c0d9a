//! An inventory service: consumes the events of `examples/orders`, and reserves each order once.
//!
//! ```sh
//! eval "$(cargo xtask up)"
//! cargo run --example inventory
//! ```

use std::error::Error;
use std::time::Duration;

use outbox::consume::Consumer;
use outbox::kafka::KafkaConfig;
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, Postgres};
use tokio::signal::unix::{SignalKind, signal};
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

/// What it does on `tx` is done once for each event, even if the event comes several times.
#[event_handler(group = "inventory")]
async fn reserve(tx: &mut OutboxTx<'_, Postgres>, order: OrderPlaced) -> Result<(), sqlx::Error> {
    sqlx::query("insert into reservation (order_id, customer, number) values ($1, $2, $3)")
        .bind(order.order_id)
        .bind(&order.customer)
        .bind(order.number)
        .execute(&mut *tx)
        .await?;
    Ok(())
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
    // Lazily: `migrate` is the first to need a connection, and its error says what to look for.
    let pool = PgPoolOptions::new()
        // As many as the consumer runs handlers at a time.
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy(&setting("DATABASE_URL")?)?;
    // Tables with a prefix of their own, as if they were in another database. Of them, only the
    // inbox is used.
    let outbox = Outbox::builder(pool).table_prefix("inventory_outbox_").build()?;
    outbox.migrate().await?;
    outbox
        .pool()
        .execute(
            // `place` shows the order of the reservations. Only the inbox prevents a second row for
            // an order.
            "create table if not exists reservation
               (place bigserial, order_id uuid not null, customer text not null, number bigint not null)",
        )
        .await?;

    let mut terminate = signal(SignalKind::terminate())?;
    let kafka = KafkaConfig::from_env()?
        .property("allow.auto.create.topics", "true")
        // Time for which the partitions of a killed instance wait for another one. librdkafka's
        // default is 45 s.
        .property("session.timeout.ms", "10000");
    let consumer = Consumer::builder(outbox, kafka).handler(reserve()).build()?;
    let consumed = consumer
        .run(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        })
        .await?;
    println!(
        "{} orders reserved, {} came again and were skipped",
        consumed.handled, consumed.duplicates
    );
    Ok(())
}
