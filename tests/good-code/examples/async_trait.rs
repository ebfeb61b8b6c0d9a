use std::sync::Arc;

use async_trait::async_trait;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;
use tracing::instrument;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[async_trait]
trait Orders: Send + Sync {
    fn outbox(&self) -> &Outbox<Sqlite>;

    async fn create(
        &self,
        name: &str,
        ids: Vec<u64>,
        (a, b): (u64, u64),
    ) -> Result<u64, OutboxError>;
    async fn borrowed(&mut self, id: &u64) -> Result<&u64, OutboxError>;
    async fn arc(self: Arc<Self>) -> Result<(), OutboxError>;
    async fn nested(&self, tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError>;
    async fn instrumented(&self, id: u64) -> Result<u64, OutboxError>;
    async fn instrumented_inside(&self, id: u64) -> Result<u64, OutboxError>;

    #[transactional_outbox(tx in self.outbox())]
    async fn provided(&self, id: u64) -> Result<(), OutboxError> {
        tx.emit(Created(id))?;
        Ok(())
    }
}

struct Service {
    outbox: Outbox<Sqlite>,
    last: u64,
}

#[async_trait]
impl Orders for Service {
    fn outbox(&self) -> &Outbox<Sqlite> {
        &self.outbox
    }

    #[transactional_outbox(tx in self.outbox)]
    async fn create(
        &self,
        name: &str,
        mut ids: Vec<u64>,
        (a, b): (u64, u64),
    ) -> Result<u64, OutboxError> {
        ids.push(a + b);
        for id in ids {
            if name.is_empty() {
                return Ok(id);
            }
            tx.emit(Created(id))?;
        }
        Ok(self.last)
    }

    #[transactional_outbox(tx in self.outbox.clone())]
    async fn borrowed(&mut self, id: &u64) -> Result<&u64, OutboxError> {
        tx.emit(Created(*id))?;
        self.last = *id;
        Ok(&self.last)
    }

    #[transactional_outbox(tx in self.outbox)]
    async fn arc(self: Arc<Self>) -> Result<(), OutboxError> {
        tx.emit(Created(self.last))?;
        Ok(())
    }

    #[transactional_outbox(tx in tx)]
    async fn nested(&self, tx: &mut OutboxTx<'_, Sqlite>) -> Result<(), OutboxError> {
        tx.emit(Created(self.last))?;
        Ok(())
    }

    #[instrument(skip(self), err)]
    #[transactional_outbox(tx in self.outbox)]
    async fn instrumented(&self, id: u64) -> Result<u64, OutboxError> {
        tx.emit(Created(id))?;
        Ok(id)
    }

    #[transactional_outbox(tx in self.outbox)]
    #[instrument(skip(self))]
    async fn instrumented_inside(&self, id: u64) -> Result<u64, OutboxError> {
        tx.emit(Created(id))?;
        Ok(id)
    }
}

#[async_trait(?Send)]
trait Local {
    async fn local(&self) -> Result<(), OutboxError>;
}

#[async_trait(?Send)]
impl Local for Service {
    #[transactional_outbox(tx in self.outbox)]
    async fn local(&self) -> Result<(), OutboxError> {
        let not_send = std::rc::Rc::new(1);
        tx.emit(Created(*not_send))?;
        Ok(())
    }
}

fn main() {}
