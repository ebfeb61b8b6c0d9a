//! How much memory a consumer takes. Alone in its process, whose memory it measures.

#[macro_use]
mod support;

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox::consume::HandlerOptions;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use support::consumers::{RunningConsumer, Scripted, consumer_outbox, new_consumer, until_handled};
use support::topics::create_topic;
use support::{eventually, kafka};
use tokio::sync::Semaphore;
use uuid::Uuid;

const EVENTS: usize = 400;
const BYTES: usize = 900_000;

/// Of this process, in bytes: `VmRSS`, or its most ever, `VmHWM`.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

/// Waits until the process has taken no more memory for three seconds. What it takes later is
/// measured as well.
async fn until_full() {
    let mut most = 0;
    let mut since = Instant::now();
    eventually("the consumer is full", || {
        if memory("VmRSS") > most + (1 << 20) {
            (most, since) = (memory("VmRSS"), Instant::now());
        }
        ready(since.elapsed() > Duration::from_secs(3))
    })
    .await;
}

async fn produce_all(topic: &str) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", kafka()).create().unwrap();
    let padding = "x".repeat(BYTES);
    for n in 0..EVENTS {
        let payload =
            format!(r#"{{"customer":"c{n}","tenant":"t","n":{n},"padding":"{padding}"}}"#);
        let id = Uuid::now_v7().to_string();
        let headers = [("ce_id", &*id), ("ce_type", "order.created"), ("ce_dataversion", "3")]
            .into_iter()
            .fold(OwnedHeaders::new(), |with, (key, value)| {
                with.insert(Header { key, value: Some(value) })
            });
        let key = format!("c{n}");
        let record = FutureRecord::to(topic).key(&key).payload(&payload).headers(headers);
        producer.send(record, Duration::from_secs(30)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_in_hand_are_bounded_and_every_event_is_handled() {
    event_on_topic!(Created, "memory-bounded");
    create_topic(Created::TOPIC, 2, &[]).await;
    let outbox = consumer_outbox().await;
    produce_all(Created::TOPIC).await;
    let before = memory("VmHWM");
    // None ends before all handlers that may run have begun: until then, the consumer fills up.
    let begun = Arc::new(Semaphore::new(0));
    let ends = Arc::new(Semaphore::new(0));
    let (began, may_end) = (Arc::clone(&begun), Arc::clone(&ends));
    let handler = Scripted::<Created>::new("bounded", HandlerOptions::new(), move |_, _, _| {
        began.add_permits(1);
        let may_end = Arc::clone(&may_end);
        async move {
            may_end.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let consumer = RunningConsumer::start(new_consumer(&outbox).handler(handler));
    begun.acquire_many(8).await.unwrap().forget();
    until_full().await;
    ends.add_permits(EVENTS);
    until_handled(&outbox, "bounded", EVENTS).await;
    assert_eq!(consumer.stop().await.handled, EVENTS as u64);
    let grown = memory("VmHWM") - before;
    assert!(grown < 192 << 20, "{} MiB of {} MiB", grown >> 20, (EVENTS * BYTES) >> 20);
}
