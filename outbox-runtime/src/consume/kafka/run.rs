//! The consumer's loop: it receives, gives out jobs, and stores the offsets up to which all are
//! done. It never waits for a handler, so librdkafka is polled all the time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::budget::{Budget, Bytes, Held, InHand};
use super::builder::Settings;
use super::client::{Context, Place};
use super::forward::Forwarder;
use super::topics::{Plan, Unprepared};
use super::{Consumer, config};
use crate::backoff::Backoff;
use crate::consume::key_queue::KeyQueues;
use crate::consume::maintenance::maintain;
use crate::consume::message::Message;
use crate::consume::offsets::{Begun, Partition};
use crate::consume::policy::Settled;
use crate::consume::worker::{Consumed, GroupWorker, Unsettled, WorkerSettings};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Client, Properties};
use crate::observe::target;
use crate::record::fnv1a;
use crate::store::OutboxDatabase;
use crate::user_code::caught;

/// So long a close may take: without brokers, librdkafka would wait for the session to time out.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_AFTER_AN_ERROR: Duration = Duration::from_millis(10);

pub(super) async fn run<DB: OutboxDatabase>(
    consumer: Consumer<DB>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Consumed, OutboxError> {
    let Consumer { group, mut plan, kafka, properties, client: mut config, settings } = consumer;
    let mut shutdown = pin!(shutdown);
    if !prepared(&mut plan, &properties, settings.create_topics, shutdown.as_mut()).await? {
        return Ok(Consumed::default());
    }
    if !plan.missing().is_empty() {
        config::look_often(&mut config, &kafka);
    }
    // Only now: one that nobody polls gathers errors.
    let consumer: Client<StreamConsumer<Context>> = Client::new(
        StreamConsumer::from_config_and_context(&config, Context::default())
            .map_err(|error| properties.no_client(error))?,
    );
    let topics = plan.subscribed();
    consumer.subscribe(&topics).map_err(|error| {
        OutboxError::new(ErrorKind::Kafka, format!("cannot subscribe to {topics:?}"))
            .with_source(error)
    })?;
    tracing::info!(target: target::CONSUMER, group = &*group.name, ?topics, "consumer started");

    let (stop, stopping) = watch::channel(false);
    let in_worker = WorkerSettings {
        concurrency: settings.concurrency,
        undecodable: settings.undecodable,
        unknown_events: settings.unknown_events,
        // No event is forgotten while it may still wait in a retry topic.
        inbox_retention: settings.inbox_retention.max(plan.longest_delay() * 2),
    };
    let forward = Forwarder::new(&properties)?;
    let worker = Arc::new(GroupWorker::new(group, forward, in_worker, stopping));
    let mut helpers = JoinSet::new();
    helpers.spawn(maintain(Arc::clone(&worker)));
    let mut consuming = Consuming {
        consumer,
        budget: Budget(settings.max_bytes_in_flight),
        worker,
        plan,
        settings,
        partitions: HashMap::new(),
        paused: 0,
        bytes: Arc::default(),
        generations: 0,
        queues: KeyQueues::default(),
        jobs: JoinSet::new(),
        running: HashMap::new(),
    };
    let result = consuming.until(shutdown).await;
    stop.send_replace(true);
    let result = consuming.drain().await.and(result);
    drop(helpers);
    let Consuming { consumer, worker, .. } = consuming;
    // This commits the stored offsets and leaves the group.
    if timeout(CLOSE_WITHIN, consumer.close()).await.is_err() {
        tracing::warn!(
            target: target::CONSUMER,
            group = worker.group_name(),
            "the consumer could not leave its group in time: its last events may come again"
        );
    }
    result.map(|()| worker.consumed())
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
                tracing::warn!(target: target::CONSUMER, %error, "no Kafka broker answers: the consumer waits. Is the address right?");
            }
            Err(Unprepared::NoAnswer(_)) => {}
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            () = shutdown.as_mut() => return Ok(false),
        }
    }
}

struct Consuming<DB: OutboxDatabase> {
    consumer: Client<StreamConsumer<Context>>,
    worker: Arc<GroupWorker<DB, Forwarder>>,
    plan: Plan,
    settings: Settings,
    partitions: HashMap<Place, Partition>,
    /// How many of them are paused.
    paused: usize,
    budget: Budget,
    /// In hand of all partitions.
    bytes: Arc<Bytes>,
    generations: u64,
    /// Jobs whose messages have keys, behind others of theirs.
    queues: KeyQueues<Job>,
    jobs: JoinSet<Result<Settled, Unsettled>>,
    running: HashMap<Id, Running>,
}

struct Job {
    message: Message,
    held: Held,
    generation: u64,
    ticket: u64,
    key: Option<u64>,
}

struct Running {
    place: Place,
    generation: u64,
    ticket: u64,
    key: Option<u64>,
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
        let key = message.key.as_ref().map(|key| {
            let topic = fnv1a(message.topic.as_bytes());
            fnv1a(&[&topic.to_be_bytes()[..], key].concat())
        });
        let job = Job { message, held, generation, ticket, key };
        let job = match key {
            Some(key) => self.queues.enter(key, job),
            None => Some(job),
        };
        if let Some(job) = job {
            self.start(job);
        }
    }

    fn start(&mut self, job: Job) {
        let Job { message, held, generation, ticket, key } = job;
        let place = (message.topic.clone(), message.partition);
        let history = self.plan.history(&message);
        let worker = Arc::clone(&self.worker);
        let handle = self.jobs.spawn(async move {
            let _held = held;
            worker.settle(&message, &history).await
        });
        self.running.insert(handle.id(), Running { place, generation, ticket, key, handle });
    }

    /// The log was truncated, or begins anew. What librdkafka has stored and committed is of the
    /// log as it was: it commits nothing that is lower by itself, and after a crash what is between
    /// would be passed over.
    fn went_back(&self, message: &Message, first: i64) {
        let Message { topic, partition, offset, .. } = message;
        tracing::warn!(
            target: target::CONSUMER,
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
            tracing::debug!(target: target::CONSUMER, %error, topic, partition, "lower offset not committed");
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
        let full = partition.len() >= self.settings.max_in_flight
            || self.budget.is_used_up(self.in_hand(partition));
        if let Some(partition) = self.partitions.get_mut(&place).filter(|of| full && !of.paused) {
            partition.paused = true;
            self.paused += 1;
            let paused = self.consumer.pause(&only(&place.0, place.1));
            tracing::debug!(target: target::CONSUMER, topic = place.0, partition = place.1, ?paused, "partition paused");
        }
    }

    fn resume_with_room(&mut self) {
        if self.paused == 0 {
            return;
        }
        let half = self.settings.max_in_flight / 2;
        let with_room = self.partitions.iter().filter(|(_, partition)| {
            partition.paused
                && partition.len() <= half
                && self.budget.has_room(self.in_hand(partition))
        });
        for place in with_room.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            let resumed = self.consumer.resume(&only(&place.0, place.1));
            tracing::debug!(target: target::CONSUMER, topic = place.0, partition = place.1, ?resumed, "partition resumed");
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

    fn ended(
        &mut self,
        ended: Result<(Id, Result<Settled, Unsettled>), JoinError>,
    ) -> Result<(), OutboxError> {
        let (id, settled) = match ended {
            Ok((id, settled)) => (id, Ok(settled)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(Running { place, generation, ticket, key, .. }) = self.running.remove(&id) else {
            return Ok(());
        };
        let next = key.and_then(|key| {
            let partitions = &self.partitions;
            self.queues.next(key, |job| Self::is_ours(partitions, job))
        });
        match settled {
            Ok(Err(Unsettled::Stopped)) => return Ok(()),
            Ok(Err(Unsettled::Fatal(error))) => return Err(error),
            Ok(Ok(settled)) => self.worker.count(settled),
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
            tracing::debug!(target: target::CONSUMER, %error, topic, partition = number, "offset not stored");
        }
        self.resume_with_room();
        Ok(())
    }

    /// What runs is finished; what waits is left.
    async fn drain(&mut self) -> Result<(), OutboxError> {
        self.queues = KeyQueues::default();
        let deadline = Instant::now() + self.settings.drain_timeout;
        let mut result = Ok(());
        while !self.jobs.is_empty() {
            match timeout_at(deadline, self.jobs.join_next_with_id()).await {
                Ok(Some(done)) => result = result.and(self.ended(done)),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(
                        target: target::CONSUMER,
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
