//! Two outboxes in one program: two modules with tables of their own, and a relay for each.
//!
//! ```text
//! shop: ["order.placed"]
//! billing: ["invoice.sent"]
//! ```

use std::error::Error;

use outbox::testing::MemoryPublisher;
use outbox::{DomainEvent, Outbox, OutboxError, Relay, transactional_outbox};
use serde::Serialize;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::watch;

#[derive(Serialize, DomainEvent)]
#[event(topic = "orders", name = "order.placed")]
struct OrderPlaced(#[event(key)] u32);

#[derive(Serialize, DomainEvent)]
#[event(topic = "invoices", name = "invoice.sent")]
struct InvoiceSent(#[event(key)] u32);

#[transactional_outbox(tx in shop)]
async fn place_order(shop: &Outbox<Sqlite>, id: u32) -> Result<(), OutboxError> {
    tx.emit(OrderPlaced(id))?;
    Ok(())
}

#[transactional_outbox(tx in billing)]
async fn send_invoice(billing: &Outbox<Sqlite>, id: u32) -> Result<(), OutboxError> {
    tx.emit(InvoiceSent(id))?;
    Ok(())
}

/// Tables `<prefix>event`, … In Postgres, a schema can tell them apart instead: `.schema("shop")`.
/// If both were in databases of their own, neither would be needed.
async fn open(pool: &SqlitePool, prefix: &str) -> Result<Outbox<Sqlite>, OutboxError> {
    let outbox = Outbox::builder(pool.clone()).table_prefix(prefix).build()?;
    outbox.migrate().await?;
    Ok(outbox)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let shop = open(&pool, "shop_outbox_").await?;
    let billing = open(&pool, "billing_outbox_").await?;

    let (stop, stopped) = watch::channel(());
    let shutdown = || {
        let mut stopped = stopped.clone();
        async move { _ = stopped.changed().await }
    };
    // They may publish to the same Kafka, or to different ones.
    let (of_shop, of_billing) = (MemoryPublisher::new(), MemoryPublisher::new());
    let relay_of_shop = Relay::new(shop.clone(), of_shop.clone()).run(shutdown());
    let relay_of_billing = Relay::new(billing.clone(), of_billing.clone()).run(shutdown());

    let service = async {
        place_order(&shop, 1).await?;
        send_invoice(&billing, 1).await?;
        for (name, kafka) in [("shop", &of_shop), ("billing", &of_billing)] {
            let events = kafka.wait_for(1).await;
            println!("{name}: {:?}", events.iter().map(|event| &*event.name).collect::<Vec<_>>());
        }
        drop(stop);
        Ok(())
    };
    tokio::try_join!(relay_of_shop, relay_of_billing, service)?;
    Ok(())
}
