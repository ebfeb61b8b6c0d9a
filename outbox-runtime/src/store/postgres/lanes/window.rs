//! Reading without loss and in order.
//!
//! `seq > last` loses events: a transaction may draw its number early and commit late. So the relay
//! reads *windows*: the rows that are visible in the snapshot `cur` and were not visible in the
//! snapshot `prev`, ordered by `seq`. Each committed row is in exactly one window, and the rows of
//! one key are in the order in which their writers held its lock.
//!
//! Within a window, a row is found in one of two ways:
//! - its number is above `prev_floor`, the sequence's value when `prev` was taken: the *main run*,
//!   by (lane, seq);
//! - its number is at or below it, so its transaction had begun by then, and was in progress in
//!   `prev`: a *straggler*. Its transaction's id is one of `prev`'s in-progress list, or lies
//!   between `prev`'s end and `prev_h`, an id drawn after `prev_floor` was read: by (xid, lane,
//!   seq).
//!
//! One statement opens a window and reads its first rows: it sees what the window's
//! snapshot shows. Usually that is all of it; the rest is read in chunks above `last_seq`. Windows
//! are kept in memory, and what is delivered of them is saved as a new row of the lane's progress.
//! A server that crashes hands out again the transaction ids that it had not yet logged, and a
//! window of the time before would take new rows for old ones: so a window is used, and saved, only
//! over the connection that it was opened over, which no crash and no failover survives. A *saved*
//! window stays valid for ever: the transaction that saved it drew its id after the snapshot, and
//! with that id in the log, all lower ids are used up.
//!
//! A row's transaction id is drawn before its number. So if a transaction is not older than the id
//! `prev_h` of some earlier window, all its numbers are above that window's floor. This bounds the
//! numbers of a window from below, and usually leaves a single leaf of the ring to search. See
//! `floors.rs`.
//!
//! The proof by experiment is `tests/it/window_fuzz.rs`.

use std::sync::Arc;

use tokio::time::Instant;

use super::chunk::{self, Chunk};
use super::cursor::PgCursor;
use super::floors::RingRange;
use super::session::{Session, ToRead};
use super::{invariants, open};
use crate::error::OutboxError;
use crate::store::lanes::{LaneBatch, LaneRead, Rest};

/// The next events of these lanes: opens a window for those that have none, where there is anything
/// new, reads the next chunk of each, and closes those that are read to their end.
pub(super) async fn read(
    session: &mut Session<'_>,
    lanes: &[LaneRead<PgCursor>],
) -> Result<Vec<LaneBatch<PgCursor>>, OutboxError> {
    let (open, closed): (Vec<_>, Vec<_>) = lanes.iter().partition(|read| read.from.cur.is_some());
    let mut to_read: Vec<ToRead<'_>> = open
        .into_iter()
        .filter_map(|read| Some((read, Arc::clone(read.from.cur.as_ref()?), read.from.clone())))
        .collect();
    let mut batches = Vec::with_capacity(lanes.len());
    if !closed.is_empty() {
        open::open_windows(session, &closed, &mut batches, &mut to_read).await?;
    }
    // Usually all are in one leaf and find something there: then this is one call.
    while let Some((_, _, first)) = to_read.first() {
        let range = RingRange::of_window(first, session.floors);
        let (here, elsewhere): (Vec<_>, Vec<_>) = to_read
            .into_iter()
            .partition(|(_, _, start)| RingRange::of_window(start, session.floors) == range);
        to_read = elsewhere;
        let mut chunks = chunk::read(session, range, &here).await?;
        for lane in here {
            let chunk = chunks.remove(&lane.0.lane).unwrap_or_default();
            match batch_of(lane, chunk, range) {
                Ok(batch) => batches.push(batch),
                Err(unread) => to_read.push(unread),
            }
        }
        if Instant::now() > session.until {
            break;
        }
    }
    batches.extend(to_read.into_iter().map(|(read, _, at)| {
        let (start, end) = (at.clone(), at);
        LaneBatch { lane: read.lane, events: Vec::new(), start, end, save: false, rest: Rest::More }
    }));
    Ok(batches)
}

/// The batch of a lane after its next chunk. An error is the lane with its window at the end of
/// `range`, in which nothing was found: the window continues in the next range of the ring.
fn batch_of<'l>(
    (read, cur, start): ToRead<'l>,
    Chunk { events, rest, .. }: Chunk,
    range: RingRange,
) -> Result<LaneBatch<PgCursor>, ToRead<'l>> {
    debug_assert!(
        invariants::in_order(start.last_seq, events.iter().map(|event| event.seq)),
        "a chunk in order"
    );
    let end = match events.last() {
        Some(last) if rest != Rest::Nothing => start.clone().advanced_to(last.seq),
        None if rest != Rest::Nothing => start.clone(),
        // The floor was read after the snapshot, so the snapshot shows no higher numbers.
        _ if range.up_to() < cur.floor => start.clone().advanced_to(range.up_to()),
        _ => start.clone().closed(),
    };
    if events.is_empty() && end.cur.is_some() && rest == Rest::Nothing {
        return Err((read, cur, end));
    }
    // After the end of a window that was not opened just now, there may be new events.
    let old = read.from.cur.is_some();
    let ended = rest == Rest::Nothing;
    let rest = if ended && (old || end.cur.is_some()) { Rest::More } else { rest };
    // A saved window that is found to be read to its end would prevent its leaves from being
    // reclaimed.
    let save = old && end.cur.is_none();
    Ok(LaneBatch { lane: read.lane, events, start, end, save, rest })
}
