//! What is not an event's fault costs it no attempt: conflicts with other transactions, databases
//! that are busy, and connections that die silently.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::consumers::{
    PERMANENT, QUICK, RunningConsumer, Scripted, TRANSIENT, consume, consumer_outbox, handled_by,
    new_consumer, pairs, publish, until_dead_letters, until_handled,
};
use crate::support::log::Log;
use crate::support::proxy::{Moment, Proxy};
use crate::support::relays::{RunningRelay, drain_to, new_relay};
use crate::support::topics::create_topic;
use crate::support::{
    self, OrderCreated, commit, eventually, eventually_some, migrated, within_a_minute,
};
use outbox::consume::{EventContext, EventHandler, HandlerOptions, LaterEvents, handler_fn};
use outbox::testing::MemoryPublisher;
use outbox::{Outbox, OutboxTx};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor as _, Postgres, Sqlite};
use tokio::sync::Barrier;

const SHORT: &[Duration] = &[Duration::from_millis(200)];
const SERIALIZATION_FAILURE: &str =
    "do $$ begin raise exception 'refused' using errcode = '40001'; end $$";

/// The same outbox through a proxy, over connections that send each statement in full.
async fn through_a_proxy(outbox: &Outbox<Postgres>) -> (Outbox<Postgres>, Proxy) {
    let (proxy, options) = Proxy::of_pool(outbox.pool()).await;
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(5));
    (Outbox::new(pool.connect_with(options.statement_cache_capacity(0)).await.unwrap()), proxy)
}

/// Waits until `count` events are handled. In a serializable database even a count may be refused.
async fn until_in_inbox(outbox: &Outbox<Postgres>, count: i64) {
    let are = async || {
        let handled = sqlx::query_scalar("select count(*) from outbox_inbox");
        handled.fetch_one(outbox.pool()).await.is_ok_and(|handled: i64| handled == count)
    };
    eventually(&format!("{count} events are in the inbox"), are).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_default_is_serializable_a_hot_row_makes_no_dead_letters() {
    event_on_topic!(Created, "consume-serializable");
    async fn count(
        tx: &mut OutboxTx<'_, Postgres>,
        _: Created,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("update counter set n = n + 1").execute(tx).await.map(drop)
    }
    create_topic(Created::TOPIC, 2, &[]).await;
    let outbox = consumer_outbox().await;
    outbox.pool().execute("create table counter as select 0::bigint as n").await.unwrap();
    publish(&outbox, (0..400).map(|n| Created::new(format!("customer-{}", n % 20), n))).await;
    let name = outbox.pool().connect_options().get_database().unwrap().to_owned();
    let hostile =
        format!("alter database {name} set default_transaction_isolation = 'serializable'");
    outbox.pool().execute(sqlx::AssertSqlSafe(hostile)).await.unwrap();
    let options = (*outbox.pool().connect_options()).clone();
    let outbox =
        Outbox::new(PgPoolOptions::new().max_connections(10).connect_with(options).await.unwrap());

    let handler = handler_fn(count).options(QUICK.attempts(3));
    let consumer =
        RunningConsumer::start(new_consumer(&outbox).group("serializable").handler(handler));
    until_in_inbox(&outbox, 400).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (400, 0));
    let counted: i64 =
        sqlx::query_scalar("select n from counter").fetch_one(outbox.pool()).await.unwrap();
    assert_eq!(counted, 400);
}

/// Locks a row, and then one that another has locked.
struct Deadlocks {
    both: Barrier,
    tries: AtomicU32,
    attempts: Mutex<Vec<u32>>,
}

event_on_topic!(Crossed, "consume-deadlock");

impl EventHandler<Postgres> for Deadlocks {
    type Event = Crossed;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn options(&self) -> HandlerOptions {
        QUICK.group("deadlock").attempts(1)
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: Crossed,
        context: &EventContext,
    ) -> Result<(), Self::Error> {
        self.attempts.lock().unwrap().push(context.attempt);
        let lock = |n: i64| sqlx::query("update counter set n = n where id = $1").bind(n);
        lock(event.n).execute(&mut *tx).await?;
        if self.tries.fetch_add(1, Ordering::SeqCst) < 2 {
            self.both.wait().await;
        }
        lock(1 - event.n).execute(&mut *tx).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_no_attempt() {
    create_topic(Crossed::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    outbox
        .pool()
        .execute("create table counter as select id, 0 as n from generate_series(0, 1) id")
        .await
        .unwrap();
    publish(&outbox, [Crossed::new("a", 0), Crossed::new("b", 1)]).await;
    let handler = Arc::new(Deadlocks {
        both: Barrier::new(2),
        tries: AtomicU32::new(0),
        attempts: Mutex::default(),
    });
    let consumer = RunningConsumer::start(new_consumer(&outbox).handler(Arc::clone(&handler)));
    until_in_inbox(&outbox, 2).await;
    let consumed = consumer.stop().await;
    assert_eq!((consumed.handled, consumed.dead_letters), (2, 0), "although each has one attempt");
    assert_eq!(*handler.attempts.lock().unwrap(), [1, 1, 1], "one was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_always_in_the_way_of_others_is_given_up_in_the_end() {
    event_on_topic!(Created, "consume-conflicts");
    async fn refused(
        tx: &mut OutboxTx<'_, Postgres>,
        event: Created,
        _: &EventContext,
    ) -> Result<(), String> {
        // The error hides what the database said.
        let done =
            if event.n == 1 { tx.execute(SERIALIZATION_FAILURE).await.map(drop) } else { Ok(()) };
        done.map_err(|_| "hidden".to_owned())
    }
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("a", 1), Created::new("a", 2)]).await;
    let handler = handler_fn(refused).options(QUICK.attempts(1));
    let consumer =
        RunningConsumer::start(new_consumer(&outbox).group("conflicts").handler(handler));
    let letters = until_dead_letters(Created::TOPIC, "conflicts", 1).await;
    assert_eq!((letters[0].attempts, &*letters[0].error), (1, "hidden"));
    let consumed = consumer.stop().await;
    assert_eq!(consumed.dead_letters, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_another_holds_costs_no_attempt_and_keys_wait_in_it() {
    event_on_topic!(Created, "consume-sqlite");
    async fn note(
        tx: &mut OutboxTx<'_, Sqlite>,
        event: Created,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("insert into handled values ($1, $2)")
            .bind(&event.customer)
            .bind(event.n)
            .execute(tx)
            .await?;
        if event.n == 1 && context.attempt == 1 { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
    }
    create_topic(Created::TOPIC, 1, &[]).await;
    let elsewhere = consumer_outbox().await;
    publish(&elsewhere, (1..=3).flat_map(|n| [Created::new("a", n), Created::new("b", n + 1)]))
        .await;
    let (pool, _directory) = support::sqlite(4).await;
    pool.execute("create table handled (customer text, n integer)").await.unwrap();
    let outbox = migrated(Outbox::new(pool.clone())).await;
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::from_millis(50));
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let busy = sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(4)
        // A connection that is refused a transaction is closed, and the next try opens another.
        .after_connect(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(()) })
        })
        .connect_with(options)
        .await
        .unwrap();

    let holder = pool.begin_with("begin immediate").await.unwrap();
    let handler =
        handler_fn(note).options(QUICK.attempts(1).retry_topics(SHORT, LaterEvents::Wait));
    let consumer = new_consumer(&Outbox::new(busy)).group("sqlite").handler(handler);
    let consumer = RunningConsumer::start(consumer);
    let many = async || tries.load(Ordering::SeqCst) >= 30;
    eventually("the consumer was refused again and again", many).await;
    holder.rollback().await.unwrap();
    let handled = async || {
        let handled = sqlx::query_as("select customer, n from handled order by rowid");
        let handled: Vec<(String, i64)> = handled.fetch_all(outbox.pool()).await.unwrap();
        (handled.len() == 6).then_some(handled)
    };
    let handled = eventually_some("six events are handled", handled).await;
    let consumed = consumer.stop().await;
    let of =
        |name| handled.iter().filter(|(customer, _)| customer == name).cloned().collect::<Vec<_>>();
    assert_eq!((of("a"), of("b")), (pairs("a", 1..=3), pairs("b", 2..=4)));
    assert_eq!((consumed.handled, consumed.to_retry_topics, consumed.dead_letters), (6, 1, 0));
}

/// Inserts each event, fails as its test says, and emits one.
struct Emits {
    group: &'static str,
    options: HandlerOptions,
    fails_first: bool,
}

event_on_topic!(Silenced, "consume-silenced");

impl EventHandler<Postgres> for Emits {
    type Event = Silenced;
    type Error = sqlx::Error;

    fn options(&self) -> HandlerOptions {
        self.options.group(self.group)
    }

    async fn handle(
        &self,
        tx: &mut OutboxTx<'_, Postgres>,
        event: Silenced,
        context: &EventContext,
    ) -> Result<(), sqlx::Error> {
        let note = sqlx::query("insert into handled (consumer, customer, n) values ($1, $2, $3)");
        note.bind(self.group).bind(&event.customer).bind(event.n).execute(&mut *tx).await?;
        if self.fails_first && event.n == 1 && context.attempt == 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        tx.emit(OrderCreated::new(self.group, event.n))
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_goes_dead_at_any_statement_holds_no_event_up_and_does_none_twice() {
    use Moment::{After, Before};
    create_topic(Silenced::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, (1..=3).flat_map(|n| [Silenced::new("a", n), Silenced::new("b", n)])).await;
    let once = QUICK.attempts(1).timeout(Duration::from_secs(4));
    let failing = QUICK.attempts(2).timeout(Duration::from_secs(4));
    let waiting = once.retry_topics(SHORT, LaterEvents::Wait);
    // Long enough for the later events to come and be kept.
    const LATER: &[Duration] = &[Duration::from_secs(20)];
    let keeping = once.retry_topics(LATER, LaterEvents::Wait);
    let each = [
        ("before-begin", Before("BEGIN"), once, false),
        ("after-begin", After("BEGIN"), once, false),
        ("before-inbox", Before("outbox_inbox"), once, false),
        ("after-inbox", After("outbox_inbox"), once, false),
        ("before-handler", Before("into handled"), once, false),
        ("after-handler", After("into handled"), once, false),
        ("before-emit", Before("outbox_event"), once, false),
        ("after-emit", After("outbox_event"), once, false),
        ("before-commit", Before("COMMIT"), once, false),
        ("after-commit", After("COMMIT"), once, false),
        ("before-rollback", Before("ROLLBACK"), failing, true),
        ("after-rollback", After("ROLLBACK"), failing, true),
        ("before-noted", Before("'failed'"), waiting, true),
        ("after-noted", After("'failed'"), waiting, true),
        ("before-sent", Before("set state = 'sent'"), waiting, true),
        ("after-sent", After("set state = 'sent'"), waiting, true),
        ("before-kept", Before("'kept', $8"), keeping, true),
        ("after-kept", After("'kept', $8"), keeping, true),
    ];
    let all = each.clone().map(|(group, moment, options, fails_first)| {
        let outbox = outbox.clone();
        tokio::spawn(async move {
            let (through, proxy) = through_a_proxy(&outbox).await;
            if group.ends_with("rollback") {
                // The first one belongs to the search for stranded keys.
                drop(proxy.silence_one(moment.clone()));
            }
            let silenced = proxy.silence_one(moment);
            let handler = Emits { group, options, fails_first };
            let consumer = RunningConsumer::start(new_consumer(&through).handler(handler));
            within_a_minute(silenced).await;
            let handled = until_handled(&outbox, group, 6).await;
            let of = |name| {
                handled.iter().filter(|(customer, _)| customer == name).cloned().collect::<Vec<_>>()
            };
            assert_eq!((of("a"), of("b")), (pairs("a", 1..=3), pairs("b", 1..=3)), "{group}");
            let consumed = consumer.stop().await;
            assert_eq!(consumed.dead_letters, 0, "{group}");
            assert_eq!(handled_by(&outbox, group).await.len(), 6, "{group}: each once");
        })
    });
    let mut failed = Vec::new();
    for (one, (group, ..)) in all.into_iter().zip(each) {
        failed.extend(one.await.err().map(|_| group));
    }
    assert!(failed.is_empty(), "{failed:?}");
    let emitted = MemoryPublisher::new();
    drain_to(&outbox, emitted.clone()).await;
    assert_eq!(emitted.published().len(), 18 * 6, "what a handler emits is emitted once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doorbell_whose_connection_goes_dead_connects_again() {
    let outbox = migrated(Outbox::new(support::postgres(support::POSTGRES, 4).await)).await;
    let (relays, proxy) = through_a_proxy(&outbox).await;
    let listening = proxy.silence_one(Moment::After("LISTEN"));
    let relay = RunningRelay::start(new_relay(&relays, MemoryPublisher::new()));
    within_a_minute(listening).await;
    within_a_minute(proxy.silence_one(Moment::Before("LISTEN"))).await;
    within_a_minute(proxy.silence_one(Moment::After("LISTEN"))).await;
    relay.abort().await;

    let (writer, proxy) = through_a_proxy(&outbox).await;
    for moment in
        [Moment::Before("pg_notify"), Moment::After("pg_notify"), Moment::Before("pg_notify")]
    {
        let silenced = proxy.silence_one(moment);
        let ringing = async {
            loop {
                commit(&writer, [OrderCreated::new("a", 1)]).await;
                tokio::time::sleep(Duration::from_millis(100)).await; // between two rings
            }
        };
        tokio::select! {
            () = within_a_minute(silenced) => {}
            () = ringing => {}
        }
    }
}

// On one thread, which has a log of its own.
#[tokio::test]
async fn every_line_of_the_log_on_an_event_says_which() {
    event_on_topic!(Created, "consume-log");
    create_topic(Created::TOPIC, 1, &[]).await;
    let outbox = consumer_outbox().await;
    publish(&outbox, [Created::new("alice", 1), Created::new("alice", 2)]).await;
    let (log, _guard) = Log::of_this_thread("outbox=debug");
    let options = QUICK.attempts(1).retry_topics(SHORT, LaterEvents::Wait);
    let handler = Scripted::<Created>::new("log", options, |_, n, attempt| async move {
        match (n, attempt) {
            (1, 1) => TRANSIENT,
            (1, _) => PERMANENT,
            _ => Ok(()),
        }
    });
    let consumer = consume(&outbox, &handler);
    until_dead_letters(Created::TOPIC, "log", 1).await;
    until_handled(&outbox, "log", 1).await;
    consumer.stop().await;
    let words = [
        "event not handled",
        "event waits in a retry topic",
        "event waits for an earlier",
        "event given up",
    ];
    for word in words {
        let lines = log.lines(&[word]);
        let line = lines.first().unwrap_or_else(|| panic!("{word}: {:#?}", log.lines(&[])));
        for field in [
            "outbox::consumer",
            "id=",
            "name=\"order.created\"",
            "key=alice",
            "topic=\"consume-log\"",
            "partition=0",
            "offset=",
        ] {
            assert!(line.contains(field), "{field}: {line}");
        }
    }
    let given_up = log.lines(&["event given up"]);
    for place in ["dead_letters=\"consume-log.log.dlt\"", "dead_letter=0:0"] {
        assert!(given_up[0].contains(place), "{place}: {}", given_up[0]);
    }
}
