//! The service that takes orders. It emits an event of the crate that all share.

use outbox::{Outbox, OutboxError, transactional_outbox};
use shop_events::OrderPlaced;
use sqlx::Sqlite;

#[transactional_outbox(tx in outbox)]
pub async fn place_order(
    outbox: &Outbox<Sqlite>,
    customer: &str,
    item: &str,
    cents: u32,
) -> Result<(), OutboxError> {
    let insert = "insert into orders (customer, item, cents) values ($1, $2, $3)";
    sqlx::query(insert).bind(customer).bind(item).bind(cents).execute(&mut *tx).await?;
    tx.emit(OrderPlaced { customer: customer.into(), item: item.into(), cents })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use outbox::testing::emitted;
    use sqlx::Executor;
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn an_order_tells_who_ordered_what() {
        let pool =
            SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let outbox = Outbox::new(pool.clone());
        outbox.migrate().await.unwrap();
        pool.execute("create table orders (customer text, item text, cents integer)")
            .await
            .unwrap();
        place_order(&outbox, "alice", "apples", 250).await.unwrap();
        let events = emitted(&outbox).await.unwrap().of::<OrderPlaced>().unwrap();
        let expected = OrderPlaced { customer: "alice".into(), item: "apples".into(), cents: 250 };
        assert_eq!(events, [expected]);
    }
}
