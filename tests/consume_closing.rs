//! A consumer whose task is given up while no broker answers.

#[macro_use]
mod support;

use std::time::Duration;

use outbox::Relay;
use outbox::consume::{Consumer, HandlerOptions};
use outbox::publish::kafka::KafkaPublisher;
use support::consumers::{Scripted, consumer_outbox, until_handled};
use support::topics::create_topic_of;
use support::within_a_minute;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions};

/// How many threads of this process close a client. Linux cuts their name.
fn closing() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "outbox-kafka-cl").count()
}

#[tokio::test]
async fn an_aborted_consumer_leaves_its_thread_while_it_still_says_good_bye_to_brokers_that_are_away()
 {
    event_on_topic!(Created, "closing-aborted");
    let scratch = ScratchDir::new("closing").unwrap();
    let mut kafka = Kafka::start(scratch.path(), KafkaOptions::default()).unwrap();
    create_topic_of(kafka.brokers(), Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(Created::new("a", 1)).unwrap();
    tx.commit().await.unwrap();
    Relay::new(outbox.clone(), KafkaPublisher::new(kafka.brokers()).unwrap())
        .drain()
        .await
        .unwrap();
    let handler =
        Scripted::<Created>::new("aborted", HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let consumer = Consumer::new(outbox.clone(), kafka.brokers()).handler(handler);
    let consumer = tokio::spawn(consumer.run(std::future::pending()));
    until_handled(&outbox, "aborted", 1).await;
    within_a_minute(async {
        while closing() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await; // those of the start
        }
    })
    .await;

    kafka.kill();
    consumer.abort();
    // There is one thread for all tasks: this one is on while the consumer waits for its session to
    // end.
    assert!(consumer.await.unwrap_err().is_cancelled());
    assert!(closing() > 0, "closed before the task's end was told");
}
