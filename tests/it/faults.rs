//! What users and networks do wrong: each gives a clear error and loses nothing.

use std::time::Duration;

use crate::support::consumers::{
    Scripted, consume, new_consumer_of, publish, until_handled, with_handled,
};
use crate::support::log::Log;
use crate::support::relays::{
    RunningRelay, drain, drain_to, drain_when_free, kafka_publisher_of, new_relay, run_error,
};
use crate::support::topics::{create_topic, create_topic_of};
use crate::support::{
    self, HeldPublisher, OrderCreated, POSTGRES, eventually, eventually_some, migrated, until_true,
    within_a_minute,
};
use outbox::consume::{EventContext, HandlerOptions, handler_fn};
use outbox::kafka::KafkaConfig;
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxTx};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use uuid::Uuid;
use xtask::ScratchDir;
use xtask::servers::{Kafka, KafkaOptions, PgOptions, PgVersion};

async fn new_outbox() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 4).await)).await
}

async fn commit(outbox: &Outbox<Postgres>, n: i64) {
    let mut tx = outbox.begin().await.unwrap();
    tx.emit(OrderCreated::new("a", n)).unwrap();
    tx.commit().await.unwrap();
}

/// Waits until transactions can begin.
async fn until_up(outbox: &Outbox<Postgres>) {
    eventually("the database is up", async || outbox.begin().await.is_ok()).await;
}

/// What is still to be published, read without publishing it.
async fn waiting(outbox: &Outbox<Postgres>) -> u64 {
    drain_when_free(outbox, MemoryPublisher::new()).await
}

#[tokio::test]
async fn a_missing_topic_is_named_with_the_command_that_creates_it_and_then_the_relay_goes_on() {
    let scratch = ScratchDir::new("no-topic").unwrap();
    let kafka = Kafka::start(
        scratch.path(),
        KafkaOptions { auto_create_topics: false, ..KafkaOptions::default() },
    )
    .unwrap();
    let outbox = new_outbox().await;
    commit(&outbox, 1).await;
    let drain = async || drain(new_relay(&outbox, kafka_publisher_of(kafka.brokers()))).await;
    let error = drain().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kafka);
    for hint in [
        "`order-events` does not exist",
        "kafka-topics.sh --create --topic order-events",
        "Nothing is lost",
    ] {
        assert!(error.to_string().contains(hint), "{error}");
    }

    // A relay that runs all along finds the topic when it is there.
    let relay = new_relay(&outbox, kafka_publisher_of(kafka.brokers()));
    let (log, _guard) = Log::of_this_thread("warn");
    let relay = RunningRelay::start(relay);
    log.until_it_says(&["event not published", "order-events", "does not exist"]).await;
    create_topic_of(kafka.brokers(), "order-events", 3, &[]).await;
    let saved = "select exists (select from outbox_progress where prev_floor > 0)";
    until_true(outbox.pool(), saved).await;
    relay.stop().await;
    assert_eq!(waiting(&outbox).await, 0);
}

#[tokio::test]
async fn a_relay_on_tables_that_nobody_emits_into_says_which_others_there_are() {
    let used = new_outbox().await;
    commit(&used, 1).await;
    let mistyped = Outbox::builder(used.pool().clone()).table_prefix("outbx_").build().unwrap();
    mistyped.migrate().await.unwrap();
    let (log, _guard) = Log::of_this_thread("warn");
    let relay = RunningRelay::start(new_relay(&mistyped, MemoryPublisher::new()));
    log.until_it_says(&["nothing was ever emitted", "outbx_", "public.outbox_"]).await;
    relay.abort().await;
}

#[tokio::test]
async fn an_error_that_ends_a_spawned_relay_is_in_the_log() {
    let outbox = Outbox::builder(support::postgres(POSTGRES, 4).await)
        .table_prefix("unheard_of_")
        .build()
        .unwrap();
    let (log, _guard) = Log::of_this_thread("warn");
    drop(RunningRelay::start(new_relay(&outbox, MemoryPublisher::new())));
    log.until_it_says(&["the relay ended", "unheard_of_"]).await;
}

#[tokio::test]
async fn a_wrong_broker_address_is_said_once_and_the_events_wait() {
    let outbox = new_outbox().await;
    commit(&outbox, 1).await;
    let log = Log::of_this_program();
    let only_here = "127.0.0.1:9";
    let relay =
        new_relay(&outbox, kafka_publisher_of(only_here)).drain_timeout(Duration::from_millis(200));
    let relay = RunningRelay::start(relay);
    let words = ["no Kafka broker answers", only_here];
    log.until_it_says(&words).await;
    relay.stop().await;
    assert_eq!(log.lines(&words).len(), 1, "{:?}", log.lines(&words));
    assert_eq!(waiting(&outbox).await, 1, "the event is still there");
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back_gets_every_event() {
    let scratch = ScratchDir::new("broker-dies").unwrap();
    let mut kafka = Kafka::start(scratch.path(), KafkaOptions::default()).unwrap();
    let outbox = new_outbox().await;
    let publisher = kafka_publisher_of(kafka.brokers());
    commit(&outbox, 1).await;
    assert_eq!(drain_to(&outbox, publisher).await, 1);

    kafka.kill();
    let publisher = kafka_publisher_of(kafka.brokers());
    for n in 2..=20 {
        commit(&outbox, n).await;
    }
    let relay = tokio::spawn(drain(new_relay(&outbox, publisher)));
    kafka.restart().unwrap();
    assert_eq!(relay.await.unwrap().unwrap(), 19);
}

/// A server that the test may kill, and a pool to it.
async fn own_postgres(
    scratch: &ScratchDir,
    acquire_timeout: Duration,
) -> (xtask::servers::Postgres, PgPool) {
    let options = PgOptions::default();
    let postgres =
        xtask::servers::Postgres::start(PgVersion::V15, scratch.path(), options).unwrap();
    let pool = PgPoolOptions::new().acquire_timeout(acquire_timeout);
    let pool = pool.connect(postgres.url()).await.unwrap();
    (postgres, pool)
}

/// A relay that has published its first event.
async fn publishing(outbox: &Outbox<Postgres>) -> (MemoryPublisher, RunningRelay) {
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(outbox, kafka.clone()));
    commit(outbox, 1).await;
    within_a_minute(kafka.wait_for(1)).await;
    (kafka, relay)
}

#[tokio::test]
async fn a_database_that_dies_and_comes_back_is_waited_for() {
    let scratch = ScratchDir::new("database-dies").unwrap();
    let (mut postgres, pool) = own_postgres(&scratch, Duration::from_secs(5)).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let (log, _guard) = Log::of_this_thread("warn");
    let (kafka, relay) = publishing(&outbox).await;

    postgres.kill();
    let words = ["the relay cannot use the database"];
    log.until_it_says(&words).await;
    postgres.restart().unwrap();
    until_up(&outbox).await;
    commit(&outbox, 2).await;
    within_a_minute(kafka.wait_for(2)).await;
    relay.stop().await;
    assert_eq!(log.lines(&words).len(), 1, "{:?}", log.lines(&words));
}

#[tokio::test]
async fn a_consumer_waits_for_a_database_that_is_away_and_counts_no_attempt() {
    event_on_topic!(Created, "faults-consumer");
    create_topic(Created::TOPIC, 3, &[]).await;
    let scratch = ScratchDir::new("consumer-database").unwrap();
    let (mut postgres, pool) = own_postgres(&scratch, Duration::from_secs(2)).await;
    let outbox = with_handled(migrated(Outbox::new(pool)).await).await;
    let (log, _guard) = Log::of_this_thread("warn");
    let handler =
        Scripted::<Created>::new("faults", HandlerOptions::new().attempts(1), |_, _, _| async {
            Ok(())
        });
    let consumer = consume(&outbox, &handler);
    publish(&outbox, [Created::new("a", 1)]).await;
    until_handled(&outbox, "faults", 1).await;

    // From another database: this one is about to die.
    let elsewhere = new_outbox().await;
    postgres.kill();
    publish(&elsewhere, (2..=20).map(|n| Created::new("a", n))).await;
    let words = ["the consumer cannot use the database"];
    log.until_it_says(&words).await;
    postgres.restart().unwrap();
    let handled = until_handled(&outbox, "faults", 20).await;
    let consumed = consumer.stop().await;

    assert_eq!(
        handled,
        (1..=20).map(|n| ("a".to_owned(), n)).collect::<Vec<_>>(),
        "in order, each once"
    );
    assert_eq!(consumed.dead_letters, 0, "although one attempt is all that an event has");
    assert_eq!(log.lines(&words).len(), 1, "{:?}", log.lines(&words));
}

/// A server that crashes hands out again the transaction ids that it had not logged: a snapshot
/// that was taken before, and not saved, would take the rows of those transactions for old ones.
#[tokio::test]
async fn transaction_ids_that_a_crash_hands_out_again_lose_no_event() {
    let scratch = ScratchDir::new("reused-ids").unwrap();
    let mut postgres =
        xtask::servers::Postgres::start(PgVersion::V15, scratch.path(), PgOptions::default())
            .unwrap();
    let outbox = migrated(Outbox::new(PgPool::connect(postgres.url()).await.unwrap())).await;
    let kafka = HeldPublisher::default();
    let relay = new_relay(&outbox, kafka.clone()).lease(Duration::from_secs(3600));
    let relay = RunningRelay::start(relay);
    commit(&outbox, 1).await;
    within_a_minute(kafka.got(1)).await;
    kafka.answer(); // by now it has its lanes, and draws no more ids for them

    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new("a", 2)).unwrap();
    tx.commit().await.unwrap();
    for _ in 0..50 {
        // Drawn, and never logged.
        sqlx::query("select pg_current_xact_id()").execute(outbox.pool()).await.unwrap();
    }
    open.commit().await.unwrap();
    outbox.ring();
    within_a_minute(kafka.got(2)).await;

    // The relay has read event 2, in a window above the 50 ids; the server crashes before the
    // window is closed.
    postgres.kill();
    postgres.restart().unwrap();
    until_up(&outbox).await;
    commit(&outbox, 3).await;
    kafka.answer();
    within_a_minute(kafka.got(3)).await;
    relay.abort().await;
}

fn wrong_database() -> PgPool {
    let options: PgConnectOptions = support::server(POSTGRES).parse().unwrap();
    PgPoolOptions::new().connect_lazy_with(options.database("no_such_database"))
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_an_error_of_whoever_asks_first() {
    let outbox = Outbox::new(wrong_database());
    let error = outbox.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("no_such_database"), "{error}");
    let error = run_error(new_relay(&outbox, MemoryPublisher::new())).await;
    assert!(error.to_string().contains("no_such_database"), "waiting would not help: {error}");
}

#[tokio::test]
async fn a_database_that_nobody_serves_is_an_error_of_migrate() {
    let options =
        PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1).username("nobody");
    let pool =
        PgPoolOptions::new().acquire_timeout(Duration::from_millis(500)).connect_lazy_with(options);
    let error = Outbox::new(pool).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("Is the database up"), "{error}");
}

async fn nothing(
    _: &mut OutboxTx<'_, Postgres>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    Ok(())
}

#[tokio::test]
async fn a_consumer_set_up_wrongly_says_so_before_it_starts() {
    let outbox = new_outbox().await;
    let kafka = KafkaConfig::new("127.0.0.1:1");
    let consumer = |kafka: &KafkaConfig| new_consumer_of(&outbox, kafka).group("g");
    let error = consumer(&kafka).build().unwrap_err();
    assert!(error.to_string().contains("without handlers"), "{error}");
    let twice = consumer(&kafka).handler(handler_fn(nothing)).handler(handler_fn(nothing));
    let error = twice.build().unwrap_err();
    assert!(error.to_string().contains("two handlers take event `order.created`"), "{error}");
    for property in ["enable.auto.offset.store", "group.id"] {
        let kafka = kafka.clone().property(property, "true");
        let error = consumer(&kafka).handler(handler_fn(nothing)).build().unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
    // What librdkafka finds wrong only when a client starts.
    for (name, value, hint) in [
        ("session.timeout.ms", "3600000", "session.timeout.ms"),
        ("fetch.max.byte", "1", "fetch.max.byte"),
    ] {
        let kafka = kafka.clone().property(name, value);
        let error = consumer(&kafka).handler(handler_fn(nothing)).build().unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

/// As in a failover: the server comes back as a standby, and becomes the primary later.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_waited_for_until_it_is_the_primary() {
    let scratch = ScratchDir::new("standby").unwrap();
    let (mut postgres, pool) = own_postgres(&scratch, Duration::from_secs(20)).await;
    let outbox = migrated(Outbox::new(pool)).await;
    let (log, _guard) = Log::of_this_thread("warn");
    let (kafka, relay) = publishing(&outbox).await;

    let data: String =
        sqlx::query_scalar("show data_directory").fetch_one(outbox.pool()).await.unwrap();
    postgres.kill();
    std::fs::write(std::path::Path::new(&data).join("standby.signal"), "").unwrap();
    postgres.restart().unwrap();
    log.until_it_says(&["takes no writes"]).await;
    let refused = async || outbox.begin().await.err().filter(|e| e.to_string().contains("standby"));
    let error = eventually_some("a standby refuses a transaction", refused).await;
    assert_eq!(error.kind(), ErrorKind::Database);
    outbox.status().await.expect("a standby can be read");
    let admin = PgPool::connect(postgres.url()).await.unwrap();
    sqlx::query("select pg_promote()").execute(&admin).await.unwrap();
    commit(&outbox, 2).await;
    within_a_minute(kafka.wait_for(2)).await;
    assert_eq!(log.lines(&["takes no writes"]).len(), 1, "{:?}", log.lines(&["takes no writes"]));
    relay.abort().await;
}

#[tokio::test]
async fn credentials_that_are_rotated_while_the_relay_runs_are_taken_up() {
    let admin = support::postgres(POSTGRES, 2).await;
    let (old, new) =
        (format!("old_{}", Uuid::now_v7().simple()), format!("new_{}", Uuid::now_v7().simple()));
    for role in [&old, &new] {
        let create = format!("create role {role} login superuser");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&admin).await.unwrap();
    }
    let options = (*admin.connect_options()).clone();
    let pool = PgPoolOptions::new().connect_with(options.clone().username(&old)).await.unwrap();
    let outbox = migrated(Outbox::new(pool)).await;
    let (log, _guard) = Log::of_this_thread("warn");
    let (kafka, relay) = publishing(&outbox).await;

    let lock = format!("alter role {old} nologin");
    sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&admin).await.unwrap();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1")
        .bind(&old)
        .execute(&admin)
        .await
        .unwrap();
    log.until_it_says(&["refuses its credentials"]).await;
    outbox.pool().set_connect_options(options.clone().username(&new));
    commit(&outbox, 2).await;
    within_a_minute(kafka.wait_for(2)).await;
    relay.abort().await;

    let locked = PgPoolOptions::new().connect_lazy_with(options.username(&old));
    let error = run_error(new_relay(&Outbox::new(locked), kafka)).await;
    assert!(error.to_string().contains("28000"), "at its start it is an error: {error}");
}
