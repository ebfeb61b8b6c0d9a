use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

struct Service {
    outbox: Outbox<Sqlite>,
}

// The transaction shadows the outbox it began on.
#[transactional_outbox(tx in tx)]
async fn same_name(tx: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

impl Service {
    // Names that the expansion could have used itself.
    #[transactional_outbox(db in self.outbox)]
    async fn names(
        &self,
        tx: u64,
        outcome: u64,
        transaction: u64,
        result: u64,
        error: u64,
    ) -> Result<u64, OutboxError> {
        let borrowed = 1;
        db.emit(Created(tx + outcome + transaction + result + error + borrowed))?;
        Ok(result)
    }
}

fn main() {
    let _ = (same_name, Service::names);
}
