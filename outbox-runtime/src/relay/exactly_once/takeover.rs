//! Taking a group over, in the steps of `docs/decisions/17-exactly-once.md`, in their order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc::UnboundedReceiver;

use super::group::{Group, Start};
use super::join::Join;
use super::record::ProgressRecord;
use crate::error::OutboxError;
use crate::failpoint::failpoint;
use crate::observe::{Meter, target};
use crate::publish::transactions::{Closed, GroupId, GroupSession, TransactionalPublisher};
use crate::record::Lane;
use crate::store::groups::{Claimer, GroupClaim, GroupStore, Groups, SavedLane, Wave};
use crate::store::{KnownParked, Lease};

/// What takes groups over.
pub(super) struct TakeOver<C, P> {
    pub(super) claimer: C,
    pub(super) publisher: Arc<P>,
    pub(super) groups: Groups,
    pub(super) seen: Arc<AtomicU64>,
    pub(super) meter: Meter,
}

/// A group that was taken over, and from where its lanes are published.
pub(super) struct Taken<C: Claimer, P: TransactionalPublisher> {
    pub(super) group: Group<C::Group, P::Session>,
    pub(super) joins: UnboundedReceiver<Join>,
    pub(super) lanes: Vec<(Lease, C::Cursor, KnownParked)>,
}

/// From where to publish.
struct Decided {
    positions: BTreeMap<Lane, String>,
    settled: Vec<i64>,
}

impl<C, P> TakeOver<C, P>
where
    C: Claimer<Cursor: fmt::Display + FromStr<Err = OutboxError> + Clone + Sync>,
    P: TransactionalPublisher,
{
    /// `None`: another relay has taken it over meanwhile.
    pub(super) async fn run(
        &self,
        number: u16,
        leases: Vec<Lease>,
    ) -> Result<Option<Taken<C, P>>, OutboxError> {
        let Some((mut store, claim)) = self.claimer.claim(number, leases.clone()).await? else {
            return Ok(None);
        };
        failpoint("after-group-claim");
        let id = GroupId {
            outbox: claim.outbox.to_string(),
            group: number,
            groups: self.groups.number(),
        };
        // Fences whoever published before, and reads only then.
        let (session, read) = self.publisher.open(&id).await?;
        failpoint("after-group-fence");
        if !store.confirm().await? {
            return Ok(None);
        }
        let read = read.as_deref().map(ProgressRecord::from_bytes).transpose()?;
        let (decided, falls_back) = decide(read, &claim);
        if falls_back {
            self.fell_back(number);
        }
        let Decided { positions, settled } = decided;
        let wave = Wave { claim: claim.claim, number: 1 };
        let adopted =
            ProgressRecord { wave, need: 0, lanes: positions.clone(), settled: settled.clone() };
        adopt(&session, &adopted).await?;
        failpoint("after-adoption");
        // On disk before the first event: who finds no progress after this knows that it was lost.
        let Some(witness) = store.adopted(&settled).await? else { return Ok(None) };
        let lanes = cursors(&positions)?;
        let parked = store.parked(&lanes).await?;
        let known: BTreeMap<Lane, KnownParked> = parked.keys.into_iter().collect();
        let of_lane = |(lane, cursor): (Lane, C::Cursor)| {
            let lease = *leases.iter().find(|lease| lease.lane == lane)?;
            Some((lease, cursor, known.get(&lane).cloned().unwrap_or_default()))
        };
        let lanes = lanes.into_iter().filter_map(of_lane).collect();
        let start = Start { wave, positions, witness, beyond: parked.beyond };
        let (group, joins) =
            Group::new((number, leases), (store, session), Arc::clone(&self.seen), start);
        tracing::info!(target: target::RELAY, group = number, "relay publishes a group of lanes exactly once");
        Ok(Some(Taken { group, joins, lanes }))
    }

    fn fell_back(&self, group: u16) {
        self.meter.fell_back();
        tracing::error!(
            target: target::RELAY,
            group,
            "the progress on Kafka and the history of the database do not fit: the database has lost commits (a failover, a \
             restored backup), or the progress topic has lost records. The relay goes on from the cursor in the database. No \
             event is lost; some may be published twice, and of lost transactions, events may have been published"
        );
    }
}

/// Through the producer that was fenced first: of two relays, only the last one passes.
async fn adopt<S: GroupSession>(session: &S, progress: &ProgressRecord) -> Result<(), OutboxError> {
    let bytes = progress.to_bytes()?;
    let adopted = async {
        session.begin().await?;
        session.commit(bytes).await
    };
    adopted.await.map_err(|Closed(error)| error)
}

fn cursors<C: FromStr<Err = OutboxError>>(
    positions: &BTreeMap<Lane, String>,
) -> Result<Vec<(Lane, C)>, OutboxError> {
    positions.iter().map(|(lane, position)| Ok((*lane, position.parse()?))).collect()
}

/// Goes on from the progress on the topic, or from the cursors in the database. Also returns
/// whether that is a fall-back.
fn decide<C: fmt::Display>(read: Option<ProgressRecord>, claim: &GroupClaim<C>) -> (Decided, bool) {
    let is_of_ended =
        |read: &ProgressRecord| claim.ended.is_some_and(|ended| ended == read.wave.claim);
    let found = read.as_ref().is_some_and(|read| !is_of_ended(read));
    let saved = || claim.saved.iter().map(|saved| (saved.lane, saved.cursor.to_string()));
    match read.filter(|read| may_adopt(read, claim)) {
        Some(read) => {
            // What was written by a relay of ours has all lanes; a lane that is missing goes on
            // from its saved cursor.
            let positions = saved().chain(read.lanes).collect();
            (Decided { positions, settled: read.settled }, false)
        }
        None => {
            let decided = Decided { positions: saved().collect(), settled: Vec::new() };
            (decided, claim.adopted || found)
        }
    }
}

fn may_adopt<C>(read: &ProgressRecord, claim: &GroupClaim<C>) -> bool {
    let of_claim = claim.earlier.iter().find(|(earlier, _)| *earlier == read.wave.claim);
    let Some((_, witness)) = of_claim else { return false };
    // Ahead of the topic under the same claim: the topic has lost something.
    let is_ahead = |saved: &SavedLane<C>| {
        saved
            .after
            .is_some_and(|after| after.claim == read.wave.claim && after.number > read.wave.number)
    };
    read.need <= *witness && !claim.saved.iter().any(is_ahead)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn wave(claim: u128, number: i64) -> Wave {
        Wave { claim: Uuid::from_u128(claim), number }
    }

    fn lane() -> Lane {
        Lane::new(3).unwrap()
    }

    fn read(claim: u128, number: i64, need: u64) -> ProgressRecord {
        let lanes = [(lane(), "read".to_owned())].into();
        ProgressRecord { wave: wave(claim, number), need, lanes, settled: vec![9] }
    }

    fn claim() -> GroupClaim<&'static str> {
        GroupClaim {
            outbox: Uuid::nil(),
            claim: Uuid::from_u128(4),
            earlier: vec![(Uuid::from_u128(2), 50), (Uuid::from_u128(3), 70)],
            adopted: true,
            ended: None,
            saved: vec![SavedLane { lane: lane(), cursor: "saved", after: Some(wave(2, 5)) }],
        }
    }

    fn decided(read: Option<ProgressRecord>, claim: &GroupClaim<&str>) -> (String, bool) {
        let (decided, falls_back) = decide(read, claim);
        assert_eq!(decided.settled.is_empty(), decided.positions[&lane()] == "saved");
        (decided.positions[&lane()].clone(), falls_back)
    }

    #[test]
    fn progress_is_adopted_if_its_claim_is_known_and_what_it_needs_is_witnessed() {
        let adopted = || ("read".to_owned(), false);
        let fell_back = || ("saved".to_owned(), true);
        assert_eq!(decided(Some(read(2, 5, 50)), &claim()), adopted());
        assert_eq!(decided(Some(read(2, 6, 0)), &claim()), adopted());
        assert_eq!(
            decided(Some(read(2, 5, 51)), &claim()),
            fell_back(),
            "not witnessed under its claim"
        );
        assert_eq!(
            decided(Some(read(3, 1, 51)), &claim()),
            adopted(),
            "the witness is another claim's"
        );
        assert_eq!(
            decided(Some(read(2, 4, 0)), &claim()),
            fell_back(),
            "the topic has lost a wave"
        );
        assert_eq!(
            decided(Some(read(1, 9, 0)), &claim()),
            fell_back(),
            "of a claim that is not known"
        );
        assert_eq!(decided(None, &claim()), fell_back(), "the topic has lost all");
    }

    #[test]
    fn it_is_no_fall_back_if_there_never_was_progress_or_if_it_was_ended() {
        let first = GroupClaim { adopted: false, earlier: Vec::new(), ..claim() };
        let saved = || ("saved".to_owned(), false);
        assert_eq!(decided(None, &first), saved());
        let ended = GroupClaim { ended: Some(Uuid::from_u128(2)), ..first };
        assert_eq!(decided(Some(read(2, 5, 0)), &ended), saved());
        assert_eq!(decided(Some(read(1, 5, 0)), &ended), ("saved".to_owned(), true));
    }
}
