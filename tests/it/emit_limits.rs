//! What cannot go all the way is refused where it is emitted, with an error of ours; everything
//! else arrives as it is.

use std::time::{Duration, SystemTime};

use crate::support::random::{Random, seed};
use crate::support::relays::{drain_to, drained, kafka_publisher};
use crate::support::topics::{create_topic, read_topic};
use crate::support::{OrderCreated, POSTGRES, migrated, postgres};
use outbox::codec::{Codec, CodecError, Encode, Json};
use outbox::event::{DEFAULT_MAX_EVENT_BYTES, EventDescriptor, Headers};
use outbox::{DomainEvent, ErrorKind, Outbox, OutboxDatabase};
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use uuid::Uuid;

on_every_store! {
    what_no_database_or_broker_takes_is_refused_at_emit
    every_size_up_to_the_limit_arrives_and_one_byte_more_is_refused
    odd_values_of_headers_arrive_as_they_are
    a_traceparent_that_is_none_is_left_out
    a_time_beyond_the_calendar_is_an_error_of_emit
    a_key_over_the_limit_is_refused_at_emit
    all_of_several_events_are_emitted_or_none
    a_payload_that_cannot_be_serialized_is_an_error_of_emit
}

/// An event whose `Event` is written by hand, with any descriptor, key and payload.
#[derive(Clone)]
struct Odd {
    descriptor: &'static EventDescriptor,
    key: Option<Vec<u8>>,
    headers: Headers,
    payload: Vec<u8>,
    id: Option<Uuid>,
    at: Option<SystemTime>,
}

struct AsItIs;

impl Codec for AsItIs {
    const CONTENT_TYPE: &'static str = "application/octet-stream";
}

impl Encode<Odd> for AsItIs {
    fn encode(event: &Odd, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }
}

impl DomainEvent for Odd {
    type Codec = AsItIs;
    const DESCRIPTORS: &'static [EventDescriptor] =
        &[EventDescriptor::new("odd-events", "odd", 1, Self::CONTENT_TYPE, &[], &[])];

    fn descriptor(&self) -> &'static EventDescriptor {
        self.descriptor
    }

    fn key(&self) -> Option<Vec<u8>> {
        self.key.clone()
    }

    fn headers(&self, headers: &mut Headers) {
        *headers = self.headers.clone();
    }

    fn id(&self) -> Option<Uuid> {
        self.id
    }

    fn occurred_at(&self) -> Option<SystemTime> {
        self.at
    }
}

fn well() -> Odd {
    Odd {
        descriptor: &Odd::DESCRIPTORS[0],
        key: Some(b"k".to_vec()),
        headers: Headers::new(),
        payload: b"{}".to_vec(),
        id: None,
        at: None,
    }
}

fn described(change: impl FnOnce(&mut EventDescriptor)) -> Odd {
    let mut descriptor = Odd::DESCRIPTORS[0];
    change(&mut descriptor);
    Odd { descriptor: Box::leak(Box::new(descriptor)), ..well() }
}

fn with_header(name: &'static str, value: &str) -> Odd {
    let mut headers = Headers::new();
    headers.insert(name, value);
    Odd { headers, ..well() }
}

fn years(years: u64) -> Duration {
    Duration::from_secs(years * 365 * 24 * 60 * 60)
}

async fn what_no_database_or_broker_takes_is_refused_at_emit<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let epoch = SystemTime::UNIX_EPOCH;
    let refused = [
        ("topic", described(|of| of.topic = "")),
        ("topic", described(|of| of.topic = "odd\0events")),
        ("topic", described(|of| of.topic = "..")),
        ("name", described(|of| of.name = "")),
        ("name", described(|of| of.name = "odd\0name")),
        ("name", described(|of| of.name = "two\nlines")),
        ("name", described(|of| of.name = "n".repeat(100_000).leak())),
        ("content type", described(|of| of.content_type = "text\0")),
        ("version", described(|of| of.version = 0)),
        ("version", described(|of| of.version = i32::MAX as u32 + 1)),
        ("version", described(|of| of.version = u32::MAX)),
        ("one", Odd { id: Some(Uuid::nil()), ..well() }),
        ("one", Odd { id: Some(Uuid::max()), ..well() }),
        ("ce_time", Odd { at: Some(epoch + years(9_000)), ..well() }),
        ("ce_time", Odd { at: Some(epoch + years(200_000_000_000)), ..well() }),
        // Postgres has no time before the year -4712.
        ("ce_time", Odd { at: Some(epoch - years(8_000)), ..well() }),
        ("ce_time", Odd { at: Some(epoch - years(200_000_000_000)), ..well() }),
        ("header", with_header("", "x")),
        ("header", with_header("x\0y", "x")),
        ("header", with_header("größe", "x")),
        ("header", with_header("a b", "x")),
        ("reserved", with_header("ce_type", "another")),
        ("reserved", with_header("CE_ID", "another")),
        ("reserved", with_header("Content-Type", "another")),
        ("reserved", with_header("outbox-due", "1")),
    ];
    let mut tx = outbox.begin().await.unwrap();
    for (hint, event) in refused {
        let error = tx.emit(event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{hint}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(hint) && text.contains("was not emitted") && text.len() < 1_000,
            "{text}"
        );
        assert!(!text.contains('\0'), "{text:?}");
    }
    // The transaction is as it was.
    tx.emit(well()).unwrap();
    tx.emit(Odd { at: Some(epoch - years(1_900)), ..well() }).unwrap();
    tx.emit(described(|of| of.version = i32::MAX as u32)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 3);
}

/// An event of exactly this size, by the count of the limit.
fn of_size(random: &mut Random, size: usize) -> Odd {
    let key = random.below(size as u64 + 1) as usize;
    let payload = random.below((size - key) as u64 + 1) as usize;
    let mut event = Odd { key: Some(vec![b'k'; key]), payload: vec![0; payload], ..well() };
    let mut left = size - key - payload;
    for n in 0.. {
        let name = format!("x{n}");
        let own = name.len() + 10;
        if left < own {
            break;
        }
        let value =
            if n >= 20 { left - own } else { random.below((left - own) as u64 + 1) as usize };
        event.headers.insert(name, &*"v".repeat(value));
        left -= own + value;
    }
    event.payload.resize(payload + left, 1);
    event
}

async fn every_size_up_to_the_limit_arrives_and_one_byte_more_is_refused<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    const LIMIT: usize = 20_000;
    let outbox = Outbox::builder(outbox.pool().clone()).max_event_bytes(LIMIT).build().unwrap();
    let mut random = Random::new(seed(), 0);
    let mut emitted = Vec::new();
    let mut tx = outbox.begin().await.unwrap();
    for n in 0..200 {
        let size = match n {
            0 => 0,
            1 => LIMIT,
            2 => LIMIT + 1,
            _ => random.below(LIMIT as u64 + 2) as usize,
        };
        let event = of_size(&mut random, size);
        match tx.emit(event.clone()) {
            Ok(id) if size <= LIMIT => emitted.push((id, event)),
            Err(error) if size > LIMIT => assert_eq!(error.kind(), ErrorKind::EventTooLarge),
            other => panic!("size {size}: {other:?}"),
        }
    }
    tx.commit().await.unwrap();
    let published = drained(&outbox).await;
    assert_eq!(published.len(), emitted.len());
    for (id, event) in emitted {
        let record = published.iter().find(|record| record.id == id).unwrap();
        assert_eq!((&record.key, &record.payload), (&event.key, &Some(event.payload)));
        let mut headers: Vec<_> = event.headers.iter().collect();
        headers.sort_unstable();
        let mut arrived: Vec<_> = record.headers.iter().collect();
        arrived.sort_unstable();
        assert_eq!(arrived, headers);
    }
}

async fn odd_values_of_headers_arrive_as_they_are<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let values = ["", "\0", "a\0b", "\u{1}\u{7f}", "\"\\\u{2028}", "größe 🦀"];
    let mut tx = outbox.begin().await.unwrap();
    for value in values {
        tx.emit(with_header("x-odd", value)).unwrap();
    }
    tx.commit().await.unwrap();
    let published = drained(&outbox).await;
    let arrived: Vec<_> =
        published.iter().map(|record| record.headers.get("x-odd").unwrap()).collect();
    assert_eq!(arrived, values);
}

async fn a_traceparent_that_is_none_is_left_out<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut tx = outbox.begin().await.unwrap();
    for traceparent in [good, "", "not one", &"0".repeat(1 << 20), &format!("{}\0", &good[1..])] {
        tx.set_trace_context(|name| (name == "traceparent").then_some(traceparent));
        tx.emit(well()).unwrap();
    }
    tx.commit().await.unwrap();
    let published = drained(&outbox).await;
    let traces: Vec<_> = published.iter().map(|record| record.headers.get("traceparent")).collect();
    assert_eq!(traces, [Some(good), None, None, None, None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_emit_accepts_kafka_accepts_whatever_it_consists_of() {
    create_topic("odd-events", 1, &[]).await;
    let outbox = migrated(Outbox::new(postgres(POSTGRES, 4).await)).await;
    let limit = DEFAULT_MAX_EVENT_BYTES;
    let mut many_headers = Vec::new();
    let mut left = limit;
    for n in 0.. {
        let name = format!("{n}");
        let Some(rest) = left.checked_sub(name.len() + 11) else { break };
        many_headers.push((name, "v".to_owned()));
        left = rest;
    }
    let many_headers: Headers = many_headers.into_iter().collect();
    let count = many_headers.iter().count();
    let random_bytes = {
        let mut random = Random::new(seed(), 1);
        (0..limit).map(|_| random.next() as u8).collect::<Vec<u8>>()
    };
    let events = [
        Odd { key: Some(Vec::new()), payload: Vec::new(), ..well() },
        Odd { key: None, payload: random_bytes.clone(), ..well() },
        Odd { key: Some(random_bytes), payload: Vec::new(), ..well() },
        Odd { key: None, payload: Vec::new(), headers: many_headers, ..well() },
        described(|of| of.name = "n".repeat(1_000).leak()),
        with_header("x-odd", "a\0b"),
    ];
    for event in events {
        let mut tx = outbox.begin().await.unwrap();
        tx.emit(event).unwrap();
        tx.commit().await.unwrap();
    }
    drain_to(&outbox, kafka_publisher()).await;
    assert_eq!(outbox.parked(10).await.unwrap().len(), 0);

    let messages = read_topic("odd-events").await;
    assert_eq!(messages.len(), 6);
    let with = |is: &dyn Fn(&rdkafka::message::OwnedMessage) -> bool| {
        messages.iter().filter(|m| is(m)).count()
    };
    assert_eq!(with(&|m| m.key() == Some(b"") && m.payload() == Some(b"")), 1, "empty is not null");
    assert_eq!(with(&|m| m.key().is_none() && m.payload().map(<[u8]>::len) == Some(limit)), 1);
    assert_eq!(with(&|m| m.key().map(<[u8]>::len) == Some(limit)), 1);
    assert_eq!(with(&|m| m.headers().unwrap().count() > count), 1);
    let odd = |m: &rdkafka::message::OwnedMessage| {
        m.headers()
            .unwrap()
            .iter()
            .any(|header| header.key == "x-odd" && header.value == Some(b"a\0b"))
    };
    assert_eq!(with(&odd), 1);
}

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "order-events", name = "order.dated", keyless)]
struct Dated {
    #[event(occurred_at)]
    #[serde(skip)]
    at: SystemTime,
}

async fn a_time_beyond_the_calendar_is_an_error_of_emit<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let ten_thousand_years = Duration::from_secs(10_000 * 365 * 24 * 60 * 60);
    let mut tx = outbox.begin().await.unwrap();
    let error = tx.emit(Dated { at: SystemTime::UNIX_EPOCH + ten_thousand_years }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent);
    assert!(error.to_string().contains("beyond the years"), "{error}");
    tx.emit(Dated { at: SystemTime::UNIX_EPOCH }).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 1);
}

async fn a_key_over_the_limit_is_refused_at_emit<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let mut tx = outbox.begin().await.unwrap();
    let error = tx.emit(OrderCreated::new("k".repeat(1 << 20), 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventTooLarge);
    assert!(error.to_string().contains("max_event_bytes"), "{error}");
    // Long, and within the limit (the key is in the payload too).
    tx.emit(OrderCreated::new("k".repeat(400_000), 2)).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(drained(&outbox).await[0].key.as_ref().map(Vec::len), Some(400_000));
}

async fn all_of_several_events_are_emitted_or_none<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    let too_long = "k".repeat(1 << 20);
    let refused = ["a", &too_long, "b"].map(|customer| OrderCreated::new(customer, 2));
    assert_eq!(tx.emit_all(&refused).unwrap_err().kind(), ErrorKind::EventTooLarge);
    assert_eq!(tx.pending_events(), 1);
    let events = (3..=5).map(|n| OrderCreated::new("a", n));
    let ids = tx.emit_all(events).unwrap();
    assert!(tx.emit_all(Vec::<OrderCreated>::new()).unwrap().is_empty());
    tx.commit().await.unwrap();
    let stored: Vec<_> = drained(&outbox).await.iter().map(|event| event.id).collect();
    assert_eq!(stored[1..], ids);
}

/// An event whose payload fails to serialize, written by hand as a user may.
struct Unserializable;

impl serde::Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

impl DomainEvent for Unserializable {
    type Codec = Json;
    const DESCRIPTORS: &'static [EventDescriptor] =
        &[EventDescriptor::new("order-events", "order.bad", 1, "application/json", &[], &[])];

    fn descriptor(&self) -> &'static EventDescriptor {
        &Self::DESCRIPTORS[0]
    }

    fn key(&self) -> Option<Vec<u8>> {
        None
    }

    fn headers(&self, _: &mut Headers) {}
}

async fn a_payload_that_cannot_be_serialized_is_an_error_of_emit<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", 1)).unwrap();
    let error = tx.emit(Unserializable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialize);
    assert!(error.to_string().contains("order.bad"), "{error}");
    drop(tx);
    assert_eq!(drained(&outbox).await.len(), 0);
}
