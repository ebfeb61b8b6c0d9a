//! Failovers of the tests' own Postgres do as they say, with and without a loss of commits: a test
//! that relies on one would otherwise prove nothing.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor as _, PgPool};
use tokio::task::block_in_place;
use xtask::ScratchDir;
use xtask::servers::{PgOptions, PgVersion, Postgres, Standby};

use crate::support::proxy::Proxy;
use crate::support::{eventually, eventually_some, within_a_minute};

async fn pool_of(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(60));
    pool.connect_with(url.parse::<PgConnectOptions>().unwrap()).await.unwrap()
}

async fn commit(pool: &PgPool, n: i32) {
    sqlx::query("insert into committed values ($1)").bind(n).execute(pool).await.unwrap();
}

async fn committed(pool: &PgPool) -> Vec<i32> {
    let all = sqlx::query_scalar("select n from committed order by n").fetch_all(pool);
    within_a_minute(all).await.unwrap()
}

/// A server with a table in which 1 is, and its standby.
async fn pair(
    scratch: &ScratchDir,
    version: PgVersion,
    standby: Standby,
) -> (Postgres, Postgres, PgPool) {
    let options = PgOptions::default();
    let primary = Postgres::start(version, &scratch.path().join("primary"), options).unwrap();
    let pool = pool_of(primary.url()).await;
    pool.execute("create table committed (n int)").await.unwrap();
    commit(&pool, 1).await;
    let dir = scratch.path().join("standby");
    let standby = block_in_place(|| primary.start_standby(&dir, standby)).unwrap();
    (primary, standby, pool)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_has_every_commit_and_clients_follow_to_it() {
    let scratch = ScratchDir::new("synchronous").unwrap();
    let (mut primary, mut standby, direct) =
        pair(&scratch, PgVersion::V18, Standby::Synchronous).await;
    let (proxy, url) = Proxy::of_postgres(primary.url()).await;
    let pool = pool_of(&url).await;
    commit(&pool, 2).await;

    // No commit ends without it.
    standby.kill();
    let waiting = tokio::spawn(async move { commit(&direct, 3).await });
    let waits = async || {
        let count = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&pool).await.unwrap() == 1
    };
    eventually("a commit waits for the standby", waits).await;
    block_in_place(|| standby.restart()).unwrap();
    within_a_minute(waiting).await.unwrap();
    commit(&pool, 4).await;

    primary.kill();
    block_in_place(|| standby.promote()).unwrap();
    proxy.redirect(format!("127.0.0.1:{}", standby.port()));
    let insert = async || sqlx::query("insert into committed values (5)").execute(&pool).await.ok();
    eventually_some("the pool has connected again", insert).await;
    assert_eq!(committed(&pool).await, [1, 2, 3, 4, 5]);

    // It is no standby any more.
    block_in_place(|| standby.restart()).unwrap();
    commit(&pool_of(standby.url()).await, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_standby_that_was_down_lacks_what_was_committed_meanwhile() {
    let scratch = ScratchDir::new("asynchronous").unwrap();
    let (mut primary, mut standby, pool) =
        pair(&scratch, PgVersion::V15, Standby::Asynchronous).await;
    let reader = pool_of(standby.url()).await;
    commit(&pool, 2).await;
    eventually("the standby follows", async || committed(&reader).await == [1, 2]).await;
    sqlx::query("insert into committed values (9)").execute(&reader).await.unwrap_err();

    standby.kill();
    commit(&pool, 3).await;
    primary.kill();
    block_in_place(|| {
        standby.restart().unwrap();
        standby.promote().unwrap();
    });

    let pool = pool_of(standby.url()).await;
    assert_eq!(committed(&pool).await, [1, 2]);
    commit(&pool, 4).await;
    assert_eq!(committed(&pool).await, [1, 2, 4]);
}
