//! The loop of a relay that runs until it is told to stop.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Answered, Call, Engine, Sent};
use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::observe::target;
use crate::publish::Publisher;
use crate::relay::lane::HeldLane;
use crate::store::{LaneStore, Saved};

/// Longest time that a stopping relay waits for the database, even if its `drain_timeout` is
/// shorter.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What ended first.
enum Event<S: LaneStore> {
    Shutdown,
    OutOfTime,
    Answered(Answered<S>),
    Sent(Result<Sent<S::Cursor>, JoinError>),
    /// Lanes may have to be taken or given away.
    RungForLanes,
    RungForEvents,
    Due,
}

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// Publishes until `shutdown` resolves. `start_helpers`: starts the tasks that run beside the
    /// relay, once it can use its database; they end with this function. They are told whether
    /// the relay holds lanes.
    pub(in crate::relay) async fn run(
        mut self,
        doorbell: &Doorbell,
        start_helpers: impl FnOnce(Arc<AtomicBool>) -> JoinSet<()> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), OutboxError> {
        let lanes_here = doorbell.lanes_here();
        let (mut start_helpers, mut helpers) = (Some(start_helpers), JoinSet::new());
        let holds_lanes = Arc::<AtomicBool>::default();
        let mut shutdown = pin!(shutdown);
        let mut deadline = None::<Instant>;
        let mut call = None::<Call<S>>;
        let result = loop {
            lanes_here.are_all(self.has_all_lanes());
            holds_lanes.store(self.held().next().is_some(), Ordering::Relaxed);
            self.send_batches();
            call = call.or_else(|| self.next_call());
            if self.stopping && call.is_none() && self.is_idle() {
                break Ok(());
            }
            match self.next_event(doorbell, shutdown.as_mut(), deadline, &mut call).await {
                Event::Shutdown => deadline = Some(self.stop()),
                Event::OutOfTime => {
                    tell_out_of_time();
                    break Ok(());
                }
                Event::Answered(answered) => {
                    call = None;
                    if let Err(error) = self.answered(answered) {
                        break Err(error);
                    }
                    // Not before the store has found that it can use its database.
                    if let Some(start) = start_helpers.take_if(|_| self.database.is_usable()) {
                        helpers = start(Arc::clone(&holds_lanes));
                    }
                }
                Event::Sent(sent) => self.on_sent(sent),
                Event::RungForLanes => {
                    self.next_claim = Instant::now();
                    self.releasing.look = true;
                }
                Event::RungForEvents => {
                    self.rings += 1;
                    self.polling.rung();
                }
                Event::Due => {}
            }
        };
        self.sending.abort_all();
        self.leave(call).await;
        drop(helpers);
        tracing::info!(target: target::RELAY, published = self.published, "relay stopped");
        result
    }

    async fn next_event(
        &mut self,
        doorbell: &Doorbell,
        shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
        deadline: Option<Instant>,
        call: &mut Option<Call<S>>,
    ) -> Event<S> {
        let due = self.next_due(call.is_some()).min(self.heartbeat.turn());
        tokio::select! {
            biased;
            () = shutdown, if !self.stopping => Event::Shutdown,
            () = sleep_until(deadline.unwrap_or(due)), if deadline.is_some() => Event::OutOfTime,
            answered = answer_of(call) => Event::Answered(answered),
            Some(sent) = self.sending.join_next(), if !self.sending.is_empty() => Event::Sent(sent),
            () = doorbell.rung_for_lanes(), if !self.stopping => Event::RungForLanes,
            () = doorbell.rung_here(), if !self.stopping => Event::RungForEvents,
            () = self.memory.room_again() => Event::Due,
            () = sleep_until(due) => Event::Due,
        }
    }

    /// Stops reading, and waits for what is in flight. Returns until when.
    fn stop(&mut self) -> Instant {
        self.stopping = true;
        let at_most = self.settings.drain_timeout;
        if !self.is_idle() {
            tracing::info!(target: target::RELAY, ?at_most, "relay stops: it waits for what is in flight");
        }
        self.held_mut().for_each(HeldLane::drop_next);
        Instant::now() + at_most
    }

    /// Saves the last progress and gives the lanes back. `call`: the call of the database that is
    /// open.
    pub(super) async fn leave(&mut self, call: Option<Call<S>>) {
        let holds_lanes = !self.leases().is_empty();
        match timeout(LEAVE_TIMEOUT, self.save_and_release(call)).await {
            Ok(Ok(())) => {}
            // It has published nothing, and its error says what is wrong.
            Ok(Err(error)) if !holds_lanes => {
                tracing::debug!(target: target::RELAY, %error, "the relay could not sign off");
            }
            Ok(Err(error)) => tracing::warn!(
                target: target::RELAY,
                %error,
                "the relay could not save its last progress: some events may be published twice, and another relay \
                 takes over when the lease runs out"
            ),
            Err(_) => tracing::warn!(
                target: target::RELAY,
                "the database did not answer the relay as it stopped: some events may be published twice, and another \
                 relay takes over when the lease runs out"
            ),
        }
    }

    async fn save_and_release(&mut self, call: Option<Call<S>>) -> Result<(), OutboxError> {
        if let Some(call) = call {
            let (store, answer) = call.await;
            self.store = Some(store);
            if let Ok(answer) = answer {
                self.on_answer(answer);
            }
        }
        let Some(mut store) = self.store.take() else { return Ok(()) };
        let held = self.leases();
        let progress: Vec<_> = self.held_mut().filter_map(HeldLane::take_last_unsaved).collect();
        let mut saved = Ok(Saved::default());
        if !progress.is_empty() {
            saved = store.save(&progress).await;
        }
        store.release(&held, true).await?;
        self.meter.lanes_held(0);
        saved?.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn tell_out_of_time() {
    tracing::warn!(
        target: target::RELAY,
        "the relay stopped before everything in flight was acknowledged and saved: nothing is lost, and some events may \
         be published twice"
    );
}

/// The answer of the open call; waits for ever if there is none.
async fn answer_of<S: LaneStore>(call: &mut Option<Call<S>>) -> Answered<S> {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
