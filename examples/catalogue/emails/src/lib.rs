//! A service of another team. It does not use the crate of events: it has a type of its own, with
//! what it needs of the event. Its test compares that with the lock of those who emit it.

use outbox::schemars::{self, JsonSchema};
use outbox::{DomainEvent, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, JsonSchema, DomainEvent)]
#[event(topic = "orders", name = "order.placed", emitted_by = "../events/events.lock")]
pub struct Order {
    #[event(key)]
    customer: String,
    item: String,
}

#[event_handler]
pub async fn thank(tx: &mut OutboxTx<'_, Sqlite>, order: Order) -> Result<(), OutboxError> {
    let text = format!("Thank you for the {}", order.item);
    let insert = "insert into emails (recipient, text) values ($1, $2)";
    sqlx::query(insert).bind(order.customer).bind(text).execute(&mut *tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use outbox::Outbox;
    use outbox::testing::{Delivery, HandlerTest, TestMessage};
    use sqlx::Executor;
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn who_orders_is_thanked() {
        let pool =
            SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let outbox = Outbox::new(pool.clone());
        outbox.migrate().await.unwrap();
        pool.execute("create table emails (recipient text, text text)").await.unwrap();
        let emails = HandlerTest::new(outbox, thank()).unwrap();
        let order = Order { customer: "alice".into(), item: "apples".into() };
        let order = TestMessage::of(&order).unwrap();
        assert_eq!(emails.deliver(&order).await.unwrap(), Delivery::Handled);
        let text: String =
            sqlx::query_scalar("select text from emails").fetch_one(&pool).await.unwrap();
        assert_eq!(text, "Thank you for the apples");
    }
}
