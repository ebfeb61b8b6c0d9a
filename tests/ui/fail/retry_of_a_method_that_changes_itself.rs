use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
    count: u64,
}

impl Service {
    #[transactional_outbox(tx in self.outbox, retry = 3)]
    async fn create(&mut self) -> Result<(), OutboxError> {
        self.count += 1;
        tx.emit(Created(self.count))?;
        Ok(())
    }
}

fn main() {}
