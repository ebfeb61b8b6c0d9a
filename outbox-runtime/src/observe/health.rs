//! Whether a relay or a consumer is ready, and whether it is live.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::meter::Meter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Whether a relay or a consumer is ready, and whether it is live: what the probes of an
/// orchestrator ask for.
///
/// [`Relay::health`](crate::Relay::health) and `Consumer::health` return one. It is cheap to clone,
/// and can be asked from anywhere in the process:
///
/// ```no_run
/// # mod axum {
/// #     pub mod http { pub enum StatusCode { Ok, ServiceUnavailable } }
/// #     pub mod routing { pub fn get<F, R>(handler: F) where F: Fn() -> R { drop(handler) } }
/// #     pub struct Router;
/// #     impl Router {
/// #         pub fn new() -> Self { Self }
/// #         pub fn route(self, _: &str, (): ()) -> Self { self }
/// #     }
/// # }
/// use axum::{Router, http::StatusCode, routing::get};
/// use outbox::observe::Health;
///
/// /// `/ready` for a readiness or startup probe, `/live` for a liveness probe.
/// fn probes(health: Health) -> Router {
///     let answer = |yes| if yes { StatusCode::Ok } else { StatusCode::ServiceUnavailable };
///     let live = health.clone();
///     Router::new()
///         .route("/ready", get(move || std::future::ready(answer(health.is_ready()))))
///         .route("/live", get(move || std::future::ready(answer(live.is_live()))))
/// }
/// ```
///
/// Neither answer asks the database or the brokers. While those are away, a relay and a consumer
/// wait for them, which a restart would not speed up.
#[derive(Clone)]
pub struct Health(Arc<State>);

struct State {
    phase: watch::Sender<Phase>,
    built: Instant,
    /// Milliseconds from `built` to the last turn of the main loop.
    last_turn: AtomicU64,
    /// Longest time from one turn to the next. A loop that takes longer is stuck.
    longest_turn: Duration,
    meter: Meter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It was not started yet.
    Built,
    Started,
    Ready,
    Ended,
}

impl Health {
    /// Waits until it is ready: `true`. `false` if it ended, or was dropped, before that; what its
    /// `run` returned says why.
    ///
    /// A relay is ready when it has claimed its share of the lanes for the first time, so the
    /// database is the right one and its tables are of this version. A consumer is ready when it
    /// has found its tables and its topics for retries and dead letters, and is a member of its
    /// group that knows its partitions. That may be none, if there are more members than
    /// partitions.
    #[must_use = "it may have ended instead"]
    pub async fn ready(&self) -> bool {
        let mut phase = self.0.phase.subscribe();
        let reached = phase.wait_for(|phase| matches!(phase, Phase::Ready | Phase::Ended)).await;
        reached.is_ok_and(|phase| *phase == Phase::Ready)
    }

    /// Whether it is ready now. It stays ready while the database or the brokers are away, and is
    /// no longer when its `run` has ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.phase.borrow() == Phase::Ready
    }

    /// Whether its main loop is running: `false` if the loop is stuck, has ended or was dropped. A
    /// restart is then the remedy.
    ///
    /// A relay's loop is stuck when it has not turned for three [leases], or 5 s if that is longer:
    /// other relays have taken its lanes by then. A consumer's is stuck after 30 s. What stops a
    /// loop is a task that blocks the threads of the runtime. Before `run`, this is `true`.
    ///
    /// [leases]: crate::RelayBuilder::lease
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live_at(Instant::now())
    }

    fn is_live_at(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.0.last_turn.load(Ordering::Relaxed));
        match *self.0.phase.borrow() {
            Phase::Built => true,
            Phase::Started | Phase::Ready => {
                now.saturating_duration_since(self.0.built + last) <= self.0.longest_turn
            }
            Phase::Ended => false,
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("ready", &self.is_ready())
            .field("live", &self.is_live())
            .finish()
    }
}

/// What a main loop reports to its [`Health`]. When it is dropped, the loop has ended.
#[derive(Debug)]
pub(crate) struct Heartbeat(Health);

impl Heartbeat {
    /// Health of a loop that must turn at least once in `longest_turn`.
    pub(crate) fn new(longest_turn: Duration, meter: Meter) -> Self {
        Self(Health(Arc::new(State {
            phase: watch::Sender::new(Phase::Built),
            built: Instant::now(),
            last_turn: AtomicU64::new(0),
            longest_turn,
            meter,
        })))
    }

    pub(crate) fn health(&self) -> Health {
        self.0.clone()
    }

    /// Where the loop reports its metrics.
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.0.meter
    }

    /// Reports a turn of the loop, and returns when the next is due at the latest.
    pub(crate) fn turn(&self) -> Instant {
        let now = Instant::now();
        self.turn_at(now);
        now + self.0.0.longest_turn / 3
    }

    fn turn_at(&self, now: Instant) {
        let State { phase, built, last_turn, meter, .. } = &*self.0.0;
        let since = now.saturating_duration_since(*built).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let before = last_turn.swap(since, Ordering::Relaxed);
        // It turns thousands of times a second.
        if since / 1_000 != before / 1_000 || *phase.borrow() == Phase::Built {
            meter.turned();
        }
        if *phase.borrow() == Phase::Built {
            phase.send_replace(Phase::Started);
        }
    }

    pub(crate) fn ready(&self) {
        if !self.0.is_ready() {
            self.0.0.phase.send_replace(Phase::Ready);
        }
    }

    /// Awaits the work before a main loop begins, and reports turns during it.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))] // a consumer is Kafka's
    pub(crate) async fn turning<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let next = self.turn();
            tokio::select! {
                done = work.as_mut() => return done,
                () = sleep_until(next) => {}
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.0.phase.send_replace(Phase::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_loop_that_is_stuck_is_not_live_until_it_turns_again() {
        let heartbeat = Heartbeat::new(5 * SECOND, Meter::default());
        let (health, begun) = (heartbeat.health(), Instant::now());
        let year = 365 * 24 * 3600 * SECOND;
        assert!(health.is_live_at(begun + year), "it was not started yet");
        heartbeat.turn_at(begun + SECOND);
        assert!(health.is_live_at(begun + 5 * SECOND));
        assert!(!health.is_live_at(begun + 7 * SECOND), "no turn for more than 5 s");
        heartbeat.turn_at(begun + 8 * SECOND);
        assert!(health.is_live_at(begun + 12 * SECOND));
        heartbeat.ready();
        assert!(!health.is_live_at(begun + 14 * SECOND), "also when it has been ready");
        assert!(health.is_live_at(begun), "a clock that goes back is not taken for a long turn");
    }

    #[tokio::test]
    async fn who_waits_for_a_loop_to_be_ready_learns_of_its_end_too() {
        let heartbeat = Heartbeat::new(SECOND, Meter::default());
        let health = heartbeat.health();
        heartbeat.turn();
        assert!(!health.is_ready());
        let waits = tokio::spawn({
            let health = health.clone();
            async move { health.ready().await }
        });
        heartbeat.ready();
        assert!(waits.await.unwrap() && health.is_ready() && health.ready().await);
        drop(heartbeat);
        assert!(!health.is_ready() && !health.is_live() && !health.ready().await);

        let never = Heartbeat::new(SECOND, Meter::default());
        let health = never.health();
        let waits = tokio::spawn(async move { health.ready().await });
        tokio::task::yield_now().await;
        drop(never);
        assert!(!waits.await.unwrap());
    }

    #[tokio::test]
    async fn work_that_blocks_its_thread_is_not_live() {
        let heartbeat = Heartbeat::new(Duration::from_millis(10), Meter::default());
        let blocks = async { std::thread::sleep(Duration::from_millis(100)) };
        heartbeat.turning(blocks).await;
        assert!(!heartbeat.health().is_live());
    }
}
