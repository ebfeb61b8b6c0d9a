//! What one writes by hand to handle several events at once: tasks, each of which has some of the
//! keys and a connection, and a loop that stores an offset when all before it are done.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use outbox_bench_report::Handled;
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use sqlx::PgPool;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{event_id, handle_by_hand, handled, subscribed};
use crate::{Failure, TOPIC, outbox};

/// Events that wait for a task.
const QUEUE: usize = 128;

struct Event {
    partition: i32,
    offset: i64,
    id: Uuid,
    payload: Option<Vec<u8>>,
}

/// The events of each partition whose offsets are not stored, and whether they are done.
#[derive(Default)]
struct Offsets(HashMap<i32, VecDeque<(i64, bool)>>);

impl Offsets {
    fn received(&mut self, partition: i32, offset: i64) {
        self.0.entry(partition).or_default().push_back((offset, false));
    }

    /// Returns the last offset before the first event that is not done, if it has changed.
    fn done(&mut self, partition: i32, offset: i64) -> Option<i64> {
        let events = self.0.get_mut(&partition)?;
        let place = events.partition_point(|(other, _)| *other < offset);
        events.get_mut(place)?.1 = true;
        let mut up_to = None;
        while let Some((offset, true)) = events.front() {
            up_to = Some(*offset);
            events.pop_front();
        }
        up_to
    }
}

pub(crate) async fn by_hand(events: u64, tasks: u32) -> Result<Handled, Failure> {
    let pool = outbox(tasks).await?.pool().clone();
    let group = Uuid::now_v7().to_string();
    let consumer = subscribed(&group)?;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    let queues: Vec<Sender<Event>> = (0..tasks)
        .map(|_| {
            let (queue, of_task) = mpsc::channel(QUEUE);
            running.spawn(handle_all(pool.clone(), group.clone(), of_task, ended.clone()));
            queue
        })
        .collect();
    let (mut begin, mut offsets, mut done) = (None, Offsets::default(), 0);
    while done < events {
        tokio::select! {
            Some(failed) = running.join_next() => failed??,
            Some((partition, offset)) = ends.recv() => {
                done += 1;
                if let Some(up_to) = offsets.done(partition, offset) {
                    consumer.store_offset(TOPIC, partition, up_to)?;
                }
            }
            message = consumer.recv() => {
                let message = message?;
                begin.get_or_insert_with(Instant::now);
                let (partition, offset) = (message.partition(), message.offset());
                offsets.received(partition, offset);
                let mut hasher = DefaultHasher::new();
                message.key().hash(&mut hasher);
                let task = (hasher.finish() % u64::from(tasks)) as usize;
                let payload = message.payload().map(<[u8]>::to_vec);
                let event = Event { partition, offset, id: event_id(&message)?, payload };
                queues[task].send(event).await?;
            }
        }
    }
    handled(begin, events)
}

/// A task.
async fn handle_all(
    pool: PgPool,
    group: String,
    mut events: Receiver<Event>,
    ended: UnboundedSender<(i32, i64)>,
) -> Result<(), Failure> {
    while let Some(Event { partition, offset, id, payload }) = events.recv().await {
        handle_by_hand(&pool, &group, id, payload.as_deref()).await?;
        ended.send((partition, offset))?;
    }
    Ok(())
}
