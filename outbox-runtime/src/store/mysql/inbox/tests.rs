//! What transactions that meet find in the inbox.

use std::sync::Arc;

use sqlx::mysql::{MySqlPoolOptions, MySqlRow};
use sqlx::{Executor as _, MySqlPool};
use tokio::time::timeout;

use super::*;
use crate::outbox::Outbox;
use crate::store::begun::Begun;
use crate::store::mysql::{connection, test_url};

const GROUP: &str = "billing";
const WITHIN: Duration = Duration::from_secs(20);

/// An outbox in a database of its own, which is gone at the end of a test that succeeds.
struct Scene {
    pool: MySqlPool,
    names: Arc<Names>,
}

impl Scene {
    async fn new() -> Self {
        let pool = MySqlPoolOptions::new().max_connections(4).connect(&test_url()).await.unwrap();
        let schema = format!("inbox_{}", Uuid::now_v7().simple());
        let outbox: Outbox<MySql> = Outbox::builder(pool.clone()).schema(&schema).build().unwrap();
        outbox.migrate().await.unwrap();
        Self { pool, names: Arc::clone(&outbox.core().names) }
    }

    async fn begin(&self) -> Begun<MySql> {
        connection::begin(&self.pool).await.unwrap()
    }

    async fn insert(&self, ids: &[Uuid]) -> Vec<Uuid> {
        let mut tx = self.begin().await;
        let new = MySql::insert_inbox_all(&mut tx, &self.names, GROUP, ids).await.unwrap();
        tx.commit().await.unwrap();
        new
    }

    async fn enqueue_behind(&self, event_id: Uuid) -> bool {
        let mut tx = self.begin().await;
        let queued = MySql::enqueue_behind(&mut tx, &self.names, &queued(event_id), &message())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        queued
    }

    async fn dequeue(&self, event_id: Uuid) -> QueuePosition {
        let mut tx = self.begin().await;
        let was = MySql::dequeue(&mut tx, &self.names, &queued(event_id)).await.unwrap();
        tx.commit().await.unwrap();
        was
    }

    /// Waits until another session runs a statement on these tables: it waits for a lock.
    async fn until_another_waits(&self) {
        const WAITING: &str = "\
select count(*) from information_schema.processlist where id <> connection_id() and instr(info, ?) > 0";
        let waits = async {
            loop {
                let waiting = sqlx::query_scalar(WAITING).bind(&self.names.schema);
                let waiting: i64 = waiting.fetch_one(&self.pool).await.unwrap();
                if waiting > 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(WITHIN, waits).await.expect("no other transaction waits");
    }

    async fn end(self) {
        self.pool.execute(statement(&self.names, "drop schema {schema}")).await.unwrap();
        self.pool.close().await;
    }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn queued(event_id: Uuid) -> QueuedEvent<'static> {
    let of = GroupKey { group: GROUP, topic: "orders", key: b"ada" };
    QueuedEvent { of, event_id, partition: 3, offset: 7 }
}

fn message() -> StoredMessage {
    StoredMessage { headers: b"[]".to_vec(), payload: Some(b"paid".to_vec()) }
}

fn others(earlier: bool, later: bool) -> QueuePosition {
    QueuePosition { queued: true, in_retry_topic: false, earlier, later }
}

#[tokio::test]
async fn a_duplicate_waits_for_the_transaction_that_handles_the_event() {
    let scene = Scene::new().await;
    for commits in [true, false] {
        let event = Uuid::now_v7();
        let mut first = scene.begin().await;
        assert!(MySql::insert_inbox(&mut first, &scene.names, GROUP, event).await.unwrap());
        let (mut second, names) = (scene.begin().await, Arc::clone(&scene.names));
        let waits = tokio::spawn(async move {
            let new = MySql::insert_inbox(&mut second, &names, GROUP, event).await.unwrap();
            second.commit().await.unwrap();
            new
        });
        scene.until_another_waits().await;
        if commits {
            first.commit().await.unwrap()
        } else {
            first.rollback().await.unwrap()
        }
        let is_new = timeout(WITHIN, waits).await.unwrap().unwrap();
        assert_eq!(is_new, !commits);
    }
    scene.end().await;
}

#[tokio::test]
async fn of_many_events_those_are_new_that_were_not_handled() {
    let scene = Scene::new().await;
    let all: Vec<Uuid> = (1..=1_200).map(id).collect();
    assert_eq!(scene.insert(&[id(2), id(1)]).await, [id(1), id(2)]);
    assert_eq!(scene.insert(&all).await, all[2..]);
    assert_eq!(scene.insert(&all).await, [] as [Uuid; 0]);
    // Of another group, all are new.
    let mut tx = scene.begin().await;
    assert!(MySql::insert_inbox(&mut tx, &scene.names, "other", id(1)).await.unwrap());
    tx.commit().await.unwrap();
    scene.end().await;
}

/// While events are inserted, another transaction handles one of them.
#[tokio::test]
async fn an_event_that_another_transaction_handles_meanwhile_is_not_new() {
    let scene = Scene::new().await;
    scene.insert(&[id(1)]).await;
    let mut first = scene.begin().await;
    assert!(MySql::insert_inbox(&mut first, &scene.names, GROUP, id(3)).await.unwrap());
    let (mut second, names) = (scene.begin().await, Arc::clone(&scene.names));
    let waits = tokio::spawn(async move {
        let all = [id(1), id(2), id(3), id(4)];
        let new = MySql::insert_inbox_all(&mut second, &names, GROUP, &all).await.unwrap();
        second.commit().await.unwrap();
        new
    });
    scene.until_another_waits().await;
    first.commit().await.unwrap();
    assert_eq!(timeout(WITHIN, waits).await.unwrap().unwrap(), [id(2), id(4)]);
    scene.end().await;
}

#[tokio::test]
async fn what_was_handled_long_ago_is_forgotten_and_nothing_else() {
    let scene = Scene::new().await;
    scene.insert(&[id(1), id(2), id(3)]).await;
    let back = "update {inbox} set handled_at = handled_at - 60000000 where event_id <> ?";
    let back = sqlx::query(statement(&scene.names, back)).bind(id(3));
    back.execute(&scene.pool).await.unwrap();
    let (names, minute) = (&scene.names, Duration::from_secs(30));
    let mut tx = scene.begin().await;
    assert_eq!(MySql::handled_before(&mut tx, names, GROUP, minute).await.unwrap(), 2);
    for forgotten in [1, 1, 0] {
        let now = MySql::forget_inbox(&mut tx, names, GROUP, minute, 1).await.unwrap();
        assert_eq!(now, forgotten);
    }
    let stats = MySql::inbox_stats(&mut tx, names).await.unwrap();
    assert_eq!((stats.len(), &*stats[0].group, stats[0].handled), (1, GROUP, 1));
    tx.commit().await.unwrap();
    assert_eq!(scene.insert(&[id(1), id(3)]).await, [id(1)]);
    scene.end().await;
}

#[tokio::test]
async fn the_events_of_a_key_leave_its_queue_in_their_order() {
    let scene = Scene::new().await;
    let names = &scene.names;
    assert!(!scene.enqueue_behind(id(2)).await, "there is nothing before it");
    let mut tx = scene.begin().await;
    assert!(MySql::enqueue_failed(&mut tx, names, &queued(id(1))).await.unwrap());
    MySql::mark_sent(&mut tx, names, &queued(id(1))).await.unwrap();
    tx.commit().await.unwrap();
    for _ in 0..2 {
        assert!(scene.enqueue_behind(id(2)).await);
    }
    assert!(scene.enqueue_behind(id(3)).await);

    let mut tx = scene.begin().await;
    let keys = [queued(id(1)).of.digest(), id(9)];
    assert!(MySql::any_queued(&mut tx, names, GROUP, "orders", &keys).await.unwrap());
    assert!(!MySql::any_queued(&mut tx, names, GROUP, "orders", &keys[1..]).await.unwrap());
    let waiting = MySql::waiting_keys(&mut tx, names).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].keys, waiting[0].kept), (1, 1, 2));
    tx.rollback().await.unwrap();

    let not_queued = QueuePosition { queued: false, ..others(true, true) };
    assert_eq!(scene.dequeue(id(4)).await, not_queued);
    let in_retry_topic = QueuePosition { in_retry_topic: true, ..others(false, true) };
    assert_eq!(scene.dequeue(id(1)).await, in_retry_topic);
    let mut tx = scene.begin().await;
    let head = MySql::queue_head(&mut tx, names, &queued(id(1)).of).await.unwrap().unwrap();
    assert_eq!((head.event_id, head.partition, head.offset), (id(2), 3, 7));
    assert_eq!(head.message.unwrap().payload, message().payload);
    tx.rollback().await.unwrap();
    assert_eq!(scene.dequeue(id(3)).await, others(true, false));
    assert_eq!(scene.dequeue(id(2)).await, others(false, false));
    scene.end().await;
}

/// Otherwise the event would stay in the queue for ever: nothing before it is left that would have
/// it handled.
#[tokio::test]
async fn no_event_queues_behind_one_that_is_being_handled() {
    let scene = Scene::new().await;
    let names = &scene.names;
    let mut tx = scene.begin().await;
    assert!(MySql::enqueue_failed(&mut tx, names, &queued(id(1))).await.unwrap());
    tx.commit().await.unwrap();

    let mut handling = scene.begin().await;
    let was = MySql::dequeue(&mut handling, names, &queued(id(1))).await.unwrap();
    assert_eq!(was, others(false, false));
    let (mut second, names) = (scene.begin().await, Arc::clone(&scene.names));
    let waits = tokio::spawn(async move {
        let event = queued(id(2));
        let is_queued =
            MySql::enqueue_behind(&mut second, &names, &event, &message()).await.unwrap();
        second.commit().await.unwrap();
        is_queued
    });
    scene.until_another_waits().await;
    handling.commit().await.unwrap();
    assert!(!timeout(WITHIN, waits).await.unwrap().unwrap());
    scene.end().await;
}

#[tokio::test]
async fn a_key_whose_task_is_gone_is_found() {
    let scene = Scene::new().await;
    let names = &scene.names;
    let mut tx = scene.begin().await;
    assert!(MySql::enqueue_failed(&mut tx, names, &queued(id(1))).await.unwrap());
    tx.commit().await.unwrap();
    assert!(scene.enqueue_behind(id(2)).await);
    scene.dequeue(id(1)).await;
    let stranded = async || {
        let mut tx = scene.begin().await;
        let stranded = MySql::stranded_keys(&mut tx, names, GROUP).await.unwrap();
        tx.rollback().await.unwrap();
        stranded
    };
    assert_eq!(stranded().await, []);
    let back = statement(names, "update {key_queue} set since = since - 61000000");
    scene.pool.execute(back).await.unwrap();
    assert_eq!(stranded().await, [("orders".to_owned(), b"ada".to_vec())]);
    scene.end().await;
}

#[tokio::test]
async fn a_lock_that_is_not_there_is_an_error() {
    let scene = Scene::new().await;
    scene.pool.execute(statement(&scene.names, "delete from {slot}")).await.unwrap();
    let mut tx = scene.begin().await;
    let refused =
        MySql::enqueue_behind(&mut tx, &scene.names, &queued(id(1)), &message()).await.unwrap_err();
    assert!(refused.to_string().contains("1024"), "{refused}");
    tx.rollback().await.unwrap();
    scene.end().await;
}

/// What MySQL says of how it runs a statement about that table.
fn plan_of<'r>(plan: &'r [MySqlRow], table: &str) -> impl Fn(&str) -> String + use<'r> {
    let text = |row: &MySqlRow, column: &str| row.try_get::<Option<String>, _>(column).unwrap();
    let row = plan.iter().find(|row| text(row, "table").as_deref() == Some(table)).unwrap();
    move |column| text(row, column).unwrap_or_default()
}

#[tokio::test]
async fn no_statement_sorts_a_long_queue_or_reads_all_that_is_remembered() {
    const FILL: &str = "\
insert into {key_queue}
  (consumer_group, topic, key_digest, event_id, event_key, source_partition, source_offset, state, since)
select consumer_group, 'orders', if(left(event_id, 1) = x'07', ?, concat(left(event_id, 1), repeat(x'00', 15))),
       event_id, 'ada', 0, 0, 'kept', 0
from {inbox}";
    let scene = Scene::new().await;
    // Of 256 keys: MySQL prefers to sort a queue of about twelve, if it may.
    let id_of = |n: u16| Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes());
    let ids: Vec<Uuid> = (0..3_000).map(id_of).collect();
    scene.insert(&ids).await;
    let of = queued(id(1)).of;
    let fill = sqlx::query(statement(&scene.names, FILL)).bind(of.digest());
    fill.execute(&scene.pool).await.unwrap();
    let analyze = statement(&scene.names, "analyze table {inbox}, {key_queue}");
    scene.pool.execute(analyze).await.unwrap();
    let explain = async |text: &str, few: &[Uuid]| {
        let explain = sqlx::query(statement(&scene.names, &format!("explain {text}")));
        let explain = match few {
            [] => explain.bind(GROUP).bind(of.topic).bind(of.digest()),
            ids => explain.bind(forget::json_of(ids)).bind(GROUP).bind(0),
        };
        explain.fetch_all(&scene.pool).await.unwrap()
    };
    let head = explain(QUEUE_HEAD, &[]).await;
    let head = plan_of(&head, "outbox_key_queue");
    assert_eq!(head("key"), "key_queue_place");
    assert!(!head("Extra").contains("filesort"), "{}", head("Extra"));
    for forgotten in [&ids[..3], &ids] {
        let forget = explain(forget::FORGET, forgotten).await;
        let forget = plan_of(&forget, "i");
        assert_eq!((&*forget("type"), &*forget("key")), ("eq_ref", "PRIMARY"));
    }
    scene.end().await;
}
