//! A notification service: sends an e-mail for each order that `examples/orders` publishes, and
//! shows what happens to e-mails that cannot be sent.
//!
//! ```sh
//! eval "$(cargo xtask up)"
//! cargo run --example notifications        # and `--example orders` in another terminal
//! curl -d '{"customer": "nobody", "item": "apples"}' -H 'content-type: application/json' localhost:3000/orders
//! cargo run --package outbox-cli -- dead-letters list --topic orders --group notifications
//! ```
//!
//! The customer `nobody` has no mailbox: a dead letter at once. An e-mail to `busy` goes through
//! two retry topics before it becomes one.

use std::error::Error;
use std::time::Duration;

use outbox::consume::{Classify, Consumer, EventContext};
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
    item: String,
}

#[derive(Debug, thiserror::Error, Classify)]
enum NotifyError {
    /// No attempt can help: a dead letter at once.
    #[error("{0} has no mailbox")]
    #[classify(permanent)]
    NoMailbox(String),
    /// Tried again at once, then after 5 s and after a minute; then it becomes a dead letter.
    #[error("the mail provider is busy")]
    Busy,
    /// While the database is away, the event waits, and no attempt is counted.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// While an e-mail waits in a retry topic, later ones to the same customer wait behind it: no
/// customer reads of a second order before the first.
#[event_handler(group = "notifications", attempts = 2, retry_topics = ["5s", "1m"], later_events = "wait")]
async fn confirm(
    tx: &mut OutboxTx<'_, Postgres>,
    order: OrderPlaced,
    context: &EventContext,
    mail: &MailClient,
) -> Result<(), NotifyError> {
    sqlx::query("insert into confirmation (order_id, customer) values ($1, $2)")
        .bind(order.order_id)
        .bind(&order.customer)
        .execute(&mut *tx)
        .await?;
    // The row is written once in any case. The e-mail is not part of the transaction: if the commit
    // fails, or the process dies before it, the event comes again, and so does the e-mail. The
    // provider can prevent that: it sends one e-mail for each idempotency key, and the id of the
    // event is the same each time the event comes.
    mail.send(&order.customer, &format!("We have your order: {}", order.item), context.id).await
}

/// Stands for the client of a mail provider.
struct MailClient;

impl MailClient {
    async fn send(
        &self,
        to: &str,
        subject: &str,
        idempotency_key: Uuid,
    ) -> Result<(), NotifyError> {
        tokio::time::sleep(Duration::from_millis(20)).await; // the network
        match to {
            "nobody" => return Err(NotifyError::NoMailbox(to.to_owned())),
            "busy" => return Err(NotifyError::Busy),
            _ => {}
        }
        tracing::info!(to, subject, %idempotency_key, "e-mail sent");
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
    // As many connections as e-mails are sent at the same time, which is its `concurrency`.
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy(&setting("DATABASE_URL")?)?;
    // Tables with a prefix of their own, as if they were in another database.
    let outbox = Outbox::builder(pool).table_prefix("notifications_outbox_").build()?;
    outbox.migrate().await?;
    outbox
        .pool()
        .execute("create table if not exists confirmation (order_id uuid not null, customer text not null)")
        .await?;

    let mut terminate = signal(SignalKind::terminate())?;
    let kafka = KafkaConfig::from_env()?.property("allow.auto.create.topics", "true");
    let consumer = Consumer::builder(outbox, kafka).handler(confirm(MailClient)).build()?;
    let consumed = consumer
        .run(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        })
        .await?;
    println!(
        "{} orders confirmed, {} put off, {} given up",
        consumed.handled, consumed.to_retry_topics, consumed.dead_letters
    );
    Ok(())
}
