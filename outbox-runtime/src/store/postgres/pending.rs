//! How many events of each lane are pending.
//!
//! They are counted leaf by leaf of the ring, from a lane's cursor on: a statement on the whole
//! table would be planned for all of its leaves, which costs more than the counting.

use sqlx::PgConnection;
use uuid::Uuid;

use super::fragments::fill;
use super::lanes::{LEAVES, RingRange};
use super::unnamed;
use crate::store::names::Names;
use crate::store::row::row;
use crate::store::status::{LaneRow, Status};

/// Owners that are alive, and above which number a lane's pending events are.
const LANES: &str = "\
select lanes.lane,
       case when (select h.alive_until from {heartbeat} h where h.owner = lanes.owner order by h.id desc limit 1)
                 > clock_timestamp()
       then lanes.owner end as owner,
       coalesce(greatest(l.last_seq, l.prev_floor), 0) as above,
       coalesce((select s.last_value from {sequence}), 0) as last
from {lane} lanes left join {cursors} l on l.lane = lanes.lane
order by lanes.lane";

/// In the main run of the lanes' windows (see `window.rs`).
const IN_LEAF: &str = "\
select l.lane, p.counted, p.first_seq, p.last_seq, {oldest}
from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as l (lane, above, most)
cross join lateral (
  select count(*) as counted, min(seq) as first_seq, max(seq) as last_seq, min(occurred_at) filter (where {is_time}) as oldest
  from (select e.seq, e.occurred_at from {leaf} e
        where e.lane = l.lane and e.seq > l.above and e.seq <= $4 order by e.seq limit l.most) e) p";

/// Those that committed late.
const STRAGGLERS: &str = "\
select l.lane, p.counted, null::bigint as first_seq, null::bigint as last_seq, {oldest}
from unnest($1::smallint[], $2::bigint[]) as asked (lane, most)
join {cursors} l on l.lane = asked.lane
cross join lateral (
  select count(*) as counted, min(occurred_at) filter (where {is_time}) as oldest
  from (select e.occurred_at from {unfinished} cross join lateral (
          select e.occurred_at from {event} e
          where e.xid between unfinished.xid and unfinished.xid and e.lane = l.lane
            and e.seq > l.last_seq and e.seq <= l.prev_floor
          order by e.xid limit asked.most) e
        limit asked.most) e) p";

const OLDEST: &str = "(extract(epoch from p.oldest) * 1000000)::bigint as oldest_micros";
const IS_TIME: &str = "occurred_at >= '0001-01-01' and occurred_at < '10000-01-01'";

row! {
    struct OwnerRow {
        lane: i16,
        owner: Option<Uuid>,
        above: i64,
        /// The last number that was drawn.
        last: i64,
    }

    struct CountedRow {
        lane: i16,
        counted: i64,
        first_seq: Option<i64>,
        last_seq: Option<i64>,
        oldest_micros: Option<i64>,
    }
}

/// A lane that is being counted.
struct Lane {
    row: LaneRow,
    /// Number above which to count on. `None`: the main run is counted.
    above: Option<i64>,
}

impl Lane {
    /// How many more are to be counted.
    fn most(&self) -> i64 {
        Status::COUNTED_OF_LANE.cast_signed() - self.row.counted
    }

    fn add(&mut self, found: &CountedRow) {
        let row = &mut self.row;
        row.counted += found.counted;
        row.first_seq = row.first_seq.or(found.first_seq);
        row.last_seq = found.last_seq.or(row.last_seq);
        row.oldest_micros = row.oldest_micros.into_iter().chain(found.oldest_micros).min();
    }
}

pub(super) async fn of_lanes(
    connection: &mut PgConnection,
    names: &Names,
) -> Result<Vec<LaneRow>, sqlx::Error> {
    let owners: Vec<OwnerRow> =
        unnamed::query_as(fill(names, LANES)).fetch_all(&mut *connection).await?;
    let last = owners.iter().map(|lane| lane.last).max().unwrap_or(0);
    let begun = |OwnerRow { lane, owner, above, .. }| {
        let (oldest_micros, first_seq, last_seq) = (None, None, None);
        let row = LaneRow { lane, owner, counted: 0, oldest_micros, first_seq, last_seq };
        Lane { row, above: (above < last).then_some(above) }
    };
    let mut lanes: Vec<Lane> = owners.into_iter().map(begun).collect();
    while let Some(from) = lanes.iter().find_map(|lane| lane.above) {
        count_in(connection, names, range(from, last), (&mut lanes, last)).await?;
    }
    count_stragglers(connection, names, &mut lanes).await?;
    Ok(lanes.into_iter().map(|lane| lane.row).collect())
}

/// The leaf of the next number. A lane that is behind by more than the ring is long is counted in
/// all leaves at once.
fn range(above: i64, last: i64) -> RingRange {
    let range = RingRange::above(above);
    let of_ring = range.up_to().saturating_add((LEAVES - 1) * RingRange::NUMBERS);
    if of_ring < last { RingRange::Ring } else { range }
}

/// Counts on in the lanes that are at this part of the ring.
async fn count_in(
    connection: &mut PgConnection,
    names: &Names,
    part: RingRange,
    (lanes, last): (&mut [Lane], i64),
) -> Result<(), sqlx::Error> {
    let here = |lane: &&mut Lane| lane.above.is_some_and(|above| range(above, last) == part);
    let mut here: Vec<&mut Lane> = lanes.iter_mut().filter(here).collect();
    let statement = IN_LEAF.replace("{leaf}", &part.table());
    let found: Vec<CountedRow> = unnamed::query_as(filled(names, &statement))
        .bind(here.iter().map(|lane| lane.row.lane).collect::<Vec<_>>())
        .bind(here.iter().filter_map(|lane| lane.above).collect::<Vec<_>>())
        .bind(here.iter().map(|lane| lane.most()).collect::<Vec<_>>())
        .bind(part.up_to())
        .fetch_all(connection)
        .await?;
    for lane in &mut here {
        if let Some(found) = found.iter().find(|found| found.lane == lane.row.lane) {
            lane.add(found);
        }
        let goes_on = lane.most() > 0 && part.up_to() < last;
        lane.above = goes_on.then_some(part.up_to());
    }
    Ok(())
}

async fn count_stragglers(
    connection: &mut PgConnection,
    names: &Names,
    lanes: &mut [Lane],
) -> Result<(), sqlx::Error> {
    let mut open: Vec<&mut Lane> = lanes.iter_mut().filter(|lane| lane.most() > 0).collect();
    if open.is_empty() {
        return Ok(());
    }
    let found: Vec<CountedRow> = unnamed::query_as(filled(names, STRAGGLERS))
        .bind(open.iter().map(|lane| lane.row.lane).collect::<Vec<_>>())
        .bind(open.iter().map(|lane| lane.most()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    for lane in &mut open {
        if let Some(found) = found.iter().find(|found| found.lane == lane.row.lane) {
            lane.add(found);
        }
    }
    Ok(())
}

fn filled(names: &Names, statement: &str) -> sqlx::SqlStr {
    fill(names, &statement.replace("{oldest}", OLDEST).replace("{is_time}", IS_TIME))
}
