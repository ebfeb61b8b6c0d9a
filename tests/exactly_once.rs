//! Delivery exactly once, on each database and a real Kafka: whatever dies, and whichever answer is
//! lost, a reader of committed records gets each event once, and those of a key in order.

#[path = "exactly_once/faults.rs"]
mod faults;
#[path = "exactly_once/restored.rs"]
mod restored;
#[path = "exactly_once/scene.rs"]
mod scene;
mod support;

use std::time::Duration;

use outbox::ExactlyOnce;
use scene::{CUSTOMERS, Scene, Stored, publisher};
use support::log::Log;
use support::oracle::assert_at_least_once;
use support::relays::{new_relay, until_parked_count};
use support::topics::{raise_limit, read_committed};
use support::{eventually, kafka};

async fn dies_at<DB: Stored>(scene: Scene<DB>, failpoint: &str) {
    scene.commit(10).await;
    scene.doomed(failpoint).dies().await;
    scene.commit(5).await;
    let relay = scene.relay();
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

const LANES: usize = 16;

async fn relays_share_the_groups_and_take_them_over_from_each_other<DB: Stored>(scene: Scene<DB>) {
    let first = scene.relay();
    scene.commit(5).await;
    let second = scene.relay();
    eventually("two relays share the lanes", async || {
        let owners = scene.owners().await;
        owners.len() == LANES && owners.iter().any(|owner| *owner != owners[0])
    })
    .await;
    scene.commit(5).await;
    // One is killed, and the other one has its group in the end.
    first.abort().await;
    scene.commit(5).await;
    scene.until_published().await;
    second.stop().await;
    let third = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    third.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

async fn a_relay_that_was_suspended_past_its_lease_publishes_nothing_more_of_what_it_had<
    DB: Stored,
>(
    scene: Scene<DB>,
) {
    let zombie = scene.doomed("");
    eventually("it holds all lanes", async || scene.owners().await.len() == LANES).await;
    let owner = scene.owners().await[0];
    // In the middle of its work, more often than not.
    scene.commit(20).await;
    // Not with a lock on all of SQLite: that would be the end of the service, too.
    eventually("it is suspended outside of a transaction", async || {
        zombie.signal("-STOP");
        let is_outside = DB::is_writable(scene.outbox.pool()).await;
        if !is_outside {
            zombie.signal("-CONT");
        }
        is_outside
    })
    .await;
    scene.commit(5).await;
    let relay = scene.relay();
    eventually("another relay has the lanes", async || {
        let owners = scene.owners().await;
        owners.len() == LANES && !owners.contains(&owner)
    })
    .await;
    scene.until_published().await;
    zombie.signal("-CONT");
    scene.commit(20).await;
    scene.until_published().await;
    drop(zombie);
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    scene.each_arrived_once(&scene.expected()).await;
}

async fn a_refused_event_is_parked_with_those_behind_it_and_is_published_once_when_released<
    DB: Stored,
>(
    scene: Scene<DB>,
) {
    scene.commit(3).await;
    scene.commit_a_poison_event().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.commit(3).await;
    scene.until_published().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 2);
    scene.each_arrived_once(&expected).await;

    // Another relay meets the parked events, and passes over them.
    relay.abort().await;
    let relay = scene.relay();
    scene.commit(2).await;
    scene.until_published().await;
    raise_limit(&kafka(), scene.topic).await;
    assert_eq!(scene.outbox.release_all_parked().await.unwrap(), 3);
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

async fn parks_and_dies<DB: Stored>(scene: Scene<DB>, failpoint: &str) {
    scene.commit_a_poison_event().await;
    scene.commit(3).await;
    scene.doomed(failpoint).dies().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.until_published().await;
    raise_limit(&kafka(), scene.topic).await;
    scene.outbox.release_all_parked().await.unwrap();
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

async fn a_relay_that_dies_when_it_has_parked_and_progress_has_not_passed_it_publishes_nothing_twice<
    DB: Stored,
>(
    scene: Scene<DB>,
) {
    parks_and_dies(scene, "after-group-parking").await;
}

async fn a_parked_event_that_was_published_and_not_deleted_is_not_published_again<DB: Stored>(
    scene: Scene<DB>,
) {
    scene.commit_a_poison_event().await;
    scene.commit(3).await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 3).await;
    scene.until_published().await;
    relay.stop().await;
    raise_limit(&kafka(), scene.topic).await;
    assert_eq!(scene.outbox.release_all_parked().await.unwrap(), 3);
    scene.doomed("after-parked-delivery").dies().await;
    let relay = scene.relay();
    until_parked_count(&scene.outbox, 0).await;
    relay.stop().await;
    let mut expected = scene.expected();
    expected.insert("poison".to_owned(), 5);
    scene.each_arrived_once(&expected).await;
}

async fn after_the_database_has_lost_commits_nothing_is_lost_and_the_fall_back_is_said<
    DB: Stored,
>(
    scene: Scene<DB>,
) {
    let relay = scene.relay();
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    // What a failover to a lagging standby does, or a restored copy: the witnesses are gone, and
    // the rows are not.
    DB::forget_witnesses(scene.outbox.pool()).await;
    let log = Log::of_this_program();
    let relay = scene.relay();
    log.until_it_says(&["the progress on Kafka and the history of the database do not fit"]).await;
    scene.commit(5).await;
    scene.until_published().await;
    relay.stop().await;
    let arrivals = read_committed(&kafka(), &[scene.topic]).await;
    assert_at_least_once(&arrivals, &scene.expected());
}

async fn a_drain_publishes_what_is_committed_once<DB: Stored>(scene: Scene<DB>) {
    scene.commit(10).await;
    let drain = || async {
        let relay = new_relay(&scene.outbox, publisher(&scene.brokers, &scene.prefix))
            .lease(Duration::from_secs(5));
        DB::drain_once(relay, ExactlyOnce::new()).await.unwrap()
    };
    assert_eq!(drain().await, 10 * CUSTOMERS as u64);
    scene.commit(1).await;
    assert_eq!(drain().await, CUSTOMERS as u64);
    scene.each_arrived_once(&scene.expected()).await;
}

macro_rules! on_each_database {
    ($($promise:ident)*; $($dies:ident at $failpoint:literal;)*) => {
        on_each_database!(@ postgres, sqlx::Postgres; $($promise)*; $($dies at $failpoint;)*);
        on_each_database!(@ sqlite, sqlx::Sqlite; $($promise)*; $($dies at $failpoint;)*);
    };
    (@ $database:ident, $DB:ty; $($promise:ident)*; $($dies:ident at $failpoint:literal;)*) => {
        mod $database {
            use super::Scene;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let name = concat!(stringify!($database), "::", stringify!($promise));
                super::$promise(Scene::<$DB>::new(name).await).await;
            })*

            mod dies {
                use super::Scene;

                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $dies() {
                    let name = concat!(stringify!($database), "::dies::", stringify!($dies));
                    crate::dies_at(Scene::<$DB>::new(name).await, $failpoint).await;
                })*
            }
        }
    };
}

on_each_database! {
    relays_share_the_groups_and_take_them_over_from_each_other
    a_relay_that_was_suspended_past_its_lease_publishes_nothing_more_of_what_it_had
    a_refused_event_is_parked_with_those_behind_it_and_is_published_once_when_released
    a_relay_that_dies_when_it_has_parked_and_progress_has_not_passed_it_publishes_nothing_twice
    a_parked_event_that_was_published_and_not_deleted_is_not_published_again
    after_the_database_has_lost_commits_nothing_is_lost_and_the_fall_back_is_said
    a_drain_publishes_what_is_committed_once
    ;
    with_a_claim_that_is_not_confirmed at "after-group-claim";
    after_it_fenced_and_before_it_adopted at "after-group-fence";
    after_it_adopted_and_before_that_is_noted at "after-adoption";
    after_it_read at "after-read";
    before_it_commits_a_wave at "before-wave-commit";
    after_it_committed_a_wave_and_before_it_saved_the_cursor at "after-wave-commit";
    after_it_saved_the_cursor at "after-save";
}
