//! A broker in memory: transactions, fencing, and what its readers of committed records see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use uuid::Uuid;

use super::Random;
use crate::error::{ErrorKind, OutboxError};
use crate::publish::transactions::{Closed, GroupId, GroupSession, TransactionalPublisher};
use crate::publish::{Batch, DeliveryReport};

/// Seconds. A bound only: several of the longest leases.
const PATIENCE: u32 = 300;

/// Percentages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    pub(super) seed: u64,
    /// Of the answers to commits.
    pub(super) lost: u64,
    /// Of the events, at first: after some attempts they are taken.
    pub(super) refused: u64,
}

#[derive(Clone)]
pub(super) struct Broker(Arc<(Mutex<World>, Notify)>);

struct World {
    random: Random,
    faults: Faults,
    /// How often each refused event was refused.
    refused: BTreeMap<Uuid, u32>,
    refusals: usize,
    lost_answers: usize,
    /// Whether the database may have gone back.
    takes_repetitions: bool,
    epochs: BTreeMap<u16, u64>,
    progress: BTreeMap<u16, Vec<u8>>,
    records: Vec<Record>,
}

#[derive(Debug, Clone)]
struct Record {
    id: Uuid,
    key: Option<String>,
    value: i64,
}

pub(super) struct Session {
    broker: Broker,
    group: u16,
    epoch: u64,
    open: Mutex<Option<Vec<Record>>>,
}

impl Broker {
    pub(super) fn new(faults: Faults) -> Self {
        let world = World {
            random: Random(faults.seed),
            faults,
            refused: BTreeMap::new(),
            refusals: 0,
            lost_answers: 0,
            takes_repetitions: false,
            epochs: BTreeMap::new(),
            progress: BTreeMap::new(),
            records: Vec::new(),
        };
        Self(Arc::new((Mutex::new(world), Notify::new())))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.0.lock().unwrap()
    }

    pub(super) fn publisher(&self) -> Self {
        self.clone()
    }

    pub(super) fn has_no_more_faults(&self) {
        let mut world = self.world();
        (world.faults.lost, world.faults.refused) = (0, 0);
        world.refused.clear();
    }

    pub(super) fn takes_repetitions(&self) {
        self.world().takes_repetitions = true;
    }

    /// Waits until it has all of these.
    pub(super) async fn has(&self, ids: &BTreeSet<Uuid>) {
        let missing = || {
            let known: BTreeSet<Uuid> = self.world().records.iter().map(|r| r.id).collect();
            ids.difference(&known).count()
        };
        for _ in 0..PATIENCE {
            let changed = self.0.1.notified();
            if missing() == 0 {
                return;
            }
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), changed).await;
        }
        panic!("{} of {} events are missing", missing(), ids.len());
    }

    /// Waits until it has more records than these.
    pub(super) async fn has_more_than(&self, records: usize) {
        let (mut before, mut idle) = (0, 0);
        loop {
            let changed = self.0.1.notified();
            let now = self.world().records.len();
            if now > records {
                return;
            }
            idle = if now == before { idle + 1 } else { 0 };
            before = now;
            assert!(idle < PATIENCE, "{now} of {records} records, and no more for {PATIENCE} s");
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), changed).await;
        }
    }

    /// The values of each key, in the order of the records; `none` is the key of those without one.
    pub(super) fn by_key(&self, none: &str) -> BTreeMap<String, Vec<i64>> {
        let mut by_key = BTreeMap::<String, Vec<i64>>::new();
        for Record { key, value, .. } in &self.world().records {
            let key = key.as_deref().unwrap_or(none);
            by_key.entry(key.to_owned()).or_default().push(*value);
        }
        by_key
    }

    pub(super) fn lost_answers(&self) -> usize {
        self.world().lost_answers
    }

    pub(super) fn refusals(&self) -> usize {
        self.world().refusals
    }
}

impl TransactionalPublisher for Broker {
    type Session = Session;

    async fn open(&self, group: &GroupId) -> Result<(Session, Option<Vec<u8>>), OutboxError> {
        tokio::task::yield_now().await;
        let mut world = self.world();
        let epoch = world.epochs.entry(group.group).or_default();
        *epoch += 1;
        let epoch = *epoch;
        let progress = world.progress.get(&group.group).cloned();
        let (broker, group, open) = (self.clone(), group.group, Mutex::new(None));
        Ok((Session { broker, group, epoch, open }, progress))
    }
}

impl Session {
    fn is_fenced(&self) -> bool {
        self.broker.world().epochs.get(&self.group) != Some(&self.epoch)
    }

    fn closed(why: &'static str) -> Closed {
        Closed(OutboxError::new(ErrorKind::Kafka, why))
    }
}

impl World {
    fn report(&mut self, id: Uuid) -> DeliveryReport {
        if !self.refused.contains_key(&id) {
            let is_refused = self.random.chance(self.faults.refused);
            let times = if is_refused { 1 + self.random.below(5) as u32 } else { 0 };
            self.refused.insert(id, times);
        }
        match self.refused.get_mut(&id) {
            Some(times) if *times > 0 => {
                *times -= 1;
                self.refusals += 1;
                DeliveryReport::Refused(OutboxError::new(ErrorKind::Kafka, "refused"))
            }
            _ => DeliveryReport::Delivered,
        }
    }
}

impl GroupSession for Session {
    async fn begin(&self) -> Result<(), Closed> {
        if self.is_fenced() {
            return Err(Self::closed("fenced"));
        }
        let before = self.open.lock().unwrap().replace(Vec::new());
        assert!(before.is_none(), "a wave begins while another one is open");
        Ok(())
    }

    async fn send(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        tokio::task::yield_now().await;
        let mut reports = Vec::with_capacity(batch.events.len());
        let mut sent = Vec::new();
        for event in batch.events {
            let report = self.broker.world().report(event.record.id);
            if report.is_delivered() {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                sent.push(Record {
                    id: event.record.id,
                    key: event.record.key.as_deref().map(text),
                    value: text(event.record.payload.as_deref().unwrap()).parse().unwrap(),
                });
            }
            reports.push(report);
        }
        self.open.lock().unwrap().as_mut().expect("a wave is open").extend(sent);
        reports
    }

    async fn commit(&self, progress: Vec<u8>) -> Result<(), Closed> {
        tokio::task::yield_now().await;
        let records = self.open.lock().unwrap().take().expect("a wave is open");
        let mut world = self.broker.world();
        if world.epochs.get(&self.group) != Some(&self.epoch) {
            return Err(Self::closed("fenced"));
        }
        let lost = world.faults.lost;
        let (is_lost, happens) = (world.random.chance(lost), world.random.chance(50));
        if !is_lost || happens {
            let known: BTreeSet<Uuid> = world.records.iter().map(|record| record.id).collect();
            for record in &records {
                assert!(
                    world.takes_repetitions || !known.contains(&record.id),
                    "{record:?} is there, in a wave of {records:?}"
                );
            }
            world.records.extend(records);
            world.progress.insert(self.group, progress);
        }
        world.lost_answers += usize::from(is_lost);
        drop(world);
        self.broker.0.1.notify_waiters();
        if is_lost { Err(Self::closed("no answer")) } else { Ok(()) }
    }

    async fn abort(&self) -> Result<(), Closed> {
        tokio::task::yield_now().await;
        self.open.lock().unwrap().take();
        if self.is_fenced() { Err(Self::closed("fenced")) } else { Ok(()) }
    }
}
