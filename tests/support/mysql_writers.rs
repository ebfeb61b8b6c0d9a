//! The writers of `writers.rs` on MySQL: at both isolation levels, and with a server that may crash
//! at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outbox::Outbox;
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlPool, Transaction};
use tokio::task::JoinSet;

use super::migrated;
use super::oracle::Expected;
use super::random::Random;
use super::writers::{Failed, LONG_KEY, WRITERS, Written, order, some_keys};

/// An outbox, with the table of the aggregates whose changes are the events.
pub async fn new_outbox(pool: MySqlPool) -> Outbox<MySql> {
    let outbox = migrated(Outbox::new(pool)).await;
    let aggregate = "create table aggregate (id bigint primary key, value bigint not null)";
    outbox.pool().execute(aggregate).await.unwrap();
    let rows: Vec<String> = (0..=LONG_KEY).map(|key| format!("({key}, 0)")).collect();
    let rows = format!("insert into aggregate (id, value) values {}", rows.join(", "));
    outbox.pool().execute(AssertSqlSafe(rows)).await.unwrap();
    outbox
}

impl Written for MySql {
    fn write(
        outbox: &Outbox<Self>,
        random: &mut Random,
        _: &str,
    ) -> impl Future<Output = Result<usize, Failed>> + Send {
        write(outbox, random)
    }

    async fn committed_events(outbox: &Outbox<Self>) -> Expected {
        let values: Vec<(i64, i64)> = sqlx::query_as("select id, value from aggregate")
            .fetch_all(outbox.pool())
            .await
            .unwrap();
        values.into_iter().map(|(id, value)| (id.to_string(), value)).collect()
    }
}

async fn write(outbox: &Outbox<MySql>, random: &mut Random) -> Result<usize, Failed> {
    let begin = if random.chance(50) {
        "set transaction isolation level read committed; start transaction"
    } else {
        "set transaction isolation level repeatable read; start transaction with consistent snapshot"
    };
    let mut open = outbox.pool().begin_with(begin).await?;
    if random.chance(30) {
        random.dawdle(20).await;
    }
    let mut events = 0;
    for key in some_keys(random) {
        let in_savepoint = random.chance(30);
        if in_savepoint {
            open.execute("savepoint s").await?;
        }
        insert_next(outbox, &mut open, random, key).await?;
        events += 1;
        if in_savepoint && random.chance(30) {
            open.execute("rollback to savepoint s").await?; // value and event alike
            events -= 1;
        }
        if random.chance(10) {
            random.dawdle(50).await;
        }
    }
    if random.chance(15) {
        open.rollback().await?;
        return Ok(0);
    }
    match open.commit().await {
        Ok(()) => Ok(events),
        Err(error) => Err(Failed { unsure: events, ..error.into() }),
    }
}

/// Changes a key, and inserts the event of that.
pub async fn insert_next(
    outbox: &Outbox<MySql>,
    open: &mut Transaction<'_, MySql>,
    random: &mut Random,
    key: i64,
) -> Result<(), Failed> {
    let next = "update aggregate set value = value + 1 where id = ?";
    sqlx::query(next).bind(key).execute(&mut **open).await?;
    let value = "select value from aggregate where id = ?";
    let value: i64 = sqlx::query_scalar(value).bind(key).fetch_one(&mut **open).await?;
    let mut tx = outbox.attach(open).await?;
    tx.emit(order(random, key, value))?;
    tx.commit().await?;
    Ok(())
}

/// What is published is deleted.
pub async fn assert_all_deleted(outbox: &Outbox<MySql>) {
    let left = sqlx::query_scalar("select count(*) from outbox_event").fetch_one(outbox.pool());
    let left: i64 = left.await.unwrap();
    assert_eq!(left, 0, "events are published, and still in the table");
}

/// What the writers have done, and what was done to their server.
#[derive(Debug, Default)]
pub struct Load {
    pub committed: AtomicUsize,
    /// Events of transactions that ended with the server, before the answer to their commit.
    pub unsure: AtomicUsize,
    /// Odd while the server is down.
    outages: AtomicUsize,
}

impl Load {
    /// Has the server be down, and up again.
    pub fn through_a_crash(&self, crash: impl FnOnce()) {
        self.outages.fetch_add(1, Ordering::SeqCst);
        crash();
        self.outages.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs writers until `events` events are committed. None fails but by a crash.
    pub async fn run(self: Arc<Self>, outbox: Outbox<MySql>, seed: u64, events: usize) {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (outbox, load) = (outbox.clone(), Arc::clone(&self));
            writers.spawn(async move {
                let mut random = Random::new(seed, writer);
                while load.committed.load(Ordering::SeqCst) < events {
                    load.write(&outbox, &mut random).await;
                }
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
    }

    async fn write(&self, outbox: &Outbox<MySql>, random: &mut Random) {
        let before = self.outages.load(Ordering::SeqCst);
        match write(outbox, random).await {
            Ok(events) => drop(self.committed.fetch_add(events, Ordering::SeqCst)),
            Err(failed) => {
                let crashed = before % 2 == 1 || self.outages.load(Ordering::SeqCst) != before;
                assert!(crashed, "a writer fails although the server has not crashed: {failed:?}");
                self.unsure.fetch_add(failed.unsure, Ordering::SeqCst);
                random.dawdle(50).await;
            }
        }
    }
}
