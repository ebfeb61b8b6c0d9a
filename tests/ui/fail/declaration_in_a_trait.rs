use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

trait Orders {
    #[transactional_outbox(tx in self.outbox())]
    async fn create(&self) -> Result<(), OutboxError>;
    fn outbox(&self) -> Outbox<Sqlite>;
}

async fn is_an_event(_: Created) {}

fn main() {}
