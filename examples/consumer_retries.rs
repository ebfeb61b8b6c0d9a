//! A handler that fails is run again, unless its error says that no other attempt can help. Needs
//! `KAFKA_BROKERS`.
//!
//! ```text
//! to nobody, attempt 1: Err(NoMailbox)
//! to bob, attempt 1: Err(Busy)
//! to bob, attempt 2: Err(Busy)
//! to bob, attempt 3: Ok(())
//! 1 handled, 1 given up
//! ```

use std::error::Error;
use std::sync::Arc;

use outbox::consume::{Consumer, EventContext};
use outbox::kafka::KafkaConfig;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{Classify, DomainEvent, Outbox, OutboxTx, Relay, event_handler};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tokio::sync::Notify;

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(topic = "mails", name = "mail.written")]
struct MailWritten {
    #[event(key)]
    from: String, // mails of one sender wait for each other
    to: String,
}

#[derive(Debug, thiserror::Error, Classify)]
enum MailError {
    #[error("the provider is busy")]
    Busy, // may be gone at the next attempt
    #[classify(permanent)]
    #[error("there is no such mailbox")]
    NoMailbox,
}

#[event_handler(group = "mailer", attempts = 5, pause = "10ms")]
async fn send(
    _: &mut OutboxTx<'_, Sqlite>,
    mail: MailWritten,
    context: &EventContext,
    done: &Arc<Notify>,
) -> Result<(), MailError> {
    let sent = match (&*mail.to, context.attempt) {
        ("bob", 1 | 2) => Err(MailError::Busy),
        ("nobody", _) => Err(MailError::NoMailbox),
        _ => Ok(()),
    };
    println!("to {}, attempt {}: {sent:?}", mail.to, context.attempt);
    if sent.is_ok() {
        done.notify_one();
    }
    sent
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    let kafka = KafkaConfig::from_env()?;
    let prefix = format!("{}-", uuid::Uuid::now_v7()); // topics of this run alone

    let mut tx = outbox.begin().await?;
    for to in ["nobody", "bob"] {
        tx.emit(MailWritten { from: "alice".into(), to: to.into() })?;
    }
    tx.commit().await?;
    let publisher = KafkaPublisher::builder(&kafka).topic_prefix(&prefix).build()?;
    Relay::new(outbox.clone(), publisher).drain().await?;
    let done = Arc::new(Notify::new());
    let consumer =
        Consumer::builder(outbox, &kafka).topic_prefix(&prefix).handler(send(done.clone()));
    let consumed = consumer.build()?.run(done.notified()).await?;
    println!("{} handled, {} given up", consumed.handled, consumed.dead_letters);
    Ok(())
}
