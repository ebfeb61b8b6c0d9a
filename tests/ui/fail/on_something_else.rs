use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in self.outbox)]
struct Service {
    outbox: Outbox<Sqlite>,
}

#[transactional_outbox(tx in self.outbox)]
impl Service {
    async fn create(&self) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[transactional_outbox(tx in outbox)]
const ANSWER: Created = Created(42);

fn main() {}
