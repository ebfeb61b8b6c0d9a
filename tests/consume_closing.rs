//! A consumer whose task is given up while no broker answers.

#[macro_use]
mod support;

use outbox::consume::HandlerOptions;
use support::consumers::{
    RunningConsumer, Scripted, consumer_outbox, new_consumer_of, until_handled,
};
use support::eventually;
use support::relays::{drain_to, kafka_publisher_of};
use support::topics::create_topic_of;
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
    drain_to(&outbox, kafka_publisher_of(kafka.brokers())).await;
    let handler =
        Scripted::<Created>::new("aborted", HandlerOptions::new(), |_, _, _| async { Ok(()) });
    let consumer =
        RunningConsumer::start(new_consumer_of(&outbox, kafka.brokers()).handler(handler));
    until_handled(&outbox, "aborted", 1).await;
    eventually("the clients of the start are closed", async || closing() == 0).await;

    kafka.kill();
    // There is one thread for all tasks: this one is on while the consumer waits for its session to
    // end.
    consumer.abort().await;
    assert!(closing() > 0, "closed before the task's end was told");
}
