use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::sync::Arc;

use outbox::consume::EventContext;

struct Service;

trait Catalog: Send + Sync {}

#[event_handler]
async fn two_states(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: &Service, _: &String) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn two_contexts(
    _: &mut OutboxTx<'_, Sqlite>,
    _: Created,
    _: &EventContext,
    _: &EventContext,
) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn owned_state(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: Arc<Service>) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn owned_context(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: EventContext) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn changed_state(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: &mut Service) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn unsized_state(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: &dyn Catalog) -> sqlx::Result<()> {
    Ok(())
}

#[event_handler]
async fn borrowed_state(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: &&Service) -> sqlx::Result<()> {
    Ok(())
}

fn main() {}
