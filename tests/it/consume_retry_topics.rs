//! Retry topics, on a real Kafka and real databases: who waits, who overtakes, and what is left by
//! a process that died.

use std::sync::Arc;
use std::time::Duration;

use crate::support::consumers::{
    Created, Handles, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox,
    consumer_outbox_on, handled_by, header, new_consumer_with, pairs, publish, until_dead_letters,
    until_handled,
};
use crate::support::eventually;
use crate::support::topics::{admin, create_topic, read_topic};
use outbox::consume::LaterEvents;
use sqlx::Postgres;

const SHORT: &[Duration] = &[Duration::from_millis(200), Duration::from_millis(200)];

/// Each on both databases, with topics of their own.
macro_rules! on_both {
    ($($promise:ident on $topic:literal and $other:literal)*) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                event_on_topic!(Created, $topic);
                super::$promise::<sqlx::Postgres, Created>().await;
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                event_on_topic!(Created, $other);
                super::$promise::<sqlx::MySql, Created>().await;
            })*
        }
    };
}

on_both! {
    an_event_climbs_its_retry_topics_and_then_becomes_a_dead_letter
        on "consume-schedule" and "consume-schedule-mysql"
    later_events_wait_behind_one_in_a_retry_topic_and_other_keys_do_not
        on "consume-wait" and "consume-wait-mysql"
    a_key_goes_on_when_the_event_it_waits_for_becomes_a_dead_letter
        on "consume-unblocked" and "consume-unblocked-mysql"
    an_event_in_a_retry_topic_outlives_its_consumer
        on "consume-survives" and "consume-survives-mysql"
}

async fn an_event_climbs_its_retry_topics_and_then_becomes_a_dead_letter<
    DB: Handles,
    E: Created,
>() {
    create_topic(E::TOPIC, 2, &[]).await;
    let outbox = consumer_outbox_on::<DB>().await;
    publish(&outbox, [E::new("never", 1), E::new("later", 1), E::new("later", 2)]).await;
    let options = QUICK.attempts(2).retry_topics(SHORT, LaterEvents::Overtake);
    let handler = Scripted::<E>::new("schedule", options, |customer, n, attempt| async move {
        match (&*customer, n, attempt) {
            ("never", ..) | ("later", 1, 1..=3) => TRANSIENT,
            _ => Ok(()),
        }
    });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "schedule", 2).await;
    let letters = until_dead_letters(E::TOPIC, "schedule", 1).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled, pairs("later", [2, 1]), "the later one has overtaken");
    assert_eq!(
        handler.attempts_of("later", 1),
        [1, 2, 3, 4],
        "two in place, and one after each retry topic"
    );
    assert_eq!(handler.attempts_of("never", 1), [1, 2, 3, 4]);
    assert_eq!((letters[0].attempts, &*letters[0].original_topic), (4, E::TOPIC));
    assert_eq!((consumed.to_retry_topics, consumed.dead_letters), (4, 1));
    let retry_topic = format!("{}.schedule.retry.200ms", E::TOPIC);
    let partitions =
        admin().inner().fetch_metadata(Some(&retry_topic), Duration::from_secs(30)).unwrap();
    assert_eq!(partitions.topics()[0].partitions().len(), 2, "as many as the topic");
}

async fn later_events_wait_behind_one_in_a_retry_topic_and_other_keys_do_not<
    DB: Handles,
    E: Created,
>() {
    create_topic(E::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox_on::<DB>().await;
    publish(&outbox, (1..=5).flat_map(|n| [E::new("a", n), E::new("b", n)])).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<E>::new("wait", options, |customer, n, attempt| async move {
        match (&*customer, n, attempt) {
            ("a", 1, 1..=2) | ("a", 3, 1) => TRANSIENT,
            _ => Ok(()),
        }
    });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "wait", 10).await;
    // New ones, while and after the old ones wait.
    publish(&outbox, (6..=8).map(|n| E::new("a", n))).await;
    let all = until_handled(&outbox, "wait", 13).await;
    let consumed = consumer.stop().await;
    let of =
        |customer: &str| all.iter().filter(|(c, _)| c == customer).cloned().collect::<Vec<_>>();
    assert_eq!(of("a"), pairs("a", 1..=8), "in order, each once");
    assert_eq!(of("b"), pairs("b", 1..=5));
    let first_of_a = handled.iter().position(|(customer, _)| customer == "a").unwrap();
    let last_of_b = handled.iter().rposition(|(customer, _)| customer == "b").unwrap();
    assert!(last_of_b < first_of_a, "`b` did not wait: {handled:?}");
    assert_eq!(consumed.dead_letters, 0);
    assert_eq!(DB::waiting(outbox.pool()).await, 0, "nothing is noted as waiting any more");
}

async fn a_key_goes_on_when_the_event_it_waits_for_becomes_a_dead_letter<
    DB: Handles,
    E: Created,
>() {
    create_topic(E::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox_on::<DB>().await;
    publish(&outbox, (1..=3).map(|n| E::new("a", n))).await;
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<E>::new("unblocked", options, |_, n, _| async move {
        if n == 1 { TRANSIENT } else { Ok(()) }
    });

    let consumer = consume(&outbox, &handler);
    until_dead_letters(E::TOPIC, "unblocked", 1).await;
    assert_eq!(until_handled(&outbox, "unblocked", 2).await, pairs("a", [2, 3]));
    consumer.stop().await;
}

async fn an_event_in_a_retry_topic_outlives_its_consumer<DB: Handles, E: Created>() {
    create_topic(E::TOPIC, 1, &[]).await;
    let retry_topic = format!("{}.survives.retry.1m", E::TOPIC);
    create_topic(&retry_topic, 1, &[]).await; // it is looked into at once
    let outbox = consumer_outbox_on::<DB>().await;
    publish(&outbox, [E::new("a", 1)]).await;
    const MINUTE: &[Duration] = &[Duration::from_secs(60)];
    let minute = QUICK.retry_topics(MINUTE, LaterEvents::Wait);
    let handler = Scripted::<E>::new("survives", minute, |_, _, _| async { TRANSIENT });
    let consumer = consume(&outbox, &handler);
    eventually("the event is in its retry topic", async || {
        !read_topic(&retry_topic).await.is_empty()
    })
    .await;
    consumer.abort().await;

    // Not due for a minute: a new consumer leaves it alone, and parks what comes behind it.
    let handler = Scripted::<E>::new("survives", minute, |_, _, _| async { Ok(()) });
    let consumer = new_consumer_with(&outbox, &[("session.timeout.ms", "6000")]);
    let consumer = RunningConsumer::start(consumer.handler(Arc::clone(&handler)));
    publish(&outbox, [E::new("a", 2), E::new("b", 1)]).await;
    until_handled(&outbox, "survives", 1).await;
    eventually("two events wait", async || DB::waiting(outbox.pool()).await >= 2).await;
    assert_eq!(handled_by(&outbox, "survives").await, pairs("b", [1]));
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.to_retry_topics, consumed.queued), (1, 0, 1));
    let in_retry_topic = read_topic(&retry_topic).await;
    assert_eq!(in_retry_topic.len(), 1, "the first of `a`; the second is kept behind it");
    let due: u64 = header(&in_retry_topic[0], "outbox-due").unwrap().parse().unwrap();
    let failed: u64 = header(&in_retry_topic[0], "outbox-last-failure").unwrap().parse().unwrap();
    assert!(
        due >= failed + 59_000,
        "a minute after it failed, but for the time of writing that down"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_dead_process_has_left_stranded_are_drained() {
    event_on_topic!(Created, "consume-left");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    // As a process leaves it that dies between its commit of the first event and the second: no
    // worker holds the second one.
    for n in [2, 3] {
        let id = uuid::Uuid::now_v7();
        let headers: Vec<(&str, Option<Vec<u8>>)> = vec![
            ("ce_id", Some(id.to_string().into_bytes())),
            ("ce_type", Some(b"order.created".to_vec())),
            ("ce_dataversion", Some(b"3".to_vec())),
        ];
        sqlx::query(
            "insert into outbox_key_queue (consumer_group, topic, key, key_digest, event_id, source_partition,
                                         source_offset, state, headers, payload, since)
             values ('left', $1, 'a', $5, $6, 0, $2, 'kept', $3, $4, now() - interval '2 minutes')",
        )
        .bind(Created::TOPIC)
        .bind(n)
        .bind(serde_json::to_vec(&headers).unwrap())
        .bind(serde_json::to_vec(&Created::new("a", n)).unwrap())
        .bind(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, b"a"))
        .bind(id)
        .execute(outbox.pool())
        .await
        .unwrap();
    }
    let options = QUICK.retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("left", options, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    assert_eq!(until_handled(&outbox, "left", 2).await, pairs("a", [2, 3]));
    consumer.stop().await;
    assert_eq!(Postgres::waiting(outbox.pool()).await, 0);
}
