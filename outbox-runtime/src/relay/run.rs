//! The relay's loop: save what was delivered → renew the lease → read → publish.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::retry::LaneRetries;
use super::{Relay, Settings};
use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
use crate::outbox::Outbox;
use crate::publish::{DeliveryReport, Publisher};
use crate::record::{LANES, Lane, StoredEvent};
use crate::store::{LaneBatch, OutboxDatabase, ReadLimits, Store, sealed};

type StoreOf<DB> = <DB as sealed::Database>::Store;
type CursorOf<DB> = <StoreOf<DB> as Store>::Cursor;

pub(super) struct Run<'a, DB: OutboxDatabase, P> {
    outbox: &'a Outbox<DB>,
    publisher: &'a P,
    settings: &'a Settings,
    store: StoreOf<DB>,
    lanes: usize,
    next_claim: Instant,
    /// Delivered, and not yet saved: the first thing to do when the database is back.
    unsaved: Vec<(Lane, CursorOf<DB>)>,
    /// Lanes to read again from there, once it is saved.
    to_rewind: Vec<Lane>,
    retries: LaneRetries,
    database: Backoff,
    database_away: bool,
    published: u64,
}

/// What a turn of the loop ended with.
enum Next {
    GoOn,
    Stop,
}

/// What came of publishing what was read.
struct Published {
    /// An event that the broker refuses for itself.
    refusal: Option<OutboxError>,
    /// The shutdown's deadline passed before all was sent.
    cut_short: bool,
}

/// The user's future, which may be asked again after it has resolved.
struct Shutdown<'a> {
    future: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
    requested: bool,
}

impl Shutdown<'_> {
    async fn requested(&mut self) {
        if !self.requested {
            self.future.as_mut().await;
            self.requested = true;
        }
    }
}

impl<'a, DB: OutboxDatabase, P: Publisher> Run<'a, DB, P> {
    pub(super) fn new(relay: &'a Relay<DB, P>) -> Self {
        let Relay { outbox, publisher, settings } = relay;
        let shared = outbox.settings();
        Self {
            outbox,
            publisher,
            settings,
            store: <DB as sealed::Database>::open_store(&shared.pool, &shared.names, settings.lease),
            lanes: 0,
            next_claim: Instant::now(),
            unsaved: Vec::new(),
            to_rewind: Vec::new(),
            retries: LaneRetries::new(),
            database: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            database_away: false,
            published: 0,
        }
    }

    pub(super) async fn until(
        mut self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), OutboxError> {
        let shared = self.outbox.settings();
        // Ends with this function.
        let mut listener = tokio::task::JoinSet::new();
        listener.spawn(DB::listen_to_others(&shared.pool, &shared.names, shared.doorbell.clone()));

        let mut shutdown = Shutdown { future: pin!(shutdown), requested: false };
        let result = loop {
            match self.turn(&mut shutdown).await {
                Ok(Next::GoOn) => {}
                Ok(Next::Stop) => break Ok(()),
                Err(error) if is_permanent(&error) => break Err(error),
                Err(error) => {
                    let pause = self.database_failed(&error);
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = shutdown.requested() => break Ok(()),
                    }
                }
            }
        };
        match tokio::time::timeout(self.settings.drain_timeout, self.leave()).await {
            Ok(Ok(())) => tracing::info!(published = self.published, "relay stopped"),
            Ok(Err(error)) => tracing::warn!(
                %error,
                "relay stopped, and could not save its last progress: some events may be published twice, and \
                 another relay takes over when the lease runs out"
            ),
            Err(_) => tracing::warn!(
                "relay stopped without an answer of the database: some events may be published twice, and another \
                 relay takes over when the lease runs out"
            ),
        }
        result
    }

    pub(super) async fn drain(mut self) -> Result<u64, OutboxError> {
        self.claim().await?;
        let result = self.drain_lanes().await;
        let left = self.leave().await;
        result.and(left.map(|()| self.published))
    }

    async fn drain_lanes(&mut self) -> Result<(), OutboxError> {
        if self.lanes < LANES {
            return Err(OutboxError::new(
                ErrorKind::LeaseLost,
                format!(
                    "another relay holds {} of the {LANES} lanes, and publishes their events. To drain here, stop it \
                     (a relay that died loses them when its lease runs out)",
                    LANES - self.lanes
                ),
            ));
        }
        loop {
            let batches = self.store.read(&self.limits()).await?;
            if batches.is_empty() {
                match self.retries.next_due() {
                    Some(due) => sleep_until(due).await,
                    None => return Ok(()),
                }
                continue;
            }
            let mut never = pin!(std::future::pending());
            let published =
                self.publish(batches, &mut Shutdown { future: never.as_mut(), requested: false }).await;
            self.save().await?;
            published.refusal.map_or(Ok(()), Err)?;
        }
    }

    /// Once through: save, renew, read, publish; or wait for something to read.
    async fn turn(&mut self, shutdown: &mut Shutdown<'_>) -> Result<Next, OutboxError> {
        let batches = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(Next::Stop),
            batches = self.read() => batches?,
        };
        self.database_answered();
        if batches.is_empty() {
            return Ok(self.wait(shutdown).await);
        }
        let published = self.publish(batches, shutdown).await;
        if published.cut_short {
            return Ok(Next::Stop);
        }
        self.save().await?;
        Ok(Next::GoOn)
    }

    async fn read(&mut self) -> Result<Vec<LaneBatch<CursorOf<DB>>>, OutboxError> {
        self.save().await?;
        if self.next_claim <= Instant::now() {
            self.claim().await?;
        }
        self.store.read(&self.limits()).await
    }

    async fn claim(&mut self) -> Result<(), OutboxError> {
        let before = self.lanes;
        self.lanes = self.store.claim().await?;
        self.next_claim = Instant::now() + self.settings.lease / 3;
        if before != self.lanes {
            tracing::info!(lanes = self.lanes, "relay holds lanes");
        }
        Ok(())
    }

    fn limits(&self) -> ReadLimits {
        let now = Instant::now();
        let mut rows = [0; LANES];
        for lane in Lane::all() {
            rows[lane.index()] = self.retries.limit(lane, self.settings.batch_rows, now);
        }
        ReadLimits { rows, bytes: self.settings.batch_bytes }
    }

    /// Waits for the doorbell, the next poll, a lease to renew or a lane to retry.
    async fn wait(&self, shutdown: &mut Shutdown<'_>) -> Next {
        let poll = Instant::now() + self.settings.poll_interval;
        let due = self.retries.next_due().into_iter().fold(poll.min(self.next_claim), Instant::min);
        tokio::select! {
            () = self.outbox.settings().doorbell.rung_here() => Next::GoOn,
            () = sleep_until(due) => Next::GoOn,
            () = shutdown.requested() => Next::Stop,
        }
    }

    /// Publishes what was read, and notes what became of it. Lanes that had an event refused are published after the
    /// others, each alone: the broker may refuse a whole batch for one event in it.
    async fn publish(
        &mut self,
        batches: Vec<LaneBatch<CursorOf<DB>>>,
        shutdown: &mut Shutdown<'_>,
    ) -> Published {
        let (suspect, healthy): (Vec<_>, Vec<_>) =
            batches.into_iter().partition(|batch| self.retries.is_suspect(batch.lane));
        let mut published = Published { refusal: None, cut_short: false };
        let together = (!healthy.is_empty()).then_some(healthy);
        for group in together.into_iter().chain(suspect.into_iter().map(|batch| vec![batch])) {
            let Some(reports) = self.send(&group, shutdown).await else {
                published.cut_short = true;
                break;
            };
            if let Some(refusal) = self.settle(group, reports) {
                published.refusal.get_or_insert(refusal);
            }
        }
        published
    }

    /// Sends and waits for all reports, keeping the lease meanwhile. `None`: the shutdown's deadline passed.
    async fn send(
        &mut self,
        batches: &[LaneBatch<CursorOf<DB>>],
        shutdown: &mut Shutdown<'_>,
    ) -> Option<Vec<DeliveryReport>> {
        let events: Vec<&StoredEvent> = batches.iter().flat_map(|batch| &batch.events).collect();
        let mut publish = pin!(self.publisher.publish(&events));
        let mut deadline = None;
        loop {
            tokio::select! {
                biased;
                reports = publish.as_mut() => return Some(reports),
                // What was read is waited for even during a shutdown; only its deadline cuts that short.
                () = shutdown.requested(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + self.settings.drain_timeout);
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    tracing::warn!(
                        events = events.len(),
                        "shutdown before the broker acknowledged all events: the others stay in the outbox, and \
                         some may be published twice"
                    );
                    return None;
                }
                () = sleep_until(self.next_claim) => {
                    self.next_claim = Instant::now() + self.settings.lease / 3;
                    // A database that is away by now shows at the next save.
                    if let Ok(lanes) = self.store.claim().await {
                        self.lanes = lanes;
                    }
                }
            }
        }
    }

    /// Takes in the reports of what was sent together: progress to save, lanes to retry. Returns the refusal of an
    /// event that was sent alone, and so is refused for itself.
    fn settle(
        &mut self,
        batches: Vec<LaneBatch<CursorOf<DB>>>,
        reports: Vec<DeliveryReport>,
    ) -> Option<OutboxError> {
        let mut reports = reports.into_iter();
        let mut refusal = None;
        for batch in batches {
            let reports: Vec<_> = reports.by_ref().take(batch.events.len()).collect();
            let delivered = reports.iter().take_while(|report| report.is_delivered()).count();
            self.published += delivered as u64;
            if delivered > 0 {
                self.unsaved.push((batch.lane, self.store.cursor_after(&batch, delivered)));
            }
            if delivered == batch.events.len() {
                self.retries.succeeded(batch.lane);
                continue;
            }
            self.to_rewind.push(batch.lane);
            let sent_alone = self.retries.is_suspect(batch.lane);
            let attempt = self.retries.failed(batch.lane, Instant::now());
            let Some(DeliveryReport::Failed(error)) = reports.into_iter().nth(delivered) else { continue };
            let record = &batch.events[delivered].record;
            let (lane, event_id, topic) = (batch.lane.number(), record.id, &*record.topic);
            if sent_alone {
                tracing::error!(
                    lane, %event_id, topic, attempt, %error,
                    "event not published: its lane waits and tries again, the others go on"
                );
                refusal = Some(error);
            } else {
                tracing::warn!(lane, %event_id, topic, %error, "batch not published: its events are tried one by one");
            }
        }
        refusal
    }

    async fn save(&mut self) -> Result<(), OutboxError> {
        if !self.unsaved.is_empty() {
            self.store.save(self.unsaved.clone()).await?;
            self.unsaved.clear();
        }
        for lane in self.to_rewind.drain(..) {
            self.store.rewind(lane);
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), OutboxError> {
        self.save().await?;
        self.store.release().await
    }

    fn database_failed(&mut self, error: &OutboxError) -> Duration {
        if !self.database_away {
            self.database_away = true;
            tracing::warn!(
                %error,
                "the relay cannot use the database: nothing is lost, it tries again until it can. Is the address right?"
            );
        }
        self.database.pause()
    }

    fn database_answered(&mut self) {
        self.database.reset();
        if self.database_away {
            self.database_away = false;
            tracing::info!("the relay can use the database again");
        }
    }
}

/// Whether waiting cannot mend it: missing tables, a wrong password, a database that does not exist.
fn is_permanent(error: &OutboxError) -> bool {
    let refused_for_good = |code: &str| code.starts_with("28") || code == "3D000";
    match error.kind() {
        ErrorKind::NotMigrated | ErrorKind::Config => true,
        _ => error
            .as_database_error()
            .and_then(|error| error.as_database_error())
            .and_then(|error| error.code())
            .is_some_and(|code| refused_for_good(&code)),
    }
}
