use std::time::Duration;

use super::*;
use crate::error::{ErrorKind, OutboxError};
use crate::publish::DeliveryReport;
use crate::record::{EventRecord, Lane};
use crate::trace;

/// A cursor is the number of the last event before it.
type OneLane = HeldLane<i64>;

const BOUNDS: Bounds = Bounds { rows: 10, bytes: 10_000 };

fn lane() -> OneLane {
    let lease = Lease { lane: Lane::from_number(0), epoch: 1 };
    HeldLane::new(1, lease, 0, Some(Vec::new()))
}

fn event(seq: i64, key: &str) -> StoredEvent {
    let record = EventRecord::of_key(Some(key));
    StoredEvent { lane: Lane::from_number(0), seq, record, unreadable: None }
}

fn on_topic(topic: &'static str, event: StoredEvent) -> StoredEvent {
    let record = EventRecord { topic: topic.into(), ..event.record };
    StoredEvent { record, ..event }
}

fn read(lane: &mut OneLane, events: impl IntoIterator<Item = StoredEvent>) {
    let events: Vec<_> = events.into_iter().collect();
    let (start, end) = (lane.read, events.last().unwrap().seq);
    let batch =
        LaneBatch { lane: lane.lease.lane, events, start, end, save: false, rest: Rest::More };
    lane.was_read(batch, Held::default(), false, 1);
}

fn sent(lane: &mut OneLane, now: Instant) -> Option<InFlightBatch<i64>> {
    lane.next_batch(now, BOUNDS)
}

fn numbers(batch: &InFlightBatch<i64>) -> Vec<i64> {
    batch.events.iter().map(|event| event.seq).collect()
}

fn rules(park_after: u32, now: Instant) -> Rules<i64> {
    Rules { park_after: Some(park_after), cursor_before: |_, seq| seq - 1, now }
}

fn refused(report: fn(OutboxError) -> DeliveryReport) -> DeliveryReport {
    report(OutboxError::new(ErrorKind::Kafka, "no"))
}

fn delivered(batch: &InFlightBatch<i64>) -> Vec<DeliveryReport> {
    batch.events.iter().map(|_| DeliveryReport::Delivered).collect()
}

fn parked(lane: &mut OneLane, now: Instant) -> Vec<i64> {
    let (progress, _) = lane.take_unsaved(now).unwrap();
    let seqs = progress.parked.iter().map(|parking| parking.event.seq).collect();
    lane.was_saved(&progress);
    seqs
}

/// Later than every pause of a lane.
fn later(now: Instant) -> Instant {
    now + Duration::from_secs(60)
}

#[test]
fn batches_without_a_common_key_are_in_flight_together_and_are_saved_in_order() {
    let (now, mut lane) = (Instant::now(), lane());
    read(&mut lane, [event(1, "a"), event(2, "a")]);
    let first = sent(&mut lane, now).unwrap();
    read(&mut lane, [event(3, "b")]);
    let second = sent(&mut lane, now).unwrap();
    read(&mut lane, [event(4, "a")]);
    assert!(sent(&mut lane, now).is_none(), "an earlier event of its key is in flight");
    assert_eq!(lane.awaited(), 2);

    let reports = delivered(&second);
    assert!(lane.on_reports(second, reports, &rules(2, now)).is_empty());
    assert!(!lane.has_unsaved(), "the first one may fail");
    let reports = delivered(&first);
    assert_eq!(lane.on_reports(first, reports, &rules(2, now)).len(), 2);
    assert_eq!(lane.take_unsaved(now).unwrap().0.cursor, 3);
    assert_eq!(numbers(&sent(&mut lane, now).unwrap()), [4]);
}

#[test]
fn no_more_is_in_flight_than_the_bounds_allow() {
    let (now, mut lane) = (Instant::now(), lane());
    read(&mut lane, (1..=10).map(|seq| event(seq, &seq.to_string())));
    assert!(sent(&mut lane, now).is_some());
    read(&mut lane, [event(11, "11")]);
    assert!(sent(&mut lane, now).is_none());
}

#[test]
fn after_a_failure_nothing_is_sent_until_the_abandoned_batches_have_their_reports() {
    let (now, mut lane) = (Instant::now(), lane());
    read(&mut lane, [event(1, "a"), event(2, "b")]);
    let first = sent(&mut lane, now).unwrap();
    read(&mut lane, [event(3, "c")]);
    let second = sent(&mut lane, now).unwrap();
    let reports = vec![DeliveryReport::Delivered, DeliveryReport::NotSent];
    let settlements = lane.on_reports(first, reports, &rules(2, now));
    assert!(matches!(settlements[..], [Settlement::Interrupted]), "{settlements:?}");
    assert_eq!((lane.read, lane.take_unsaved(now).unwrap().0.cursor), (1, 1));
    assert_eq!(lane.wants(9, 100), None, "one of its batches is with the publisher");

    let reports = delivered(&second);
    assert!(lane.on_reports(second, reports, &rules(2, now)).is_empty());
    assert!(!lane.has_unsaved(), "its reports are ignored");
    assert_eq!(lane.wants(9, 100), Some(100));
    read(&mut lane, [event(2, "b"), event(3, "c")]);
    assert!(sent(&mut lane, now).is_none(), "it waits");
    assert_eq!(numbers(&sent(&mut lane, later(now)).unwrap()), [2, 3]);
}

#[test]
fn a_refused_event_is_tried_alone_and_parked_and_later_ones_of_its_key_wait_behind_it() {
    let (now, mut lane) = (Instant::now(), lane());
    read(&mut lane, [event(1, "a"), event(2, "b"), event(3, "a")]);
    let batch = sent(&mut lane, now).unwrap();
    assert!(!batch.batch(&trace::OFF).alone);
    // The refusal of the second may have cost the first one its answer.
    let reports =
        vec![DeliveryReport::NotSent, refused(DeliveryReport::Refused), DeliveryReport::NotSent];
    let settlements = lane.on_reports(batch, reports, &rules(2, now));
    assert!(matches!(&settlements[..], [Settlement::Refused { event, .. }] if event.seq == 2));
    assert_eq!((lane.read, lane.wants(9, 100)), (0, Some(1)));

    read(&mut lane, [event(1, "a")]);
    let batch = sent(&mut lane, later(now)).unwrap();
    assert!(batch.batch(&trace::OFF).alone);
    let reports = delivered(&batch);
    let settlements = lane.on_reports(batch, reports, &rules(2, now));
    assert!(matches!(settlements[..], [Settlement::Delivered(None)]), "{settlements:?}");
    for attempt in 1..=2 {
        read(&mut lane, [event(2, "b")]);
        let batch = sent(&mut lane, later(now)).unwrap();
        let reports = vec![refused(DeliveryReport::Refused)];
        let settlements = lane.on_reports(batch, reports, &rules(2, now));
        match (&settlements[..], attempt) {
            ([Settlement::RefusedAlone { attempt: 1, .. }], 1) => {}
            ([Settlement::Parked { attempt: 2, .. }], 2) => {}
            _ => panic!("{settlements:?}"),
        }
    }
    assert_eq!(lane.wants(9, 100), Some(100), "the retry is over");
    read(&mut lane, [event(3, "a"), event(4, "b")]);
    let batch = sent(&mut lane, now).unwrap();
    assert_eq!(numbers(&batch), [3]);
    let reports = delivered(&batch);
    lane.on_reports(batch, reports, &rules(2, now));
    assert_eq!(parked(&mut lane, now), [2, 4]);
}

#[test]
fn an_event_at_fault_is_parked_at_once() {
    let (now, mut lane) = (Instant::now(), lane());
    for alone in [false, true] {
        read(&mut lane, [event(1, "a")]);
        let batch = sent(&mut lane, later(now)).unwrap();
        assert_eq!(batch.batch(&trace::OFF).alone, alone);
        let reports = vec![refused(DeliveryReport::EventRefused)];
        lane.on_reports(batch, reports, &rules(5, now));
    }
    assert_eq!(parked(&mut lane, now), [1]);
}

/// Parks event 1 of the topic "payments", which is refused from then on.
fn with_a_refused_topic(now: Instant) -> OneLane {
    let mut lane = lane();
    for _ in 0..2 {
        read(&mut lane, [on_topic("payments", event(1, "a"))]);
        let batch = sent(&mut lane, later(now)).unwrap();
        let reports = vec![refused(DeliveryReport::TopicRefused)];
        lane.on_reports(batch, reports, &rules(1, now));
    }
    assert_eq!(parked(&mut lane, now), [1]);
    lane
}

#[test]
fn events_of_a_refused_topic_are_parked_without_an_attempt_until_it_is_tried_again() {
    let now = Instant::now();
    let mut lane = with_a_refused_topic(now);
    read(&mut lane, [event(2, "b"), on_topic("payments", event(3, "b"))]);
    let batch = sent(&mut lane, now).unwrap();
    assert_eq!(numbers(&batch), [2]);
    let reports = delivered(&batch);
    lane.on_reports(batch, reports, &rules(1, now));
    assert_eq!(parked(&mut lane, now), [3]);
    lane.try_refused_topics_again();
    let payments = [(4, "a"), (5, "b"), (6, "c")];
    read(&mut lane, payments.map(|(seq, key)| on_topic("payments", event(seq, key))));
    assert_eq!(numbers(&sent(&mut lane, now).unwrap()), [6], "the others wait behind 1 and 3");
}

#[test]
fn an_event_that_was_passed_over_in_vain_does_not_keep_its_key_from_being_sent() {
    let now = Instant::now();
    let mut lane = with_a_refused_topic(now);
    let events = || [event(2, "b"), on_topic("payments", event(3, "b"))];
    read(&mut lane, events());
    let batch = sent(&mut lane, now).unwrap();
    assert_eq!(numbers(&batch), [2]);
    lane.on_reports(batch, vec![DeliveryReport::NotSent], &rules(1, now));
    lane.try_refused_topics_again();
    read(&mut lane, events());
    assert_eq!(numbers(&sent(&mut lane, later(now)).unwrap()), [2, 3]);
}

#[test]
fn an_event_that_was_passed_over_in_an_abandoned_batch_does_not_keep_its_key_either() {
    let now = Instant::now();
    let mut lane = with_a_refused_topic(now);
    let events = || [event(3, "c"), on_topic("payments", event(4, "c"))];
    read(&mut lane, [event(2, "b")]);
    let first = sent(&mut lane, now).unwrap();
    read(&mut lane, events());
    let second = sent(&mut lane, now).unwrap();
    lane.on_reports(first, vec![DeliveryReport::NotSent], &rules(1, now));
    let reports = delivered(&second);
    lane.on_reports(second, reports, &rules(1, now));
    lane.try_refused_topics_again();
    read(&mut lane, [event(2, "b")].into_iter().chain(events()));
    assert_eq!(numbers(&sent(&mut lane, later(now)).unwrap()), [2, 3, 4]);
}

#[test]
fn an_event_that_cannot_be_read_is_parked_once_however_often_its_batch_is_sent() {
    let (now, mut lane) = (Instant::now(), lane());
    let events = || {
        let unreadable = Some("a header is no text".into());
        [event(1, "a"), StoredEvent { unreadable, ..event(2, "b") }]
    };
    let mut unreadable = 0;
    for report in [DeliveryReport::NotSent, DeliveryReport::NotSent, DeliveryReport::Delivered] {
        read(&mut lane, events());
        let batch = sent(&mut lane, later(now)).unwrap();
        assert_eq!(numbers(&batch), [1]);
        let settlements = lane.on_reports(batch, vec![report], &rules(1, now));
        unreadable += settlements
            .iter()
            .filter(|settlement| matches!(settlement, Settlement::Unreadable(event, _) if event.seq == 2))
            .count();
    }
    assert_eq!((unreadable, parked(&mut lane, now)), (1, vec![2]));
}

#[test]
fn what_the_database_did_not_take_is_saved_before_more_is_sent() {
    let (now, mut lane) = (Instant::now(), lane());
    let deliver = |lane: &mut OneLane, seq, key| {
        read(lane, [event(seq, key)]);
        let batch = sent(lane, now).unwrap();
        read(lane, [event(seq + 1, "z")]);
        let reports = delivered(&batch);
        lane.on_reports(batch, reports, &rules(1, now));
        lane.drop_next();
    };
    deliver(&mut lane, 1, "a");
    let (progress, held) = lane.take_unsaved(now).unwrap();
    deliver(&mut lane, 2, "b");
    let (again, is_first) = lane.was_not_saved(progress, held, now);
    assert!(is_first && again > now && lane.save_again_at() == Some(again));
    assert!(lane.take_unsaved(now).is_none(), "it waits");
    read(&mut lane, [event(3, "c")]);
    assert!(sent(&mut lane, now).is_none());
    let (progress, held) = lane.take_unsaved(later(now)).unwrap();
    assert_eq!(progress.cursor, 2);
    assert!(!lane.was_not_saved(progress, held, now).1, "the second failure");
    let (progress, _) = lane.take_unsaved(later(now)).unwrap();
    assert!(lane.was_saved(&progress));
    assert_eq!(numbers(&sent(&mut lane, now).unwrap()), [3]);
}
