//! Statements that run inside the user's transaction.
//!
//! MySQL may end a transaction behind the back of the one who has it: a deadlock rolls all of it
//! back, and each statement that follows is then a transaction of its own; a DDL statement commits
//! it. An error that is swallowed would so have the events committed alone. Therefore each
//! transaction begins with a savepoint, `outbox_alive_…`, which is gone with it: to release it is an
//! error then, before anything is inserted. In one text with the insert, that takes no round trip.

use std::fmt::Write as _;

use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Executor, MySql, MySqlConnection, QueryBuilder, SqlStr};
use sqlx_core::transaction::TransactionManager as _;

use super::clock::unix_micros;
use super::connection;
use crate::error::{ErrorKind, OutboxError};
use crate::record::{EventRecord, Lane};
use crate::store::doubt::Doubt;
use crate::store::error::StoreError;
use crate::store::headers;
use crate::store::names::{Names, sql};
use crate::store::sealed::EventWriter;
use crate::store::tx_options::TxOptions;

const INSERT_EVENTS: &str = "\
insert into {event} (lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at, kafka_partition) ";

/// Most bytes of events that are written into the text of a statement, twice as long as they are.
/// What is larger is bound.
const MOST_BYTES_AS_TEXT: usize = 64 << 10;

/// Longest name and content type, in characters: what the columns have room for. A session that is
/// not strict would cut them off.
const LONGEST_TEXT: usize = 255;

/// `Transaction characteristics can't be changed while a transaction is in progress`.
const IN_A_TRANSACTION: u16 = 1568;

/// `SAVEPOINT … does not exist`.
const NO_SAVEPOINT: u16 = 1305;

const OVER: &str = "the transaction was over before its commit, and none of its events is kept: an earlier statement failed and the \
                    database rolled everything back (a deadlock), or a statement committed what came before it (DDL, as `create \
                    table`). Return the error of each statement, and run no DDL in it";

impl EventWriter for MySql {
    const CAN_GO_SILENT: bool = true;
    const COUNTS_ROLLBACKS_AT_ONCE: bool = true;
    /// sqlx 0.9.0 takes the rest of the old answer for the next one (launchbadge/sqlx #2711).
    const CANCELLED_IS_UNUSABLE: bool = true;
    /// A deadlock does, and a lock time-out with `innodb_rollback_on_timeout`.
    const GOES_ON_AFTER_ITS_END: bool = true;
    /// A packet over the server's `max_allowed_packet` ends the connection. That is 16 MiB on
    /// MariaDB, and may be set as low as 1 MiB.
    const MOST_BYTES_AT_ONCE: usize = 512 << 10;
    const MOST_EVENTS_AT_ONCE: usize = 500;

    fn begin_statement(options: TxOptions) -> Option<SqlStr> {
        Some(connection::begin_statement(options))
    }

    /// An insert of events asks by itself, unless savepoints of others may be in the way.
    fn asks_before_commit(doubt: Doubt, _: bool) -> bool {
        doubt.ever
    }

    /// Within a transaction, its characteristics cannot be changed: this is how to find out. Outside
    /// of one, what is set is the default of the next.
    async fn ensure_not_aborted(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        match connection.execute("SET TRANSACTION READ WRITE").await {
            Err(error) if number(&error) == Some(IN_A_TRANSACTION) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(sqlx::Error::InvalidArgument(OVER.to_owned())),
        }
    }

    async fn joined(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let savepoint = format!("SAVEPOINT {}", alive(connection));
        connection.execute(sql(savepoint)).await.map(drop)
    }

    /// In one statement, so that their numbers are in their order.
    async fn insert_events(
        connection: &mut MySqlConnection,
        names: &Names,
        events: &[EventRecord],
        more: bool,
    ) -> Result<(), StoreError> {
        if let Some(event) = events.iter().find(|event| is_too_long(event)) {
            return Err(name_too_long(event).into());
        }
        let alive = alive(connection);
        let insert = names.fill(INSERT_EVENTS);
        // For what follows. A commit asks for none: nothing comes between.
        let again = if more { format!("; SAVEPOINT {alive}") } else { String::new() };
        if events.iter().map(EventRecord::size).sum::<usize>() <= MOST_BYTES_AS_TEXT {
            let mut text = format!("RELEASE SAVEPOINT {alive}; {insert}");
            for (i, event) in events.iter().enumerate() {
                text.push_str(if i == 0 { "values " } else { ", " });
                push_row(&mut text, event);
            }
            text.push_str(&again);
            connection.execute(sql(text)).await.map_err(refused)?;
            return Ok(());
        }
        let release = format!("RELEASE SAVEPOINT {alive}{again}");
        connection.execute(sql(release)).await.map_err(refused)?;
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(insert);
        query.push_values(events, |mut row, event| {
            row.push_bind(Lane::of(event.key.as_deref(), event.id).number())
                .push_bind(event.id)
                .push_bind(event.topic.as_ref())
                .push_bind(event.key.as_deref())
                .push_bind(event.name.as_ref())
                .push_bind(event.version)
                .push_bind(event.content_type.as_ref())
                .push_bind(headers::to_json(&event.headers).into_bytes())
                .push_bind(event.payload.as_deref())
                .push_bind(unix_micros(event.occurred_at))
                .push_bind(event.partition);
        });
        // Its text has the number of the events in it, so it is not worth to be kept.
        let inserted = query.build().persistent(false).execute(connection).await;
        inserted.map_err(|error| cut_off(error, events))?;
        Ok(())
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

fn refused(error: sqlx::Error) -> StoreError {
    if number(&error) == Some(NO_SAVEPOINT) {
        return OutboxError::new(ErrorKind::Database, OVER).with_source(error).into();
    }
    error.into()
}

/// The server may say why, but the client is still writing then, and hears only of the end.
fn cut_off(error: sqlx::Error, events: &[EventRecord]) -> StoreError {
    if !matches!(error, sqlx::Error::Io(_)) {
        return error.into();
    }
    let bytes: usize = events.iter().map(EventRecord::size).sum();
    OutboxError::new(
        ErrorKind::Database,
        format!(
            "the connection ended while {} events of {bytes} bytes were inserted; the transaction is rolled back, with its \
             events. A server ends it if a statement is larger than its `max_allowed_packet`: that must be above twice the \
             size of the largest event",
            events.len()
        ),
    )
    .with_source(error)
    .into()
}

/// The savepoint of this transaction, or of the savepoint that is joined.
fn alive(connection: &MySqlConnection) -> String {
    let depth = <MySql as sqlx::Database>::TransactionManager::get_transaction_depth(connection);
    format!("outbox_alive_{depth}")
}

fn push_row(text: &mut String, event: &EventRecord) {
    let lane = Lane::of(event.key.as_deref(), event.id).number();
    _ = write!(text, "({lane}, ");
    push_hex(text, Some(event.id.as_bytes()));
    push_hex(text, Some(event.topic.as_bytes()));
    push_hex(text, event.key.as_deref());
    push_hex(text, Some(event.name.as_bytes()));
    _ = write!(text, "{}, ", event.version);
    push_hex(text, Some(event.content_type.as_bytes()));
    push_hex(text, Some(headers::to_json(&event.headers).as_bytes()));
    push_hex(text, event.payload.as_deref());
    _ = write!(text, "{}, ", unix_micros(event.occurred_at));
    match event.partition {
        Some(partition) => _ = write!(text, "{partition})"),
        None => text.push_str("null)"),
    }
}

/// A literal that means the same in each `sql_mode` and character set of a session, and a comma.
fn push_hex(text: &mut String, bytes: Option<&[u8]>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let Some(bytes) = bytes else {
        text.push_str("null, ");
        return;
    };
    text.push_str("x'");
    text.extend(bytes.iter().flat_map(|byte| {
        [DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 15)] as char]
    }));
    text.push_str("', ");
}

fn is_too_long(event: &EventRecord) -> bool {
    [&event.name, &event.content_type].iter().any(|text| text.chars().count() > LONGEST_TEXT)
}

fn name_too_long(event: &EventRecord) -> OutboxError {
    OutboxError::new(
        ErrorKind::InvalidEvent,
        format!(
            "the name or the content type of an event on `{}` has more than {LONGEST_TEXT} characters, for which the outbox's \
             table on MySQL has no room. The transaction is rolled back, with its events: shorten it",
            event.topic
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use outbox_event::Headers;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_event_is_written_in_literals_that_no_session_reads_otherwise() {
        let event = EventRecord {
            id: Uuid::from_u128(0x01),
            topic: "o'\\".into(),
            key: None,
            name: "n".into(),
            version: 2,
            content_type: "c".into(),
            headers: Headers::new(),
            payload: Some(Vec::new()),
            partition: Some(3),
            occurred_at: SystemTime::UNIX_EPOCH + Duration::from_micros(5),
        };
        let mut text = String::new();
        push_row(&mut text, &event);
        let lane = Lane::of(None, event.id).number();
        assert_eq!(
            text,
            format!(
                "({lane}, x'00000000000000000000000000000001', x'6f275c', null, x'6e', 2, x'63', x'7b7d', x'', 5, 3)"
            )
        );
    }
}
