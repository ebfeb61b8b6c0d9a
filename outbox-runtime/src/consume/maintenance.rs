//! What a consumer does from time to time beside its messages: draining the keys that no task
//! drains, and forgetting what was handled long ago.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::forward::Forward;
use super::worker::GroupWorker;
use crate::error::OutboxError;
use crate::observe::target;
use crate::store::OutboxDatabase;
use crate::user_code::Guarded;

/// Pause between two runs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Stranded keys that are drained at the same time.
const MOST_STRANDED: usize = 100;
/// The longest time for an answer about a group's whole inbox.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(600);

/// Runs until it is dropped. What panics, a callback of the pool for example, is run again.
pub(crate) async fn maintain<DB: OutboxDatabase, F: Forward>(worker: Arc<GroupWorker<DB, F>>) {
    let mut draining = JoinSet::new();
    loop {
        match Guarded::new(Box::pin(resume_stranded(&worker, &mut draining))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(target: target::CONSUMER, %error, "stranded keys were not looked for")
            }
            Err(said) => {
                tracing::error!(target: target::CONSUMER, said, "the consumer panicked over stranded keys")
            }
        }
        sleep(MAINTENANCE_INTERVAL).await;
        while draining.try_join_next().is_some() {}
        match Guarded::new(Box::pin(worker.forget())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(events)) => {
                tracing::debug!(target: target::CONSUMER, events, "the inbox forgot events handled long ago")
            }
            Ok(Err(error)) => {
                tracing::debug!(target: target::CONSUMER, %error, "the inbox was not searched for old events")
            }
            Err(said) => {
                tracing::error!(target: target::CONSUMER, said, "the consumer panicked over its inbox")
            }
        }
    }
}

/// Drains each stranded key in a task of its own: one whose handler is tried for ever must not keep
/// it from the others.
async fn resume_stranded<DB: OutboxDatabase, F: Forward>(
    worker: &Arc<GroupWorker<DB, F>>,
    draining: &mut JoinSet<()>,
) -> Result<(), OutboxError> {
    let stranded = worker.stranded_keys().await?;
    let room = MOST_STRANDED.saturating_sub(draining.len());
    for (topic, key) in stranded.into_iter().take(room) {
        let worker = Arc::clone(worker);
        // If it stops, the next search finds the key.
        draining.spawn(async move { drop(worker.drain_key(&topic, &key).await) });
    }
    Ok(())
}

impl<DB: OutboxDatabase, F> GroupWorker<DB, F> {
    /// Forgets what was handled long ago.
    async fn forget(&self) -> Result<u64, OutboxError> {
        let retention = self.settings.inbox_retention;
        let forget = self.group.outbox.forget_handled(&self.group.name, retention);
        self.group.in_time(FORGOTTEN_WITHIN, forget).await
    }
}
