use outbox::{DomainEvent, OutboxError, OutboxTx, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct UnitOfWork<'a> {
    tx: &'a mut OutboxTx<'static, Sqlite>,
}

impl UnitOfWork<'_> {
    #[transactional_outbox(tx in self.tx, isolation = "serializable")]
    async fn create(&mut self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }
}

fn main() {}
