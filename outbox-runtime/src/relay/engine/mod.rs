//! The relay's loop. Three things run at once: one call of the database (claim, read, save, …), the
//! sending of batches of each lane, and the wait for the next event. The loop handles what ends
//! first, and starts new work.

mod calls;
mod parked;
mod reports;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::lane::{HeldLane, InFlightBatch};
use super::memory::{Held, Memory};
use super::reading::{Ask, Bounds, Reading};
use super::{Relay, Settings};
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::{self, Heartbeat, target};
use crate::outbox::Outbox;
use crate::publish::{DeliveryReport, Publisher};
use crate::record::{KeyDigest, LANES, Lane};
use crate::store::{
    Claimed, HeldElsewhere, KnownParked, LaneBatch, LaneStore, Lease, OutboxDatabase, Progress,
    Released, Saved, Settled, Share, sealed,
};

type StoreOf<DB> = <DB as sealed::Database>::LaneStore;
type CursorOf<DB> = <StoreOf<DB> as LaneStore>::Cursor;

/// Longest time between a delivery and saving the cursor; bounds what a crash republishes.
const SAVE_WITHIN: Duration = Duration::from_millis(50);
/// Longest time that a stopping relay waits for the database, even if its `drain_timeout` is
/// shorter.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of attempts to take lanes that are free but cannot be taken, and the pause between them.
const TRIES_TO_TAKE_LANES: (u32, Duration) = (40, Duration::from_millis(50));
/// Keys of refused events that are tried again in one round while none of them has been accepted.
const RETRIED_KEYS: u32 = 32;
/// The same, once one was accepted.
const RETRIED_KEYS_THEN: u32 = 1_000;

pub(super) struct Engine<DB: OutboxDatabase, P> {
    outbox: Outbox<DB>,
    publisher: Arc<P>,
    settings: Settings,
    heartbeat: Heartbeat,
    share: Share,
    /// The store; `None` while a call of the database has it.
    store: Option<StoreOf<DB>>,
    lanes: [Option<HeldLane<CursorOf<DB>>>; LANES],
    /// Number of lanes taken so far.
    holds: u64,
    /// Number of batches in flight of each lane from an earlier holding. Nothing of the lane is
    /// sent until they have their reports.
    aloft: [usize; LANES],
    sending: JoinSet<Sent<CursorOf<DB>>>,
    memory: Memory,
    reading: Reading,
    /// Whether the open call is a read.
    is_reading: bool,
    /// Whether a read came after the last look for parked events to try again.
    has_read: bool,
    /// Number of rings of the doorbell and of polls.
    rings: u64,
    next_poll: Instant,
    next_claim: Instant,
    save_by: Option<Instant>,
    releasing: Releasing,
    database: Backoff,
    database_back: Option<Instant>,
    /// Trouble with the database that was logged; `None` while it answers.
    trouble: Option<calls::Trouble>,
    /// Whether the database has answered once.
    has_started: bool,
    stopping: bool,
    published: u64,
    refusal: Option<OutboxError>,
    /// Lanes that others hold, if all were asked for.
    elsewhere: Vec<HeldElsewhere>,
}

/// Parked events that are tried again.
struct Releasing {
    look: bool,
    next_retry: Instant,
    keys: u32,
    /// Keys with events in flight or not settled yet, and their bytes.
    sending: HashMap<(Lane, KeyDigest), u64>,
    settled: VecDeque<(Lease, Settled)>,
    /// Key that is being settled now.
    settling: Option<(Lane, KeyDigest)>,
    /// When to settle again, if the database did not accept the results.
    settle_again: Option<Instant>,
    settle_backoff: Backoff,
}

impl Releasing {
    fn new(next_retry: Instant) -> Self {
        Self {
            look: true,
            next_retry,
            keys: RETRIED_KEYS,
            sending: HashMap::new(),
            settled: VecDeque::new(),
            settling: None,
            settle_again: None,
            settle_backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
        }
    }
}

/// A call of the database: it returns the store, and the answer.
type Call<DB> =
    Pin<Box<dyn Future<Output = (StoreOf<DB>, Result<Answer<CursorOf<DB>>, OutboxError>)> + Send>>;

enum Answer<C> {
    Claimed(Claimed<C>),
    Read(Vec<LaneBatch<C>>, Box<Asked>),
    Saved(Vec<Progress<C>>, Vec<Vec<Held>>, Saved),
    Released(Vec<Released>),
    Settled(Lease, Settled, Option<bool>),
    NotSettled(Lease, Settled, OutboxError),
    GaveBack,
}

/// The state of the lanes when a read began.
struct Asked {
    generations: [u64; LANES],
    asks: Vec<Ask>,
    rings: u64,
    begun: Instant,
    /// For lanes with too many parked keys to hold in memory: which keys of the batch are parked.
    parked: [Option<KnownParked>; LANES],
}

/// What was sent.
enum Sent<C> {
    Batch(InFlightBatch<C>, Vec<DeliveryReport>),
    Parked(Lease, Released, Vec<DeliveryReport>, Held),
}

impl<DB: OutboxDatabase, P: Publisher> Engine<DB, P> {
    pub(super) fn new(relay: Relay<DB, P>, share: Share) -> Self {
        let Relay { outbox, publisher, settings, heartbeat } = relay;
        let shared = outbox.settings();
        let store = DB::open_lanes(&shared.pool, &shared.names, settings.lease);
        let bounds = Bounds { rows: settings.batch_rows, bytes: settings.batch_bytes };
        let now = Instant::now();
        Self {
            publisher: Arc::new(publisher),
            share,
            store: Some(store),
            lanes: [const { None }; LANES],
            holds: 0,
            aloft: [0; LANES],
            sending: JoinSet::new(),
            memory: Memory::new(settings.memory),
            reading: Reading::new(bounds, settings.memory),
            is_reading: false,
            has_read: false,
            rings: 0,
            next_poll: now + settings.poll_interval,
            next_claim: now,
            save_by: None,
            releasing: Releasing::new(now + settings.retry_parked),
            database: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            database_back: None,
            trouble: None,
            has_started: false,
            stopping: false,
            published: 0,
            refusal: None,
            elsewhere: Vec::new(),
            outbox,
            settings,
            heartbeat,
        }
    }

    /// Publishes until `shutdown` resolves.
    pub(super) async fn run(
        mut self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), OutboxError> {
        let outbox = self.outbox.clone();
        let shared = outbox.settings();
        let doorbell = &shared.doorbell;
        let lanes_here = doorbell.lanes_here();
        // These tasks end with this function.
        let mut helpers = JoinSet::new();
        let mut listens = false;

        let mut shutdown = pin!(shutdown);
        let mut deadline = None::<Instant>;
        let mut call = None::<Call<DB>>;
        let result = loop {
            lanes_here.are_all(self.lanes.iter().all(Option::is_some));
            self.take_off();
            if call.is_none() {
                call = self.next_call();
            }
            if self.stopping && call.is_none() && self.is_idle() {
                break Ok(());
            }
            let due = self.next_due(call.is_some()).min(self.heartbeat.turn());
            tokio::select! {
                biased;
                () = shutdown.as_mut(), if !self.stopping => {
                    self.stop();
                    deadline = Some(Instant::now() + self.settings.drain_timeout);
                }
                () = sleep_until(deadline.unwrap_or(due)), if deadline.is_some() => {
                    tracing::warn!(
                        target: target::RELAY,
                        "the relay stopped before everything in flight was acknowledged and saved: nothing is lost, \
                         and some events may be published twice"
                    );
                    break Ok(());
                }
                answer = ended(&mut call) => {
                    call = None;
                    if let Err(error) = self.answered(answer) {
                        break Err(error);
                    }
                    // Not before the store has found that it can use its database.
                    if !listens && self.database_back.is_none() {
                        listens = true;
                        helpers.spawn(super::maintenance::run(outbox.clone(), self.settings.clone()));
                        helpers.spawn(DB::listen_to_others(
                            shared.pool.clone(),
                            Arc::clone(&shared.names),
                            Arc::clone(doorbell),
                        ));
                    }
                }
                Some(sent) = self.sending.join_next(), if !self.sending.is_empty() => self.landed(sent),
                () = doorbell.rung_for_lanes(), if !self.stopping => {
                    self.next_claim = Instant::now();
                    self.releasing.look = true;
                }
                () = doorbell.rung_here(), if !self.stopping => self.rings += 1,
                () = sleep_until(due) => {}
            }
        };
        self.sending.abort_all();
        self.leave(call).await;
        tracing::info!(target: target::RELAY, published = self.published, "relay stopped");
        result
    }

    /// Publishes what is committed by now.
    pub(super) async fn drain(mut self) -> Result<u64, OutboxError> {
        let result = match self.take_all_lanes().await {
            Ok(()) => self.drain_lanes().await,
            Err(error) => Err(error),
        };
        self.stopping = true;
        self.leave(None).await;
        result.map(|()| self.published)
    }

    async fn take_all_lanes(&mut self) -> Result<(), OutboxError> {
        let (tries, pause) = TRIES_TO_TAKE_LANES;
        for _ in 0..tries {
            self.next_claim = Instant::now();
            if let Some(call) = self.next_call() {
                self.ask(call).await?;
            }
            if self.lanes.iter().all(Option::is_some) {
                return Ok(());
            }
            if !self.elsewhere.is_empty() {
                return Err(held_elsewhere(&self.elsewhere));
            }
            // Perhaps a lane is changing hands at this moment.
            sleep(pause).await;
        }
        let lanes = Lane::all().filter(|lane| self.lanes[lane.index()].is_none()).map(Lane::number);
        Err(OutboxError::new(
            ErrorKind::LeaseLost,
            format!(
                "no relay holds the lanes {:?}, and they cannot be taken: a transaction that is open in the database has \
                 locked their rows. Their events are still in the outbox; end that transaction, and drain again",
                lanes.collect::<Vec<_>>()
            ),
        ))
    }

    async fn ask(&mut self, call: Call<DB>) -> Result<(), OutboxError> {
        let (store, answer) = call.await;
        self.store = Some(store);
        self.take_in(answer?);
        Ok(())
    }

    async fn drain_lanes(&mut self) -> Result<(), OutboxError> {
        self.rings = 1;
        loop {
            self.take_off();
            let call = if self.refusal.is_none() { self.next_call() } else { None };
            match call {
                Some(call) => {
                    self.ask(call).await?;
                    if self.lanes.iter().flatten().count() < LANES {
                        return Err(OutboxError::new(
                            ErrorKind::LeaseLost,
                            "another relay has taken over lanes, and publishes their events",
                        ));
                    }
                }
                None if !self.sending.is_empty() => {
                    if let Some(sent) = self.sending.join_next().await {
                        self.landed(sent);
                    }
                }
                None => match self.refusal.take() {
                    Some(refusal) => return Err(refusal),
                    None if self.lanes.iter().flatten().all(|lane| lane.is_quiet(self.rings)) => {
                        return Ok(());
                    }
                    None => sleep_until(self.next_due(false)).await,
                },
            }
        }
    }

    /// Stops reading, and waits for what is in flight.
    fn stop(&mut self) {
        self.stopping = true;
        if !self.is_idle() {
            tracing::info!(target: target::RELAY, at_most = ?self.settings.drain_timeout, "relay stops: it waits for what is in flight");
        }
        for lane in self.lanes.iter_mut().flatten() {
            lane.drop_next();
        }
    }

    fn is_idle(&self) -> bool {
        self.sending.is_empty()
            && self.releasing.settled.is_empty()
            && self.lanes.iter().flatten().all(HeldLane::is_idle)
    }

    /// Sends the batches that are ready.
    fn take_off(&mut self) {
        let now = Instant::now();
        for index in 0..LANES {
            if self.aloft[index] > 0 || self.stopping {
                continue;
            }
            let most = self.reading.of_lane();
            let Some(batch) =
                self.lanes[index].as_mut().and_then(|lane| lane.next_batch(now, most))
            else {
                continue;
            };
            observe::batch(batch.events.len());
            tracing::debug!(target: target::RELAY, lane = index, events = batch.events.len(), "batch sent");
            let publisher = Arc::clone(&self.publisher);
            self.sending.spawn(async move {
                let reports = match batch.batch() {
                    batch if batch.events.is_empty() => Vec::new(),
                    batch => publisher.publish(batch).await,
                };
                Sent::Batch(batch, reports)
            });
        }
    }

    /// The next time at which there may be something to do. While a call of the database is open,
    /// only retries of lanes count.
    fn next_due(&self, asking: bool) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let lanes =
            self.lanes.iter().flatten().filter(|lane| self.aloft[lane.lease.lane.index()] == 0);
        let mut due = lanes.filter_map(HeldLane::not_before).fold(far, Instant::min);
        if asking {
            return due;
        }
        if let Some(back) = self.database_back.filter(|back| *back > now) {
            return due.min(back);
        }
        if !self.stopping {
            due = due.min(self.next_claim);
            if self.share == Share::Fair {
                due = due.min(self.next_poll);
            }
            // Without room, it waits until something is delivered.
            if self.room_for_released().is_some() {
                due = due.min(self.releasing.next_retry);
            }
        }
        due = due.min(self.releasing.settle_again.unwrap_or(far));
        self.save_by.map_or(due, |by| due.min(by))
    }

    /// Saves the last progress and gives the lanes back. `call`: the call of the database that is
    /// open.
    async fn leave(&mut self, call: Option<Call<DB>>) {
        let left = async {
            if let Some(call) = call {
                let (store, answer) = call.await;
                self.store = Some(store);
                if let Ok(answer) = answer {
                    self.take_in(answer);
                }
            }
            let Some(mut store) = self.store.take() else { return Ok(()) };
            let held = self.leases();
            let progress: Vec<_> =
                self.lanes.iter_mut().flatten().filter_map(HeldLane::take_last_unsaved).collect();
            let mut saved = Ok(Saved::default());
            if !progress.is_empty() {
                saved = store.save(&progress).await;
            }
            store.release(&held, true).await?;
            saved?.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
        };
        match tokio::time::timeout(LEAVE_TIMEOUT, left).await {
            Ok(Ok(())) => {}
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
}

fn held_elsewhere(lanes: &[HeldElsewhere]) -> OutboxError {
    let mut relays = BTreeMap::<_, (Vec<i16>, i64)>::new();
    for held in lanes {
        let (lanes, for_millis) = relays.entry(held.owner).or_default();
        lanes.push(held.lane.number());
        *for_millis = held.for_millis;
    }
    let relays: Vec<String> = relays
        .into_iter()
        .map(|(owner, (lanes, for_millis))| {
            format!(
                "relay {owner} holds the lanes {lanes:?}, for {} s unless it renews them",
                for_millis / 1_000
            )
        })
        .collect();
    OutboxError::new(
        ErrorKind::LeaseLost,
        format!(
            "another relay holds {} of the {LANES} lanes, and publishes their events: {}. To drain here, stop it (a relay \
             that died loses them when its lease runs out)",
            lanes.len(),
            relays.join("; ")
        ),
    )
}

/// The answer of the open call; waits for ever if there is none.
async fn ended<T>(call: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
