mod reexported {
    pub mod events {
        pub use outbox::*;
    }
}

use reexported::events::consume::{Classify, EventHandler};
use reexported::events::{
    DomainEvent, Outbox, OutboxError, OutboxTx, event_handler, transactional_outbox,
};
use sqlx::Sqlite;

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
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

#[derive(serde::Serialize, serde::Deserialize, DomainEvent)]
#[event(crate = crate::reexported::events, topic = "t", name = "Created", version = 2, upcast_from = Created)]
struct CreatedBy {
    #[event(key)]
    id: u64,
    by: Option<String>,
}

impl From<Created> for CreatedBy {
    fn from(Created { id }: Created) -> Self {
        Self { id, by: None }
    }
}

#[derive(Debug, thiserror::Error, Classify)]
#[classify(crate = reexported::events)]
#[error("no")]
struct No;

#[event_handler(crate = crate::reexported::events, retry_topics = ["1s"], later_events = "wait", foreign = "key")]
async fn reserve(_: &mut OutboxTx<'_, Sqlite>, created: CreatedBy) -> Result<(), No> {
    created.by.map(drop).ok_or(No)
}

fn main() {
    let _ = create;
    let _ = reserve().classify(&No);
}
