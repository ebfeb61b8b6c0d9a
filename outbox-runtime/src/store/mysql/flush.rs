//! Having on disk what others can already see.
//!
//! InnoDB shows a commit before its log is written. What is read at that moment may be taken back by
//! a crash of the server. A commit that comes later waits for all of the log before it. So who is
//! about to do something outside the database that rests on what it has read (publish an event, skip
//! one that was handled) commits a write of its own first.

use std::sync::atomic::{AtomicU16, Ordering};

use sqlx::MySqlConnection;

use super::statement;
use crate::error::{ErrorKind, OutboxError};
use crate::store::Names;
use crate::store::error::StoreError;

/// The rows of `{slot}` that are only written to. There are some, so that few wait for each other.
const FIRST: u16 = 1024;
const ROWS: u16 = 256;

/// It must change something: otherwise there is no log to wait for.
const FLUSH: &str = "update {slot} set flushes = flushes + 1 where slot = ?";

/// Has the commit of this transaction wait until all that it can see is on disk. Without a
/// transaction, this waits itself.
pub(super) async fn flush(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<(), StoreError> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let slot = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % ROWS;
    let flush = sqlx::query(statement(names, FLUSH)).bind(slot);
    match flush.execute(connection).await?.rows_affected() {
        0 => Err(row_is_missing(names, slot).into()),
        _ => Ok(()),
    }
}

fn row_is_missing(names: &Names, slot: u16) -> OutboxError {
    let table = names.fill("{slot}");
    OutboxError::new(
        ErrorKind::Config,
        format!(
            "the table {table} lacks the row {slot} of its {all}, which is written to so that nothing rests on a commit that \
             a crash can take back: it was deleted. Nothing was published or skipped, and the events wait. `insert into {table} \
             (slot) values ({slot})` puts the row back",
            all = FIRST + ROWS
        ),
    )
}
