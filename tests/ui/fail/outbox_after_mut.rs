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
    #[transactional_outbox(tx in mut self.outbox)]
    async fn create(&self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }
}

fn main() {}
