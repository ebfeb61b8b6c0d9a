//! What a consumer finds out before it is ready: whether its topics and its tables are there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;
use tokio::time::sleep;
use uuid::Uuid;

use super::cluster::Unprepared;
use super::topics::Plan;
use crate::backoff::Backoff;
use crate::consume::worker::GroupWorker;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::Properties;
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::user_code::Guarded;

const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Time after which the database ends a statement that looks for the tables, and after which its
/// answer is not waited for.
const LIMITS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(15));

/// Warns of a pool in which handlers wait for each other. A file has no connections to wait for.
pub(super) fn tell_of_a_small_pool<DB: OutboxDatabase>(pool: &Pool<DB>, concurrency: usize) {
    let connections = pool.options().get_max_connections();
    if DB::CAN_GO_SILENT && (connections as usize) < concurrency {
        tracing::warn!(
            target: target::CONSUMER,
            connections,
            concurrency,
            "the consumer's pool has fewer connections than it runs handlers at the same time: they wait for each other, and \
             fail when none becomes free within the pool's `acquire_timeout`. Raise the pool's `max_connections`, or lower \
             the consumer's `concurrency`"
        );
    }
}

/// Waits until the topics for retries and dead letters are there. `false`: the shutdown came first.
pub(super) async fn topics_found(
    plan: &mut Plan,
    properties: &Properties,
    create: bool,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, OutboxError> {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut logged = false;
    loop {
        let ensured = tokio::select! {
            ensured = plan.ensure(properties, create) => ensured,
            () = shutdown.as_mut() => return Ok(false),
        };
        match ensured {
            Ok(()) => return Ok(true),
            Err(Unprepared::ForGood(error)) => return Err(error),
            Err(Unprepared::NoAnswer(error)) if !logged => {
                logged = true;
                tracing::warn!(target: target::CONSUMER, %error, "no Kafka broker answers: the consumer waits. Is the address right?");
            }
            Err(Unprepared::NoAnswer(_)) => {}
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            () = shutdown.as_mut() => return Ok(false),
        }
    }
}

/// Waits until the database has answered for the tables that a consumer writes to.
///
/// # Errors
/// If one is missing, or the database refuses the login, or TLS with it fails. Later, credentials
/// may be rotated, and a refusal is waited for.
pub(super) async fn tables_found<DB: OutboxDatabase, F: Send + Sync>(
    worker: Arc<GroupWorker<DB, F>>,
) -> Result<(), OutboxError> {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        match Guarded::new(Box::pin(look_for_tables(&worker))).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error))
                if error.kind() == ErrorKind::NotMigrated || error.fault().is_of_connecting() =>
            {
                return Err(error);
            }
            Ok(Err(error)) => {
                tracing::debug!(target: target::CONSUMER, %error, "the consumer's tables were not found yet")
            }
            Err(said) => {
                tracing::error!(target: target::CONSUMER, said, "the consumer panicked over its tables")
            }
        }
        sleep(backoff.pause()).await;
    }
}

/// Writes to the tables, and rolls back.
async fn look_for_tables<DB: OutboxDatabase, F>(
    worker: &GroupWorker<DB, F>,
) -> Result<(), OutboxError> {
    let group = &worker.group;
    let names = &group.outbox.core().names;
    let look = async {
        let mut tx = group.begin(LIMITS.0).await?;
        DB::stranded_keys(&mut tx, names, &group.name).await?;
        DB::insert_inbox(&mut tx, names, &group.name, Uuid::now_v7()).await?;
        tx.rollback().await
    };
    group.in_time(LIMITS.1, look).await
}
