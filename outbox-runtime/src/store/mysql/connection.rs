//! The settings of our sessions and transactions. None is inherited: a server, a user and a URL can
//! each have other defaults.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, MySql, MySqlConnection, MySqlPool, SqlStr};

use crate::store::begun::Begun;
use crate::store::names::{Names, sql};
use crate::store::tx_options::{Isolation, TxOptions};

/// Time without a connection after which the database counts as away. sqlx's own 30 s would be
/// long.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a statement is abandoned, together with its connection.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a session that is ours alone. Each has its reason.
///
/// The server ends a session whose client says nothing for `wait_timeout`, and with it its locks:
/// that is what a relay leaves behind that was suspended in a transaction. The comments that begin
/// with `M!` and `!` are statements to MariaDB and to MySQL only.
fn settings(silence: Duration) -> SqlStr {
    let silence = silence.as_secs().clamp(30, 24 * 60 * 60);
    let bound = STATEMENT_TIMEOUT;
    sql(format!(
        "set names utf8mb4; set session transaction isolation level read committed; set session transaction read write; \
         set session autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         time_zone = '+00:00', innodb_lock_wait_timeout = 3, lock_wait_timeout = 10, wait_timeout = {silence}, \
         net_read_timeout = 30, net_write_timeout = 30, \
         /*M! max_statement_time = {seconds}, */ /*!50708 max_execution_time = {millis}, */ foreign_key_checks = 1",
        seconds = bound.as_secs(),
        millis = bound.as_millis(),
    ))
}

/// Only for a session that is ours alone.
pub(super) async fn set_up(
    connection: &mut MySqlConnection,
    silence: Duration,
) -> Result<(), sqlx::Error> {
    connection.execute(settings(silence)).await.map(drop)
}

/// A connection of our own, to where `pool` connects *now*: the pool's options may have changed
/// since it was made.
pub(super) async fn connect(pool: &MySqlPool) -> Result<MySqlConnection, sqlx::Error> {
    pool.connect_options().connect().await
}

/// A pool of one connection, for what a relay does besides publishing.
pub(super) fn own_pool(pool: &MySqlPool) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|connection, _| Box::pin(set_up(connection, Duration::from_secs(600))))
        .connect_lazy_with(options_of(pool))
}

/// Has an own pool connect as `pool` does now.
pub(super) fn follow(own: &MySqlPool, pool: &MySqlPool) {
    own.set_connect_options(options_of(pool));
}

fn options_of(pool: &MySqlPool) -> MySqlConnectOptions {
    (*pool.connect_options()).clone()
}

/// The names with the database in which connections of `pool` find the tables.
pub(super) async fn located(pool: &MySqlPool, names: &Names) -> Result<Arc<Names>, sqlx::Error> {
    if names.schema.is_some() {
        return Ok(Arc::new(names.clone()));
    }
    let mut connection = pool.acquire().await?;
    let schema = sqlx::query_scalar("select database()").fetch_one(&mut *connection).await;
    // It does not go back to the pool: a relay may run on a runtime of its own, and a connection
    // made there depends on it.
    let closed = connection.close().await;
    let schema = schema?;
    closed?;
    Ok(Arc::new(Names { schema, ..names.clone() }))
}

/// All in one round trip, as for a plain `BEGIN`.
///
/// The savepoint says whether the transaction is still there when the events are inserted (see
/// `write.rs`).
pub(super) fn begin_statement(options: TxOptions) -> SqlStr {
    let TxOptions { isolation, limit, .. } = options;
    let mut statement = String::new();
    if let Some(limit) = limit {
        // MySQL has no such setting for one transaction. The session keeps it: its next user is a
        // transaction with a limit, too, or a pool that tests a connection before it gives it out.
        let silence = (limit.as_secs() + 10).clamp(30, 24 * 60 * 60);
        statement.push_str(&format!("SET SESSION wait_timeout = {silence}; "));
    }
    statement.push_str(match isolation {
        None => "",
        Some(Isolation::ReadCommitted) => "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ",
        Some(Isolation::RepeatableRead) => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ",
        Some(Isolation::Serializable) => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; ",
    });
    statement.push_str("START TRANSACTION READ WRITE; SAVEPOINT outbox_alive_1");
    sql(statement)
}

/// Begins a transaction of ours that writes, on a pool of the user's or ours.
pub(super) async fn begin(pool: &MySqlPool) -> Result<Begun<MySql>, sqlx::Error> {
    let statement =
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ WRITE".to_owned();
    Ok(Begun::on(pool, Some(sql(statement))).await?.closing_if_dropped())
}

/// The same, on a connection of ours.
pub(super) async fn begin_on(
    connection: &mut MySqlConnection,
) -> Result<sqlx::Transaction<'_, MySql>, sqlx::Error> {
    connection.begin_with("START TRANSACTION READ WRITE").await
}

/// Begins a transaction of which each statement sees the same state.
pub(super) async fn begin_reading(pool: &MySqlPool) -> Result<Begun<MySql>, sqlx::Error> {
    let statement = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    Ok(Begun::on(pool, Some(sql(statement.to_owned()))).await?.closing_if_dropped())
}
