use outbox::{DomainEvent, Outbox, OutboxError, event_handler, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::OutboxTx;

#[derive(Clone, Copy)]
struct Transaction(u64);

const fn body(id: u64) -> Transaction {
    Transaction(id)
}

async fn finish(
    tx: &mut OutboxTx<'_, Sqlite>,
    transaction: Transaction,
) -> Result<u64, OutboxError> {
    tx.emit(Created(transaction.0))?;
    Ok(transaction.0)
}

#[transactional_outbox(tx in outbox, retry = 2)]
async fn create(
    outbox: &Outbox<Sqlite>,
    attempts: u64,
    refused: u64,
    run: u64,
) -> Result<u64, OutboxError> {
    let transaction = body(attempts + refused + run);
    let result = finish(tx, transaction).await;
    let outcome = result?;
    let error = outcome;
    Ok(error)
}

#[transactional_outbox(transaction in outcome, retry = 2)]
async fn named(outcome: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    transaction.emit(Created(1))?;
    Ok(())
}

#[transactional_outbox(result in error)]
async fn named_too(error: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    result.emit(Created(1))?;
    Ok(())
}

mod handlers {
    use super::*;

    type Context = outbox::consume::EventContext;

    #[event_handler]
    async fn tx(a: &mut OutboxTx<'_, Sqlite>, b: Created) -> Result<(), OutboxError> {
        a.emit(b)?;
        Ok(())
    }

    #[event_handler]
    async fn event(a: &mut OutboxTx<'_, Sqlite>, b: Created) -> Result<(), OutboxError> {
        a.emit(b)?;
        Ok(())
    }

    #[event_handler(retry_topics = ["1s"], later_events = "wait")]
    async fn context(a: &mut OutboxTx<'_, Sqlite>, b: &Created) -> Result<(), OutboxError> {
        a.emit(b)?;
        Ok(())
    }

    #[event_handler]
    async fn error(a: &mut OutboxTx<'_, Sqlite>, _: Created) -> Result<(), OutboxError> {
        a.emit(Created(1))?;
        Ok(())
    }

    #[event_handler]
    async fn call(a: &mut OutboxTx<'_, Sqlite>, b: Created) -> Result<(), OutboxError> {
        a.emit(b)?;
        Ok(())
    }

    #[event_handler]
    async fn handle(
        a: &mut OutboxTx<'_, Sqlite>,
        _: Created,
        class: &outbox::consume::EventContext,
    ) -> Result<(), OutboxError> {
        a.emit(Created(class.attempt.into()))?;
        Ok(())
    }

    pub fn all(_: Context) {
        let _ = (tx(), event(), context(), error(), call(), handle());
    }
}

fn main() {
    let _ = (create, named, named_too, handlers::all);
}
