//! What the claims of groups have in common in every store.

use uuid::Uuid;

use super::Groups;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::record::Lane;
use crate::store::row::row;

/// How many earlier claims are kept: so many relays in a row die between steps 4 and 7.
pub(in crate::store) const EARLIER: usize = 64;

row! {
    /// The groups that an outbox has.
    pub(in crate::store) struct GroupsRow {
        groups: Option<i16>,
        rows: i64,
        /// Whether events are delivered at least once: also if there are no groups.
        handed_back: bool,
    }

    /// A relay that delivers at least once, and holds a lane.
    pub(in crate::store) struct Holder {
        lane: i16,
        host: Option<String>,
        pid: Option<i64>,
    }

    /// What is noted of a group that is claimed.
    pub(in crate::store) struct ClaimRow {
        outbox: Uuid,
        adopted: bool,
        ended: Option<Uuid>,
    }
}

/// What a relay that delivers at least once has sent cannot be fenced.
pub(in crate::store) fn not_given_back(Holder { lane, host, pid }: &Holder) -> OutboxError {
    let host = host.as_deref().unwrap_or("an unknown host");
    let pid = pid.map_or_else(|| "of unknown number".to_owned(), |pid| pid.to_string());
    OutboxError::config(format!(
        "a relay that delivers at least once holds the lane {lane} (process {pid} on {host}), or has ended without giving it \
         back: this relay did not start, and all events are in the outbox. What such a relay sends cannot be fenced, so it \
         must have stopped in order. Stop it (SIGTERM) and wait for its end. If it was killed, make sure that it is gone, \
         start one that delivers at least once, and stop that one"
    ))
}

/// What a relay sends that delivers at least once would be a duplicate.
pub(in crate::store) fn delivered_exactly_once() -> OutboxError {
    OutboxError::config(
        "the events of this outbox are delivered exactly once, and this relay delivers at least once: it did not start, since \
         what it sends would arrive twice. Nothing is lost: all events are in the outbox. Start it as one that delivers exactly \
         once (`outbox relay run --delivery exactly-once`, `RelayBuilder::build_exactly_once`), or stop all relays and change \
         the delivery back (`outbox relay hand-back`)",
    )
}

/// Said once the change is committed.
pub(in crate::store) fn has_begun(number: u16) {
    tracing::info!(
        target: target::RELAY,
        groups = number,
        "the events of this outbox are delivered exactly once from now on, and relays that deliver at least once do not start"
    );
}

/// A session that failed is not used again.
pub(in crate::store) fn session_was_lost() -> OutboxError {
    OutboxError::new(
        ErrorKind::Database,
        "the session of a group of lanes was lost: the relay takes the group over again, and nothing is lost",
    )
}

impl Groups {
    /// The next number of lanes that is one of whole groups.
    pub(in crate::store) fn whole(self, lanes: usize) -> usize {
        lanes.next_multiple_of(self.lanes_each())
    }

    /// Of the lanes that are free, at most `wanted`, without those of groups that are not free.
    pub(in crate::store) fn whole_of<T>(
        self,
        mut free: Vec<T>,
        wanted: usize,
        lane: fn(&T) -> i16,
    ) -> Vec<T> {
        let group = |row: &T| self.of(Lane::from_number(lane(row)));
        let of: Vec<u16> = free.iter().map(group).collect();
        let is_free =
            |group| of.iter().filter(|other| **other == group).count() == self.lanes_each();
        free.retain(|row| is_free(group(row)));
        // Those of a group are next to each other, and the groups in the order of their first.
        free.sort_by_key(|row| of.iter().position(|other| *other == group(row)));
        free.truncate(wanted);
        free
    }

    /// Whether the outbox is in this number of groups.
    ///
    /// # Errors
    /// It is in another number of them.
    pub(in crate::store) fn ensure_same(self, there: &GroupsRow) -> Result<(), OutboxError> {
        let number = self.number();
        if there.groups == Some(number.cast_signed()) && there.rows == i64::from(number) {
            return Ok(());
        }
        Err(OutboxError::config(format!(
            "the lanes of this outbox are in {} groups, and this relay was given {number}: it did not start, and all events \
             are in the outbox. The groups give the producers their names, so their number does not change while events are \
             delivered exactly once. Give all relays the same number (`ExactlyOnce::groups`). To change it, stop all relays \
             and hand back (`outbox relay hand-back`); the next relay decides",
            there.rows
        )))
    }
}
