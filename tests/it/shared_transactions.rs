//! What a consumer promises of handlers that have events share a transaction, on a real Kafka.

mod scene;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::consume::{ErrorClass, EventContext, EventHandler, HandlerOptions, LaterEvents};
use outbox::{Outbox, OutboxDatabase, OutboxTx};
use outbox_opentelemetry::OpenTelemetry;
use sqlx::{Executor, Sqlite};

use scene::{
    Act, Created, Handler, SHARED, Scene, answer, numbered, publish, trace_id, trace_parent,
};

use crate::support::consumers::{Refused, RunningConsumer, new_consumer};
use crate::support::log::Log;
use crate::support::relays::drained;
use crate::support::topics::committed;
use crate::support::traces::{Traces, attribute};
use crate::support::{self, eventually, migrated};

/// Each on one thread, whose log says when all events are in hand.
macro_rules! on_each_store {
    ($($promise:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let (pool, _directory) = crate::support::sqlite(4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $promise() {
                let pool = crate::support::postgres(crate::support::POSTGRES, 4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
        mod mysql {
            $(#[tokio::test]
            async fn $promise() {
                let pool = crate::support::mysql(4).await;
                super::$promise(crate::support::migrated(outbox::Outbox::new(pool)).await).await;
            })*
        }
    };
}

on_each_store! {
    events_that_are_in_hand_share_a_transaction_in_their_order
    a_failing_event_goes_its_way_and_its_neighbours_are_handled_once_in_order
    a_handler_that_hangs_ends_with_the_time_out_of_the_transaction
    an_event_that_comes_twice_is_handled_once
    no_event_overtakes_one_of_its_key_that_waits_for_a_retry
    what_a_shutdown_interrupts_is_rolled_back_as_one_and_comes_again
    what_a_crash_interrupts_is_rolled_back_as_one_and_comes_again
}

fn debug_log() -> (Log, tracing::subscriber::DefaultGuard) {
    Log::of_this_thread("outbox=debug")
}

fn of(customer: &str, effects: &[(String, i64)]) -> Vec<i64> {
    effects.iter().filter(|(other, _)| other == customer).map(|(_, n)| *n).collect()
}

async fn events_that_are_in_hand_share_a_transaction_in_their_order<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let (log, _guard) = debug_log();
    let events = numbered([("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2), ("a", 3)]);
    let scene = Scene::new(&outbox, &log, &events, SHARED.shared_transaction(5), None).await;
    let consumer = scene.start();
    scene.until_in_inbox(7).await;
    assert_eq!(consumer.stop().await.handled, 7);
    assert_eq!(committed(&scene.topic(), &scene.group()), 7);
    // `a` has begun, and its later events are with it; of the others, there is room for two.
    let ran = scene.ran();
    let transactions: Vec<_> =
        ran.iter().map(|(event, attempt, behind)| (&**event, *attempt, *behind)).collect();
    let first = [("a1", 1, 0), ("b1", 1, 1), ("a2", 1, 2), ("b2", 1, 3), ("a3", 1, 4)];
    assert_eq!(transactions[..5], first);
    assert_eq!(transactions[5..], [("c1", 1, 0)]);
    // Each has its own event's trace, as the first one's transaction has.
    let records = drained(&outbox).await;
    assert_eq!(records.len(), 7);
    for record in &records {
        let (customer, n) = answer(record);
        let n_th = events.iter().position(|(_, c, m)| (*c, *m) == (&customer, n)).unwrap();
        assert_eq!(record.headers.get("traceparent"), Some(&*trace_parent(n_th)), "{customer}{n}");
    }
    for (customer, numbers) in [("a", vec![1, 2, 3]), ("b", vec![1, 2]), ("c", vec![1])] {
        let effects: Vec<_> = records.iter().map(answer).collect();
        assert_eq!(of(customer, &effects), numbers);
    }
}

async fn a_failing_event_goes_its_way_and_its_neighbours_are_handled_once_in_order<
    DB: OutboxDatabase,
>(
    outbox: Outbox<DB>,
) {
    for act in [Act::Fails(ErrorClass::Permanent), Act::Panics] {
        let (log, _guard) = debug_log();
        let events = numbered([("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 1)]);
        let options = SHARED.attempts(3);
        let scene = Scene::new(&outbox, &log, &events, options, Some((("b", 1), act))).await;
        let consumer = scene.start();
        scene.until_in_inbox(5).await;
        log.until_it_says(&["event given up", &scene.topic()]).await;
        let consumed = consumer.stop().await;
        assert_eq!((consumed.handled, consumed.dead_letters), (5, 1), "{act:?}");
        let effects = scene.effects().await;
        assert_eq!(effects.len(), 5, "each once: {effects:?}");
        assert_eq!((of("a", &effects), of("b", &effects)), (vec![1, 2], vec![2]));
        let ran = scene.ran();
        assert_eq!(ran[..2], [("a1".to_owned(), 1, 0), ("b1".to_owned(), 1, 1)], "shared");
        assert!(ran[2..].iter().all(|(_, _, behind)| *behind == 0), "alone: {ran:?}");
        // What happened in the shared transaction is no attempt.
        let failed: Vec<_> = ran[2..].iter().filter(|(event, ..)| event == "b1").collect();
        let attempts: Vec<_> = failed.iter().map(|(_, attempt, _)| *attempt).collect();
        let expected = if act == Act::Panics { vec![1, 2, 3] } else { vec![1] };
        assert_eq!(attempts, expected);
    }
}

async fn a_handler_that_hangs_ends_with_the_time_out_of_the_transaction<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let (log, _guard) = debug_log();
    let events = numbered([("a", 1), ("b", 1), ("c", 1)]);
    // On a slow machine, others run out of it as well: they are tried again.
    let options = SHARED.timeout(Duration::from_secs(5)).attempts(1_000);
    let act = Some((("b", 1), Act::HangsAndFails));
    let scene = Scene::new(&outbox, &log, &events, options, act).await;
    let consumer = scene.start();
    scene.until_in_inbox(3).await;
    log.until_it_says(&["a shared transaction was rolled back", "did not end within"]).await;
    log.until_it_says(&["event given up"]).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (3, 1));
    assert_eq!(scene.effects().await.len(), 3);
}

async fn an_event_that_comes_twice_is_handled_once<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    let (log, _guard) = debug_log();
    let mut events = numbered([("a", 1), ("b", 1), ("a", 2)]);
    events.extend_from_within(0..3);
    let scene = Scene::new(&outbox, &log, &events, SHARED, None).await;
    let consumer = scene.start();
    scene.until_in_inbox(4).await;
    let skipped = async || log.lines(&["event skipped: handled before"]).len() == 3;
    eventually("the others are skipped", skipped).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.duplicates), (4, 3));
    assert_eq!(scene.ran().len(), 3, "each once: {:?}", scene.ran());
    assert_eq!(scene.effects().await.len(), 4);
}

async fn no_event_overtakes_one_of_its_key_that_waits_for_a_retry<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    const AN_HOUR: &[Duration] = &[Duration::from_secs(3_600)];
    let options = SHARED.retry_topics(AN_HOUR, LaterEvents::Wait);
    let kept = async |events| {
        let waiting = async || {
            let waiting = outbox.waiting_keys().await.unwrap();
            waiting.first().is_some_and(|waiting| (waiting.keys, waiting.kept) == (1, events))
        };
        eventually(&format!("{events} events wait behind one"), waiting).await;
    };
    let (log, guard) = debug_log();
    let fails = Some((("b", 1), Act::Fails(ErrorClass::Transient)));
    let mut scene = Scene::new(&outbox, &log, &numbered([("b", 1)]), options, fails).await;
    let consumer = scene.start();
    log.until_it_says(&["event waits in a retry topic"]).await;
    kept(0).await;
    assert_eq!(consumer.stop().await.to_retry_topics, 1);
    drop(guard);

    let (log, _guard) = debug_log();
    let events = numbered([("a", 1), ("b", 2), ("a", 2)]);
    publish(&scene.topic(), &events).await;
    let all_in_hand = Some((log.clone(), scene.topic()));
    scene.handler = Arc::new(Handler { options, all_in_hand, act: None, ran: Mutex::default() });
    scene.events = events.len();
    let consumer = scene.start();
    scene.until_in_inbox(4).await;
    kept(1).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.queued), (3, 1));
    assert_eq!(log.lines(&["an event of one of its keys waits"]).len(), 1, "it was to share");
    let ran = scene.ran();
    assert_eq!(ran, [("a1".to_owned(), 1, 0), ("a2".to_owned(), 1, 0)]);
}

async fn what_a_shutdown_interrupts_is_rolled_back_as_one_and_comes_again<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    interrupted(outbox, false).await;
}

async fn what_a_crash_interrupts_is_rolled_back_as_one_and_comes_again<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    interrupted(outbox, true).await;
}

async fn interrupted<DB: OutboxDatabase>(outbox: Outbox<DB>, crash: bool) {
    let (log, _guard) = debug_log();
    let events = numbered([("a", 1), ("b", 1), ("a", 2), ("c", 1)]);
    let scene = Scene::new(&outbox, &log, &events, SHARED, Some((("a", 2), Act::Hangs))).await;
    let consumer = scene.start();
    scene.until_ran("the third one hangs", |ran| ran.iter().any(|ran| ran.behind == 2)).await;
    if crash {
        consumer.abort().await;
    } else {
        assert_eq!(consumer.stop().await.handled, 1);
        assert_eq!(committed(&scene.topic(), &scene.group()), 1, "the others come again");
    }
    let (consumer, next) = scene.start_next();
    scene.until_in_inbox(5).await;
    let consumed = consumer.stop().await;
    assert_eq!(consumed.handled, 4);
    assert_eq!(next.ran.lock().unwrap().len(), 4);
    let effects = scene.effects().await;
    assert_eq!(effects.len(), 5, "each once: {effects:?}");
    assert_eq!(of("a", &effects), [1, 2]);
}

#[tokio::test]
async fn each_event_has_a_span_of_its_own_and_what_it_emits_is_part_of_it() {
    let (traces, log) = Traces::and_log_of_this_thread("outbox=debug");
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = Outbox::builder(pool).propagation(OpenTelemetry::new()).build().unwrap();
    let outbox: Outbox<Sqlite> = migrated(outbox).await;
    let events = numbered([("a", 1), ("b", 1), ("a", 2)]);
    let scene = Scene::new(&outbox, &log, &events, SHARED, None).await;
    let consumer = scene.start();
    let spans = traces.until_ended(&format!("process {}", scene.topic()), 4).await;
    consumer.stop().await;
    assert_eq!(scene.ran().last().unwrap().2, 2, "three share a transaction");
    for (n_th, span) in spans.iter().enumerate() {
        assert_eq!(attribute(span, "outbox.outcome").as_deref(), Some("handled"));
        assert_eq!(span.span_context.trace_id().to_string(), trace_id(n_th));
    }
    let records = drained(&outbox).await;
    for record in &records {
        let (customer, n) = answer(record);
        let n_th = events.iter().position(|(_, c, m)| (*c, *m) == (&customer, n)).unwrap();
        let span = &spans[n_th];
        let (trace, span) = (span.span_context.trace_id(), span.span_context.span_id());
        let parent = record.headers.get("traceparent").unwrap();
        assert_eq!(parent, &format!("00-{trace}-{span}-01"));
    }
}

/// A handler that swallows the error with which SQLite rolled its transaction back.
struct Swallows(Handler);

impl EventHandler<Sqlite> for Swallows {
    type Event = Created;
    type Error = Refused;

    fn options(&self) -> HandlerOptions {
        self.0.options
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'static, Sqlite>,
        event: Created,
        context: &EventContext,
    ) -> Result<(), Refused> {
        sqlx::query("insert into handled (customer, n) values ($1, $2)")
            .bind(&event.customer)
            .bind(event.n)
            .execute(&mut *tx)
            .await
            .map_err(|_| Refused(ErrorClass::Permanent, "handled already"))?;
        if event.customer == "swallows" && context.attempt == 1 {
            let again = "insert or rollback into handled select * from handled limit 1";
            tx.execute(again).await.unwrap_err();
        }
        self.0.handle(tx, event, context).await
    }
}

#[tokio::test]
async fn no_handler_runs_outside_of_the_transaction_after_one_that_swallowed_its_end() {
    let (log, _guard) = debug_log();
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let table = "create table handled (customer text, n integer, unique (customer, n))";
    outbox.pool().execute(table).await.unwrap();
    let events = numbered([("a", 1), ("swallows", 1), ("b", 1)]);
    let scene = Scene::new(&outbox, &log, &events, SHARED, None).await;
    let all_in_hand = Some((log.clone(), scene.topic()));
    let handler = Handler { options: SHARED, all_in_hand, act: None, ran: Mutex::default() };
    let consumer = new_consumer(&outbox).topic_prefix(&scene.prefix).group(scene.group());
    let consumer = consumer.concurrency(1).max_in_flight(4).handler(Swallows(handler));
    let consumer = RunningConsumer::start(consumer);
    scene.until_in_inbox(4).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (4, 0));
    assert_eq!(scene.effects().await.len(), 4);
}
