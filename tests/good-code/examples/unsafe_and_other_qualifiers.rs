use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

#[derive(Serialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

/// # Safety
/// None needed.
#[transactional_outbox(tx in outbox)]
pub(crate) async unsafe fn create(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
    tx.emit(Created(1))?;
    Ok(())
}

/// Documented.
#[must_use = "futures do nothing"]
#[inline]
#[allow(clippy::missing_errors_doc, reason = "an attribute of the user's")]
#[transactional_outbox(tx in outbox)]
#[cfg(not(any()))]
pub async fn with_attributes(
    #[allow(unused_mut)] mut outbox: Outbox<Sqlite>,
) -> Result<(), OutboxError> {
    #![allow(unused_variables)]
    let unused = 1;
    tx.emit(Created(1))?;
    Ok(())
}

fn main() {
    let _ = |outbox: &Outbox<Sqlite>| unsafe { drop(create(outbox)) };
    let _ = with_attributes;
}
