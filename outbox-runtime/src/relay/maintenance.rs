//! What a relay does besides publishing: it reclaims space and sets the gauges.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::settings::Settings;
use crate::error::OutboxError;
use crate::observe::{Gauges, target};
use crate::outbox::{Outbox, parked_topics};
use crate::store::{Names, OutboxDatabase};

/// Time between two rounds.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until dropped, on a connection of its own: the relay must not wait for it.
pub(super) async fn run<DB: OutboxDatabase>(outbox: Outbox<DB>, settings: Settings) {
    let pool = DB::own_pool(outbox.pool());
    let mut located = None;
    let mut tick = interval_at(Instant::now() + MAINTENANCE_INTERVAL, MAINTENANCE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let meter = &outbox.core().meter;
    let mut gauges = Gauges::new(meter.clone());
    let (mut failing, mut looked_for_others) = (false, false);
    loop {
        tick.tick().await;
        DB::follow(&pool, outbox.pool());
        let names: Arc<Names> = match &located {
            Some(names) => Arc::clone(names),
            None => match DB::located(outbox.pool(), &outbox.core().names).await {
                Ok(names) => Arc::clone(located.insert(names)),
                Err(error) => {
                    tracing::debug!(target: target::RELAY, %error, "the schema of the outbox's tables is not known yet");
                    continue;
                }
            },
        };
        if !looked_for_others {
            looked_for_others = true;
            say_if_unused::<DB>(&pool, &names).await;
        }
        match DB::reclaim(&pool, &names, settings.retention).await {
            Ok(events) => {
                failing = false;
                if events > 0 {
                    meter.reclaimed(events);
                    tracing::info!(target: target::RELAY, events, "space of published events reclaimed");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(
                    target: target::RELAY,
                    %error,
                    "the space of published events cannot be reclaimed: it is tried again, and they are published all \
                     the same"
                );
            }
            Err(error) => tracing::debug!(target: target::RELAY, %error, "still nothing reclaimed"),
        }
        if let Err(error) = set::<DB>(&mut gauges, &pool, &names).await {
            gauges.not_read();
            tracing::debug!(target: target::RELAY, %error, "the gauges were not read");
        }
    }
}

async fn set<DB: OutboxDatabase>(
    gauges: &mut Gauges,
    pool: &sqlx::Pool<DB>,
    names: &Names,
) -> Result<(), OutboxError> {
    let status = DB::status(pool, names).await?;
    gauges.set(&status, &parked_topics::<DB>(&status, pool, names).await?);
    Ok(())
}

/// Warns of a mistyped schema or prefix, with which a relay holds all lanes, publishes nothing, and
/// looks healthy.
async fn say_if_unused<DB: OutboxDatabase>(pool: &sqlx::Pool<DB>, names: &Names) {
    match DB::others_if_unused(pool, names).await {
        Ok(others) if !others.is_empty() => tracing::warn!(
            target: target::RELAY,
            outbox = names.identity(),
            others = others.join(", "),
            "nothing was ever emitted into this outbox, and there are others in the database: the relay publishes the \
             events of this one only. Are schema and prefix as those who emit have them?"
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(target: target::RELAY, %error, "other outboxes were not looked for")
        }
    }
}
