//! A consumer whose task is given up while no broker answers.

#[macro_use]
mod support;

use std::sync::Arc;

use outbox::consume::HandlerOptions;
use support::consumers::{RunningConsumer, Scripted, consumer_outbox, new_consumer_of};
use support::eventually;
use support::relays::{drain_to, kafka_publisher_of};
use support::topics::create_topic_of;
use tokio::sync::Semaphore;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

/// Number of threads of this process that close a client. Linux cuts their names.
fn closing() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "outbox-kafka-cl").count()
}

#[tokio::test]
async fn an_aborted_consumer_leaves_its_thread_while_it_still_says_good_bye_to_brokers_that_hang() {
    event_on_topic!(Created, "closing-aborted");
    let scratch = ScratchDir::new("closing").unwrap();
    let kafka = Kafka::start(scratch.path(), KafkaOptions::default()).unwrap();
    create_topic_of(kafka.brokers(), Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    for n in 1..=2 {
        tx.emit(Created::new("a", n)).unwrap();
    }
    tx.commit().await.unwrap();
    drain_to(&outbox, kafka_publisher_of(kafka.brokers())).await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let handler = Scripted::<Created>::new("aborted", HandlerOptions::new(), move |_, _, _| {
        let opened = opened.clone();
        async move {
            opened.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let consumer = RunningConsumer::start(
        new_consumer_of(&outbox, kafka.brokers()).handler(Arc::clone(&handler)),
    );
    let begun = async |n| !handler.attempts_of("a", n).is_empty();
    eventually("an event is being handled", async || begun(1).await).await;
    eventually("the clients of the start are closed", async || closing() == 0).await;

    // Closing, the client commits that the first event is done, and waits for an answer. Of a
    // broker that is gone it may know before, and wait for nothing.
    kafka.suspend();
    gate.add_permits(1);
    eventually("the first event is done", async || begun(2).await).await;
    // There is one thread for all tasks: this one is on while the client is closed.
    consumer.abort().await;
    // A new thread takes its name itself.
    eventually("the client is being closed elsewhere", async || closing() > 0).await;
}
