//! A handler may be generic over its database, its state and its event.
#![deny(warnings)]

use outbox::consume::{EventContext, EventHandler};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Sqlite};

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
pub struct Created(#[event(key)] u64);

pub trait Stock: Send + Sync + 'static {
    fn take(&self, item: u64) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

pub struct InMemory;

impl Stock for InMemory {
    async fn take(&self, _: u64) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[event_handler]
pub async fn on_any_database<DB: OutboxDatabase>(
    tx: &mut OutboxTx<'_, DB>,
    created: Created,
) -> Result<(), OutboxError> {
    tx.emit(created)?;
    Ok(())
}

#[event_handler]
pub async fn of_any_stock<DB, S>(
    tx: &mut OutboxTx<'_, DB>,
    created: &Created,
    stock: &S,
    _: &EventContext,
) -> Result<(), OutboxError>
where
    DB: OutboxDatabase,
    S: Stock,
{
    stock.take(created.0).await?;
    tx.emit(created)?;
    Ok(())
}

#[event_handler]
async fn of_an_impl(
    tx: &mut OutboxTx<'_, Sqlite>,
    created: Created,
    stock: &impl Stock,
) -> Result<(), OutboxError> {
    stock.take(created.0).await?;
    tx.emit(created)?;
    Ok(())
}

#[event_handler]
async fn of_any_event<E: DomainEvent, const TWICE: bool>(
    tx: &mut OutboxTx<'_, Sqlite>,
    event: E,
) -> Result<(), OutboxError> {
    assert!(TWICE);
    tx.emit(event)?;
    Ok(())
}

#[event_handler]
async fn with_named_lifetimes<'t, 'c: 't>(
    tx: &'t mut OutboxTx<'c, Sqlite>,
    created: &'t Created,
    context: &'t EventContext,
) -> Result<(), OutboxError> {
    assert_eq!(context.attempt, 1);
    tx.emit(created)?;
    Ok(())
}

fn is_handler<DB: OutboxDatabase>(_: impl EventHandler<DB>) {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), OutboxError> {
    is_handler::<Postgres>(on_any_database());
    is_handler::<Postgres>(of_any_stock(InMemory));
    let pool = sqlx::pool::PoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let outbox = Outbox::new(pool);
    outbox.migrate().await?;
    macro_rules! handles {
        ($($handler:expr),*) => {$(
            let test = HandlerTest::new(outbox.clone(), $handler)?;
            let message = TestMessage::of(&Created(1))?.header("ce_id", uuid::Uuid::now_v7().to_string());
            assert_eq!(test.deliver(&message).await?, Delivery::Handled);
        )*};
    }
    handles!(
        on_any_database(),
        of_any_stock(InMemory),
        of_an_impl(InMemory),
        of_any_event::<Created, true>(),
        with_named_lifetimes()
    );
    Ok(())
}
