//! The settings of our sessions and transactions. None is inherited: a server, a database, a role
//! and a URL can each have other defaults.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgConnection, PgPool, Postgres, Row, SqlStr};

use crate::store::begun::Begun;
use crate::store::names::{Names, literal, sql};
use crate::store::tx_options::{Isolation, TxOptions};

/// Time without a connection after which the database counts as away. sqlx's own 30 s would be
/// long.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a statement is abandoned, together with its connection.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a suspended process of ours may hold its locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);

/// The server ends a session whose client has gone silent after 20 s, and with it its locks.
/// `idle_in_transaction_session_timeout` alone is not enough: it ends at a time of the server's
/// clock, which is far away once that clock has been set back. These are ignored over a Unix
/// socket.
///
/// A transaction on a connection of the user's has them without `tcp_user_timeout`: that one also
/// ends a session whose client is alive and takes its time to read a large result.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "5"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")];

/// Each has its reason. A setting that this version of Postgres does not know is left out.
///
/// Every statement of the relay reads a few rows by an index of a table that may have millions, and
/// the planner, which knows neither the snapshots nor how old the statistics are, must not think
/// otherwise: a sequential scan at each poll would cost more the more is retained.
const SETTINGS: [(&str, &str); 26] = [
    // A statement sees what was committed before it, and locks are granted in turn.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    // Our statements are bounded by `statement_timeout`. `LISTEN` and a quiet outbox may be idle
    // for any time.
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    // With the keepalives, for what the client has not acknowledged.
    ("tcp_user_timeout", "20000"),
    // What the relay writes need not be on disk before it continues: what a crash takes back is
    // published again.
    ("synchronous_commit", "off"),
    // Names are qualified by the schema that the user's own connections see.
    ("search_path", "pg_catalog"),
    // An error instead of events that stay unseen.
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "warning"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_incremental_sort", "off"),
    ("enable_indexscan", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_nestloop", "on"),
    ("enable_hashjoin", "on"),
    ("enable_mergejoin", "on"),
    ("enable_material", "on"),
    ("enable_partition_pruning", "on"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

fn settings() -> SqlStr {
    let mut statement = "select set_config(ours.name, ours.value, false) from (values".to_owned();
    let timeouts = [
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
    ];
    let timeouts = timeouts.map(|(name, timeout)| (name, timeout.as_millis().to_string()));
    for (name, value) in &timeouts {
        _ = write!(statement, " ('{name}', '{value}'),");
    }
    for (name, value) in KEEPALIVES.into_iter().chain(SETTINGS) {
        _ = write!(statement, " ('{name}', '{value}'),");
    }
    statement.pop();
    statement.push_str(
        ") as ours (name, value) where exists (select from pg_catalog.pg_settings known where known.name = ours.name)",
    );
    sql(statement)
}

/// Only for a session that is ours alone: a transaction pooler would give it to the business next.
pub(super) async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(settings()).await.map(drop)
}

/// A connection of our own, to where `pool` connects *now*: the pool's options may have changed
/// since it was made.
pub(super) async fn connect(pool: &PgPool) -> Result<PgConnection, sqlx::Error> {
    pool.connect_options().connect().await
}

/// How often a session is compared with those of the next statements.
const ROUNDS: u32 = 4;

/// Id of the server's process at the other end of `one`. `None`: a transaction pooler is in
/// between, so that it has no session of its own.
///
/// Over a pooler, two idle connections share a session, or one of them has another session at its
/// next statement: which of the two depends on how the pooler chooses. The two statements of the
/// one come first: with that of the other in between, a pooler that uses two sessions in turn would
/// give it the same session again. Several rounds, since services that share the pooler may take the
/// one session that would tell.
pub(super) async fn session_of_its_own(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<Option<i32>, sqlx::Error> {
    let session = session_of(one).await?;
    for _ in 0..ROUNDS {
        if session_of(one).await? != session || session_of(other).await? == session {
            return Ok(None);
        }
    }
    Ok(Some(session))
}

/// In the simple protocol, which every pooler passes on.
async fn session_of(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sql("select pg_backend_pid() as pid")).await?.try_get("pid")
}

fn single() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT)
}

/// A pool of one connection, for what a relay does besides publishing.
pub(super) fn own_pool(pool: &PgPool) -> PgPool {
    single()
        .after_connect(|connection, _| Box::pin(set_up(connection)))
        .connect_lazy_with(options_of(pool))
}

/// Has an own pool connect as `pool` does now.
pub(super) fn follow(own: &PgPool, pool: &PgPool) {
    own.set_connect_options(options_of(pool));
}

fn options_of(pool: &PgPool) -> PgConnectOptions {
    (*pool.connect_options()).clone()
}

/// The names with the schema in which connections of `pool` find the tables: a `search_path` that
/// is set by the pool's `after_connect` is unknown to all other connections. As they are if there
/// are none.
pub(super) async fn located(pool: &PgPool, names: &Names) -> Result<Names, sqlx::Error> {
    if names.schema.is_some() {
        return Ok(names.clone());
    }
    // In the simple protocol, for services behind a transaction pooler.
    let statement = names.fill(
        "select n.nspname::text as schema from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.oid = to_regclass({'event'})",
    );
    let mut connection = pool.acquire().await?;
    let found = connection.fetch_optional(sql(statement)).await;
    // It does not go back to the pool: a relay may run on a runtime of its own, and a connection
    // made there depends on it.
    let closed = connection.close().await;
    let found = found?;
    closed?;
    let schema = found.map(|row| row.try_get("schema")).transpose()?;
    Ok(Names { schema, ..names.clone() })
}

/// All in one round trip, as for a plain `BEGIN`.
pub(super) fn begin_statement(options: TxOptions) -> SqlStr {
    let TxOptions { isolation, name, limit, .. } = options;
    let mut statement = "BEGIN".to_owned();
    statement.push_str(match isolation {
        None => "",
        Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
        Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
        Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
    });
    statement.push_str(" READ WRITE");
    if let Some(name) = name {
        _ = write!(statement, "; SET LOCAL application_name = {}", literal(name));
    }
    if let Some(limit) = limit {
        _ = write!(statement, "; {}", limited(limit));
    }
    sql(statement)
}

/// Bounds a transaction, and has its commit wait for the disk. It never loosens what the session
/// has: the smaller time counts. All of it ends with the transaction.
fn limited(limit: Duration) -> String {
    // Postgres's settings are 32 bits wide, and 0 is no limit.
    let millis = limit.as_millis().clamp(1, 2_000_000_000);
    let at_most = |setting: &str, millis: u128| {
        format!(
            "set_config('{setting}', case when current_setting('{setting}')::interval between '1 ms' and '{millis} ms' \
             then current_setting('{setting}') else '{millis}' end, true)"
        )
    };
    // Not compared with the session's: that would take three times as long, in each transaction.
    let keepalives = KEEPALIVES.map(|(name, value)| format!("SET LOCAL {name} = {value}; "));
    format!(
        "{}SELECT {}, {}, set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on' \
         else current_setting('synchronous_commit') end, true)",
        keepalives.concat(),
        at_most("statement_timeout", millis),
        at_most("idle_in_transaction_session_timeout", millis + 10_000),
    )
}

/// Begins a transaction of ours that writes, on a pool of the user's or ours.
pub(super) async fn begin(pool: &PgPool) -> Result<Begun<Postgres>, sqlx::Error> {
    let options = TxOptions::new().isolation(Isolation::ReadCommitted).limit(STATEMENT_TIMEOUT);
    Begun::on(pool, Some(begin_statement(options))).await
}

/// Begins a transaction that reads a few rows of large tables, each by its index.
pub(super) async fn begin_reading(pool: &PgPool) -> Result<Begun<Postgres>, sqlx::Error> {
    let statement = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {}; {BY_INDEX}",
        limited(STATEMENT_TIMEOUT)
    );
    Begun::on(pool, Some(sql(statement))).await
}

/// Begins a transaction that reads whole tables.
pub(super) async fn begin_scanning(pool: &PgPool) -> Result<Begun<Postgres>, sqlx::Error> {
    let statement =
        format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {}", limited(STATEMENT_TIMEOUT));
    Begun::on(pool, Some(sql(statement))).await
}

/// The planner's part of [`SETTINGS`], for one transaction on another connection.
pub(super) const BY_INDEX: &str = "\
set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off; \
set local enable_indexscan = on; set local enable_nestloop = on; set local jit = off";
