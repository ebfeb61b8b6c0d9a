use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

struct Service;

impl Service {
    #[event_handler]
    async fn reserve(&self, tx: &mut OutboxTx<'_, Sqlite>, created: Created) -> sqlx::Result<()> {
        sqlx::query("select $1").bind(created.0 as i64).execute(tx).await?;
        Ok(())
    }
}

#[derive(Clone)]
struct Inventory {
    reserved: u64,
}

impl Inventory {
    #[event_handler]
    async fn changed(&mut self, tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        sqlx::query("select 1").execute(tx).await?;
        self.reserved += 1;
        Ok(())
    }

    #[event_handler]
    async fn with_two_states(
        &self,
        _: &mut OutboxTx<'_, Sqlite>,
        _: Created,
        service: &Arc<Service>,
    ) -> sqlx::Result<()> {
        let _ = service;
        Ok(())
    }
}

struct NoEvent;
enum NoError {}

impl Inventory {
    #[event_handler]
    async fn of_no_event(&self, _: &mut OutboxTx<'_, Sqlite>, _: NoEvent) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    async fn of_no_error(&self, _: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), NoError> {
        Ok(())
    }
}

fn main() {}
