//! Tests that a relay's writes stay as cheap as at first while a snapshot is held open. The cost is
//! counted in blocks, not in time.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Executor, PgConnection, PgPool, Postgres};
use uuid::Uuid;

use super::PgLaneStore;
use super::cursor::PgCursor;
use crate::store::lanes::{LaneStore, Lease, Progress, Share};
use crate::store::migrate::Migrate;
use crate::store::names::{Names, sql};
use crate::store::sealed::{Database, Schema};

struct Scene {
    store: PgLaneStore,
    connection: PgConnection,
    names: Arc<Names>,
    progress: Vec<Progress<PgCursor>>,
}

impl Scene {
    async fn new(pool: &PgPool) -> Self {
        let schema = format!("held_{}", Uuid::now_v7().simple());
        let names = Arc::new(Names { schema: Some(schema), ..Names::default() });
        Postgres::migrate(pool, &names, Postgres::MIGRATIONS, Migrate::up()).await.unwrap();
        let mut store =
            Postgres::open_lanes(pool, &names, Duration::from_secs(3600), Duration::ZERO);
        let claimed = store.claim(&[], Share::All).await.unwrap();
        let saved = |(lease, cursor, _)| Progress { lease, cursor, parked: Vec::new() };
        let progress = claimed.taken.into_iter().map(saved).collect();
        let connection = store.connection().await.unwrap();
        Self { store, connection, names, progress }
    }

    async fn save(&mut self) {
        let saved = self.store.save_over(&mut self.connection, &self.progress).await.unwrap();
        assert!(saved.lost.is_empty() && saved.failed.is_empty());
    }

    async fn renew(&mut self) {
        let held: Vec<Lease> = self.progress.iter().map(|progress| progress.lease).collect();
        let claimed =
            self.store.claim_over(&mut self.connection, &held, Share::Fair).await.unwrap();
        assert_eq!(claimed.lost, []);
    }

    async fn blocks(&mut self) -> i64 {
        let blocks =
            "select coalesce(sum(pg_stat_get_xact_blocks_fetched(oid)), 0)::bigint from pg_class
                      where relnamespace = $1::regnamespace";
        let schema = self.names.fill("{schema}");
        sqlx::query_scalar(blocks).bind(schema).fetch_one(&mut self.connection).await.unwrap()
    }

    /// Blocks that a save and a renewal touch.
    async fn cost(&mut self) -> i64 {
        self.connection.execute("begin").await.unwrap();
        let before = self.blocks().await;
        self.save().await;
        self.renew().await;
        let cost = self.blocks().await - before;
        self.connection.execute("commit").await.unwrap();
        cost
    }
}

#[tokio::test]
async fn a_snapshot_held_open_does_not_make_saves_and_leases_dearer() {
    let url = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
    let pool = PgPool::connect(&url).await.unwrap();
    let mut scene = Scene::new(&pool).await;
    let mut holder = pool.acquire().await.unwrap();
    holder.execute("begin isolation level repeatable read; select 1").await.unwrap();

    scene.save().await;
    scene.renew().await;
    let at_first = scene.cost().await;
    for _ in 0..1_000 {
        scene.save().await;
        scene.renew().await;
    }
    let later = scene.cost().await;

    println!("{at_first} blocks at first, {later} after 1,000 saves and renewals");
    assert!(
        later < at_first * 2,
        "{at_first} blocks at first, {later} after 1,000 saves and renewals"
    );
    holder.execute("rollback").await.unwrap();
    pool.execute(sql(scene.names.fill("drop schema {schema} cascade"))).await.unwrap();
}

#[tokio::test]
async fn progress_is_saved_over_no_other_connection_than_the_one_it_was_read_over() {
    let url = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
    let pool = PgPool::connect(&url).await.unwrap();
    // `Scene` has taken the connection out of its store.
    let mut scene = Scene::new(&pool).await;
    scene.store.save(&scene.progress).await.unwrap_err();
    pool.execute(sql(scene.names.fill("drop schema {schema} cascade"))).await.unwrap();
}
