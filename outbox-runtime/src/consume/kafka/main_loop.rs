//! The consumer's loop: it receives messages, starts jobs, and stores the offsets up to which all
//! are done. It never waits for a handler, so librdkafka is always polled.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::budget::{Budget, Bytes, Held, InHand};
use super::client::{Context, TopicPartition};
use super::forward::Forwarder;
use super::records::owned;
use super::settings::Settings;
use super::startup::tables_found;
use super::topics::Plan;
use crate::consume::key_queue::KeyQueues;
use crate::consume::message::Message;
use crate::consume::offsets::{Begun, Partition};
use crate::consume::policy::Settled;
use crate::consume::worker::{Consumed, GroupWorker, Unsettled};
use crate::error::{ErrorKind, OutboxError};
use crate::kafka::Client;
use crate::observe::{Heartbeat, target};
use crate::record::fnv1a;
use crate::store::OutboxDatabase;

/// Longest time that a close may take: without brokers, librdkafka would wait for the session to
/// time out.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// librdkafka tries again by itself, and has queued an error for each time that it did: with a
/// longer pause, those would be logged for minutes after the broker is back, and nothing would be
/// received.
const PAUSE_AFTER_AN_ERROR: Duration = Duration::from_millis(10);
/// Time between two reports of how far each topic is.
const REPORTED_EVERY: Duration = Duration::from_secs(5);

pub(super) struct MainLoop<DB: OutboxDatabase> {
    consumer: Client<StreamConsumer<Context>>,
    worker: Arc<GroupWorker<DB, Forwarder>>,
    plan: Plan,
    settings: Settings,
    partitions: HashMap<TopicPartition, Partition>,
    /// Number of paused partitions.
    paused: usize,
    budget: Budget,
    /// Bytes in hand of all partitions.
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
    place: TopicPartition,
    generation: u64,
    ticket: u64,
    key: Option<u64>,
    handle: AbortHandle,
}

impl<DB: OutboxDatabase> MainLoop<DB> {
    pub(super) fn new(
        consumer: Client<StreamConsumer<Context>>,
        worker: Arc<GroupWorker<DB, Forwarder>>,
        plan: Plan,
        settings: Settings,
    ) -> Self {
        Self {
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
        }
    }

    /// Consumes until `shutdown` resolves.
    pub(super) async fn until(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        heartbeat: &Heartbeat,
    ) -> Result<(), OutboxError> {
        let mut not_before = Instant::now();
        let mut tables = pin!(tables_found(Arc::clone(&self.worker)));
        let mut has_tables = false;
        let mut report_at = Instant::now();
        loop {
            let turn_by = heartbeat.turn().min(report_at);
            if report_at <= Instant::now() {
                self.report();
                report_at = Instant::now() + REPORTED_EVERY;
            }
            if has_tables && self.consumer.context().is_assigned() {
                heartbeat.ready();
            }
            let (mut received, mut ended) = (None, None);
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Ok(()),
                () = self.consumer.context().rebalanced() => {}
                found = tables.as_mut(), if !has_tables => {
                    found?;
                    has_tables = true;
                    self.worker.meter.database_up(true);
                }
                Some(done) = self.jobs.join_next_with_id(), if !self.jobs.is_empty() => ended = Some(done),
                message = receive(&self.consumer, not_before) => {
                    received = Some(message.map(|message| owned(&message)));
                }
                () = sleep_until(turn_by) => {}
            }
            // Before messages that came after the revocation.
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
                Some(Err(error)) => {
                    self.not_received(error)?;
                    not_before = Instant::now() + PAUSE_AFTER_AN_ERROR;
                }
                None => {}
            }
        }
    }

    /// Reports how far each topic is. Not of retry topics, whose messages are meant to wait.
    fn report(&self) {
        for (on_brokers, declared) in self.plan.own_topics() {
            let of_topic = self.partitions.iter().filter(|((topic, _), _)| topic == on_brokers);
            let oldest = of_topic.filter_map(|(_, partition)| partition.oldest()).min();
            let oldest = oldest.and_then(|millis| u64::try_from(millis).ok());
            let oldest = oldest.and_then(|millis| {
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
            });
            self.worker.meter.oldest_of_topic(declared, oldest);
            self.worker.meter.topic_lag(declared, self.consumer.context().lag(on_brokers));
        }
    }

    fn not_received(&self, error: KafkaError) -> Result<(), OutboxError> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            let dead =
                "librdkafka has given the consumer up for good: nothing is lost, start it again";
            return Err(OutboxError::new(ErrorKind::Kafka, dead).with_source(error));
        }
        self.consumer.context().receive_failed(&error);
        Ok(())
    }

    fn received(&mut self, message: Message) {
        let place = (message.topic.clone(), message.partition);
        let next_generation = &mut self.generations;
        let partition = self.partitions.entry(place).or_insert_with(|| {
            *next_generation += 1;
            Partition::new(*next_generation)
        });
        let Begun { ticket, went_back_to } = partition.begin(message.offset, message.timestamp);
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

    /// The log was truncated, or its topic was created again. The offset that librdkafka has stored
    /// and committed belongs to the old log. It does not commit a lower one on its own, and after a
    /// crash the messages in between would be skipped.
    fn went_back(&self, message: &Message, first: i64) {
        let Message { topic, partition, offset, .. } = message;
        tracing::warn!(
            target: target::CONSUMER,
            topic,
            partition,
            offset,
            "the offsets of a partition have gone back: its topic was deleted and made again, or has lost its end. The consumer continues from there"
        );
        let mut list = TopicPartitionList::with_capacity(1);
        let committed = list
            .add_partition_offset(topic, *partition, Offset::Offset(first))
            .and_then(|()| self.consumer.store_offsets(&list))
            .and_then(|()| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            // The partition went to another member.
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

    /// Another member has the partition now. It receives what is not done here; the inbox knows
    /// what is.
    fn revoked(&mut self, place: &TopicPartition) {
        if let Some(partition) = self.partitions.remove(place) {
            self.paused -= usize::from(partition.paused);
            self.running
                .values()
                .filter(|job| job.place == *place)
                .for_each(|job| job.handle.abort());
        }
    }

    fn is_ours(partitions: &HashMap<TopicPartition, Partition>, job: &Job) -> bool {
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
            // The partition went to another member, which receives the event again and finds it in
            // the inbox.
            tracing::debug!(target: target::CONSUMER, %error, topic, partition = number, "offset not stored");
        }
        self.resume_with_room();
        Ok(())
    }

    /// Finishes the running jobs; queued ones are left.
    pub(super) async fn drain(&mut self) -> Result<(), OutboxError> {
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

    /// Commits the stored offsets and leaves the group.
    pub(super) async fn close(self) -> Consumed {
        let Self { consumer, worker, .. } = self;
        if timeout(CLOSE_WITHIN, consumer.close()).await.is_err() {
            tracing::warn!(
                target: target::CONSUMER,
                group = worker.group_name(),
                "the consumer could not leave its group in time: its last events may come again"
            );
        }
        worker.consumed()
    }
}

/// The next message, after the pause.
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
