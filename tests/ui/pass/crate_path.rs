mod reexported {
    pub mod events {
        pub use outbox::*;
    }
}

use reexported::events::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use sqlx::Sqlite;

#[derive(serde::Serialize, DomainEvent)]
#[event(crate = crate::reexported::events, topic = "t")]
struct Created {
    #[event(key)]
    id: u64,
}

#[transactional_outbox(tx in outbox, crate = crate::reexported::events)]
async fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created { id: 1 })?;
    Ok(())
}

fn main() {
    let _ = create;
}
