//! The space of published events comes back, and no event goes with it.

use std::time::Duration;

use crate::support::relays::drained;
use crate::support::{self, OrderCreated, POSTGRES, commit, migrated, next_leaf, within_a_minute};
use outbox::Outbox;
use sqlx::{Executor, Postgres};
use uuid::Uuid;

#[tokio::test]
async fn on_sqlite_published_rows_are_deleted_and_others_stay() {
    let (pool, _directory) = support::sqlite(4).await;
    let outbox = migrated(Outbox::new(pool)).await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "none is published");
    assert_eq!(drained(&outbox).await.len(), 10);
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(
        outbox.reclaim(Duration::from_secs(3600)).await.unwrap(),
        0,
        "all are younger than that"
    );
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
    assert_eq!(drained(&outbox).await.len(), 1);
}

async fn on_postgres() -> Outbox<Postgres> {
    migrated(Outbox::new(support::postgres(POSTGRES, 8).await)).await
}

#[tokio::test]
async fn a_leaf_is_truncated_when_all_of_it_is_published_and_old_enough() {
    let outbox = on_postgres().await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    assert_eq!(drained(&outbox).await.len(), 10);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "it is the current leaf");
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(
        outbox.reclaim(Duration::from_secs(3600)).await.unwrap(),
        0,
        "it is younger than that"
    );
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
    assert_eq!(drained(&outbox).await.len(), 1, "the other leaf is whole");
}

#[tokio::test]
async fn a_leaf_with_events_that_are_not_published_is_left_alone() {
    let outbox = on_postgres().await;
    commit(&outbox, (0..10).map(|n| OrderCreated::new(format!("customer-{n}"), n))).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(drained(&outbox).await.len(), 11);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 10);
}

/// Neither an open nor a prepared transaction loses its event, and reclaiming waits for neither.
#[tokio::test]
async fn a_leaf_is_left_alone_while_a_transaction_that_wrote_to_it_is_open() {
    let outbox = on_postgres().await;
    let gid = format!("outbox_{}", Uuid::now_v7().simple());
    let mut open = outbox.pool().begin().await.unwrap();
    let mut tx = outbox.attach(&mut open).await.unwrap();
    tx.emit(OrderCreated::new("open", 1)).unwrap();
    tx.commit().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drained(&outbox).await.len(), 2);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    open.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{gid}'"))).await.unwrap();
    open.commit().await.unwrap(); // only tells sqlx that it is over
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0);
    outbox.pool().execute(sqlx::AssertSqlSafe(format!("commit prepared '{gid}'"))).await.unwrap();
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 0, "it is not published yet");
    assert_eq!(drained(&outbox).await.len(), 1);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 2);
}

#[tokio::test]
async fn a_row_that_arrives_in_a_leaf_after_its_truncation_is_published() {
    let outbox = on_postgres().await;
    let mut open = outbox.pool().begin().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    // Its transaction id and its number are drawn, and its row is not inserted.
    let seq: i64 = sqlx::query_scalar("select nextval('outbox_seq') from pg_current_xact_id()")
        .fetch_one(&mut *open)
        .await
        .unwrap();
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    assert_eq!(drained(&outbox).await.len(), 2);
    assert_eq!(outbox.reclaim(Duration::ZERO).await.unwrap(), 1);
    sqlx::query(
        "insert into outbox_event (seq, lane, id, topic, name, version, content_type, headers, payload, occurred_at) \
         values ($1, 0, gen_random_uuid(), 'order-events', 'order.created', 1, 'application/json', '{}', '{}', now())",
    )
    .bind(seq)
    .execute(&mut *open)
    .await
    .unwrap();
    open.commit().await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 1);
}

/// With the lock of every leaf that may be reclaimed held by the reclaiming transaction, the
/// business still inserts.
#[tokio::test]
async fn inserts_never_wait_for_reclaiming() {
    let outbox = on_postgres().await;
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    next_leaf(&outbox).await;
    commit(&outbox, [OrderCreated::new("a", 2)]).await;
    let mut reclaiming = outbox.pool().begin().await.unwrap();
    reclaiming.execute("lock table outbox_event_0 in access exclusive mode").await.unwrap();
    within_a_minute(commit(
        &outbox,
        (3..100).map(|n| OrderCreated::new(format!("customer-{n}"), n)),
    ))
    .await;
    reclaiming.rollback().await.unwrap();
    assert_eq!(drained(&outbox).await.len(), 99);
}
