//! The doorbell between processes: NOTIFY, after the commit and from its own connection. Inside the
//! business transaction it would take a lock that all commits of the server share.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Postgres, RawSql};

use super::connection;
use crate::doorbell::Doorbell;
use crate::record::fnv1a;
use crate::store::names::Names;
use crate::store::sealed::Wakeup;

/// At most one NOTIFY in this time, however many commits there are.
const COALESCE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);
/// After which a connection is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may say nothing before it is asked.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The payload that tells relays to look for lanes to take or to give, and for parked events to try
/// again.
const LANES: &str = "lanes";

/// In the simple protocol: behind a transaction pooler, a statement that was prepared in one round
/// trip may not be there in the next. Without a wait for the disk: a NOTIFY is a transaction with
/// an id of its own, though it writes nothing.
fn notify(channel: &str, payload: &str) -> RawSql {
    // Both are ours, and need no quotes.
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
                    tracing::debug!(%error, "doorbell not rung; relays in other processes find the events at their next poll");
                    RECONNECT
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn listen_to_others(pool: PgPool, names: Arc<Names>, doorbell: Arc<Doorbell>) {
        loop {
            if let Err(error) = listen(&pool, &names, &doorbell).await {
                tracing::debug!(%error, "doorbell connection lost; the relay polls until it is back");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

/// Over the connection that is there, or over a new one: it may be dead, or lead to a server that
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

/// The answer, unless the connection seems to be dead.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| Err(silent()))
}

/// Has all relays look for lanes and parked events. By located names.
pub(super) async fn call_relays(
    executor: impl sqlx::PgExecutor<'_>,
    names: &Names,
) -> Result<(), sqlx::Error> {
    notify(&channel(names), LANES).execute(executor).await.map(drop)
}

/// Until the connection is lost. One that says nothing may be dead: it is asked from time to time.
async fn listen(pool: &PgPool, names: &Names, doorbell: &Doorbell) -> Result<(), sqlx::Error> {
    let channel = channel(&in_time(connection::located(pool, names)).await?);
    // A pool of its own each time: one that waits for a dead connection gives no other, and none
    // may lead to what was the primary once.
    let own = connection::own_pool(pool);
    let mut listener = in_time(PgListener::connect_with(&own)).await?;
    listener.eager_reconnect(false);
    in_time(listener.listen(&channel)).await?;
    // What was rung before that.
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
/// hash. Of [located] names, so that who has the schema in the builder and who has it in the
/// `search_path` hear each other.
///
/// [located]: connection::located
fn channel(names: &Names) -> String {
    format!("outbox_{:016x}", fnv1a(names.identity().as_bytes()))
}
