use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

use outbox::OutboxTx;

struct Unit<'a> {
    tx: Option<&'a mut OutboxTx<'static, Sqlite>>,
}

#[transactional_outbox(tx in outbox)]
async fn create<'a>(outbox: &Outbox<Sqlite>, unit: &mut Unit<'a>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    unit.tx = Some(tx);
    Ok(())
}

fn main() {}
