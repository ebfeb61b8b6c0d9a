//! Relays that run beside a test, and what they set aside.

use std::time::Duration;

use outbox::publish::Publisher;
use outbox::{Outbox, OutboxDatabase, OutboxError, ParkedEvent, Relay};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::within_a_minute;

/// A relay that runs, and the end of it.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), OutboxError>>,
}

impl Running {
    pub fn start<DB: OutboxDatabase>(relay: Relay<DB, impl Publisher>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        Self { stop, task: tokio::spawn(relay.run(async { _ = stopped.await })) }
    }

    pub async fn stop(self) {
        drop(self.stop);
        within_a_minute(self.task).await.unwrap().unwrap();
    }

    /// As a kill: nothing is saved, nothing given back.
    pub async fn abort(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A relay that shares lanes quickly, parks after two refusals, and tries nothing again by itself.
pub fn quick<DB: OutboxDatabase, P: Publisher>(outbox: &Outbox<DB>, publisher: P) -> Relay<DB, P> {
    Relay::new(outbox.clone(), publisher)
        .lease(Duration::from_millis(300))
        .poll_interval(Duration::from_millis(20))
        .park_after(2)
        .retry_parked(Duration::from_secs(3600))
}

/// Waits until `count` events are parked.
pub async fn until_parked<DB: OutboxDatabase>(
    outbox: &Outbox<DB>,
    count: usize,
) -> Vec<ParkedEvent> {
    within_a_minute(async {
        loop {
            let parked = outbox.parked(1_000).await.unwrap();
            if parked.len() == count {
                return parked;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
