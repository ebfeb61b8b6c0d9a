//! The consumer's loop: it receives, gives out jobs, and stores the offsets up to which all are done. It never waits for a
//! handler, so librdkafka is polled all the time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::{Context, Place};
use super::forward::Forwarder;
use super::job::{Settled, Shared};
use super::lanes::Lanes;
use super::partition::Partition;
use super::topics::{Plan, Unprepared};
use super::{Consumed, Settings, config};
use crate::backoff::Backoff;
use crate::consume::attempt::Group;
use crate::consume::message::Message;
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::Properties;
use crate::record::fnv1a;
use crate::store::OutboxDatabase;
use crate::user_code::caught;

/// So often the tables are looked through for what was left behind, and for what is old enough to be forgotten.
const EVERY: Duration = Duration::from_secs(60);
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
    let mut plan = plan;
    let mut shutdown = pin!(shutdown);
    if !prepared(&mut plan, &properties, settings.create_topics, shutdown.as_mut()).await? {
        return Ok(Consumed::default());
    }
    // Only now: one that nobody polls gathers errors.
    let consumer: StreamConsumer<Context> =
        StreamConsumer::from_config_and_context(&config, Context::default()).map_err(refused)?;
    let topics = plan.subscribed();
    consumer.subscribe(&topics).map_err(|error| {
        OutboxError::new(ErrorKind::Kafka, format!("cannot subscribe to {topics:?}")).with_source(error)
    })?;
    tracing::info!(group = &*group.name, ?topics, "consumer started");

    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        forwarder: Forwarder::new(&properties)?,
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
        shared,
        partitions: HashMap::new(),
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
    // Closing commits the stored offsets and leaves the group; it blocks. On a thread that nobody waits for in the end.
    let (close, closed) = oneshot::channel();
    std::thread::spawn(move || {
        drop(consumer);
        let _ = close.send(());
    });
    if timeout(CLOSE_WITHIN, closed).await.is_err() {
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
    let connection = config::connection(properties);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut told = false;
    loop {
        let ensured = tokio::select! {
            ensured = plan.ensure(&connection, create) => ensured,
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

/// From time to time: goes on with what was left behind, and forgets what is old.
async fn look_after<DB: OutboxDatabase>(shared: Arc<Shared<DB>>) {
    loop {
        if let Err(error) = shared.sweep().await {
            tracing::debug!(%error, "what was left behind was not looked for");
        }
        sleep(EVERY).await;
        match shared.forget().await {
            Ok(0) => {}
            Ok(events) => tracing::debug!(events, "the inbox has forgotten what was handled long ago"),
            Err(error) => tracing::debug!(%error, "the inbox was not looked through"),
        }
    }
}

struct Consuming<DB: OutboxDatabase> {
    consumer: StreamConsumer<Context>,
    shared: Arc<Shared<DB>>,
    partitions: HashMap<Place, Partition>,
    generations: u64,
    /// Of jobs whose messages have keys.
    lanes: Lanes<Job>,
    jobs: JoinSet<Settled>,
    running: HashMap<Id, Running>,
}

struct Job {
    message: Message,
    generation: u64,
    lane: Option<u64>,
}

struct Running {
    place: Place,
    generation: u64,
    offset: i64,
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
                    let dead =
                        "librdkafka has given the consumer up for good: nothing is lost, start it again";
                    return Err(OutboxError::new(ErrorKind::Kafka, dead).with_source(error));
                }
                Some(Err(error)) => {
                    self.consumer.context().receive_failed(&error);
                    // librdkafka tries again by itself, and has queued an error for each time that it did: with a longer
                    // pause, those would be told for minutes after the broker is back, and nothing be received.
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
        if !partition.begin(message.offset) {
            // The offsets have gone back: the topic was made anew, or has lost its end. What is in hand is of no use.
            self.revoked(&(message.topic.clone(), message.partition));
            return self.received(message);
        }
        let generation = partition.generation;
        if partition.len() >= self.shared.settings.max_in_flight && !partition.paused {
            partition.paused = true;
            let paused = self.consumer.pause(&only(&message.topic, message.partition));
            tracing::debug!(
                topic = message.topic,
                partition = message.partition,
                ?paused,
                "partition paused"
            );
        }
        let lane = message.key.as_ref().map(|key| {
            let topic = fnv1a(message.topic.as_bytes());
            fnv1a(&[&topic.to_be_bytes()[..], key].concat())
        });
        let job = Job { message, generation, lane };
        let job = match lane {
            Some(lane) => self.lanes.enter(lane, job),
            None => Some(job),
        };
        if let Some(job) = job {
            self.start(job);
        }
    }

    fn start(&mut self, job: Job) {
        let Job { message, generation, lane } = job;
        let (place, offset) = ((message.topic.clone(), message.partition), message.offset);
        let shared = Arc::clone(&self.shared);
        let handle = self.jobs.spawn(async move { shared.settle(&message).await });
        self.running.insert(handle.id(), Running { place, generation, offset, lane, handle });
    }

    /// Another member has the partition. It gets what is not done here, and the inbox knows what is.
    fn revoked(&mut self, place: &Place) {
        if self.partitions.remove(place).is_some() {
            self.running.values().filter(|job| job.place == *place).for_each(|job| job.handle.abort());
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
        let Some(Running { place, generation, offset, lane, .. }) = self.running.remove(&id) else {
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
                let bug = "a task of the consumer panicked, which is a bug of it; its event comes again";
                return Err(OutboxError::new(ErrorKind::Handler, bug).with_source(error));
            }
        }
        if let Some(job) = next {
            self.start(job);
        }
        let Some(partition) = self.partitions.get_mut(&place).filter(|of| of.generation == generation) else {
            return Ok(());
        };
        let (topic, number) = (&place.0, place.1);
        if let Some(up_to) = partition.done(offset)
            && let Err(error) = self.consumer.store_offset(topic, number, up_to)
        {
            // It went to another member meanwhile: that gets the event again, and finds it in the inbox.
            tracing::debug!(%error, topic, partition = number, "offset not stored");
        }
        if partition.paused && partition.len() * 2 <= self.shared.settings.max_in_flight {
            partition.paused = false;
            let resumed = self.consumer.resume(&only(topic, number));
            tracing::debug!(topic, partition = number, ?resumed, "partition resumed");
        }
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
    }
}

type OwnedHeader = (String, Option<Vec<u8>>);

/// All headers that can be had, and the number of the others. rdkafka panics on one whose name is not UTF-8.
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
