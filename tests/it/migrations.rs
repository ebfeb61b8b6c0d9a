//! The tables are created, looked at, and removed, and no event goes with them unasked.

use crate::support::parked::one_is_parked;
use crate::support::relays::{drained, quick};
use crate::support::{OrderCreated, commit};
use outbox::admin::{Direction, Migrate, MigrationStep};
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxDatabase};

on_every_store! {
    the_version_of_the_tables_is_told_with_what_is_missing
    the_tables_are_removed_only_when_no_event_is_in_them
    what_is_parked_keeps_the_tables_unless_one_insists
    what_would_be_done_is_shown_and_not_done
}

fn told(steps: &[MigrationStep]) -> Vec<(u32, Direction)> {
    steps.iter().map(|step| (step.version, step.direction)).collect()
}

async fn the_version_of_the_tables_is_told_with_what_is_missing<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    let status = outbox.migration_status().await.unwrap();
    assert_eq!(status.version, status.latest);
    let applied: Vec<u32> = status.applied.iter().map(|applied| applied.version).collect();
    assert_eq!(applied, (1..=status.latest).collect::<Vec<_>>());
    assert!(status.applied.iter().all(|applied| applied.at.elapsed().is_ok()));
    let error = outbox.migrate_with(Migrate::up_to(status.latest + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(outbox.migrate_with(Migrate::up()).await.unwrap(), []);

    outbox.migrate_with(Migrate::down_to(0)).await.unwrap();
    let none = outbox.migration_status().await.unwrap();
    assert_eq!((none.version, none.applied, none.latest), (0, Vec::new(), status.latest));
    assert_eq!(none.schema, status.schema, "they would be created there again");
    assert_eq!(outbox.migrate_with(Migrate::down(1)).await.unwrap(), []);
}

async fn the_tables_are_removed_only_when_no_event_is_in_them<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    commit(&outbox, (0..3).map(|n| OrderCreated::new("a", n))).await;
    let error = outbox.migrate_with(Migrate::down_to(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventsWait);
    assert!(error.to_string().contains("3 events are not published yet"), "{error}");
    assert_eq!(drained(&outbox).await.len(), 3, "nothing was changed");

    let steps = outbox.migrate_with(Migrate::down_to(0)).await.unwrap();
    assert_eq!(told(&steps).last(), Some(&(1, Direction::Down)));
    let error = outbox.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error}");
    outbox.migrate().await.unwrap();
    commit(&outbox, [OrderCreated::new("a", 4)]).await;
    assert_eq!(drained(&outbox).await.len(), 1);
}

async fn what_is_parked_keeps_the_tables_unless_one_insists<DB: OutboxDatabase>(
    outbox: Outbox<DB>,
) {
    one_is_parked(&outbox, &MemoryPublisher::new()).await;
    let error = outbox.migrate_with(Migrate::down_to(0)).await.unwrap_err();
    assert!(error.to_string().contains("3 are parked"), "{error}");
    let insisting = Migrate::down_to(0).even_if_events_wait();
    assert_eq!(told(&outbox.migrate_with(insisting).await.unwrap()), [(1, Direction::Down)]);
    // A relay that finds no tables says so.
    let relay = quick(&outbox, MemoryPublisher::new()).build().unwrap();
    assert_eq!(relay.drain().await.unwrap_err().kind(), ErrorKind::NotMigrated);
}

async fn what_would_be_done_is_shown_and_not_done<DB: OutboxDatabase>(outbox: Outbox<DB>) {
    commit(&outbox, [OrderCreated::new("a", 1)]).await;
    let down = outbox.plan_migration(Migrate::down(1)).await.unwrap();
    assert_eq!(down.len(), 1);
    assert!(down[0].sql.contains("drop table") && down[0].sql.contains("outbox_event"));
    assert_eq!(outbox.plan_migration(Migrate::up()).await.unwrap(), []);
    assert_eq!(outbox.status().await.unwrap().backlog, 1);

    outbox.migrate_with(Migrate::down_to(0).even_if_events_wait()).await.unwrap();
    let up = outbox.plan_migration(Migrate::up()).await.unwrap();
    assert!(up[0].sql.contains("create table") && up[0].sql.contains("outbox_migration"));
    assert_eq!(outbox.migration_status().await.unwrap().version, 0);
    assert_eq!(outbox.migrate_with(Migrate::up()).await.unwrap(), up, "exactly that is run");
}
