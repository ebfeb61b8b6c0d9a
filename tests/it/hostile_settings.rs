//! Defaults of a server, a database or a role that are not ours: nothing of the outbox rests on
//! them.

use std::time::Duration;

use crate::support::relays::{RunningRelay, drain_to, new_relay};
use crate::support::{
    self, HOSTILE, OrderCreated, POSTGRES, commit, eventually, migrated, next_leaf, until_true,
    within_a_minute,
};
use outbox::consume::{EventContext, handler_fn};
use outbox::testing::{Delivery, HandlerTest, MemoryPublisher, TestMessage};
use outbox::{Outbox, OutboxError, OutboxTx, transactional_outbox};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgPool, Postgres};
use tokio::task::JoinSet;
use xtask::ScratchDir;
use xtask::servers::{PgOptions, PgVersion};

async fn hostile() -> PgPool {
    support::postgres_with(POSTGRES, HOSTILE, 8).await
}

async fn drain(outbox: &Outbox<Postgres>) -> u64 {
    drain_to(outbox, MemoryPublisher::new()).await
}

/// Of an old leaf's last event, which commits while reclaiming waits for the leaf's lock: with the
/// snapshot of before, the leaf looks published, and is truncated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reclaiming_sees_what_commits_while_it_waits_for_the_lock() {
    let pool = support::postgres_with(
        POSTGRES,
        &[("default_transaction_isolation", "repeatable read")],
        8,
    )
    .await;
    let outbox = migrated(Outbox::new(pool)).await;
    let kafka = MemoryPublisher::new();
    for n in 0..3 {
        let mut open =
            outbox.pool().begin_with("begin isolation level read committed").await.unwrap();
        let mut tx = outbox.attach(&mut open).await.unwrap();
        tx.emit(OrderCreated::new("late", n)).unwrap();
        tx.commit().await.unwrap();
        commit(&outbox, [OrderCreated::new("a", n)]).await;
        next_leaf(&outbox).await;
        commit(&outbox, [OrderCreated::new("b", n)]).await;
        let reclaiming = tokio::spawn({
            let (outbox, kafka) = (outbox.clone(), kafka.clone());
            async move {
                eventually("the leaf is reclaimed", async || {
                    drain_to(&outbox, kafka.clone()).await;
                    outbox.reclaim(Duration::ZERO).await.unwrap() > 0
                })
                .await;
            }
        });
        until_true(
            outbox.pool(),
            "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock' \
               and database = (select oid from pg_database where datname = current_database()))",
        )
        .await;
        open.commit().await.unwrap();
        within_a_minute(reclaiming).await.unwrap();
    }
    drain_to(&outbox, kafka.clone()).await;
    assert_eq!(support::by_customer(&kafka.published())["late"], [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_at_once_all_succeed() {
    let pool = hostile().await;
    let mut processes = JoinSet::new();
    for _ in 0..6 {
        let outbox = Outbox::builder(pool.clone()).schema("shop").build().unwrap();
        processes.spawn(async move { outbox.migrate().await });
    }
    while let Some(migrated) = processes.join_next().await {
        migrated.unwrap().unwrap();
    }
}

#[transactional_outbox(tx in outbox)]
async fn settings_of_business(outbox: &Outbox<Postgres>) -> Result<(String, String), OutboxError> {
    tx.emit(OrderCreated::new("a", 1))?;
    let read =
        "select current_setting('transaction_isolation'), current_setting('transaction_read_only')";
    Ok(sqlx::query_as(read).fetch_one(&mut *tx).await?)
}

#[tokio::test]
async fn a_business_transaction_writes_whatever_the_default_and_keeps_its_isolation() {
    let outbox = migrated(Outbox::new(hostile().await)).await;
    let options = (*outbox.pool().connect_options()).clone().options([("search_path", "public")]);
    let read_only = Outbox::new(PgPool::connect_with(options).await.unwrap());
    let settings = settings_of_business(&read_only).await.unwrap();
    assert_eq!(settings, ("serializable".to_owned(), "off".to_owned()));
    assert_eq!(drain(&outbox).await, 1);
}

/// What a handler finds, one a line.
async fn note_settings(
    tx: &mut OutboxTx<'_, Postgres>,
    _: OrderCreated,
    _: &EventContext,
) -> Result<(), sqlx::Error> {
    tx.execute(
        "insert into found select current_setting(name) from unnest(array['transaction_isolation', \
         'transaction_read_only', 'synchronous_commit', 'statement_timeout', 'idle_in_transaction_session_timeout']) \
         with ordinality as setting (name, place) order by place",
    )
    .await?;
    Ok(())
}

/// What a handler finds of the keepalives, and what the session has before and after it.
async fn keepalives(defaults: &[(&str, &str)]) -> [Vec<String>; 3] {
    const READ: &str = "select current_setting(name) from unnest(array['tcp_keepalives_idle', \
         'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout']) with ordinality as setting (name, place) \
         order by place";
    async fn read(
        tx: &mut OutboxTx<'_, Postgres>,
        _: OrderCreated,
        _: &EventContext,
    ) -> Result<(), sqlx::Error> {
        tx.execute(sqlx::AssertSqlSafe(format!("insert into found (value) {READ}"))).await?;
        Ok(())
    }
    let outbox = migrated(Outbox::new(support::postgres_with(POSTGRES, defaults, 1).await)).await;
    let session = async || sqlx::query_scalar(READ).fetch_all(outbox.pool()).await.unwrap();
    outbox.pool().execute("create table found (place bigserial, value text)").await.unwrap();
    let before = session().await;
    let test = HandlerTest::new(outbox.clone(), handler_fn(read)).unwrap();
    let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
    assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Handled);
    let found = sqlx::query_scalar("select value from found order by place");
    [before, found.fetch_all(outbox.pool()).await.unwrap(), session().await]
}

/// `idle_in_transaction_session_timeout` ends by the server's clock, which may be set back.
#[tokio::test]
async fn a_handler_whose_process_goes_silent_holds_its_locks_for_twenty_seconds() {
    let [before, found, after] = keepalives(&[]).await;
    assert_eq!(found, ["5", "5", "3", "0"]);
    assert_eq!(before, after, "the connection is the user's");
    assert_ne!(before, found);
    let own = [("tcp_keepalives_idle", "7200"), ("tcp_user_timeout", "9000")];
    let [before, found, after] = keepalives(&own).await;
    assert_eq!(found, ["5", "5", "3", "9000"]);
    assert_eq!((&*before[0], &before), ("7200", &after));
}

async fn found_by_a_handler(defaults: &[(&str, &str)]) -> Vec<String> {
    let outbox = migrated(Outbox::new(support::postgres_with(POSTGRES, defaults, 4).await)).await;
    outbox.pool().execute("create table found (value text)").await.unwrap();
    let test = HandlerTest::new(outbox.clone(), handler_fn(note_settings)).unwrap();
    let message = TestMessage::of(&OrderCreated::new("a", 1)).unwrap();
    assert_eq!(test.deliver(&message).await.unwrap(), Delivery::Handled);
    sqlx::query_scalar("select value from found").fetch_all(outbox.pool()).await.unwrap()
}

#[tokio::test]
async fn a_handler_states_what_it_rests_on_and_loosens_nothing() {
    let kind = found_by_a_handler(&[]).await;
    assert_eq!(kind, ["read committed", "off", "on", "5min", "310s"]);
    let strict = [
        ("default_transaction_isolation", "serializable"),
        ("synchronous_commit", "off"),
        ("statement_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "1500ms"),
    ];
    assert_eq!(found_by_a_handler(&strict).await, ["read committed", "off", "on", "2s", "1500ms"]);
    let others = [
        ("synchronous_commit", "local"),
        ("statement_timeout", "1h"),
        ("idle_in_transaction_session_timeout", "1d"),
    ];
    assert_eq!(
        found_by_a_handler(&others).await,
        ["read committed", "off", "local", "5min", "310s"]
    );
}

/// The relay waits for a lock for longer than the role's statements may take.
#[tokio::test]
async fn a_relay_is_not_ended_by_timeouts_of_the_role() {
    let defaults = [
        ("statement_timeout", "2s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "2s"),
    ];
    let outbox = migrated(Outbox::new(support::postgres_with(POSTGRES, &defaults, 4).await)).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let admin = support::postgres_again(outbox.pool(), "statement_timeout", "0").await;
    let mut lock = admin.begin().await.unwrap();
    lock.execute(
        "set idle_in_transaction_session_timeout = 0; lock table outbox_lane in access exclusive mode",
    )
    .await
    .unwrap();
    let draining = tokio::spawn({
        let outbox = outbox.clone();
        async move { drain(&outbox).await }
    });
    until_true(
        &admin,
        "select exists (select from pg_stat_activity where datname = current_database() \
           and wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '3 s')",
    )
    .await;
    lock.rollback().await.unwrap();
    assert_eq!(within_a_minute(draining).await.unwrap(), 1);
}

/// The pool's connections find the tables by a `search_path` that no other connection has; where
/// the others look, there is another outbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_reads_the_tables_that_the_pool_writes_and_hears_its_doorbell() {
    let public = migrated(Outbox::new(support::postgres(POSTGRES, 2).await)).await;
    public.pool().execute("create schema shop").await.unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute("set search_path = shop").await.map(drop) })
        })
        .connect_with((*public.pool().connect_options()).clone())
        .await
        .unwrap();
    let shop = migrated(Outbox::new(pool)).await;
    commit(&public, [OrderCreated::new("of another outbox", 1)]).await;

    let kafka = MemoryPublisher::new();
    let relay = new_relay(&shop, kafka.clone()).poll_interval(Duration::from_secs(3600));
    let relay = RunningRelay::start(relay);
    commit(&shop, [OrderCreated::new("of the shop", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    until_true(
        public.pool(),
        "select exists (select from pg_stat_activity where datname = current_database() and query like 'LISTEN%')",
    )
    .await;
    // Of another process, which names the schema.
    let other = Outbox::builder(public.pool().clone()).schema("shop").build().unwrap();
    commit(&other, [OrderCreated::new("of the shop", 2)]).await;
    let published = within_a_minute(kafka.wait_for(2)).await;
    relay.stop().await;
    assert_eq!(support::by_customer(&published), [("of the shop".to_owned(), vec![1, 2])].into());
    assert_eq!(drain(&public).await, 1);
}

/// A commit that does not wait for the disk is visible before a crash takes it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_survives_a_crash_of_the_server() {
    let scratch = ScratchDir::new("asynchronous-commit").unwrap();
    let mut postgres =
        xtask::servers::Postgres::start(PgVersion::V15, scratch.path(), PgOptions::default())
            .unwrap();
    let options: PgConnectOptions = postgres.url().parse().unwrap();
    let admin = PgPool::connect_with(options.clone()).await.unwrap();
    admin.execute("alter system set wal_writer_delay = '10s'").await.unwrap();
    admin.execute("alter system set wal_writer_flush_after = '1GB'").await.unwrap();
    admin.execute("alter database postgres set synchronous_commit = off").await.unwrap();
    admin.execute("select pg_reload_conf()").await.unwrap();
    admin.close().await;
    let outbox = migrated(Outbox::new(PgPool::connect_with(options).await.unwrap())).await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    let by_hand = "insert into outbox_event (lane, id, topic, name, version, content_type, headers, payload, occurred_at) \
                   values (0, gen_random_uuid(), 'order-events', 'order.created', 1, 'application/json', '{}', \
                   '{\"customer\": \"by hand\", \"tenant\": null, \"n\": 0}', now())";
    for n in 1..=10 {
        match n % 3 {
            0 => commit(&outbox, [OrderCreated::new("a", n)]).await,
            1 => {
                let mut open = outbox.pool().begin().await.unwrap();
                let mut tx = outbox.attach(&mut open).await.unwrap();
                tx.emit(OrderCreated::new("a", n)).unwrap();
                tx.commit().await.unwrap();
                open.commit().await.unwrap();
                outbox.ring();
            }
            _ => _ = outbox.pool().execute(by_hand).await.unwrap(),
        }
        within_a_minute(kafka.wait_for(n as usize)).await;
    }
    let published = kafka.published();
    relay.abort().await;
    postgres.kill();
    postgres.restart().unwrap();
    let pool = PgPool::connect(postgres.url()).await.unwrap();
    let survived: Vec<uuid::Uuid> =
        sqlx::query_scalar("select id from outbox_event").fetch_all(&pool).await.unwrap();
    for event in published {
        assert!(survived.contains(&event.id), "published, and its transaction is lost: {event:?}");
    }
}
