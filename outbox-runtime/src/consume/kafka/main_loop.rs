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
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::budget::{Budget, Bytes, Held, InHand};
use super::client::{Context, TopicPartition};
use super::forward::Forwarder;
use super::jobs::{Done, Job, Jobs, Turn};
use super::records::owned;
use super::settings::Settings;
use super::startup::tables_found;
use super::topics::Plan;
use crate::consume::message::Message;
use crate::consume::offsets::{Begun, Partition};
use crate::consume::worker::{Consumed, GroupWorker};
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
    jobs: Jobs<DB>,
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
            jobs: Jobs::new(Arc::clone(&worker)),
            worker,
            plan,
            settings,
            partitions: HashMap::new(),
            paused: 0,
            bytes: Arc::default(),
            generations: 0,
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
            let (mut received, mut turn) = (None, None);
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Ok(()),
                () = self.consumer.context().rebalanced() => {}
                found = tables.as_mut(), if !has_tables => {
                    found?;
                    has_tables = true;
                    self.worker.meter.database_up(true);
                }
                of_jobs = self.jobs.turn() => turn = Some(of_jobs),
                message = receive(&self.consumer, not_before) => {
                    received = Some(message.map(|message| owned(&message)));
                }
                () = sleep_until(turn_by) => {}
            }
            // Before messages that came after the revocation.
            for place in self.consumer.context().take_revoked() {
                self.revoked(&place);
            }
            if let Some(turn) = turn {
                self.take(turn)?;
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
        let history = self.plan.history(&message);
        self.jobs.enter(Job::new(message, history, held, (generation, ticket), key));
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

    fn revoked(&mut self, place: &TopicPartition) {
        if let Some(partition) = self.partitions.remove(place) {
            self.paused -= usize::from(partition.paused);
            self.jobs.revoked(place);
        }
    }

    fn take(&mut self, turn: Turn) -> Result<(), OutboxError> {
        match turn {
            Turn::Permitted(permit) => self.jobs.permitted(permit),
            Turn::Ended(ended) => {
                if let Some(done) = self.jobs.ended(ended)? {
                    self.store_offset(&done);
                    self.resume_with_room();
                }
            }
        }
        Ok(())
    }

    fn store_offset(&mut self, done: &Done) {
        let Done { place, generation, tickets } = done;
        let (topic, number) = (&place.0, place.1);
        if let Some(partition) =
            self.partitions.get_mut(place).filter(|of| of.generation == *generation)
            && let Some(up_to) = tickets.iter().filter_map(|ticket| partition.done(*ticket)).last()
            && let Err(error) = self.consumer.store_offset(topic, number, up_to)
        {
            // The partition went to another member, which receives the event again and finds it in
            // the inbox.
            tracing::debug!(target: target::CONSUMER, %error, topic, partition = number, "offset not stored");
        }
    }

    /// Finishes the running jobs; queued ones are left.
    pub(super) async fn drain(&mut self) -> Result<(), OutboxError> {
        self.jobs.close();
        let deadline = Instant::now() + self.settings.drain_timeout;
        let mut result = Ok(());
        while self.jobs.running() > 0 {
            match timeout_at(deadline, self.jobs.turn()).await {
                Ok(turn) => result = result.and(self.take(turn)),
                Err(_) => {
                    tracing::warn!(
                        target: target::CONSUMER,
                        handlers = self.jobs.running(),
                        "the consumer stopped before all handlers ended: they are rolled back, and their events come again"
                    );
                    self.jobs.shut_down().await;
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
