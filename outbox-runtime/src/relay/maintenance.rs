//! What a relay does besides publishing: it reclaims space and sets the gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::settings::Settings;
use crate::error::OutboxError;
use crate::observe::{Gauges, target};
use crate::outbox::{Outbox, parked_topics};
use crate::store::{Names, OutboxDatabase};

/// Time between two rounds.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two rounds of a relay without lanes. A round concerns the whole outbox, and a relay
/// that holds lanes does the same work. Without this, the rounds of many relays in reserve are most
/// of what they cost the database.
const INTERVAL_WITHOUT_LANES: Duration = Duration::from_secs(30);

/// When there is a round.
#[derive(Debug, Default)]
struct Rounds {
    last: Option<Instant>,
}

impl Rounds {
    /// Whether there is a round now; asked every [`MAINTENANCE_INTERVAL`].
    fn is_due(&mut self, holds_lanes: bool, now: Instant) -> bool {
        let due = holds_lanes || self.last.is_none_or(|last| now >= last + INTERVAL_WITHOUT_LANES);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// Runs until dropped, on a connection of its own: the relay must not wait for it. `holds_lanes`:
/// whether the relay holds any now.
pub(super) async fn run<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
    settings: Settings,
    holds_lanes: Arc<AtomicBool>,
) {
    let pool = DB::own_pool(outbox.pool());
    let mut located = None;
    let mut tick = interval_at(Instant::now() + MAINTENANCE_INTERVAL, MAINTENANCE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let meter = &outbox.core().meter;
    let mut gauges = Gauges::new(meter.clone());
    let (mut failing, mut looked_for_others) = (false, false);
    let mut rounds = Rounds::default();
    loop {
        let now = tick.tick().await;
        if !rounds.is_due(holds_lanes.load(Ordering::Relaxed), now) {
            continue;
        }
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
        // Without metrics, nobody would see them.
        if cfg!(feature = "metrics")
            && let Err(error) = set::<DB>(&mut gauges, &pool, &names).await
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_without_lanes_has_a_round_every_half_minute_and_at_once_when_it_holds_some() {
        let (start, mut rounds) = (Instant::now(), Rounds::default());
        let mut due =
            |holds_lanes, seconds| rounds.is_due(holds_lanes, start + Duration::from_secs(seconds));
        let idle: Vec<u64> = (5..=70).step_by(5).filter(|second| due(false, *second)).collect();
        assert_eq!(idle, [5, 35, 65]);
        let busy: Vec<u64> = (75..=90).step_by(5).filter(|second| due(true, *second)).collect();
        assert_eq!(busy, [75, 80, 85, 90]);
        let idle: Vec<u64> = (95..=125).step_by(5).filter(|second| due(false, *second)).collect();
        assert_eq!(idle, [120]);
    }
}
