//! What the result codes of SQLite mean (<https://www.sqlite.org/rescode.html>).

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

use crate::store::fault::Fault;

const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_IOERR: i32 = 10;
const SQLITE_FULL: i32 = 13;

/// A missing table is recognised by the message only: its code is that of any error.
pub(crate) fn of(error: &SqliteError) -> Fault {
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    let words = error.message();
    // The lower byte is the kind of an extended code.
    match code & 0xff {
        SQLITE_BUSY | SQLITE_LOCKED => Fault::Conflict,
        SQLITE_IOERR | SQLITE_FULL => Fault::Unavailable,
        _ if words.starts_with("no such table") => Fault::MissingTable,
        _ if words.starts_with("no such column") || words.contains("has no column named") => {
            Fault::MissingColumn
        }
        _ => Fault::Other,
    }
}
