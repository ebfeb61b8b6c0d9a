use outbox::{DomainEvent, OutboxError, transactional_outbox};
use serde::Serialize;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    name: String,
}

impl Service {
    #[transactional_outbox(tx in self.name)]
    async fn create(&mut self) -> Result<(), OutboxError> {
        tx.emit(Created(1))?;
        Ok(())
    }
}

fn main() {}
