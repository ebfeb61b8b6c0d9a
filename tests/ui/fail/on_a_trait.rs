use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

#[transactional_outbox(tx in self.outbox())]
trait Orders {
    fn outbox(&self) -> Outbox<Sqlite>;
    async fn create(&self, created: Created) -> Result<(), OutboxError>;
}

fn main() {}
