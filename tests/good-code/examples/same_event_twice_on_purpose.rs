use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use std::borrow::Cow;

/// What a consumer of the same program reads `Created` as.
#[derive(Serialize, DomainEvent)]
#[event(topic = "t", name = "Created", duplicate)]
struct CreatedRef<'a>(#[event(key)] Cow<'a, str>);

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
enum Several {
    #[event(name = "Created", duplicate)]
    A(#[event(key)] u64),
    #[event(name = "Created", version = 2)]
    B(#[event(key)] u64),
}

#[derive(Serialize, DomainEvent)]
#[event(topic = "elsewhere")]
struct Elsewhere(#[event(key)] u64);

mod other {
    use super::*;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "u")]
    pub struct Created(#[event(key)] pub u64);
}

#[transactional_outbox(tx in outbox)]
async fn emit(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    tx.emit(CreatedRef("1".into()))?;
    tx.emit(Several::A(1))?;
    tx.emit(Several::B(1))?;
    tx.emit(Elsewhere(1))?;
    tx.emit(other::Created(1))?;
    Ok(())
}

fn main() {
    let _ = emit;
}
