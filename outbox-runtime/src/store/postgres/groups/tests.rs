//! Claims and witnesses on a real Postgres.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};

use super::*;
use crate::store::groups::tests::{Tables, Tested, leases, on_database};
use crate::store::migrate::Migrate;

impl Tested for Postgres {
    async fn tables() -> Tables<Self> {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool: PgPool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        let schema = format!("groups_{}", Uuid::now_v7().simple());
        let names = Names { schema: Some(schema), ..Names::default() };
        Postgres::migrate(&pool, &names, Postgres::MIGRATIONS, Migrate::up()).await.unwrap();
        Tables { pool, names: Arc::new(names), _directory: None }
    }

    async fn drop_tables(Tables { pool, names, .. }: Tables<Self>) {
        let statement = names.fill("drop schema {schema} cascade");
        pool.execute(AssertSqlSafe(statement)).await.unwrap();
    }

    fn ahead(cursor: &PgCursor) -> PgCursor {
        let at = cursor.to_string();
        let (windows, _) = at.rsplit_once(';').unwrap();
        format!("{windows};7").parse().unwrap()
    }

    async fn park(Tables { pool, names, .. }: &Tables<Self>, seq: i64, key: Uuid) {
        let park = "
            with key as (insert into {parked_key} (lane, key_digest, topic, released) values (0, $2, 'orders', false)
                         on conflict do nothing)
            insert into {parked} (seq, lane, key_digest, id, topic, name, version, content_type, headers, occurred_at, bytes,
                                  reason, attempts)
            values ($1, 0, $2, gen_random_uuid(), 'orders', 'order.placed', 1, 'text/plain', '[]', now(), 1, 'refused', 1)";
        let park = sqlx::query(AssertSqlSafe(names.fill(park))).bind(seq).bind(key);
        park.execute(pool).await.unwrap();
    }

    async fn parked_and_keys(Tables { pool, names, .. }: &Tables<Self>) -> (Vec<i64>, Vec<Uuid>) {
        let parked = AssertSqlSafe(names.fill("select seq from {parked} order by seq"));
        let keys = AssertSqlSafe(names.fill("select key_digest from {parked_key}"));
        let parked = sqlx::query_scalar(parked).fetch_all(pool).await.unwrap();
        (parked, sqlx::query_scalar(keys).fetch_all(pool).await.unwrap())
    }

    async fn outbox(Tables { pool, names, .. }: &Tables<Self>) -> Uuid {
        let outbox = AssertSqlSafe(names.fill("select distinct outbox from {group}"));
        sqlx::query_scalar(outbox).fetch_one(pool).await.unwrap()
    }
}

on_database! {
    Postgres:
    a_claim_that_is_superseded_writes_nothing_more_and_is_remembered_if_it_was_confirmed
    whole_groups_are_leased_and_never_more_than_there_are
    the_number_of_groups_does_not_change_and_the_two_deliveries_keep_each_other_away
    what_is_handed_back_goes_on_at_its_cursors_and_can_begin_again
    parked_events_that_are_met_again_are_not_parked_any_more_once_handed_back
}

#[tokio::test]
async fn a_witness_is_above_all_that_was_seen_and_one_that_is_not_ends_the_session() {
    let tables = Postgres::tables().await;
    let (mut store, claimer) = tables.relay(1);
    let held = leases(&mut store).await;
    let (mut group, found) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    let current: String = sqlx::query_scalar("select pg_current_xact_id()::text")
        .fetch_one(&tables.pool)
        .await
        .unwrap();
    assert!(group.witness(current.parse().unwrap()).await.unwrap());
    let (_, next) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    let (claim, witness) = next.earlier[0];
    assert_eq!(claim, found.claim);
    assert!(witness > current.parse().unwrap());

    // An id that this server has not drawn was seen on another one.
    let (mut group, _) = claimer.claim(0, held).await.unwrap().unwrap();
    group.witness(u64::MAX).await.unwrap_err();
    group.witness(1).await.unwrap_err();
    Postgres::drop_tables(tables).await;
}
