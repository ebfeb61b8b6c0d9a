//! The service that takes the money. It reads one event of the shared crate, and emits another.

use outbox::{OutboxError, OutboxTx, event_handler};
use shop_events::{OrderPlaced, PaymentTaken};
use sqlx::Sqlite;

#[event_handler]
pub async fn take_payment(
    tx: &mut OutboxTx<'_, Sqlite>,
    order: OrderPlaced,
) -> Result<(), OutboxError> {
    let update = "update accounts set cents = cents - $1 where customer = $2";
    sqlx::query(update).bind(order.cents).bind(&order.customer).execute(&mut *tx).await?;
    tx.emit(PaymentTaken { customer: order.customer, cents: order.cents })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use outbox::Outbox;
    use outbox::testing::{Delivery, HandlerTest, TestMessage, emitted};
    use sqlx::Executor;
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn an_order_that_comes_twice_is_paid_once() {
        let pool =
            SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let outbox = Outbox::new(pool.clone());
        outbox.migrate().await.unwrap();
        pool.execute("create table accounts (customer text, cents integer)").await.unwrap();
        let billing = HandlerTest::new(outbox.clone(), take_payment()).unwrap();
        let order = OrderPlaced { customer: "alice".into(), item: "apples".into(), cents: 250 };
        let order = TestMessage::of(&order).unwrap();
        assert_eq!(billing.deliver(&order).await.unwrap(), Delivery::Handled);
        assert_eq!(billing.deliver(&order).await.unwrap(), Delivery::Duplicate);
        let payments = emitted(&outbox).await.unwrap().of::<PaymentTaken>().unwrap();
        assert_eq!(payments, [PaymentTaken { customer: "alice".into(), cents: 250 }]);
    }
}
