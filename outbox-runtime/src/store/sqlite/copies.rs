//! Copies of a file, and what a restored one is to those who have the file open.

use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqlitePool};

/// The tables of an outbox that a relay reads or writes.
const TABLES: [&str; 7] = [
    "outbox_event",
    "outbox_lane",
    "outbox_group",
    "outbox_witness",
    "outbox_parked",
    "outbox_parked_key",
    "sqlite_sequence",
];

/// A copy of the file, as it is now.
pub(crate) async fn back_up(pool: &SqlitePool, copy: &Path) {
    let statement = format!("vacuum into '{}'", copy.display());
    pool.execute(AssertSqlSafe(statement)).await.unwrap();
}

/// Restores it into the file that is in use, in one transaction, as `.restore` of SQLite's shell
/// does.
pub(crate) async fn restore(pool: &SqlitePool, copy: &Path) {
    let mut connection = pool.connect_options().connect().await.unwrap();
    let attach = format!("attach '{}' as copy", copy.display());
    connection.execute(AssertSqlSafe(attach)).await.unwrap();
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for table in TABLES {
        let restore =
            format!("delete from {table}; insert into {table} select * from copy.{table}");
        tx.execute(AssertSqlSafe(restore)).await.unwrap();
    }
    tx.commit().await.unwrap();
    connection.close().await.unwrap();
}
