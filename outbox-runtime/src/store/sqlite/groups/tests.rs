//! Claims and witnesses in a real file, which is restored from a copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor, SqlitePool};

use super::*;
use crate::error::ErrorKind;
use crate::record::LANES;
use crate::store::groups::tests::{Tables, Tested, leases, on_database};
use crate::store::groups::{ExactlyOnceStore as _, Groups, Wave};
use crate::store::lanes::{LaneRead, LaneStore as _, Progress, Share};
use crate::store::migrate::Migrate;
use crate::store::sealed::{Database as _, Schema as _};
use crate::store::sqlite::copies;
use crate::store::sqlite::lanes::SqliteLaneStore;

fn file(directory: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(directory.join("outbox.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(20))
}

impl Tested for Sqlite {
    async fn tables() -> Tables<Self> {
        let directory = tempfile::tempdir().unwrap();
        let pool = SqlitePoolOptions::new().max_connections(4);
        let pool = pool.connect_with(file(directory.path())).await.unwrap();
        let names = Names::default();
        Sqlite::migrate(&pool, &names, Sqlite::MIGRATIONS, Migrate::up()).await.unwrap();
        Tables { pool, names: Arc::new(names), _directory: Some(directory) }
    }

    async fn drop_tables(tables: Tables<Self>) {
        tables.pool.close().await;
    }

    fn ahead(_: &SqliteCursor) -> SqliteCursor {
        SqliteCursor(7)
    }

    async fn park(Tables { pool, .. }: &Tables<Self>, seq: i64, key: Uuid) {
        let key_of = "insert or ignore into outbox_parked_key (lane, key_digest, topic, since, released) values (0, $1, 'orders', 0, 0)";
        sqlx::query(key_of).bind(key).execute(pool).await.unwrap();
        let park = "
            insert into outbox_parked (seq, lane, key_digest, id, topic, name, version, content_type, headers, occurred_at,
                                       bytes, reason, attempts, since)
            values ($1, 0, $2, $3, 'orders', 'order.placed', 1, 'text/plain', '[]', 0, 1, 'refused', 1, 0)";
        let park = sqlx::query(park).bind(seq).bind(key).bind(Uuid::now_v7());
        park.execute(pool).await.unwrap();
    }

    async fn parked_and_keys(Tables { pool, .. }: &Tables<Self>) -> (Vec<i64>, Vec<Uuid>) {
        let parked = sqlx::query_scalar("select seq from outbox_parked order by seq");
        let keys = sqlx::query_scalar("select key_digest from outbox_parked_key");
        (parked.fetch_all(pool).await.unwrap(), keys.fetch_all(pool).await.unwrap())
    }

    async fn outbox(Tables { pool, .. }: &Tables<Self>) -> Uuid {
        let outbox = sqlx::query_scalar("select distinct outbox from outbox_group");
        outbox.fetch_one(pool).await.unwrap()
    }
}

on_database! {
    Sqlite:
    a_claim_that_is_superseded_writes_nothing_more_and_is_remembered_if_it_was_confirmed
    whole_groups_are_leased_and_never_more_than_there_are
    the_number_of_groups_does_not_change_and_the_two_deliveries_keep_each_other_away
    what_is_handed_back_goes_on_at_its_cursors_and_can_begin_again
    parked_events_that_are_met_again_are_not_parked_any_more_once_handed_back
}

/// The error with which a relay on this database ends, if it does.
async fn start(options: SqliteConnectOptions) -> Result<(), OutboxError> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let names = Names::default();
    Sqlite::migrate(&pool, &names, Sqlite::MIGRATIONS, Migrate::up()).await.unwrap();
    let mut store =
        Sqlite::open_lanes(&pool, &Arc::new(names), Duration::from_secs(3_600), Duration::ZERO);
    let _claimer = store.in_groups(Groups::at_most(1));
    let started = store.claim(&[], Share::Fair).await.map(drop);
    // Of a database in memory, nothing is left if its one connection was dropped.
    let lanes: i64 =
        sqlx::query_scalar("select count(*) from outbox_lane").fetch_one(&pool).await.unwrap();
    assert_eq!(lanes, LANES as i64);
    started
}

#[tokio::test]
async fn a_database_whose_commits_may_be_lost_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // Another file each time: its journal cannot change while a connection is still being closed.
    let file =
        || file(directory.path()).filename(directory.path().join(Uuid::now_v7().to_string()));
    for (options, said) in [
        (file().synchronous(SqliteSynchronous::Normal), "synchronous = normal"),
        (file().synchronous(SqliteSynchronous::Off), "synchronous = off"),
        (file().journal_mode(SqliteJournalMode::Memory), "journal_mode = memory"),
        (SqliteConnectOptions::new().in_memory(true), "journal_mode = memory"),
    ] {
        let error = start(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(said), "{error}");
    }
    for mode in [SqliteJournalMode::Wal, SqliteJournalMode::Delete, SqliteJournalMode::Persist] {
        start(file().journal_mode(mode)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_hook_of_the_pool_sets_counts_and_the_relay_waits_for_the_directory_too() {
    let directory = tempfile::tempdir().unwrap();
    let pool = SqlitePoolOptions::new().max_connections(2).after_connect(|connection, _| {
        Box::pin(async move { connection.execute("pragma synchronous = normal").await.map(drop) })
    });
    let pool = pool.connect_with(file(directory.path())).await.unwrap();
    Sqlite::migrate(&pool, &Names::default(), Sqlite::MIGRATIONS, Migrate::up()).await.unwrap();
    let mut store =
        Sqlite::open_lanes(&pool, &Arc::default(), Duration::from_secs(3_600), Duration::ZERO);
    let _claimer = store.in_groups(Groups::at_most(1));
    let error = store.claim(&[], Share::Fair).await.unwrap_err();
    assert!(error.to_string().contains("synchronous = normal"), "{error}");

    let tables = Sqlite::tables().await;
    let (mut store, claimer) = tables.relay(1);
    leases(&mut store).await;
    let mut connection = claimer.session.lock().await.take().unwrap();
    let synchronous: i64 =
        sqlx::query_scalar("pragma synchronous").fetch_one(&mut connection).await.unwrap();
    assert_eq!(synchronous, 3);
}

/// One group that is claimed, and a copy of its file.
struct Scene {
    tables: Tables<Sqlite>,
    store: SqliteLaneStore,
    claimer: SqliteClaimer,
    held: Vec<Lease>,
    group: SqliteGroup,
    claim: Uuid,
}

impl Scene {
    async fn new() -> Self {
        let tables = Sqlite::tables().await;
        let (mut store, claimer) = tables.relay(1);
        let held = leases(&mut store).await;
        let (mut group, found) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
        assert!(group.confirm().await.unwrap());
        Self { tables, store, claimer, held, group, claim: found.claim }
    }

    /// Writes events of lane 0.
    async fn write(&self, count: usize) {
        for _ in 0..count {
            let insert = "
                insert into outbox_event (lane, id, topic, name, version, content_type, headers, occurred_at)
                values (0, $1, 'orders', 'order.placed', 1, 'text/plain', '[]', 0)";
            let insert = sqlx::query(insert).bind(Uuid::now_v7());
            insert.execute(&self.tables.pool).await.unwrap();
        }
    }

    fn copy(&self) -> PathBuf {
        self.tables._directory.as_ref().unwrap().path().join("copy.db")
    }

    async fn back_up(&self) {
        copies::back_up(&self.tables.pool, &self.copy()).await;
    }

    async fn restore(&self) {
        copies::restore(&self.tables.pool, &self.copy()).await;
    }

    async fn read_from(&mut self, seq: i64) -> Result<Vec<i64>, OutboxError> {
        let lane = Lane::from_number(0);
        let (from, rows, bytes) = (SqliteCursor(seq), 100, 1 << 20);
        let read = self.store.read(&[LaneRead { lane, from, rows, bytes, largest: 0 }]).await?;
        Ok(read[0].events.iter().map(|event| event.seq).collect())
    }

    async fn save(&mut self, seq: i64) -> Result<(), OutboxError> {
        let (lease, cursor, parked) = (self.held[0], SqliteCursor(seq), Vec::new());
        let wave = Wave { claim: self.claim, number: 2 };
        self.store.save_after(&[(Progress { lease, cursor, parked }, wave)]).await.map(drop)
    }
}

#[tokio::test]
async fn a_witness_is_above_all_numbers_that_were_read_and_parking_has_one_of_its_own() {
    let mut scene = Scene::new().await;
    scene.write(3).await;
    let last = scene.read_from(0).await.unwrap().pop().unwrap();
    let seen = scene.store.seen().load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(seen, last.unsigned_abs());
    assert!(scene.group.witness(seen).await.unwrap());
    let (parking, _) = scene.group.park(&[]).await.unwrap().unwrap();
    assert!(parking > seen + 1);
    scene.write(1).await;
    let next = scene.read_from(last).await.unwrap();
    assert!(next[0].unsigned_abs() > parking, "it needs another witness");
    let (_, found) = scene.claimer.claim(0, scene.held.clone()).await.unwrap().unwrap();
    assert_eq!(found.earlier, [(scene.claim, parking)]);
}

#[tokio::test]
async fn after_a_restored_copy_the_witness_is_below_what_was_published() {
    let mut scene = Scene::new().await;
    scene.write(2).await;
    scene.back_up().await;
    scene.write(2).await;
    let last = scene.read_from(0).await.unwrap().pop().unwrap();
    assert!(scene.group.witness(last.unsigned_abs()).await.unwrap());
    scene.restore().await;
    // The same numbers are of other events.
    scene.write(5).await;
    let (mut store, claimer) = scene.tables.relay(1);
    scene.store.release(&scene.held, true).await.unwrap();
    let held = leases(&mut store).await;
    let (mut group, found) = claimer.claim(0, held).await.unwrap().unwrap();
    let (claim, witness) = found.earlier[0];
    assert_eq!(claim, scene.claim);
    assert!(witness < last.unsigned_abs(), "progress that needs {last} is not adopted");
    assert_eq!(found.saved[0].cursor, SqliteCursor(0));
    // What this process has read before is above the numbers of the file.
    assert!(group.witness(1_000).await.unwrap());
    scene.write(1).await;
    let next: i64 = sqlx::query_scalar("select max(seq) from outbox_event")
        .fetch_one(&scene.tables.pool)
        .await
        .unwrap();
    assert!(next > 1_000);
}

/// What a relay in use notices of a copy that is restored under it, whether its last events were
/// witnessed or not, and although the file has more numbers by now.
async fn a_restored_copy_is_noticed(witnessed: bool) -> Scene {
    let mut scene = Scene::new().await;
    scene.write(2).await;
    let first = scene.read_from(0).await.unwrap().pop().unwrap();
    assert!(scene.group.witness(first.unsigned_abs()).await.unwrap());
    scene.back_up().await;
    scene.write(3).await;
    let last = scene.read_from(first).await.unwrap().pop().unwrap();
    if witnessed {
        assert!(scene.group.witness(last.unsigned_abs()).await.unwrap());
    }
    scene.restore().await;
    scene.write(20).await;
    scene
}

#[tokio::test]
async fn a_copy_that_is_restored_under_a_relay_is_noticed_by_all_that_it_does() {
    for witnessed in [true, false] {
        let mut scene = a_restored_copy_is_noticed(witnessed).await;
        let said = scene.read_from(5).await.unwrap_err().to_string();
        assert!(said.contains("gone back"), "{said}");
        assert!(scene.group.witness(1).await.is_err(), "the session is over");

        let mut scene = a_restored_copy_is_noticed(witnessed).await;
        let said = scene.save(5).await.unwrap_err().to_string();
        assert!(said.contains("gone back"), "{said}");
        let saved: i64 = sqlx::query_scalar("select last_seq from outbox_lane where lane = 0")
            .fetch_one(&scene.tables.pool)
            .await
            .unwrap();
        assert_eq!(saved, 0);

        let mut scene = a_restored_copy_is_noticed(witnessed).await;
        let said = scene.group.witness(5).await.unwrap_err().to_string();
        assert!(said.contains("gone back"), "{said}");
        assert!(scene.read_from(0).await.is_err(), "the session is over");

        let mut scene = a_restored_copy_is_noticed(witnessed).await;
        let said = scene.group.park(&[]).await.unwrap_err().to_string();
        assert!(said.contains("gone back"), "{said}");
    }
}

#[tokio::test]
async fn with_its_connection_a_relay_loses_all_its_groups() {
    let mut scene = Scene::new().await;
    // Any error does it.
    drop(scene.claimer.session.lock().await.take().unwrap());
    scene.read_from(0).await.unwrap_err();
    let claimed = scene.store.claim(&scene.held, Share::Fair).await.unwrap();
    assert_eq!((claimed.lost.len(), claimed.taken.len()), (LANES, LANES));
    assert!(scene.group.witness(1).await.is_err(), "it was claimed over the former connection");
    scene.read_from(0).await.unwrap_err();
    let held = claimed.taken.iter().map(|(lease, ..)| *lease).collect();
    let (mut group, _) = scene.claimer.claim(0, held).await.unwrap().unwrap();
    assert!(group.confirm().await.unwrap());
    scene.read_from(0).await.unwrap();
}

#[tokio::test]
async fn of_many_claims_that_were_confirmed_the_latest_are_remembered() {
    let scene = Scene::new().await;
    for _ in 0..70 {
        let (mut group, _) = scene.claimer.claim(0, scene.held.clone()).await.unwrap().unwrap();
        assert!(group.confirm().await.unwrap());
    }
    let (_, found) = scene.claimer.claim(0, scene.held.clone()).await.unwrap().unwrap();
    assert_eq!(found.earlier.len(), crate::store::groups::claims::EARLIER);
    assert!(found.earlier.is_sorted_by_key(|(_, witness)| *witness));
    let pool: &SqlitePool = &scene.tables.pool;
    let kept: i64 =
        sqlx::query_scalar("select count(*) from outbox_witness").fetch_one(pool).await.unwrap();
    assert_eq!(kept, crate::store::groups::claims::EARLIER as i64);
}
