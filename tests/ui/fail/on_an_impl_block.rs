use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
}

#[transactional_outbox(tx in self.outbox)]
impl Service {
    async fn create(&self) -> Result<(), OutboxError> {
        drop(Created(1));
        Ok(())
    }
}

fn main() {}
