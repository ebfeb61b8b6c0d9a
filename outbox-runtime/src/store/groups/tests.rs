//! Claims and witnesses, on each database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Pool;
use uuid::Uuid;

use super::*;
use crate::store::OutboxDatabase;
use crate::store::lanes::Share;
use crate::store::names::Names;

#[test]
fn each_lane_is_in_one_group_with_its_neighbours() {
    for (asked, number) in [(0, 1), (1, 1), (2, 2), (3, 2), (7, 4), (9, 8), (16, 16), (99, 16)] {
        let groups = Groups::at_most(asked);
        assert_eq!(groups.number(), number);
        let of: Vec<u16> = Lane::all().map(|lane| groups.of(lane)).collect();
        assert!(of.is_sorted(), "{of:?}");
        for group in groups.all() {
            let lanes = of.iter().filter(|of| **of == group).count();
            assert_eq!(lanes, groups.lanes_each(), "group {group} of {number}");
        }
    }
}

type StoreOf<DB> = <DB as crate::store::sealed::Database>::LaneStore;
type ClaimerOf<DB> = <StoreOf<DB> as ExactlyOnceStore>::Claimer;
type GroupOf<DB> = <ClaimerOf<DB> as Claimer>::Group;
type CursorOf<DB> = <StoreOf<DB> as LaneStore>::Cursor;

/// A database on which the tests run.
pub(in crate::store) trait Tested:
    OutboxDatabase<LaneStore: ExactlyOnceStore>
{
    /// New tables, and what keeps them.
    async fn tables() -> Tables<Self>;

    async fn drop_tables(tables: Tables<Self>);

    /// A cursor that is further.
    fn ahead(cursor: &CursorOf<Self>) -> CursorOf<Self>;

    /// Parks an event of lane 0.
    async fn park(tables: &Tables<Self>, seq: i64, key: Uuid);

    /// Numbers of the parked events, and their keys.
    async fn parked_and_keys(tables: &Tables<Self>) -> (Vec<i64>, Vec<Uuid>);

    /// What the producers and the progress topic are named by.
    async fn outbox(tables: &Tables<Self>) -> Uuid;
}

pub(in crate::store) struct Tables<DB: OutboxDatabase> {
    pub(in crate::store) pool: Pool<DB>,
    pub(in crate::store) names: Arc<Names>,
    pub(in crate::store) _directory: Option<tempfile::TempDir>,
}

/// Runs each test on this database.
macro_rules! on_database {
    ($DB:ty: $($promise:ident)*) => {
        $(#[tokio::test]
        async fn $promise() {
            crate::store::groups::tests::$promise::<$DB>().await;
        })*
    };
}
pub(in crate::store) use on_database;

impl<DB: Tested> Tables<DB> {
    pub(in crate::store) fn relay(&self, groups: u16) -> (StoreOf<DB>, ClaimerOf<DB>) {
        let mut store =
            DB::open_lanes(&self.pool, &self.names, Duration::from_secs(3_600), Duration::ZERO);
        let claimer = store.in_groups(Groups::at_most(groups));
        (store, claimer)
    }

    fn at_least_once(&self) -> StoreOf<DB> {
        DB::open_lanes(&self.pool, &self.names, Duration::from_secs(3_600), Duration::ZERO)
    }

    async fn leases_or_error(&self, groups: u16) -> Result<usize, String> {
        let (mut store, _) = self.relay(groups);
        // Whoever is refused leaves the others their shares.
        let claimed = store.claim(&[], Share::All).await.map_err(|error| error.to_string())?;
        Ok(claimed.taken.len())
    }
}

pub(in crate::store) async fn leases(store: &mut impl LaneStore) -> Vec<Lease> {
    let claimed = store.claim(&[], Share::Fair).await.unwrap();
    claimed.taken.into_iter().map(|(lease, ..)| lease).collect()
}

pub(in crate::store) async fn a_claim_that_is_superseded_writes_nothing_more_and_is_remembered_if_it_was_confirmed<
    DB: Tested,
>() {
    let tables = DB::tables().await;
    let (mut store, claimer) = tables.relay(1);
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
    DB::drop_tables(tables).await;
}

pub(in crate::store) async fn whole_groups_are_leased_and_never_more_than_there_are<DB: Tested>() {
    let tables = DB::tables().await;
    let (mut one, _) = tables.relay(2);
    let (mut other, _) = tables.relay(2);
    let (mut third, _) = tables.relay(2);
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
    DB::drop_tables(tables).await;
}

pub(in crate::store) async fn the_number_of_groups_does_not_change_and_the_two_deliveries_keep_each_other_away<
    DB: Tested,
>() {
    let tables = DB::tables().await;
    let mut at_least_once = tables.at_least_once();
    let held = leases(&mut at_least_once).await;
    let (mut store, _) = tables.relay(2);
    let error = store.claim(&[], Share::Fair).await.unwrap_err();
    assert!(error.to_string().contains("cannot be fenced"), "{error}");

    at_least_once.release(&held, true).await.unwrap();
    assert_eq!(leases(&mut store).await.len(), 16);
    let (mut other, _) = tables.relay(4);
    let error = other.claim(&[], Share::All).await.unwrap_err();
    assert!(error.to_string().contains("in 2 groups"), "{error}");
    let error = at_least_once.claim(&[], Share::Fair).await.unwrap_err();
    assert!(error.to_string().contains("exactly once"), "{error}");
    DB::drop_tables(tables).await;
}

/// What hands all of a claimer's groups back, at these cursors.
async fn hand_back<DB: Tested>(
    claimer: &ClaimerOf<DB>,
    groups: Groups,
    held: &[Lease],
    cursor: impl Fn(&CursorOf<DB>) -> CursorOf<DB>,
) -> (Vec<HandedBack<CursorOf<DB>>>, GroupOf<DB>) {
    let mut last = None;
    let mut handed_back = Vec::new();
    for number in groups.all() {
        let of = |lease: &&Lease| groups.of(lease.lane) == number;
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

pub(in crate::store) async fn what_is_handed_back_goes_on_at_its_cursors_and_can_begin_again<
    DB: Tested,
>() {
    let tables = DB::tables().await;
    let (mut store, claimer) = tables.relay(2);
    let held = leases(&mut store).await;
    let (all, mut group) = hand_back::<DB>(&claimer, Groups::at_most(2), &held, DB::ahead).await;

    let only_one = group.hand_back(&all[..1]).await.unwrap();
    assert!(!only_one, "all groups, or none");
    let (_, found) = claimer.claim(0, held[..8].to_vec()).await.unwrap().unwrap();
    assert!(found.adopted, "nothing was changed");
    assert!(!group.hand_back(&all).await.unwrap(), "a claim was superseded");

    let (all, mut group) = hand_back::<DB>(&claimer, Groups::at_most(2), &held, DB::ahead).await;
    assert!(group.hand_back(&all).await.unwrap());
    assert!(!group.hand_back(&all).await.unwrap(), "their claims have ended");
    assert!(claimer.claim(0, held[..8].to_vec()).await.unwrap().is_none(), "begun again by hand");
    store.release(&held, true).await.unwrap();

    let mut at_least_once = tables.at_least_once();
    let claimed = at_least_once.claim(&[], Share::Fair).await.unwrap();
    let expected: Vec<String> =
        all.iter().flat_map(|g| &g.lanes).map(|(_, at)| at.to_string()).collect();
    let found: Vec<String> = claimed.taken.iter().map(|(_, at, _)| at.to_string()).collect();
    assert_eq!(found, expected);
    let error = tables.leases_or_error(2).await.unwrap_err();
    assert!(error.contains("cannot be fenced"), "{error}");

    // Under the same names, the progress of the ended claim is known as such.
    let held: Vec<Lease> = claimed.taken.iter().map(|(lease, ..)| *lease).collect();
    at_least_once.release(&held, true).await.unwrap();
    let before = DB::outbox(&tables).await;
    let (mut store, claimer) = tables.relay(2);
    let held = leases(&mut store).await;
    let (_, found) = claimer.claim(1, held[8..].to_vec()).await.unwrap().unwrap();
    assert_eq!((found.ended, found.adopted, found.earlier.len()), (Some(all[1].claim), false, 0));
    assert_eq!(found.outbox, before);

    // Another number of groups has names of its own.
    let (all, mut group) = hand_back::<DB>(&claimer, Groups::at_most(2), &held, Clone::clone).await;
    assert!(group.hand_back(&all).await.unwrap());
    store.release(&held, true).await.unwrap();
    assert_eq!(tables.leases_or_error(4).await.unwrap(), 16);
    assert_ne!(DB::outbox(&tables).await, before);
    DB::drop_tables(tables).await;
}

pub(in crate::store) async fn parked_events_that_are_met_again_are_not_parked_any_more_once_handed_back<
    DB: Tested,
>() {
    let tables = DB::tables().await;
    let (mut store, claimer) = tables.relay(1);
    let held = leases(&mut store).await;
    let (mut all, mut group) =
        hand_back::<DB>(&claimer, Groups::at_most(1), &held, Clone::clone).await;
    let (behind_another, alone) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (seq, key) in [(1_i64, behind_another), (2, behind_another), (3, alone)] {
        DB::park(&tables, seq, key).await;
    }
    all[0].beyond = vec![2, 3];
    assert!(group.hand_back(&all).await.unwrap());
    let (parked, keys) = DB::parked_and_keys(&tables).await;
    assert_eq!((parked, keys), (vec![1], vec![behind_another]));
    DB::drop_tables(tables).await;
}
