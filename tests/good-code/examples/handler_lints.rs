//! Handlers trip no lint, however strict the crate is.
#![forbid(
    unused_mut,
    unreachable_code,
    non_local_definitions,
    dead_code,
    unused_must_use,
    private_interfaces
)]
#![deny(warnings, missing_docs, unreachable_pub)]

use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

/// An event.
#[derive(Debug, Clone, Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
pub struct Created {
    /// Its key.
    #[event(key)]
    pub id: u64,
}

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct Service;

/// Is not written yet.
#[event_handler]
pub async fn later(
    _tx: &mut OutboxTx<'_, Sqlite>,
    _created: Created,
    _service: &Service,
) -> sqlx::Result<()> {
    todo!()
}

/// Changes its arguments.
#[event_handler]
pub async fn changes(mut tx: &mut OutboxTx<'_, Sqlite>, mut created: Created) -> sqlx::Result<()> {
    created.id += 1;
    sqlx::query("select $1").bind(created.id as i64).execute(&mut *tx).await?;
    let other = &mut *tx;
    tx = other;
    let _: &mut OutboxTx<'_, Sqlite> = tx;
    Ok(())
}

/// Always fails.
#[event_handler]
#[expect(unused_variables, reason = "the levels of lints are those of the body")]
pub async fn fails(tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> Result<(), String> {
    return Err("no".to_owned());
}

impl Service {
    /// Is not written yet.
    #[event_handler]
    pub async fn method(&self, _: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        todo!()
    }

    /// Uses nothing.
    #[event_handler]
    #[expect(unused_variables, reason = "the levels of lints are those of the body")]
    pub async fn unused(
        &self,
        tx: &mut OutboxTx<'_, Sqlite>,
        created: Created,
    ) -> sqlx::Result<()> {
        Ok(())
    }

    /// Is replaced.
    #[event_handler]
    #[deprecated]
    pub async fn replaced(self, _: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    #[cfg(any())]
    pub async fn absent(&self, _: &mut OutboxTx<'_, NoDatabase>, _: NoEvent) -> NoResult {}
}

fn main() {
    drop((later(Service), changes(), fails(), Service.method(), Service.unused()));
}
