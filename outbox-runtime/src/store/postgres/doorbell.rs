//! The doorbell between processes: NOTIFY, after the commit and from its own connection. Inside the business
//! transaction it would take a lock that all commits of the server share.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgPool, RawSql};

use super::session;
use crate::doorbell::Doorbell;
use crate::record::fnv1a;
use crate::store::Names;

/// At most one NOTIFY in this time, however many commits there are.
const COALESCE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);
/// The payload that tells relays to look for lanes to take or to give, and for parked events to try again.
const LANES: &str = "lanes";

/// In the simple protocol: behind a transaction pooler, a statement that was prepared in one round trip may not be there in
/// the next. Without a wait for the disk: a NOTIFY is a transaction with an id of its own, though it writes nothing.
fn notify(channel: &str, payload: &str) -> RawSql {
    // Both are ours, and need no quotes.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "select set_config('synchronous_commit', 'off', true), pg_notify('{channel}', '{payload}')"
    )))
}

pub(super) async fn notify_others(pool: PgPool, names: Arc<Names>, doorbell: Arc<Doorbell>) {
    let own = session::own_pool_without_settings(&pool);
    let mut channel = None;
    loop {
        doorbell.rung_elsewhere().await;
        let notified = async {
            if channel.is_none() {
                channel = Some(self::channel(&session::located(&pool, &names).await?));
            }
            session::follow(&own, &pool);
            let mut connection = own.acquire().await?;
            let notified = notify(channel.as_deref().unwrap_or_default(), "").execute(&mut *connection).await;
            if notified.is_err() {
                // It may lead to a server that is a standby now.
                connection.close_on_drop();
            }
            notified
        };
        let pause = match notified.await {
            Ok(_) => COALESCE,
            Err(error) => {
                tracing::debug!(%error, "doorbell not rung; relays in other processes find the events at their next poll");
                RECONNECT
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Has all relays look for lanes and parked events. By located names.
pub(super) async fn call_relays(
    executor: impl sqlx::PgExecutor<'_>,
    names: &Names,
) -> Result<(), sqlx::Error> {
    notify(&channel(names), LANES).execute(executor).await.map(drop)
}

pub(super) async fn listen_to_others(pool: PgPool, names: Arc<Names>, doorbell: Arc<Doorbell>) {
    loop {
        let lost = async {
            let channel = channel(&session::located(&pool, &names).await?);
            // A pool of its own each time: none of its connections may lead to what was the primary once.
            let own = session::own_pool(&pool);
            let mut listener = PgListener::connect_with(&own).await?;
            listener.listen(&channel).await?;
            // What was rung before that.
            doorbell.ring_here();
            loop {
                match listener.recv().await?.payload() {
                    LANES => doorbell.ring_for_lanes(),
                    _ => doorbell.ring_here(),
                }
            }
        };
        let result: Result<(), sqlx::Error> = lost.await;
        if let Err(error) = result {
            tracing::debug!(%error, "doorbell connection lost; the relay polls until it is back");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// A channel is an identifier of at most 63 bytes, and a schema and prefix can be longer: hence a hash. Of [located]
/// names, so that who has the schema in the builder and who has it in the `search_path` hear each other.
///
/// [located]: session::located
fn channel(names: &Names) -> String {
    format!("outbox_{:016x}", fnv1a(names.identity().as_bytes()))
}
