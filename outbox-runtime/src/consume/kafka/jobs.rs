//! The jobs of a consumer: which messages are being handled, and which wait: for an earlier one of
//! their key, or for a free handler with which they share a transaction.

use std::collections::{HashMap, HashSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::budget::Held;
use super::client::TopicPartition;
use super::forward::Forwarder;
use crate::consume::key_queue::KeyQueues;
use crate::consume::message::{History, Message};
use crate::consume::policy::Settled;
use crate::consume::sharing::{Ready, Share, Sharing};
use crate::consume::worker::{GroupWorker, Unsettled};
use crate::error::{ErrorKind, OutboxError};
use crate::store::OutboxDatabase;

pub(super) struct Jobs<DB: OutboxDatabase> {
    worker: Arc<GroupWorker<DB, Forwarder>>,
    /// Jobs whose messages have keys, behind others of theirs.
    queues: KeyQueues<Job>,
    /// Jobs that may share a transaction.
    ready: Ready<Job>,
    /// The next permit to handle events, if any are ready. It keeps its place among those who wait
    /// for one.
    permit: Option<Permit>,
    tasks: JoinSet<Ended>,
    running: HashMap<Id, Running>,
    /// Whether no job is started any more.
    closed: bool,
}

type Permit = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A message to be handled.
pub(super) struct Job {
    message: Message,
    history: History,
    place: TopicPartition,
    /// Its bytes, which count as in hand until it is dropped.
    held: Held,
    /// That of its partition.
    generation: u64,
    ticket: u64,
    key: Option<u64>,
    share: Option<Share>,
}

/// A task, and what it handles.
struct Running {
    place: TopicPartition,
    generation: u64,
    tickets: Vec<u64>,
    /// Each once.
    keys: Vec<u64>,
    handle: AbortHandle,
    /// Whether another member has its partition.
    revoked: bool,
}

/// How a task has ended.
enum Ended {
    Alone(Result<Settled, Unsettled>),
    Shared(Vec<Settled>),
    /// Its jobs, each of which is to be handled alone.
    RolledBack(Vec<Job>),
}

/// What happens to jobs.
pub(super) enum Turn {
    Ended(TaskEnded),
    Permitted(OwnedSemaphorePermit),
}

/// A task that has ended.
pub(super) struct TaskEnded(Result<(Id, Ended), JoinError>);

/// Messages of a partition that are done.
pub(super) struct Done {
    pub(super) place: TopicPartition,
    pub(super) generation: u64,
    pub(super) tickets: Vec<u64>,
}

impl Job {
    pub(super) fn new(
        message: Message,
        history: History,
        held: Held,
        (generation, ticket): (u64, u64),
        key: Option<u64>,
    ) -> Self {
        let place = (message.topic.clone(), message.partition);
        Self { message, history, place, held, generation, ticket, key, share: None }
    }
}

impl Sharing for Job {
    type Partition = TopicPartition;

    fn partition(&self) -> &TopicPartition {
        &self.place
    }

    fn number(&self) -> u64 {
        self.ticket
    }

    fn key(&self) -> Option<u64> {
        self.key
    }

    fn share(&self) -> Option<Share> {
        self.share
    }
}

impl<DB: OutboxDatabase> Jobs<DB> {
    pub(super) fn new(worker: Arc<GroupWorker<DB, Forwarder>>) -> Self {
        Self {
            worker,
            queues: KeyQueues::default(),
            ready: Ready::default(),
            permit: None,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            closed: false,
        }
    }

    /// Number of running tasks.
    pub(super) fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Handles a message as soon as the earlier ones of its key are done.
    pub(super) fn enter(&mut self, mut job: Job) {
        let events = self.worker.shares(&job.message, &job.history);
        job.share = events.map(|events| Share { events, bytes: job.held.bytes() });
        let job = match job.key {
            Some(key) => self.queues.enter(key, job),
            None => Some(job),
        };
        if let Some(job) = job {
            self.start(job);
        }
    }

    /// What happens next. Nothing is lost if this is dropped.
    pub(super) async fn turn(&mut self) -> Turn {
        let Self { tasks, permit, .. } = self;
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => Turn::Ended(TaskEnded(ended)),
            permit = permitted(permit) => Turn::Permitted(permit),
        }
    }

    fn start(&mut self, job: Job) {
        if self.closed {
            return;
        }
        match self.ready.enter(job) {
            Some(job) => self.start_alone(job, None),
            None => self.ask_for_permit(),
        }
    }

    fn ask_for_permit(&mut self) {
        if self.permit.is_none() && !self.ready.is_empty() {
            self.permit = Some(Box::pin(Arc::clone(&self.worker.slots).acquire_owned()));
        }
    }

    /// `slot`: if a handler may run already.
    fn start_alone(&mut self, job: Job, slot: Option<OwnedSemaphorePermit>) {
        let Job { message, history, place, held, generation, ticket, key, .. } = job;
        let worker = Arc::clone(&self.worker);
        let handle = self.tasks.spawn(async move {
            let _held = held;
            Ended::Alone(worker.settle(&message, &history, slot).await)
        });
        let (tickets, keys) = (vec![ticket], key.into_iter().collect());
        let running = Running { place, generation, tickets, keys, handle, revoked: false };
        self.running.insert(running.handle.id(), running);
    }

    /// A handler is free: starts what is ready, and waits for nothing more.
    pub(super) fn permitted(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = None;
        let mut jobs = self.ready.next(&mut self.queues);
        self.ask_for_permit();
        if jobs.len() <= 1 {
            if let Some(job) = jobs.pop() {
                self.start_alone(job, Some(permit));
            }
            return;
        }
        let Some(Job { place, generation, .. }) = jobs.first() else { return };
        let (place, generation) = (place.clone(), *generation);
        let tickets = jobs.iter().map(|job| job.ticket).collect();
        let mut known = HashSet::new();
        let keys = jobs.iter().filter_map(|job| job.key).filter(|key| known.insert(*key)).collect();
        let worker = Arc::clone(&self.worker);
        let handle = self.tasks.spawn(async move {
            let messages: Vec<_> = jobs.iter().map(|job| (&job.message, &job.history)).collect();
            let settled = worker.settle_shared(&messages).await;
            drop(permit);
            settled.map_or(Ended::RolledBack(jobs), Ended::Shared)
        });
        let running = Running { place, generation, tickets, keys, handle, revoked: false };
        self.running.insert(running.handle.id(), running);
    }

    /// Returns the messages that are done, if any are.
    pub(super) fn ended(&mut self, ended: TaskEnded) -> Result<Option<Done>, OutboxError> {
        let (id, ended) = match ended.0 {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running { place, generation, tickets, keys, revoked, .. }) =
            self.running.remove(&id)
        else {
            return Ok(None);
        };
        let is_done = match ended {
            Ok(Ended::Alone(Err(Unsettled::Stopped))) => return Ok(None),
            Ok(Ended::Alone(Err(Unsettled::Fatal(error)))) => return Err(error),
            Ok(Ended::Alone(Ok(settled))) => {
                self.worker.count(settled);
                true
            }
            Ok(Ended::Shared(settled)) => {
                settled.into_iter().for_each(|settled| self.worker.count(settled));
                self.ready.committed(&place);
                true
            }
            Ok(Ended::RolledBack(jobs)) => {
                // Aborted too late, it has ended by itself.
                if !revoked {
                    self.rolled_back(&place, jobs);
                }
                false
            }
            Err(error) if error.is_cancelled() => false,
            Err(error) => {
                let bug =
                    "a task of the consumer panicked, which is a bug of it; its event comes again";
                return Err(OutboxError::new(ErrorKind::Handler, bug).with_source(error));
            }
        };
        for key in keys {
            self.start_next(key);
        }
        Ok(is_done.then_some(Done { place, generation, tickets }))
    }

    /// Has each job handled alone. Those with a key are before the others of it again.
    fn rolled_back(&mut self, place: &TopicPartition, jobs: Vec<Job>) {
        if self.closed {
            return;
        }
        let waiting = self.ready.rolled_back(place, jobs.len());
        for job in jobs.into_iter().rev() {
            let job = Job { share: None, ..job };
            match job.key {
                Some(key) => self.queues.put_back(key, job),
                None => self.start_alone(job, None),
            }
        }
        waiting.into_iter().for_each(|job| self.start_alone(job, None));
    }

    fn start_next(&mut self, key: u64) {
        if let Some(job) = self.queues.next(key) {
            self.start(job);
        }
    }

    /// Another member has the partition now. It receives what is not done here; the inbox knows
    /// what is.
    pub(super) fn revoked(&mut self, place: &TopicPartition) {
        self.queues.retain(|job| job.place != *place);
        let waiting = self.ready.revoked(place);
        for key in waiting.into_iter().filter_map(|job| job.key) {
            self.start_next(key);
        }
        for running in self.running.values_mut().filter(|running| running.place == *place) {
            running.revoked = true;
            running.handle.abort();
        }
    }

    /// Starts nothing more. What waits comes again.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queues = KeyQueues::default();
        self.ready = Ready::default();
        self.permit = None;
    }

    /// Ends the running jobs, which are rolled back.
    pub(super) async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn permitted(permit: &mut Option<Permit>) -> OwnedSemaphorePermit {
    match permit {
        // Its semaphore is never closed.
        Some(waiting) => match waiting.await {
            Ok(permit) => permit,
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}
