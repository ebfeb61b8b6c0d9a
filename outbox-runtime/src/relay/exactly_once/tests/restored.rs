//! A copy of a file that is restored while a relay has it open.

use std::collections::BTreeSet;

use sqlx::Sqlite;
use uuid::Uuid;

use super::broker::{Broker, Faults};
use super::{Random, Tested, new_outbox, relay, seed};
use crate::outbox::Outbox;
use crate::store::sqlite::copies;

async fn ids(outbox: &Outbox<Sqlite>) -> BTreeSet<Uuid> {
    let ids = sqlx::query_scalar("select id from outbox_event").fetch_all(outbox.pool()).await;
    ids.unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restored_file_has_is_published_although_its_numbers_were_published_before() {
    let mut random = Random(seed());
    let (outbox, directory, lease) = new_outbox::<Sqlite>().await;
    let copy = directory.as_ref().unwrap().path().join("copy.db");
    let broker = Broker::new(Faults { seed: 1, lost: 0, refused: 0 });
    let running = relay(&outbox, &broker, 2, lease);
    for _ in 0..20 {
        Sqlite::write(&outbox, &mut random).await;
    }
    broker.has(&ids(&outbox).await).await;
    copies::back_up(outbox.pool(), &copy).await;
    for _ in 0..30 {
        Sqlite::write(&outbox, &mut random).await;
    }
    broker.has(&ids(&outbox).await).await;

    broker.takes_repetitions();
    copies::restore(outbox.pool(), &copy).await;
    for _ in 0..50 {
        Sqlite::write(&outbox, &mut random).await;
    }
    broker.has(&ids(&outbox).await).await;
    running.abort();
    Sqlite::drop_outbox(outbox).await;
}
