//! What a relay does beside publishing: space comes back, and the gauges are read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Settings;
use crate::observe;
use crate::outbox::Outbox;
use crate::store::{Names, OutboxDatabase, sealed};

const EVERY: Duration = Duration::from_secs(5);

/// Runs until dropped, on a connection of its own: the relay must not wait for it.
pub(super) async fn run<DB: OutboxDatabase>(outbox: Outbox<DB>, settings: Settings) {
    let pool = <DB as sealed::Database>::own_pool(outbox.pool());
    let mut located = None;
    let mut tick = interval_at(Instant::now() + EVERY, EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        DB::follow(&pool, outbox.pool());
        let names: Arc<Names> = match &located {
            Some(names) => Arc::clone(names),
            None => match DB::located(outbox.pool(), &outbox.settings().names).await {
                Ok(names) => Arc::clone(located.insert(names)),
                Err(error) => {
                    tracing::debug!(%error, "the schema of the outbox's tables is not known yet");
                    continue;
                }
            },
        };
        match DB::reclaim(&pool, &names, settings.retention).await {
            Ok(events) => {
                failing = false;
                if events > 0 {
                    observe::reclaimed(events);
                    tracing::info!(events, "space of published events reclaimed");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(
                    %error,
                    "the space of published events cannot be reclaimed: it is tried again, and they are published all \
                     the same"
                );
            }
            Err(error) => tracing::debug!(%error, "still nothing reclaimed"),
        }
        match DB::status(&pool, &names).await {
            Ok(status) => observe::status(&status),
            Err(error) => tracing::debug!(%error, "the gauges were not read"),
        }
    }
}
