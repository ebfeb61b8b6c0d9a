//! Statements that run inside the user's transaction.

use sqlx::{Executor, SqlSafeStr, SqlStr, Sqlite, SqliteConnection};

use super::clock::unix_micros;
use crate::record::{EventRecord, Lane};
use crate::store::doubt::Doubt;
use crate::store::error::StoreError;
use crate::store::headers;
use crate::store::names::{Names, sql};
use crate::store::sealed::EventWriter;
use crate::store::tx_options::TxOptions;

const INSERT_EVENT: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

impl EventWriter for Sqlite {
    const CAN_GO_SILENT: bool = false;
    /// sqlx counts a dropped savepoint until the connection's thread has rolled it back.
    const COUNTS_ROLLBACKS_AT_ONCE: bool = false;
    /// In SQLite, a statement that fails leaves the transaction open, unless it has `or rollback`,
    /// or the disk is full.
    const GOES_ON_AFTER_ITS_END: bool = true;

    /// A transaction that reads first and writes later fails if another one has written since, and
    /// waiting does not help. One that becomes the writer at once waits for its turn (sqlx's
    /// `busy_timeout`).
    fn begin_statement(_: TxOptions) -> Option<SqlStr> {
        Some("BEGIN IMMEDIATE".into_sql_str())
    }

    fn asks_before_commit(doubt: Doubt, _: bool) -> bool {
        doubt.ever
    }

    /// Within a transaction, no other one can begin: this is how to find out.
    async fn ensure_not_aborted(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        match connection.execute("begin").await {
            Err(sqlx::Error::Database(error)) if error.message().contains("within a transaction") => Ok(()),
            Err(error) => Err(error),
            // The new transaction is left open: sqlx, which still counts one, is about to roll it
            // back.
            Ok(_) => Err(sqlx::Error::InvalidArgument(
                "an earlier statement failed, and SQLite rolled the transaction back (`or rollback`, or a full disk): \
                 return the error of each statement"
                    .to_owned(),
            )),
        }
    }

    /// One statement for each event: SQLite runs in this process, so there is no round trip to
    /// save.
    async fn insert_events(
        connection: &mut SqliteConnection,
        names: &Names,
        events: &[EventRecord],
        _: bool,
    ) -> Result<(), StoreError> {
        let insert = sql(names.fill(INSERT_EVENT));
        for event in events {
            sqlx::query(insert.clone())
                .bind(Lane::of(event.key.as_deref(), event.id).number())
                .bind(event.id)
                .bind(event.topic.as_ref())
                .bind(event.key.as_deref())
                .bind(event.name.as_ref())
                .bind(event.version)
                .bind(event.content_type.as_ref())
                .bind(headers::to_json(&event.headers))
                .bind(event.payload.as_deref())
                .bind(unix_micros(event.occurred_at))
                .bind(event.partition)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}
