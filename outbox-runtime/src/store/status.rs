//! How far the relays of an outbox are, at a cost that does not grow with the backlog.

use std::time::SystemTime;

use uuid::Uuid;

use super::admin::at;
use super::groups::Groups;
use super::pause::Pause;
use super::relays::{RelayRow, RelayStatus};
use super::row::row;
use crate::check::from_unix_micros;
use crate::record::Lane;

/// How far the relays of an outbox are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Time of the database (SQLite: of this host) at which it was read.
    pub at: SystemTime,
    /// Number of events that are committed and not saved as published, without parked ones: the sum
    /// of [`LaneStatus::backlog`].
    pub backlog: u64,
    /// Whether that is an estimate, because some lane has more than
    /// [`Status::COUNTED_OF_LANE`] of them.
    pub backlog_is_estimate: bool,
    /// Time at which the oldest of them occurred. `None`: there is none.
    pub oldest_pending: Option<SystemTime>,
    /// Number that the last event drew: it grows by one for each event that is emitted or replayed,
    /// also in transactions that roll back.
    pub last_number: u64,
    /// Number of parked events, counted up to [`Status::COUNTED`]: that number means as many or
    /// more. Without those that are set aside because their topic is paused.
    pub parked: u64,
    /// Time at which the oldest of them occurred. `None`: there is none.
    pub oldest_parked: Option<SystemTime>,
    /// Number of parked events whose topic is paused. Together with `parked`, counted up to
    /// [`Status::COUNTED`].
    pub set_aside: u64,
    /// Number of leaves of the ring that are empty, of sixteen. With fewer than three, published
    /// events are kept for less than their retention. `None`: the database has no ring (SQLite).
    pub leaves_free: Option<u32>,
    /// The lanes, in order.
    pub lanes: Vec<LaneStatus>,
    /// The relays, in the order in which they started.
    pub relays: Vec<RelayStatus>,
    /// What operators have paused.
    pub pauses: Vec<Pause>,
    /// How often an event may arrive.
    pub delivery: DeliveryStatus,
}

/// How the events of an outbox are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryStatus {
    /// At least once: relays may publish an event twice.
    AtLeastOnce,
    /// Exactly once: each event is in one committed transaction of Kafka.
    #[non_exhaustive]
    ExactlyOnce {
        /// What the producers and the progress topic are named by.
        outbox: Uuid,
        /// The groups that the lanes are in, in order.
        groups: Vec<GroupStatus>,
    },
}

/// A group of lanes that are published by one relay, exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Its number, from 0.
    pub group: u16,
    /// Its lanes, in order.
    pub lanes: Vec<Lane>,
    /// Id of the relay that holds its lanes, one of [`Status::relays`]. `None`: no relay holds
    /// them.
    pub owner: Option<Uuid>,
    /// Drawn by the last relay that took it over. `None`: none has.
    pub claim: Option<Uuid>,
}

/// How far a lane is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The lane.
    pub lane: Lane,
    /// Id of the relay that holds it, one of [`Status::relays`]. `None`: no relay holds it.
    pub owner: Option<Uuid>,
    /// Number of events that are committed and not saved as published. Counted up to
    /// [`Status::COUNTED_OF_LANE`]; if there are more, estimated from their numbers.
    pub backlog: u64,
    /// Time at which the first of them occurred. `None`: there is none.
    pub oldest_pending: Option<SystemTime>,
}

/// The parked events of a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkedTopic {
    pub(crate) topic: String,
    pub(crate) events: u64,
    /// Time at which the oldest of them occurred.
    pub(crate) oldest: Option<SystemTime>,
}

/// Most topics whose parked events are told apart.
pub(crate) const PARKED_TOPICS: i64 = 50;

row! {
    /// The parked events of a topic, as stores return them.
    pub(crate) struct ParkedTopicRow {
        topic: String,
        events: i64,
        oldest_micros: Option<i64>,
    }

    /// A lane, as stores return it.
    pub(crate) struct LaneRow {
        lane: i16,
        owner: Option<Uuid>,
        /// Number of pending events, counted up to [`Status::COUNTED_OF_LANE`].
        counted: i64,
        oldest_micros: Option<i64>,
        /// The first and the last number of those counted, without stragglers.
        first_seq: Option<i64>,
        last_seq: Option<i64>,
    }

    /// A group that is delivered exactly once, as stores return it.
    pub(crate) struct GroupRow {
        grp: i16,
        groups: i16,
        outbox: Uuid,
        claim: Option<Uuid>,
    }

    /// What stores return of the outbox as a whole.
    pub(crate) struct SummaryRow {
        now_micros: i64,
        /// The last number that was drawn.
        last: i64,
        parked: i64,
        oldest_parked_micros: Option<i64>,
        set_aside: i64,
        leaves_free: Option<i64>,
    }
}

impl From<ParkedTopicRow> for ParkedTopic {
    fn from(row: ParkedTopicRow) -> Self {
        let ParkedTopicRow { topic, events, oldest_micros } = row;
        let oldest = oldest_micros.and_then(from_unix_micros);
        Self { topic, events: events.unsigned_abs(), oldest }
    }
}

impl Status {
    /// Number up to which the pending events of a lane are counted.
    pub const COUNTED_OF_LANE: u64 = 64;
    /// Number up to which parked events are counted.
    pub const COUNTED: u64 = 10_000;

    pub(crate) fn new(
        lanes: &[LaneRow],
        relays: Vec<RelayRow>,
        pauses: Vec<Pause>,
        groups: &[GroupRow],
        summary: &SummaryRow,
    ) -> Self {
        let backlogs = backlogs(lanes, summary.last);
        let lanes: Vec<LaneStatus> =
            lanes.iter().zip(&backlogs).map(|(lane, backlog)| lane.status(*backlog)).collect();
        Self {
            at: at(summary.now_micros),
            backlog: backlogs.iter().sum(),
            backlog_is_estimate: backlogs.iter().any(|backlog| *backlog > Self::COUNTED_OF_LANE),
            oldest_pending: lanes.iter().filter_map(|lane| lane.oldest_pending).min(),
            last_number: summary.last.max(0).unsigned_abs(),
            parked: summary.parked.unsigned_abs(),
            oldest_parked: summary.oldest_parked_micros.and_then(from_unix_micros),
            set_aside: summary.set_aside.unsigned_abs(),
            leaves_free: summary.leaves_free.and_then(|leaves| u32::try_from(leaves).ok()),
            relays: relays.into_iter().map(|relay| relay_status(relay, &lanes)).collect(),
            pauses,
            delivery: DeliveryStatus::new(groups, &lanes),
            lanes,
        }
    }
}

impl DeliveryStatus {
    fn new(rows: &[GroupRow], lanes: &[LaneStatus]) -> Self {
        let Some(GroupRow { outbox, groups, .. }) = rows.first() else { return Self::AtLeastOnce };
        let number = Groups::at_most(groups.unsigned_abs());
        let group = |row: &GroupRow| {
            let group = row.grp.unsigned_abs();
            let of = || lanes.iter().filter(|lane| number.of(lane.lane) == group);
            let owner = of().find_map(|lane| lane.owner);
            GroupStatus {
                group,
                lanes: of().map(|lane| lane.lane).collect(),
                owner,
                claim: row.claim,
            }
        };
        Self::ExactlyOnce { outbox: *outbox, groups: rows.iter().map(group).collect() }
    }
}

fn relay_status(relay: RelayRow, lanes: &[LaneStatus]) -> RelayStatus {
    let held = lanes.iter().filter(|lane| lane.owner == Some(relay.owner)).map(|lane| lane.lane);
    let held = held.collect();
    RelayStatus::new(relay, held)
}

impl LaneRow {
    fn status(&self, backlog: u64) -> LaneStatus {
        LaneStatus {
            lane: Lane::from_number(self.lane),
            owner: self.owner,
            backlog,
            oldest_pending: self.oldest_micros.and_then(from_unix_micros),
        }
    }

    /// The first and the last number of the events that were counted, if there are more than were
    /// counted.
    fn counted_in(&self) -> Option<(i64, i64)> {
        let is_all = self.counted.unsigned_abs() < Status::COUNTED_OF_LANE;
        if is_all { None } else { self.first_seq.zip(self.last_seq) }
    }

    /// Number of pending events beyond those that were counted, if the lane has as large a part of
    /// the numbers up to `last` as of those that were counted.
    fn beyond(&self, last: i64) -> f64 {
        let Some((from, to)) = self.counted_in() else { return 0.0 };
        let part = self.counted as f64 / (to.saturating_sub(from).max(0) as f64 + 1.0);
        last.saturating_sub(to).max(0) as f64 * part.min(1.0)
    }
}

/// The number of pending events of each lane: as counted, or estimated. A burst of one key can make
/// the beginning of a lane look denser than the rest, so all estimates together are kept within the
/// numbers that were drawn.
fn backlogs(lanes: &[LaneRow], last: i64) -> Vec<u64> {
    let beyond: Vec<f64> = lanes.iter().map(|lane| lane.beyond(last)).collect();
    let all: f64 = beyond.iter().sum();
    let first = lanes.iter().filter_map(|lane| Some(lane.counted_in()?.1)).min();
    let most = first.map_or(0, |first| last.saturating_sub(first).max(0)) as f64;
    let scale = if all > most { most / all } else { 1.0 };
    let backlog = |(lane, beyond): (&LaneRow, f64)| {
        lane.counted.unsigned_abs() + (beyond * scale).round() as u64
    };
    lanes.iter().zip(beyond).map(backlog).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: i64 = Status::COUNTED_OF_LANE as i64;

    fn lane(counted: i64, first_seq: i64, last_seq: i64) -> LaneRow {
        LaneRow {
            lane: 0,
            owner: None,
            counted,
            oldest_micros: None,
            first_seq: Some(first_seq),
            last_seq: Some(last_seq),
        }
    }

    #[test]
    fn few_events_are_counted_and_many_are_estimated_by_their_numbers() {
        let few = lane(COUNTED - 1, 1, 5_000);
        assert_eq!(backlogs(&[few], 10_000_000), [Status::COUNTED_OF_LANE - 1]);
        // Every sixteenth number is of the lane.
        let many: Vec<LaneRow> = (0..16).map(|n| lane(COUNTED, n, n + 16 * COUNTED - 1)).collect();
        let all: u64 = backlogs(&many, 10_000_000).iter().sum();
        assert!(all.abs_diff(10_000_000) < 100_000, "{all}");
    }

    #[test]
    fn a_burst_of_one_key_does_not_make_the_backlog_larger_than_the_numbers_drawn() {
        let burst = lane(COUNTED, 1, COUNTED);
        let usual = lane(COUNTED, 1, 16 * COUNTED);
        let all: u64 = backlogs(&[burst, usual], 1_000_000).iter().sum();
        assert!(all <= 1_000_000 + 2 * Status::COUNTED_OF_LANE, "{all}");
    }

    #[test]
    fn numbers_that_make_no_sense_give_an_estimate_all_the_same() {
        for (first, last, drawn) in [(5, 1, 0), (1, i64::MAX, 5), (i64::MIN, i64::MAX, i64::MAX)] {
            assert!(backlogs(&[lane(COUNTED, first, last)], drawn)[0] >= Status::COUNTED_OF_LANE);
        }
        let stragglers = LaneRow { first_seq: None, last_seq: None, ..lane(COUNTED, 0, 0) };
        assert_eq!(backlogs(&[stragglers], 1_000), [Status::COUNTED_OF_LANE]);
    }
}
