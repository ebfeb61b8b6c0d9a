use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
}

impl Service {
    #[transactional_outbox(tx in self.outbox, read_only)]
    async fn option1(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, readOnly = true)]
    async fn option2(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, propagation = "REQUIRES_NEW")]
    async fn option3(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, rollback_for = OutboxError)]
    async fn option4(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, timeout = 30)]
    async fn option5(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, retries = 5)]
    async fn option6(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, max_attempts = 3)]
    async fn option7(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, isolation_level = Serializable)]
    async fn option8(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }

    #[transactional_outbox(tx in self.outbox, label = "create")]
    async fn option9(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }
}

fn main() {}
