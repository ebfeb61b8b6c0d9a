//! Which errors of a body have its transaction run again: a conflict is found in whatever the body
//! makes of it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use outbox::{Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::{Executor, PgConnection, Postgres};

use crate::support::OrderCreated;
use crate::transaction_options::{SERIALIZATION_FAILURE, events, outbox};

/// An error that says nothing of its cause.
#[derive(Debug)]
struct Opaque;

impl From<OutboxError> for Opaque {
    fn from(_: OutboxError) -> Self {
        Self
    }
}

impl From<sqlx::Error> for Opaque {
    fn from(_: sqlx::Error) -> Self {
        Self
    }
}

/// An error that is replaced by the one it holds.
#[derive(Debug)]
struct Transparent(sqlx::Error);

impl fmt::Display for Transparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Transparent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<sqlx::Error> for Transparent {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl From<OutboxError> for Transparent {
    fn from(error: OutboxError) -> Self {
        panic!("the conflict is the body's: {error}")
    }
}

/// What repositories of many code bases take.
async fn on_the_bare_connection(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(SERIALIZATION_FAILURE).await?;
    Ok(())
}

#[transactional_outbox(savepoint in tx)]
async fn in_a_savepoint(tx: &mut OutboxTx<'_, Postgres>) -> Result<(), Opaque> {
    savepoint.execute(SERIALIZATION_FAILURE).await?;
    Ok(())
}

macro_rules! refused_once {
    ($($name:ident($tx:ident) -> $error:ty $body:block)*) => {$(
        #[transactional_outbox($tx in outbox, retry = 3)]
        async fn $name(outbox: &Outbox<Postgres>, attempts: &AtomicU32) -> Result<(), $error> {
            $tx.emit(OrderCreated::new("refused once", 1))?;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                $body
            }
            Ok(())
        }
    )*};
}
refused_once! {
    hidden_error(tx) -> Opaque { tx.execute(SERIALIZATION_FAILURE).await?; }
    hidden_error_of_a_row(tx) -> Opaque { sqlx::query(SERIALIZATION_FAILURE).fetch_optional(&mut *tx).await?; }
    hidden_error_of_a_savepoint(tx) -> Opaque { in_a_savepoint(tx).await?; }
    outbox_error(tx) -> OutboxError { on_the_bare_connection(tx).await?; }
    transparent_error(tx) -> Transparent { on_the_bare_connection(tx).await?; }
    anyhow_error(tx) -> anyhow::Error { anyhow::Context::context(on_the_bare_connection(tx).await, "context")?; }
    boxed_error(tx) -> Box<dyn std::error::Error + Send + Sync> { on_the_bare_connection(tx).await?; }
    // An error that the body keeps to itself spoils the transaction all the same.
    swallowed_error(tx) -> OutboxError { let _ = tx.execute(SERIALIZATION_FAILURE).await; }
}

#[tokio::test]
async fn a_conflict_is_recognised_whatever_the_body_makes_of_the_error() {
    let outbox = outbox().await;
    let mut expected = 0;
    macro_rules! each {
        ($($name:ident),*) => {$(
            let attempts = AtomicU32::new(0);
            let result = $name(&outbox, &attempts).await;
            assert!(result.is_ok(), "{}: {result:?}", stringify!($name));
            assert_eq!(attempts.into_inner(), 2, stringify!($name));
            expected += 1;
            assert_eq!(events(&outbox).await, expected, stringify!($name));
        )*};
    }
    each!(
        hidden_error,
        hidden_error_of_a_row,
        hidden_error_of_a_savepoint,
        outbox_error,
        transparent_error,
        anyhow_error,
        boxed_error,
        swallowed_error
    );
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn boxed(
    outbox: &Outbox<Postgres>,
    attempts: &AtomicU32,
    conflicts: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    tx.emit(OrderCreated::new("boxed", 1))?;
    if attempts.fetch_add(1, Ordering::Relaxed) < conflicts {
        tx.execute(SERIALIZATION_FAILURE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_error_that_is_not_send_is_retried_like_any_other() {
    let outbox = outbox().await;
    let attempts = AtomicU32::new(0);
    let error = boxed(&outbox, &attempts, u32::MAX).await.unwrap_err();
    assert!(outbox::is_conflict(&*error));
    assert_eq!(attempts.into_inner(), 3);
    assert_eq!(events(&outbox).await, 0);
    let attempts = AtomicU32::new(0);
    boxed(&outbox, &attempts, 2).await.unwrap();
    assert_eq!(attempts.into_inner(), 3);
    assert_eq!(events(&outbox).await, 1);
}
