//! The read side of a store: lanes under lease, read in order.

use std::fmt;
use std::future::Future;

use uuid::Uuid;

use super::parked::{Parking, Released, Retry, RetryResult};
use super::pause::Pause;
use crate::error::OutboxError;
use crate::record::{KeyDigest, Lane, StoredEvent};

/// The read side: lanes under lease, read in order from a cursor that is saved once their events
/// are delivered.
///
/// It keeps no state of a lane: the relay passes in the lease and the cursor to continue from.
/// After an error of any of these, the relay forgets all its lanes and [claims](Self::claim) them
/// again: no cursor is used beyond the failure of a connection (the reason is in
/// `postgres/lanes/window.rs`).
pub trait LaneStore: Send + Sync + 'static {
    /// A position in a lane, between two events. Its text has all of it.
    type Cursor: Clone + Send + Sync + fmt::Debug + fmt::Display + 'static;

    /// Whether an event that is passed over must be parked before anything behind it is published.
    /// Then the publisher is given the batches without events, too: it keeps their positions.
    const PARKS_FIRST: bool = false;

    /// Renews the leases of the lanes `held`, and takes free ones up to our share. A relay that
    /// held a lane for the first time starts from the cursor that this returns.
    fn claim(
        &mut self,
        held: &[Lease],
        share: Share,
    ) -> impl Future<Output = Result<Claimed<Self::Cursor>, OutboxError>> + Send;

    /// The next events of these lanes. A lane without new events is returned without events. So is
    /// one that could not be read in this call; its [`LaneBatch::rest`] says so. No more bytes are
    /// requested of the database than the lanes' bounds allow.
    fn read(
        &mut self,
        lanes: &[LaneRead<Self::Cursor>],
    ) -> impl Future<Output = Result<Vec<LaneBatch<Self::Cursor>>, OutboxError>> + Send;

    /// The cursor before the event `seq` of a batch that began at `start`.
    fn cursor_before(start: &Self::Cursor, seq: i64) -> Self::Cursor;

    /// Saves how far lanes are delivered, and parks the events that were passed over: both or
    /// neither for each lane. If the database does not accept the events of a lane, only that lane
    /// fails.
    fn save(
        &mut self,
        progress: &[Progress<Self::Cursor>],
    ) -> impl Future<Output = Result<Saved, OutboxError>> + Send;

    /// The keys, of these keys of a lane, that have parked events. `None`: no key of the lane has
    /// any.
    fn parked_among(
        &mut self,
        lane: Lane,
        keys: Vec<KeyDigest>,
    ) -> impl Future<Output = Result<Option<Vec<KeyDigest>>, OutboxError>> + Send;

    /// Parked keys of these lanes to be tried again, with their first events.
    fn released(
        &mut self,
        held: &[Lease],
        retry: Retry,
    ) -> impl Future<Output = Result<Vec<Released>, OutboxError>> + Send;

    /// Removes delivered events from the parked ones, and records a refusal. Returns whether events
    /// of that key are still parked. `None`: the lane is lost.
    fn save_retry(
        &mut self,
        lease: Lease,
        result: &RetryResult,
    ) -> impl Future<Output = Result<Option<bool>, OutboxError>> + Send;

    /// Gives lanes back at once, so that another relay need not wait for the lease to end.
    fn release(
        &mut self,
        held: &[Lease],
        leaving: bool,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

/// A lane that we lease, and the fencing token that every write of its cursor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The lane.
    pub lane: Lane,
    /// Grows with each change of hands.
    pub epoch: i64,
}

/// How many lanes a relay asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// As many lanes as each living relay gets.
    Fair,
    /// Every lane that no relay holds.
    All,
}

/// The result of a claim.
#[derive(Debug)]
pub struct Claimed<C> {
    /// Held lanes that another relay has taken over, or that a transaction has locked.
    pub lost: Vec<Lane>,
    /// Held lanes that are still ours, and that have to be taken over again.
    pub reopened: Vec<Lane>,
    /// Lanes that are ours now: the lease, the saved cursor, and the keys that have parked events.
    pub taken: Vec<(Lease, C, KnownParked)>,
    /// Number of them that another relay held, which died.
    pub taken_over: usize,
    /// Number of lanes that we should hold.
    pub share: usize,
    /// Lanes that we did not get, if we asked for all.
    pub elsewhere: Vec<HeldElsewhere>,
    /// What is paused, read after the lanes were taken.
    pub pauses: Vec<Pause>,
}

/// Number of lanes to take for a relay that holds `held`, and should hold `share`.
///
/// A relay that lost its connection forgets its lanes, and still has all of them, `owned`, for the
/// other relays. So it takes them all again, and gives those beyond its share back as usual. If it
/// took only its share, no relay would publish the others.
pub(super) fn lanes_to_take(share: usize, held: usize, owned: usize) -> usize {
    share.max(owned).saturating_sub(held)
}

/// A lane that another relay holds.
#[derive(Debug, Clone, Copy)]
pub struct HeldElsewhere {
    /// The lane.
    pub lane: Lane,
    /// The relay.
    pub owner: Uuid,
    /// Time until its lease ends, in milliseconds by the database's clock.
    pub for_millis: i64,
}

/// The keys of a lane that have parked events. `None`: too many to be held in memory.
pub type KnownParked = Option<Vec<KeyDigest>>;

/// What to read of a lane.
#[derive(Debug, Clone)]
pub struct LaneRead<C> {
    /// The lane.
    pub lane: Lane,
    /// Cursor from which to read.
    pub from: C,
    /// Most events to return.
    pub rows: u32,
    /// Most bytes to return, as [`EventRecord::bytes`] counts them. An event that does not fit is
    /// not returned, even if it is the first one: [`LaneBatch::rest`] then has its size.
    pub bytes: u64,
    /// Bytes of the largest event read lately; 0 if it is not known. A hint by which the store may
    /// choose a cheaper statement.
    pub largest: u64,
}

/// Consecutive events of one lane.
#[derive(Debug)]
pub struct LaneBatch<C> {
    /// The lane.
    pub lane: Lane,
    /// The events, in order.
    pub events: Vec<StoredEvent>,
    /// The cursor before the first of them.
    pub start: C,
    /// The cursor after the last of them.
    pub end: C,
    /// Whether `end` is worth saving even if there are no events.
    pub save: bool,
    /// What is left of the lane.
    pub rest: Rest,
}

/// What is left of a lane after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It was read to the end of what is committed.
    Nothing,
    /// There may be more.
    More,
    /// There is more, and the next event has this many bytes, more than were left of the bound.
    TooLarge(u64),
}

/// The result of a save. All lanes that are not named here are saved.
#[derive(Debug, Default)]
pub struct Saved {
    /// Lanes that are lost: their new holder publishes from the cursor that it found saved.
    pub lost: Vec<Lane>,
    /// Lanes whose progress could not be saved because their events could not be parked.
    pub failed: Vec<(Lane, OutboxError)>,
}

/// How far a lane is delivered.
#[derive(Debug, Clone)]
pub struct Progress<C> {
    /// The lane.
    pub lease: Lease,
    /// Cursor up to which it is delivered.
    pub cursor: C,
    /// Events before it that were not delivered.
    pub parked: Vec<Parking>,
}

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sqlx::postgres::PgPoolOptions;
    use sqlx::sqlite::SqlitePoolOptions;
    use sqlx::{Executor, PgPool, Pool};

    use super::*;
    use crate::store::OutboxDatabase;
    use crate::store::migrate::Migrate;
    use crate::store::names::{Names, sql};

    const LEASE: Duration = Duration::from_secs(3600);

    /// A relay held all lanes, and lost its connection while another one joined.
    async fn what_a_relay_has_forgotten_goes_to_another<DB: OutboxDatabase>(
        pool: &Pool<DB>,
        names: Names,
    ) {
        let names = Arc::new(names);
        DB::migrate(pool, &names, DB::MIGRATIONS, Migrate::up()).await.unwrap();
        let [mut one, mut other] =
            [(); 2].map(|()| DB::open_lanes(pool, &names, LEASE, Duration::ZERO));
        assert_eq!(one.claim(&[], Share::Fair).await.unwrap().taken.len(), 16);
        assert_eq!(other.claim(&[], Share::Fair).await.unwrap().taken.len(), 0);

        let again = one.claim(&[], Share::Fair).await.unwrap();
        assert_eq!((again.taken.len(), again.share), (16, 8));
        let held: Vec<Lease> = again.taken.into_iter().map(|(lease, ..)| lease).collect();
        one.release(&held[8..], false).await.unwrap();
        assert_eq!(one.claim(&held[..8], Share::Fair).await.unwrap().taken.len(), 0);
        let taken = other.claim(&[], Share::Fair).await.unwrap().taken;
        let taken: Vec<Lane> = taken.into_iter().map(|(lease, ..)| lease.lane).collect();
        assert_eq!(taken, held[8..].iter().map(|lease| lease.lane).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_a_relay_has_forgotten_goes_to_another_on_postgres() {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool: PgPool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        let schema = format!("forgotten_{}", Uuid::now_v7().simple());
        let names = Names { schema: Some(schema), ..Names::default() };
        let drop = sql(names.fill("drop schema {schema} cascade"));
        what_a_relay_has_forgotten_goes_to_another(&pool, names).await;
        pool.execute(drop).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_relay_has_forgotten_goes_to_another_on_sqlite() {
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        what_a_relay_has_forgotten_goes_to_another(&pool, Names::default()).await;
    }
}
