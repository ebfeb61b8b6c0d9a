//! What consumers promise, on a real Kafka and a real Postgres: order, attempts in place, offsets,
//! partitions that move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::consumers::{
    QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox, new_consumer,
    new_consumer_with, pairs, publish, run_error, until_handled,
};
use crate::support::eventually;
use crate::support::topics::{committed, create_topic};
use outbox::consume::{EventContext, handler_fn};
use outbox::testing::{Delivery, HandlerTest, TestMessage};
use outbox::{ErrorKind, OutboxTx};
use sqlx::Postgres;
use tokio::sync::Barrier;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_one_partition_are_handled_at_the_same_time() {
    event_on_topic!(Created, "consume-parallel");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, ["a", "b", "c", "d"].map(|customer| Created::new(customer, 1))).await;
    // No handler continues until all four are there.
    let together = Arc::new(Barrier::new(4));
    let handler = Scripted::<Created>::new("parallel", QUICK, move |_, _, _| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            Ok(())
        }
    });

    let consumer = consume(&outbox, &handler);
    until_handled(&outbox, "parallel", 4).await;
    assert_eq!(consumer.stop().await.handled, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_event_holds_up_its_key_in_order_and_no_other() {
    event_on_topic!(Created, "consume-in-place");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).flat_map(|n| [Created::new("a", n), Created::new("b", n)])).await;
    // The first event of `a` fails at first, and until all of `b` is handled.
    let of_b = Arc::new(AtomicUsize::new(0));
    let handler =
        Scripted::<Created>::new("in-place", QUICK.retry_forever(), move |customer, n, attempt| {
            let of_b = Arc::clone(&of_b);
            async move {
                if customer == "b" {
                    of_b.fetch_add(1, Ordering::SeqCst);
                } else if n == 1 && (attempt == 1 || of_b.load(Ordering::SeqCst) < 3) {
                    return TRANSIENT;
                }
                Ok(())
            }
        });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "in-place", 6).await;
    consumer.stop().await;
    let (of_a, of_b): (Vec<_>, Vec<_>) =
        handled.into_iter().partition(|(customer, _)| customer == "a");
    assert_eq!(of_a, pairs("a", 1..=3), "in order, each once");
    assert_eq!(of_b, pairs("b", 1..=3), "in order, each once");
    assert!(handler.attempts_of("a", 1).len() > 1, "it was retried");
    assert_eq!(
        handler.attempts_of("a", 1),
        (1..=handler.attempts_of("a", 1).len() as u32).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_offset_runs_ahead_of_an_event_that_is_not_done() {
    event_on_topic!(Created, "consume-offsets");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let events =
        |numbers: std::ops::Range<i64>| numbers.map(|n| Created::new(format!("customer-{n}"), n));
    publish(&outbox, events(0..5)).await;
    publish(&outbox, events(5..6)).await;
    publish(&outbox, events(6..20)).await;
    let handler = Scripted::<Created>::new("offsets", QUICK, |_, n, _| async move {
        if n == 5 {
            std::future::pending::<()>().await; // until the consumer is stopped
        }
        Ok(())
    });
    let consumer =
        new_consumer(&outbox).handler(Arc::clone(&handler)).drain_timeout(Duration::from_secs(2));
    let consumer = RunningConsumer::start(consumer);
    until_handled(&outbox, "offsets", 19).await;
    assert_eq!(consumer.stop().await.handled, 19);
    assert_eq!(committed(Created::TOPIC, "offsets"), 5, "the event that is not done comes again");

    let handler = Scripted::<Created>::new("offsets", QUICK, |_, _, _| async { Ok(()) });
    let consumer = consume(&outbox, &handler);
    // The last one to be handled is not the last one on the topic.
    let all = async || committed(Created::TOPIC, "offsets") == 20;
    eventually("the offset behind the last event is committed", all).await;
    let consumed = consumer.stop().await;
    assert_eq!(consumed.handled, 1, "the others were known: {consumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_and_time_outs_are_failed_attempts_that_leave_nothing_behind() {
    event_on_topic!(Created, "consume-panics");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(
        &outbox,
        [Created::new("panics", 1), Created::new("hangs", 1), Created::new("well", 1)],
    )
    .await;
    let options = QUICK.timeout(Duration::from_secs(5));
    let handler = Scripted::<Created>::new("panics", options, |customer, _, attempt| async move {
        match (&*customer, attempt) {
            ("panics", 1) => panic!("oh no"),
            ("hangs", 1) => std::future::pending().await,
            _ => Ok(()),
        }
    });

    let consumer = consume(&outbox, &handler);
    let handled = until_handled(&outbox, "panics", 3).await;
    let consumed = consumer.stop().await;
    assert_eq!(handled.len(), 3, "each once: {handled:?}");
    assert_eq!((consumed.handled, consumed.dead_letters), (3, 0));
    assert_eq!(handler.attempts_of("panics", 1), [1, 2]);
    assert_eq!(handler.attempts_of("hangs", 1), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_slower_than_the_poll_interval_keeps_its_partition() {
    event_on_topic!(Created, "consume-slow");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=10).map(|n| Created::new(format!("customer-{n}"), n))).await;
    let handler = Scripted::<Created>::new("slow", QUICK, |_, n, _| async move {
        if n == 1 {
            tokio::time::sleep(Duration::from_secs(9)).await; // this is what is slow
        }
        Ok(())
    });
    let timeouts = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let consumer = new_consumer_with(&outbox, &timeouts).handler(Arc::clone(&handler));
    let consumer = RunningConsumer::start(consumer.max_in_flight(2));
    until_handled(&outbox, "slow", 10).await;
    let consumed = consumer.stop().await;
    assert_eq!(
        (consumed.handled, consumed.duplicates),
        (10, 0),
        "no partition was lost and read again"
    );
    assert_eq!(handler.attempts.lock().unwrap().len(), 10);
    assert_eq!(committed(Created::TOPIC, "slow"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_move_between_members_are_handled_once_and_in_order() {
    event_on_topic!(Created, "consume-rebalance");
    create_topic(Created::TOPIC, 4, &[]).await;
    let outbox = consumer_outbox().await;
    const EACH: i64 = 40;
    let customers = || (0..12).map(|n| format!("customer-{n}"));
    publish(
        &outbox,
        (1..=EACH).flat_map(|n| customers().map(move |customer| Created::new(customer, n))),
    )
    .await;
    let handler = Scripted::<Created>::new("rebalance", QUICK, |_, n, attempt| async move {
        tokio::task::yield_now().await;
        if n % 10 == 0 && attempt == 1 { TRANSIENT } else { Ok(()) }
    });

    // Members join, leave and die while the events are handled. Few in flight: partitions are
    // paused most of the time, also when they move to another member and come back.
    let member = || {
        let consumer = new_consumer_with(&outbox, &[("session.timeout.ms", "6000")]);
        RunningConsumer::start(consumer.handler(Arc::clone(&handler)).max_in_flight(4))
    };
    let mut members = vec![member()];
    for (round, due) in [100, 200, 300].into_iter().enumerate() {
        until_handled(&outbox, "rebalance", due).await;
        members.push(member());
        if round == 1 {
            members.remove(0).stop().await;
        } else if round == 2 {
            members.remove(0).abort().await;
        }
    }
    let handled = until_handled(&outbox, "rebalance", 12 * EACH as usize).await;
    for member in members {
        member.stop().await;
    }
    assert_eq!(handled.len(), 12 * EACH as usize, "each once");
    for customer in customers() {
        let of: Vec<_> = handled.iter().filter(|(c, _)| *c == customer).cloned().collect();
        assert_eq!(of, pairs(&customer, 1..=EACH), "in order, each once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_are_missing_and_not_to_be_created_are_named() {
    event_on_topic!(Created, "consume-missing");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    let handler = Scripted::<Created>::new("missing", QUICK, |_, _, _| async { Ok(()) });
    let consumer = new_consumer(&outbox).handler(handler).create_topics(false);
    let error = run_error(consumer).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    for hint in [
        "consume-missing.missing.dlt",
        "consume-missing.missing.retry.0",
        "kafka-topics.sh",
        "Nothing was consumed",
    ] {
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn groups_are_named_once_and_are_legal() {
    event_on_topic!(Created, "consume-groups");
    let outbox = consumer_outbox().await;
    let handler = |group| Scripted::<Created>::new(group, QUICK, |_, _, _| async { Ok(()) });
    let consumer = || new_consumer(&outbox);
    for (consumer, hint) in [
        (consumer().group(" ").handler(handler(" ")), "needs a group"),
        (consumer().handler(handler("spaces in it")), "Choose another group"),
    ] {
        let error = consumer.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn a_handler_that_swallows_an_error_of_the_database_has_failed() {
    event_on_topic!(Created, "consume-swallowed");
    async fn swallow(
        tx: &mut OutboxTx<'_, Postgres>,
        _: Created,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        let _ = sqlx::query("select 1 / 0").execute(tx).await;
        Ok(())
    }
    let outbox = consumer_outbox().await;
    let handler = HandlerTest::new(outbox.clone(), handler_fn(swallow)).unwrap();
    let message = TestMessage::of(&Created::new("a", 1)).unwrap();
    for _ in 0..2 {
        let delivery = handler.deliver(&message).await.unwrap();
        assert!(
            matches!(&delivery, Delivery::Failed { error, .. } if error.contains("aborted")),
            "{delivery:?}"
        );
    }
}

#[tokio::test]
async fn the_inbox_forgets_what_is_old_and_nothing_else() {
    let outbox = consumer_outbox().await;
    sqlx::query(
        "insert into outbox_inbox (consumer_group, event_id, handled_at)
         select g, gen_random_uuid(), now() - days * interval '1 day'
         from unnest(array['old', 'other']) g, generate_series(0, 9) days, generate_series(1, 1000)",
    )
    .execute(outbox.pool())
    .await
    .unwrap();
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    assert_eq!(
        outbox.forget_handled("old", week).await.unwrap(),
        3_000,
        "those of 7, 8 and 9 days ago"
    );
    assert_eq!(outbox.forget_handled("old", week).await.unwrap(), 0);
    let left: i64 = sqlx::query_scalar("select count(*) from outbox_inbox")
        .fetch_one(outbox.pool())
        .await
        .unwrap();
    assert_eq!(left, 17_000);
}
