//! The doorbell between processes: NOTIFY, after the commit and from a connection of its own.
//! Inside the business transaction it would take a lock that all commits of the server share.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Postgres, RawSql};

use super::connection;
use crate::doorbell::Doorbell;
use crate::observe::target;
use crate::record::fnv1a;
use crate::store::names::Names;
use crate::store::sealed::Wakeup;

/// Shortest time between two NOTIFYs, for any number of commits.
const COALESCE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);
/// Time without an answer after which a connection is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time that a connection may be silent before it is checked.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Payload that tells relays to look for lanes to take or to give up, and for parked events to try
/// again.
const LANES: &str = "lanes";

/// By the simple protocol: behind a transaction pooler, a statement that was prepared in one round
/// trip may not exist in the next. Without waiting for the disk: a NOTIFY is a transaction with an
/// id of its own, although it writes nothing.
fn notify(channel: &str, payload: &str) -> RawSql {
    // Both are made by us, and need no quotes.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "select set_config('synchronous_commit', 'off', true), pg_notify('{channel}', '{payload}')"
    )))
}

impl Wakeup for Postgres {
    async fn notify_others(pool: PgPool, names: Arc<Names>, doorbell: Arc<Doorbell>) {
        let (mut channel, mut connection) = (None, None);
        loop {
            doorbell.rung_elsewhere().await;
            let notified = async {
                if channel.is_none() {
                    channel =
                        Some(self::channel(&in_time(connection::located(&pool, &names)).await?));
                }
                ring(&mut connection, &pool, channel.as_deref().unwrap_or_default()).await
            };
            let pause = match notified.await {
                Ok(()) => COALESCE,
                Err(error) => {
                    tracing::debug!(target: target::STORE, %error, "doorbell not rung; relays in other processes find the events at their next poll");
                    RECONNECT
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn listen_to_others(pool: PgPool, names: Arc<Names>, doorbell: Arc<Doorbell>) {
        loop {
            if let Err(error) = listen(&pool, &names, &doorbell).await {
                tracing::debug!(target: target::STORE, %error, "doorbell connection lost; the relay polls until it is back");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

/// Over the open connection, or over a new one: the open one may be dead, or lead to a server that
/// is a standby now.
async fn ring(
    connection: &mut Option<PgConnection>,
    pool: &PgPool,
    channel: &str,
) -> Result<(), sqlx::Error> {
    if let Some(mut open) = connection.take()
        && in_time(notify(channel, "").execute(&mut open)).await.is_ok()
    {
        *connection = Some(open);
        return Ok(());
    }
    let mut new = in_time(connection::connect(pool)).await?;
    in_time(notify(channel, "").execute(&mut new)).await?;
    *connection = Some(new);
    Ok(())
}

/// The answer, or an error if the connection seems to be dead.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| Err(silent()))
}

/// Tells all relays to look for lanes and parked events. `names` must be located.
pub(super) async fn call_relays(
    executor: impl sqlx::PgExecutor<'_>,
    names: &Names,
) -> Result<(), sqlx::Error> {
    notify(&channel(names), LANES).execute(executor).await.map(drop)
}

/// Listens until the connection is lost. A silent connection may be dead, so it is checked from
/// time to time.
async fn listen(pool: &PgPool, names: &Names, doorbell: &Doorbell) -> Result<(), sqlx::Error> {
    let channel = channel(&in_time(connection::located(pool, names)).await?);
    // A new pool each time: a pool that waits for a dead connection gives no other one, and an old
    // one may lead to a server that is no longer the primary.
    let own = connection::own_pool(pool);
    let mut listener = in_time(PgListener::connect_with(&own)).await?;
    listener.eager_reconnect(false);
    in_time(listener.listen(&channel)).await?;
    // For rings before that.
    doorbell.ring_here();
    loop {
        match tokio::time::timeout(ASK_EVERY, listener.try_recv()).await {
            Ok(received) => match received?.as_ref().map(PgNotification::payload) {
                Some(LANES) => doorbell.ring_for_lanes(),
                Some(_) => doorbell.ring_here(),
                None => return Ok(()),
            },
            Err(_) => {
                in_time((&mut listener).execute("select 1")).await?;
            }
        }
    }
}

/// A channel is an identifier of at most 63 bytes, and a schema and prefix can be longer: hence a
/// hash. The hash is of [located] names, so that a process with the schema in the builder and one
/// with it in the `search_path` hear each other.
///
/// [located]: connection::located
fn channel(names: &Names) -> String {
    format!("outbox_{:016x}", fnv1a(names.identity().as_bytes()))
}
