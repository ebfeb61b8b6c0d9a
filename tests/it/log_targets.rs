//! The targets of log lines (`outbox::observe`): they begin with the name of the crate that users
//! depend on. Those of a consumer are checked in `consume_faults`.

use crate::support::log::Log;
use crate::support::relays::{RunningRelay, new_relay};
use crate::support::{self, OrderCreated, commit, migrated, within_a_minute};
use outbox::Outbox;
use outbox::testing::MemoryPublisher;

// On one thread, which has a log of its own.
#[tokio::test]
async fn the_name_of_the_crate_filters_the_log_of_a_relay() {
    let (pool, _directory) = support::sqlite(4).await;
    let (log, _guard) = Log::of_this_thread("outbox=debug");
    let outbox = migrated(Outbox::new(pool)).await;
    let kafka = MemoryPublisher::new();
    let relay = RunningRelay::start(new_relay(&outbox, kafka.clone()));
    commit(&outbox, [OrderCreated::new("alice", 1)]).await;
    within_a_minute(kafka.wait_for(1)).await;
    relay.stop().await;

    for words in [["outbox::store", "schema migrated"], ["outbox::relay", "holds lanes"]] {
        assert!(!log.lines(&words).is_empty(), "{words:?}: {:#?}", log.lines(&[]));
    }
    assert_eq!(log.lines(&["outbox_runtime"]), [""; 0]);
}
