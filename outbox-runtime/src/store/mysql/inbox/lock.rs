//! The lock of a key, until the transaction ends.

use sqlx::MySqlConnection;

use crate::error::{ErrorKind, OutboxError};
use crate::record::fnv1a;
use crate::store::error::StoreError;
use crate::store::mysql::statement;
use crate::store::{GroupKey, Names};

/// Number of rows of `{slot}` that stand for keys.
const SLOTS: u64 = 1024;

/// Locks a key until the transaction ends. Two keys with the same slot sometimes wait for each
/// other; there is no other effect. (`get_lock` is a session's, and outlives the transaction.)
pub(super) async fn lock(
    connection: &mut MySqlConnection,
    names: &Names,
    of: &GroupKey<'_>,
) -> Result<(), StoreError> {
    let slot = slot_of(of);
    let lock = statement(names, "select slot from {slot} where slot = ? for update");
    let locked = sqlx::query(lock).bind(slot).fetch_optional(connection).await?;
    // Without its row, nothing would be locked.
    if locked.is_none() { Err(slot_is_missing(names, slot).into()) } else { Ok(()) }
}

fn slot_of(of: &GroupKey<'_>) -> i64 {
    let digest = of.digest();
    let key = [of.group.as_bytes(), of.topic.as_bytes(), digest.as_bytes()].join(&b'\0');
    (fnv1a(&key) % SLOTS).cast_signed()
}

fn slot_is_missing(names: &Names, slot: i64) -> OutboxError {
    let table = names.fill("{slot}");
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "the table {table} lacks the row {slot} of the {SLOTS} by which consumers keep the events of a key in order: it \
             was deleted. The event was not handled, and waits. `insert into {table} (slot) values ({slot})` puts the row back"
        ),
    )
}
