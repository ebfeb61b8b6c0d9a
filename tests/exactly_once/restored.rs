//! A file of SQLite that is replaced by an older copy: numbers come again, with other events.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use outbox::Outbox;
use sqlx::{AssertSqlSafe, Executor, Sqlite};

use super::scene::{Scene, Stored};
use crate::support::kafka;
use crate::support::log::Log;
use crate::support::oracle::{assert_exactly_once, assert_none_lost};
use crate::support::topics::read_committed;

const FELL_BACK: [&str; 1] = ["the progress on Kafka and the history of the database do not fit"];

fn path(scene: &Scene<Sqlite>, name: &str) -> PathBuf {
    scene.directory.as_ref().unwrap().path().join(name)
}

async fn back_up(scene: &Scene<Sqlite>) {
    let copy = format!("vacuum into '{}'", path(scene, "copy.db").display());
    scene.outbox.pool().execute(AssertSqlSafe(copy)).await.unwrap();
}

/// Puts the copy in the place of the file, as an operator does while nothing runs.
async fn restore(scene: &mut Scene<Sqlite>) {
    scene.outbox.pool().close().await;
    for beside in ["orders.db-wal", "orders.db-shm"] {
        // Gone already if the last connection was closed in order.
        let _ = std::fs::remove_file(path(scene, beside));
    }
    std::fs::rename(path(scene, "copy.db"), path(scene, "orders.db")).unwrap();
    scene.outbox = Outbox::new(Sqlite::open(&scene.url).await);
}

async fn published(scene: &Scene<Sqlite>) {
    let relay = scene.relay();
    scene.until_published().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_older_copy_was_restored_nothing_is_lost_and_the_fall_back_is_said() {
    let mut scene = Scene::<Sqlite>::new(
        "restored::after_an_older_copy_was_restored_nothing_is_lost_and_the_fall_back_is_said",
    )
    .await;
    scene.commit(5).await;
    published(&scene).await;
    back_up(&scene).await;
    let copied = scene.last.load(Ordering::SeqCst);
    scene.commit(5).await;
    published(&scene).await;

    restore(&mut scene).await;
    scene.last.store(copied, Ordering::SeqCst);
    // More than were lost, with the numbers of those, and ids of their own.
    scene.commit(8).await;
    let log = Log::of_this_program();
    let relay = scene.relay();
    log.until_it_says(&FELL_BACK).await;
    scene.until_published().await;
    relay.stop().await;
    let arrivals = read_committed(&kafka(), &[scene.topic]).await;
    assert_none_lost(&arrivals, &scene.stored_ids().await);
}

/// Nothing was published that the copy does not have: progress and file fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_all_that_was_published_changes_nothing() {
    let mut scene =
        Scene::<Sqlite>::new("restored::a_copy_that_has_all_that_was_published_changes_nothing")
            .await;
    scene.commit(5).await;
    published(&scene).await;
    back_up(&scene).await;
    scene.commit(3).await;
    let copied = scene.last.load(Ordering::SeqCst) - 3;
    restore(&mut scene).await;
    scene.last.store(copied, Ordering::SeqCst);
    scene.commit(5).await;
    published(&scene).await;
    assert_exactly_once(&read_committed(&kafka(), &[scene.topic]).await, &scene.expected());
}
