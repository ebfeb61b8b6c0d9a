//! The consumer's loop: it receives, gives out jobs, and stores the offsets up to which all are
//! done. It never waits for a handler, so librdkafka is polled all the time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::budget::{Budget, Bytes, Held, InHand};
use super::client::{Context, Place};
use super::forward::Forwarder;
use super::job::{Settled, Shared};
use super::lanes::Lanes;
use super::partition::{Begun, Partition};
use super::sending::Unwritten;
use super::topics::{Plan, Unprepared};
use super::{Consumed, Settings, config};
use crate::backoff::Backoff;
use crate::consume::attempt::Group;
use crate::consume::message::Message;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Client, Properties};
use crate::record::fnv1a;
use crate::store::OutboxDatabase;
use crate::user_code::{Guarded, caught};

/// So often the tables are looked through for what was left behind, and for what is old enough to
/// be forgotten.
const EVERY: Duration = Duration::from_secs(60);
/// The most stranded keys that are continued with at a time.
const MOST_GOING_ON: usize = 100;
/// So long a close may take: without brokers, librdkafka would wait for the session to time out.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_AFTER_AN_ERROR: Duration = Duration::from_millis(10);

pub(super) async fn run<DB: OutboxDatabase>(
    group: Group<DB>,
    plan: Plan,
    config: ClientConfig,
    properties: Properties,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Consumed, OutboxError> {
    let refused = |error| properties.no_client(error);
    config.create_native_config().map_err(refused)?;
    let (mut plan, mut config) = (plan, config);
    let mut shutdown = pin!(shutdown);
    if !prepared(&mut plan, &properties, settings.create_topics, shutdown.as_mut()).await? {
        return Ok(Consumed::default());
    }
    if !plan.missing().is_empty() {
        config::look_often(&mut config);
    }
    // Only now: one that nobody polls gathers errors.
    let consumer: Client<StreamConsumer<Context>> = Client::new(
        StreamConsumer::from_config_and_context(&config, Context::default()).map_err(refused)?,
    );
    let topics = plan.subscribed();
    consumer.subscribe(&topics).map_err(|error| {
        OutboxError::new(ErrorKind::Kafka, format!("cannot subscribe to {topics:?}"))
            .with_source(error)
    })?;
    tracing::info!(group = &*group.name, ?topics, "consumer started");

    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        forwarder: Forwarder::new(&properties)?,
        unwritten: Unwritten::default(),
        slots: Semaphore::new(settings.concurrency),
        stop: stopping,
        database_away: AtomicBool::new(false),
        consumed: Mutex::default(),
        driving: Mutex::default(),
        unknown: Mutex::default(),
        group,
        plan,
        settings,
    });
    let mut helpers = JoinSet::new();
    helpers.spawn(look_after(Arc::clone(&shared)));
    let mut consuming = Consuming {
        consumer,
        budget: Budget(shared.settings.max_bytes_in_flight),
        shared,
        partitions: HashMap::new(),
        paused: 0,
        bytes: Arc::default(),
        generations: 0,
        lanes: Lanes::default(),
        jobs: JoinSet::new(),
        running: HashMap::new(),
    };
    let result = consuming.until(shutdown).await;
    stop.send_replace(true);
    let result = consuming.drain().await.and(result);
    drop(helpers);
    let Consuming { consumer, shared, .. } = consuming;
    // This commits the stored offsets and leaves the group.
    if timeout(CLOSE_WITHIN, consumer.close()).await.is_err() {
        tracing::warn!(
            group = &*shared.group.name,
            "the consumer could not leave its group in time: its last events may come again"
        );
    }
    let consumed = *shared.consumed.lock().unwrap_or_else(PoisonError::into_inner);
    result.map(|()| consumed)
}

/// Whether the topics are there; `false`: the shutdown came first.
async fn prepared(
    plan: &mut Plan,
    properties: &Properties,
    create: bool,
    mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, OutboxError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut told = false;
    loop {
        let ensured = tokio::select! {
            ensured = plan.ensure(properties, create) => ensured,
            () = shutdown.as_mut() => return Ok(false),
        };
        match ensured {
            Ok(()) => return Ok(true),
            Err(Unprepared::ForGood(error)) => return Err(error),
            Err(Unprepared::NoAnswer(error)) if !told => {
                told = true;
                tracing::warn!(%error, "no Kafka broker answers: the consumer waits. Is the address right?");
            }
            Err(Unprepared::NoAnswer(_)) => {}
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            () = shutdown.as_mut() => return Ok(false),
        }
    }
}

/// From time to time: continues with stranded keys, and forgets what is old. Each key is continued
/// with by itself: one whose handler is tried for ever must not keep it from the others. What
/// panics, a callback of the pool for example, is run again.
async fn look_after<DB: OutboxDatabase>(shared: Arc<Shared<DB>>) {
    let mut going_on = JoinSet::new();
    loop {
        match Guarded::new(Box::pin(shared.left_behind())).await {
            Ok(Ok(left_behind)) => {
                let room = MOST_GOING_ON.saturating_sub(going_on.len());
                for (topic, key) in left_behind.into_iter().take(room) {
                    let shared = Arc::clone(&shared);
                    // If it stops, another look finds the key.
                    going_on.spawn(async move { drop(shared.go_on(&topic, &key).await) });
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "what was left behind was not looked for"),
            Err(said) => tracing::error!(said, "the consumer panicked over what was left behind"),
        }
        sleep(EVERY).await;
        while going_on.try_join_next().is_some() {}
        match Guarded::new(Box::pin(shared.forget())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(events)) => {
                tracing::debug!(events, "the inbox has forgotten what was handled long ago")
            }
            Ok(Err(error)) => tracing::debug!(%error, "the inbox was not looked through"),
            Err(said) => tracing::error!(said, "the consumer panicked over its inbox"),
        }
    }
}

struct Consuming<DB: OutboxDatabase> {
    consumer: Client<StreamConsumer<Context>>,
    shared: Arc<Shared<DB>>,
    partitions: HashMap<Place, Partition>,
    /// How many of them are paused.
    paused: usize,
    budget: Budget,
    /// In hand of all partitions.
    bytes: Arc<Bytes>,
    generations: u64,
    /// Of jobs whose messages have keys.
    lanes: Lanes<Job>,
    jobs: JoinSet<Settled>,
    running: HashMap<Id, Running>,
}

struct Job {
    message: Message,
    held: Held,
    generation: u64,
    ticket: u64,
    lane: Option<u64>,
}

struct Running {
    place: Place,
    generation: u64,
    ticket: u64,
    lane: Option<u64>,
    handle: AbortHandle,
}

impl<DB: OutboxDatabase> Consuming<DB> {
    async fn until(
        &mut self,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), OutboxError> {
        let mut not_before = Instant::now();
        loop {
            let (mut received, mut ended) = (None, None);
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Ok(()),
                () = self.consumer.context().rebalanced() => {}
                Some(done) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => ended = Some(done),
                message = receive(&self.consumer, not_before) => {
                    received = Some(message.map(|message| owned(&message)));
                }
            }
            // Before what came after it.
            for place in self.consumer.context().take_revoked() {
                self.revoked(&place);
            }
            if let Some(done) = ended {
                self.ended(done)?;
            }
            match received {
                Some(Ok(message)) => {
                    self.consumer.context().received();
                    self.received(message);
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    let dead = "librdkafka has given the consumer up for good: nothing is lost, start it again";
                    return Err(OutboxError::new(ErrorKind::Kafka, dead).with_source(error));
                }
                Some(Err(error)) => {
                    self.consumer.context().receive_failed(&error);
                    // librdkafka tries again by itself, and has queued an error for each time that
                    // it did: with a longer pause, those would be told for minutes after the broker
                    // is back, and nothing be received.
                    not_before = Instant::now() + PAUSE_AFTER_AN_ERROR;
                }
                None => {}
            }
        }
    }

    fn received(&mut self, message: Message) {
        let place = (message.topic.clone(), message.partition);
        let next_generation = &mut self.generations;
        let partition = self.partitions.entry(place).or_insert_with(|| {
            *next_generation += 1;
            Partition::new(*next_generation)
        });
        let Begun { ticket, went_back_to } = partition.begin(message.offset);
        let held = Held::new(&message, &partition.bytes, &self.bytes);
        let generation = partition.generation;
        if let Some(first) = went_back_to {
            self.went_back(&message, first);
        }
        self.pause_if_full(&message);
        let lane = message.key.as_ref().map(|key| {
            let topic = fnv1a(message.topic.as_bytes());
            fnv1a(&[&topic.to_be_bytes()[..], key].concat())
        });
        let job = Job { message, held, generation, ticket, lane };
        let job = match lane {
            Some(lane) => self.lanes.enter(lane, job),
            None => Some(job),
        };
        if let Some(job) = job {
            self.start(job);
        }
    }

    fn start(&mut self, job: Job) {
        let Job { message, held, generation, ticket, lane } = job;
        let place = (message.topic.clone(), message.partition);
        let shared = Arc::clone(&self.shared);
        let handle = self.jobs.spawn(async move {
            let _held = held;
            shared.settle(&message).await
        });
        self.running.insert(handle.id(), Running { place, generation, ticket, lane, handle });
    }

    /// The log was truncated, or begins anew. What librdkafka has stored and committed is of the
    /// log as it was: it commits nothing that is lower by itself, and after a crash what is between
    /// would be passed over.
    fn went_back(&self, message: &Message, first: i64) {
        let Message { topic, partition, offset, .. } = message;
        tracing::warn!(
            topic,
            partition,
            offset,
            "the offsets of a partition have gone back: its topic was deleted and made again, or has lost its end. The consumer \
             goes on from there"
        );
        let mut list = TopicPartitionList::with_capacity(1);
        let committed = list
            .add_partition_offset(topic, *partition, Offset::Offset(first))
            .and_then(|()| self.consumer.store_offsets(&list))
            .and_then(|()| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            // It went to another member meanwhile.
            tracing::debug!(%error, topic, partition, "lower offset not committed");
        }
    }

    fn in_hand(&self, partition: &Partition) -> InHand {
        InHand {
            of_partition: partition.bytes.load(Ordering::Relaxed),
            of_all: self.bytes.load(Ordering::Relaxed),
            partitions: self.partitions.len(),
        }
    }

    fn pause_if_full(&mut self, message: &Message) {
        let place = (message.topic.clone(), message.partition);
        let Some(partition) = self.partitions.get(&place) else { return };
        let full = partition.len() >= self.shared.settings.max_in_flight
            || self.budget.is_used_up(self.in_hand(partition));
        if let Some(partition) = self.partitions.get_mut(&place).filter(|of| full && !of.paused) {
            partition.paused = true;
            self.paused += 1;
            let paused = self.consumer.pause(&only(&place.0, place.1));
            tracing::debug!(topic = place.0, partition = place.1, ?paused, "partition paused");
        }
    }

    fn resume_with_room(&mut self) {
        if self.paused == 0 {
            return;
        }
        let half = self.shared.settings.max_in_flight / 2;
        let with_room = self.partitions.iter().filter(|(_, partition)| {
            partition.paused
                && partition.len() <= half
                && self.budget.has_room(self.in_hand(partition))
        });
        for place in with_room.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            let resumed = self.consumer.resume(&only(&place.0, place.1));
            tracing::debug!(topic = place.0, partition = place.1, ?resumed, "partition resumed");
            self.paused -= 1;
            if let Some(partition) = self.partitions.get_mut(&place) {
                partition.paused = false;
            }
        }
    }

    /// Another member has the partition. It gets what is not done here, and the inbox knows what
    /// is.
    fn revoked(&mut self, place: &Place) {
        if let Some(partition) = self.partitions.remove(place) {
            self.paused -= usize::from(partition.paused);
            self.running
                .values()
                .filter(|job| job.place == *place)
                .for_each(|job| job.handle.abort());
        }
    }

    fn is_ours(partitions: &HashMap<Place, Partition>, job: &Job) -> bool {
        let place = (job.message.topic.clone(), job.message.partition);
        partitions.get(&place).is_some_and(|partition| partition.generation == job.generation)
    }

    fn ended(&mut self, ended: Result<(Id, Settled), JoinError>) -> Result<(), OutboxError> {
        let (id, settled) = match ended {
            Ok((id, settled)) => (id, Ok(settled)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running { place, generation, ticket, lane, .. }) = self.running.remove(&id) else {
            return Ok(());
        };
        let next = lane.and_then(|lane| {
            let partitions = &self.partitions;
            self.lanes.next(lane, |job| Self::is_ours(partitions, job))
        });
        match settled {
            Ok(Settled::Abandoned) => return Ok(()),
            Ok(Settled::Hopeless(error)) => return Err(error),
            Ok(settled) => self.shared.count(&settled),
            Err(error) if error.is_cancelled() => {
                if let Some(job) = next {
                    self.start(job);
                }
                return Ok(());
            }
            Err(error) => {
                let bug =
                    "a task of the consumer panicked, which is a bug of it; its event comes again";
                return Err(OutboxError::new(ErrorKind::Handler, bug).with_source(error));
            }
        }
        if let Some(job) = next {
            self.start(job);
        }
        let (topic, number) = (&place.0, place.1);
        if let Some(partition) =
            self.partitions.get_mut(&place).filter(|of| of.generation == generation)
            && let Some(up_to) = partition.done(ticket)
            && let Err(error) = self.consumer.store_offset(topic, number, up_to)
        {
            // It went to another member meanwhile: that gets the event again, and finds it in the
            // inbox.
            tracing::debug!(%error, topic, partition = number, "offset not stored");
        }
        self.resume_with_room();
        Ok(())
    }

    /// What runs is finished; what waits is left.
    async fn drain(&mut self) -> Result<(), OutboxError> {
        self.lanes = Lanes::default();
        let deadline = Instant::now() + self.shared.settings.drain_timeout;
        let mut result = Ok(());
        while !self.jobs.is_empty() {
            match timeout_at(deadline, self.jobs.join_next_with_id()).await {
                Ok(Some(done)) => result = result.and(self.ended(done)),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(
                        handlers = self.jobs.len(),
                        "the consumer stopped before all handlers ended: they are rolled back, and their events come again"
                    );
                    self.jobs.shutdown().await;
                }
            }
        }
        result
    }
}

/// The next message, once it is time.
async fn receive(
    consumer: &StreamConsumer<Context>,
    not_before: Instant,
) -> Result<BorrowedMessage<'_>, KafkaError> {
    tokio::time::sleep_until(not_before).await;
    consumer.recv().await
}

fn only(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    list
}

pub(super) fn owned(message: &BorrowedMessage<'_>) -> Message {
    let (headers, unreadable_headers) = message.headers().map(owned_headers).unwrap_or_default();
    Message {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        unreadable_headers,
        payload: message.payload().map(<[u8]>::to_vec),
        kept: false,
    }
}

type OwnedHeader = (String, Option<Vec<u8>>);

/// All headers that can be had, and the number of the others. rdkafka panics on one whose name is
/// not UTF-8.
fn owned_headers(headers: &BorrowedHeaders) -> (Vec<OwnedHeader>, usize) {
    let mut owned = Vec::with_capacity(headers.count());
    for i in 0..headers.count() {
        let header = caught(|| {
            let header = headers.get(i);
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        });
        owned.extend(header);
    }
    let unreadable = headers.count() - owned.len();
    (owned, unreadable)
}
