use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span;

use super::*;
use crate::error::ErrorKind;
use crate::record::{EventRecord, KeyDigest, StoredEvent};
use crate::store::{LaneRead, Rest, Retry};
use crate::testing::MemoryPublisher;

/// A reader of events that are in memory. A cursor is the number of the last event before it.
#[derive(Default)]
struct Reader {
    events: Vec<StoredEvent>,
    saved: Arc<Mutex<BTreeMap<Lane, i64>>>,
}

impl LaneStore for Reader {
    type Cursor = i64;

    async fn claim(&mut self, held: &[Lease], _: Share) -> Result<Claimed<i64>, OutboxError> {
        let lanes = Lane::all().filter(|lane| held.iter().all(|lease| lease.lane != *lane));
        let taken = lanes.map(|lane| (lease(lane), 0, Some(Vec::new()))).collect();
        let (lost, reopened, elsewhere, pauses) = Default::default();
        Ok(Claimed { lost, reopened, taken, taken_over: 0, share: LANES, elsewhere, pauses })
    }

    async fn read(&mut self, lanes: &[LaneRead<i64>]) -> Result<Vec<LaneBatch<i64>>, OutboxError> {
        let read = |read: &LaneRead<i64>| {
            let next = |event: &&StoredEvent| event.lane == read.lane && event.seq > read.from;
            let events: Vec<_> = self.events.iter().filter(next).cloned().collect();
            let (lane, start) = (read.lane, read.from);
            let end = events.last().map_or(start, |event| event.seq);
            LaneBatch { lane, events, start, end, save: false, rest: Rest::Nothing }
        };
        Ok(lanes.iter().map(read).collect())
    }

    fn cursor_before(_: &i64, seq: i64) -> i64 {
        seq - 1
    }

    async fn save(&mut self, progress: &[Progress<i64>]) -> Result<Saved, OutboxError> {
        let cursors = progress.iter().map(|progress| (progress.lease.lane, progress.cursor));
        self.saved.lock().unwrap().extend(cursors);
        Ok(Saved::default())
    }

    async fn parked_among(
        &mut self,
        _: Lane,
        _: Vec<KeyDigest>,
    ) -> Result<KnownParked, OutboxError> {
        Ok(None)
    }

    async fn released(&mut self, _: &[Lease], _: Retry) -> Result<Vec<Released>, OutboxError> {
        Ok(Vec::new())
    }

    async fn save_retry(&mut self, _: Lease, _: &RetryResult) -> Result<Option<bool>, OutboxError> {
        Ok(Some(false))
    }

    async fn release(&mut self, _: &[Lease], _: bool) -> Result<(), OutboxError> {
        Ok(())
    }
}

fn lease(lane: Lane) -> Lease {
    Lease { lane, epoch: 1 }
}

fn event(seq: i64, key: &str) -> StoredEvent {
    let payload = Some(seq.to_string().into());
    let record = EventRecord { payload, ..EventRecord::of_key(Some(key)) };
    StoredEvent { lane: Lane::of(record.key.as_deref(), record.id), seq, record, unreadable: None }
}

fn engine(reader: Reader, kafka: &MemoryPublisher) -> Engine<Reader, MemoryPublisher> {
    let heartbeat = Heartbeat::new(Duration::from_secs(5), Meter::default());
    let settings = Settings::default();
    let (publisher, memory) = (kafka.clone(), Memory::new(&settings.memory, Meter::default()));
    Engine::new(Parts { reader, publisher, memory, heartbeat }, settings, Share::All)
}

#[tokio::test]
async fn a_relay_publishes_what_any_reader_of_lanes_reads() {
    let events: Vec<_> = (1..=40).map(|n| event(n, &format!("customer-{}", n % 4))).collect();
    let (saved, kafka) = (Arc::default(), MemoryPublisher::new());
    let reader = Reader { events: events.clone(), saved: Arc::clone(&saved) };
    assert_eq!(Box::pin(engine(reader, &kafka).drain()).await.unwrap(), 40);
    let mut last = BTreeMap::new();
    for (n, event) in events.iter().enumerate() {
        last.insert(event.lane, n as i64 + 1);
    }
    assert_eq!(*saved.lock().unwrap(), last);
    for customer in (0..4).map(|n| format!("customer-{n}").into_bytes()) {
        let of_customer = |record: &&EventRecord| record.key.as_ref() == Some(&customer);
        let published = kafka.published();
        let expected = events.iter().map(|event| &event.record).filter(of_customer);
        assert!(published.iter().filter(of_customer).eq(expected));
    }
}

#[test]
fn a_lane_that_is_lost_while_its_events_cannot_be_parked_is_not_said_to_resume() {
    let lane = Lane::from_number(3);
    let progress = || Progress { lease: lease(lane), cursor: 7, parked: Vec::new() };
    let claimed = || Claimed {
        lost: Vec::new(),
        reopened: Vec::new(),
        taken: vec![(lease(lane), 0, Some(Vec::new()))],
        taken_over: 0,
        share: LANES,
        elsewhere: Vec::new(),
        pauses: Vec::new(),
    };
    let saved = |saved| Answer::Saved(vec![progress()], vec![Vec::new()], saved);
    let refused = || {
        let error = OutboxError::new(ErrorKind::Database, "no");
        Saved { failed: vec![(lane, error)], ..Saved::default() }
    };
    let resumes = |last: Saved| {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let mut engine = engine(Reader::default(), &MemoryPublisher::new());
            engine.on_answer(Answer::Claimed(claimed()));
            engine.on_answer(saved(refused()));
            engine.on_answer(saved(last));
        });
        let messages = log.0.lock().unwrap();
        assert!(messages.iter().any(|message| message.contains("did not take the events")));
        messages.iter().any(|message| message.contains("the lane resumes"))
    };
    assert!(resumes(Saved::default()));
    assert!(!resumes(Saved { lost: vec![lane], ..Saved::default() }));
}

/// The messages that are logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'l>(&'l Log);

        impl Visit for Message<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0.0.lock().unwrap().push(format!("{value:?}"));
                }
            }
        }

        event.record(&mut Message(self));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
