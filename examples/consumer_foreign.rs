//! Messages that no outbox wrote: another program publishes them, without our headers.
//!
//! ```text
//! alice pays 250
//! Handled
//! Duplicate
//! Undecodable
//! ```

use std::error::Error;

use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, Sqlite};

/// What the payment provider's messages are to this service.
#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "payments")]
struct PaymentReceived {
    #[event(key)]
    customer: String,
    cents: i64,
}

/// An event of an outbox has an id, by which the inbox remembers it. `foreign` says what the
/// messages of another program have instead: this one sets a header. Without the option, they
/// become dead letters.
#[event_handler(foreign = "header payment-id")]
async fn credit(
    tx: &mut OutboxTx<'_, Sqlite>,
    payment: PaymentReceived,
) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("insert into payment (customer, cents) values ($1, $2)");
    insert.bind(&payment.customer).bind(payment.cents).execute(&mut *tx).await?;
    println!("{} pays {}", payment.customer, payment.cents);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool.clone());
    outbox.migrate().await?;
    pool.execute("create table payment (customer text, cents integer)").await?;
    let accounts = HandlerTest::new(outbox, credit())?;

    let json = r#"{"customer": "alice", "cents": 250, "method": "card"}"#;
    let message = TestMessage::foreign("payments", Some(b"alice"), json);
    let payment = message.clone().header("payment-id", "p-1");
    println!("{:?}", accounts.deliver(&payment).await?);

    // The provider repeats it after a lost answer. It is at another place, and has the same id.
    let again = TestMessage::foreign("payments", Some(b"alice"), json).header("payment-id", "p-1");
    println!("{:?}", accounts.deliver(&again).await?);

    // Without the header, nothing tells whether it came before.
    assert!(matches!(accounts.deliver(&message).await?, Delivery::Undecodable(_)));
    println!("Undecodable");

    let payments: i64 = sqlx::query_scalar("select count(*) from payment").fetch_one(&pool).await?;
    assert_eq!(payments, 1);
    Ok(())
}
