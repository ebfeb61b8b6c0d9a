//! Claims and witnesses on a real Postgres.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};

use super::*;
use crate::store::groups::ExactlyOnceStore as _;
use crate::store::lanes::{LaneStore as _, Share};
use crate::store::migrate::Migrate;
use crate::store::postgres::lanes::PgLaneStore;
use crate::store::sealed::{Database as _, Schema as _};

async fn tables() -> (PgPool, Arc<Names>) {
    let url = std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
    let schema = format!("groups_{}", Uuid::now_v7().simple());
    let names = Names { schema: Some(schema), ..Names::default() };
    Postgres::migrate(&pool, &names, Postgres::MIGRATIONS, Migrate::up()).await.unwrap();
    (pool, Arc::new(names))
}

async fn drop_tables(pool: &PgPool, names: &Names) {
    let statement = names.fill("drop schema {schema} cascade");
    pool.execute(AssertSqlSafe(statement)).await.unwrap();
}

fn relay(pool: &PgPool, names: &Arc<Names>, groups: u16) -> (PgLaneStore, PgClaimer) {
    let mut store = Postgres::open_lanes(pool, names, Duration::from_secs(3_600));
    let claimer = store.in_groups(Groups::at_most(groups));
    (store, claimer)
}

async fn leases(store: &mut PgLaneStore) -> Vec<Lease> {
    let claimed = store.claim(&[], Share::Fair).await.unwrap();
    claimed.taken.into_iter().map(|(lease, ..)| lease).collect()
}

#[tokio::test]
async fn a_claim_that_is_superseded_writes_nothing_more_and_is_remembered_if_it_was_confirmed() {
    let (pool, names) = tables().await;
    let (mut store, claimer) = relay(&pool, &names, 1);
    let held = leases(&mut store).await;
    let (mut first, found) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    assert_eq!((found.earlier.len(), found.adopted, found.saved.len()), (0, false, 16));
    assert!(first.confirm().await.unwrap());

    // Never confirmed: it has written no progress.
    let (_, unconfirmed) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    assert!(!first.witness(1).await.unwrap(), "it was superseded");
    let (mut last, found_last) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    let earlier: Vec<Uuid> = found_last.earlier.iter().map(|(claim, _)| *claim).collect();
    assert_eq!(earlier, [found.claim]);
    assert_ne!(earlier, [unconfirmed.claim]);
    assert_eq!(found_last.outbox, found.outbox);

    assert!(first.adopted(&[]).await.unwrap().is_none());
    assert!(last.confirm().await.unwrap());
    assert!(last.adopted(&[]).await.unwrap().is_some());
    let (_, after) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    assert!(after.adopted);
    let earlier: Vec<Uuid> = after.earlier.iter().map(|(claim, _)| *claim).collect();
    assert_eq!(earlier, [found_last.claim], "those before were forgotten");

    let other_epochs = held.iter().map(|lease| Lease { epoch: lease.epoch + 1, ..*lease });
    assert!(claimer.claim(0, other_epochs.collect()).await.unwrap().is_none(), "without the lanes");
    drop_tables(&pool, &names).await;
}

#[tokio::test]
async fn a_witness_is_above_all_that_was_seen_and_one_that_is_not_ends_the_session() {
    let (pool, names) = tables().await;
    let (mut store, claimer) = relay(&pool, &names, 1);
    let held = leases(&mut store).await;
    let (mut group, found) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    let current: String =
        sqlx::query_scalar("select pg_current_xact_id()::text").fetch_one(&pool).await.unwrap();
    assert!(group.witness(current.parse().unwrap()).await.unwrap());
    let (_, next) = claimer.claim(0, held.clone()).await.unwrap().unwrap();
    let (claim, witness) = next.earlier[0];
    assert_eq!(claim, found.claim);
    assert!(witness > current.parse().unwrap());

    // An id that this server has not drawn was seen on another one.
    let (mut group, _) = claimer.claim(0, held).await.unwrap().unwrap();
    group.witness(u64::MAX).await.unwrap_err();
    group.witness(1).await.unwrap_err();
    drop_tables(&pool, &names).await;
}

#[tokio::test]
async fn whole_groups_are_leased_and_never_more_than_there_are() {
    let (pool, names) = tables().await;
    let (mut one, _) = relay(&pool, &names, 2);
    let (mut other, _) = relay(&pool, &names, 2);
    let (mut third, _) = relay(&pool, &names, 2);
    let held = leases(&mut one).await;
    assert_eq!(held.len(), 16);
    one.release(&held[8..12], false).await.unwrap();
    assert_eq!(leases(&mut other).await.len(), 0, "half of a group is free");
    one.release(&held[12..], false).await.unwrap();
    let second = leases(&mut other).await;
    assert_eq!(
        second.iter().map(|lease| lease.lane.number()).collect::<Vec<_>>(),
        [8, 9, 10, 11, 12, 13, 14, 15]
    );
    assert_eq!(leases(&mut third).await.len(), 0);
    drop_tables(&pool, &names).await;
}

#[tokio::test]
async fn the_number_of_groups_does_not_change_and_the_two_deliveries_keep_each_other_away() {
    let (pool, names) = tables().await;
    let mut at_least_once = Postgres::open_lanes(&pool, &names, Duration::from_secs(3_600));
    let held = leases(&mut at_least_once).await;
    let (mut store, _) = relay(&pool, &names, 2);
    let error = store.claim(&[], Share::Fair).await.unwrap_err();
    assert!(error.to_string().contains("cannot be fenced"), "{error}");

    at_least_once.release(&held, true).await.unwrap();
    assert_eq!(leases(&mut store).await.len(), 16);
    let (mut other, _) = relay(&pool, &names, 4);
    let error = other.claim(&[], Share::All).await.unwrap_err();
    assert!(error.to_string().contains("in 2 groups"), "{error}");
    let error = at_least_once.claim(&[], Share::Fair).await.unwrap_err();
    assert!(error.to_string().contains("exactly once"), "{error}");
    drop_tables(&pool, &names).await;
}

/// What hands all of a claimer's groups back, at these cursors.
async fn hand_back(
    claimer: &PgClaimer,
    held: &[Lease],
    cursor: impl Fn(&PgCursor) -> PgCursor,
) -> (Vec<HandedBack<PgCursor>>, PgGroup) {
    let mut last = None;
    let mut handed_back = Vec::new();
    for number in claimer.groups.all() {
        let of = |lease: &&Lease| claimer.groups.of(lease.lane) == number;
        let leases = held.iter().filter(of).copied().collect();
        let (mut group, found) = claimer.claim(number, leases).await.unwrap().unwrap();
        assert!(group.confirm().await.unwrap());
        assert!(group.adopted(&[]).await.unwrap().is_some());
        let lanes = found.saved.iter().map(|saved| (saved.lane, cursor(&saved.cursor))).collect();
        handed_back.push(HandedBack { group: number, claim: found.claim, lanes, beyond: vec![] });
        last = Some(group);
    }
    (handed_back, last.unwrap())
}

#[tokio::test]
async fn what_is_handed_back_goes_on_at_its_cursors_and_can_begin_again() {
    let (pool, names) = tables().await;
    let (mut store, claimer) = relay(&pool, &names, 2);
    let held = leases(&mut store).await;
    let ahead = |at: &PgCursor| {
        let at = at.to_string();
        let (windows, _) = at.rsplit_once(';').unwrap();
        format!("{windows};7").parse::<PgCursor>().unwrap()
    };
    let (all, mut group) = hand_back(&claimer, &held, ahead).await;

    let only_one = group.hand_back(&all[..1]).await.unwrap();
    assert!(!only_one, "all groups, or none");
    let (_, found) = claimer.claim(0, held[..8].to_vec()).await.unwrap().unwrap();
    assert!(found.adopted, "nothing was changed");
    assert!(!group.hand_back(&all).await.unwrap(), "a claim was superseded");

    let (all, mut group) = hand_back(&claimer, &held, ahead).await;
    assert!(group.hand_back(&all).await.unwrap());
    assert!(!group.hand_back(&all).await.unwrap(), "their claims have ended");
    assert!(claimer.claim(0, held[..8].to_vec()).await.unwrap().is_none(), "begun again by hand");
    store.release(&held, true).await.unwrap();

    let mut at_least_once = Postgres::open_lanes(&pool, &names, Duration::from_secs(3_600));
    let claimed = at_least_once.claim(&[], Share::Fair).await.unwrap();
    let expected: Vec<String> =
        all.iter().flat_map(|g| &g.lanes).map(|(_, at)| at.to_string()).collect();
    let found: Vec<String> = claimed.taken.iter().map(|(_, at, _)| at.to_string()).collect();
    assert_eq!(found, expected);
    let error = leases_or_error(&pool, &names, 2).await.unwrap_err();
    assert!(error.contains("cannot be fenced"), "{error}");

    // Under the same names, the progress of the ended claim is known as such.
    let held: Vec<Lease> = claimed.taken.iter().map(|(lease, ..)| *lease).collect();
    at_least_once.release(&held, true).await.unwrap();
    let before = outbox_of(&pool, &names).await;
    let (mut store, claimer) = relay(&pool, &names, 2);
    let held = leases(&mut store).await;
    let (_, found) = claimer.claim(1, held[8..].to_vec()).await.unwrap().unwrap();
    assert_eq!((found.ended, found.adopted, found.earlier.len()), (Some(all[1].claim), false, 0));
    assert_eq!(found.outbox, before);

    // Another number of groups has names of its own.
    let (all, mut group) = hand_back(&claimer, &held, Clone::clone).await;
    assert!(group.hand_back(&all).await.unwrap());
    store.release(&held, true).await.unwrap();
    assert_eq!(leases_or_error(&pool, &names, 4).await.unwrap(), 16);
    assert_ne!(outbox_of(&pool, &names).await, before);
    drop_tables(&pool, &names).await;
}

#[tokio::test]
async fn parked_events_that_are_met_again_are_not_parked_any_more_once_handed_back() {
    let (pool, names) = tables().await;
    let (mut store, claimer) = relay(&pool, &names, 1);
    let held = leases(&mut store).await;
    let (mut all, mut group) = hand_back(&claimer, &held, Clone::clone).await;
    let (behind_another, alone) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (seq, key) in [(1_i64, behind_another), (2, behind_another), (3, alone)] {
        let park = "
            with key as (insert into {parked_key} (lane, key_digest, topic, released) values (0, $2, 'orders', false)
                         on conflict do nothing)
            insert into {parked} (seq, lane, key_digest, id, topic, name, version, content_type, headers, occurred_at, bytes,
                                  reason, attempts)
            values ($1, 0, $2, gen_random_uuid(), 'orders', 'order.placed', 1, 'text/plain', '[]', now(), 1, 'refused', 1)";
        let park = sqlx::query(AssertSqlSafe(names.fill(park))).bind(seq).bind(key);
        park.execute(&pool).await.unwrap();
    }
    all[0].beyond = vec![2, 3];
    assert!(group.hand_back(&all).await.unwrap());
    let parked = AssertSqlSafe(names.fill("select seq from {parked} order by seq"));
    let parked: Vec<i64> = sqlx::query_scalar(parked).fetch_all(&pool).await.unwrap();
    let keys = AssertSqlSafe(names.fill("select key_digest from {parked_key}"));
    let keys: Vec<Uuid> = sqlx::query_scalar(keys).fetch_all(&pool).await.unwrap();
    assert_eq!((parked, keys), (vec![1], vec![behind_another]));
    drop_tables(&pool, &names).await;
}

async fn leases_or_error(pool: &PgPool, names: &Arc<Names>, groups: u16) -> Result<usize, String> {
    let (mut store, _) = relay(pool, names, groups);
    // Whoever is refused leaves the others their shares.
    let claimed = store.claim(&[], Share::All).await.map_err(|error| error.to_string())?;
    Ok(claimed.taken.len())
}

async fn outbox_of(pool: &PgPool, names: &Names) -> Uuid {
    let outbox = AssertSqlSafe(names.fill("select distinct outbox from {group}"));
    sqlx::query_scalar(outbox).fetch_one(pool).await.unwrap()
}
