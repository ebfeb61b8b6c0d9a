//! Reading what is next of lanes.
//!
//! The next batch of a lane is all that is visible in it and was not read before, by number. Usually
//! that is what has a higher number than all that was read. If there is anything else, a transaction
//! has committed late: it is found by comparing, in the same snapshot, what is visible up to that
//! number with what was read and is not deleted. Whoever emits for a key holds a lock of it until
//! its commit; so who sees the key's second event sees its first, and the order is exact.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use super::unacked::Checksum;
use super::{MySqlCursor, MySqlLaneStore};
use crate::record::{Lane, StoredEvent};
use crate::store::error::StoreError;
use crate::store::lanes::{LaneBatch, LaneRead, Rest};
use crate::store::mysql::event_row::stored_event;
use crate::store::mysql::flush::flush;
use crate::store::mysql::lists::json;

/// The bytes of an event, as the relay counts them.
const SIZE: &str = "(coalesce(octet_length(e.payload), 0) + coalesce(octet_length(e.event_key), 0) + octet_length(e.headers) \
                    + octet_length(e.topic) + octet_length(e.name) + octet_length(e.content_type))";

/// What is visible of what has a number up to the highest that was read.
const SEEN: &str = "\
(select 0 as is_event, cast(? as signed) as lane, count(*) as seq, null as id, null as topic, null as event_key, null as name,
        0 as version, null as content_type, null as headers, null as payload, coalesce(cast(bit_xor(e.seq) as signed), 0) as occurred_at,
        null as kafka_partition, coalesce(cast(sum(e.seq) as signed), 0) as size
 from {event} e force index (lane_seq) where e.lane = ? and e.seq <= ?)";

/// Of an event that is larger than the third parameter says, only the size.
const NEXT: &str = "\
(select 1 as is_event, e.lane, e.seq, e.id, e.topic, if({size} <= ?, e.event_key, null) as event_key, e.name, e.version,
        e.content_type, if({size} <= ?, e.headers, '{}') as headers, if({size} <= ?, e.payload, null) as payload, e.occurred_at,
        e.kafka_partition, {size} as size
 from {event} e force index (lane_seq) where e.lane = ? and ";

/// Assumed of events of which nothing is known.
const USUAL_BYTES: u64 = 4 << 10;

/// How much of a lane one statement reads.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Most events.
    events: u32,
    /// Most bytes of each. Of larger ones, first the size is read.
    bytes_each: u64,
}

impl Bound {
    fn of(read: &LaneRead<MySqlCursor>) -> Self {
        // A little more than the largest one lately, since what is larger takes another statement.
        let likely = if read.largest == 0 { USUAL_BYTES } else { read.largest + read.largest / 4 };
        let bytes_each = likely.min(read.bytes);
        let fit = read.bytes / bytes_each.max(1);
        Self {
            events: u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, read.rows.max(1)),
            bytes_each,
        }
    }
}

/// A row of [`NEXT`].
struct Next {
    event: StoredEvent,
    size: u64,
}

impl MySqlLaneStore {
    pub(super) async fn read_lanes(
        &mut self,
        connection: &mut MySqlConnection,
        lanes: &[LaneRead<MySqlCursor>],
    ) -> Result<Vec<LaneBatch<MySqlCursor>>, StoreError> {
        for read in lanes {
            self.unacked(read.lane).go_back_to(read.from.position);
        }
        let mut next = self.next_of(connection, lanes).await?;
        let mut batches = Vec::with_capacity(lanes.len());
        for read in lanes {
            let bound = Bound::of(read);
            let rows = match next.remove(&read.lane) {
                Some(rows) => rows,
                None => self.with_stragglers(connection, read, bound).await?,
            };
            batches.push(self.batch(connection, read, bound, rows).await?);
        }
        if batches.iter().any(|batch| !batch.events.is_empty()) {
            persistently!(flush(connection, &self.names))?;
        }
        Ok(batches)
    }

    /// What has a higher number than all that was read, of the lanes in which nothing else is new.
    /// One statement, which sees one state of the table.
    async fn next_of(
        &mut self,
        connection: &mut MySqlConnection,
        lanes: &[LaneRead<MySqlCursor>],
    ) -> Result<BTreeMap<Lane, Vec<Next>>, StoreError> {
        let (seen, next) = (SEEN, filled_size(NEXT));
        let mut text = String::new();
        for (i, _) in lanes.iter().enumerate() {
            let union = if i == 0 { "" } else { "\nunion all\n" };
            _ = write!(text, "{union}{seen}\nunion all\n{next}e.seq > ? order by e.seq limit ?)");
        }
        let mut query = sqlx::query(AssertSqlSafe(self.names.fill(&text)));
        let mut expected = BTreeMap::new();
        for read in lanes {
            let unacked = self.unacked(read.lane);
            let (highest, checksum) = (unacked.highest(), unacked.checksum());
            let Bound { events, bytes_each } = Bound::of(read);
            let (lane, bytes_each) = (read.lane.number(), bytes_each.cast_signed());
            query = query.bind(lane).bind(lane).bind(highest);
            query = query.bind(bytes_each).bind(bytes_each).bind(bytes_each);
            query = query.bind(lane).bind(highest).bind(events);
            expected.insert(read.lane, (checksum, Checksum::default(), Vec::new()));
        }
        for row in query.fetch_all(connection).await? {
            let lane = Lane::from_number(row.try_get("lane")?);
            let Some((_, seen, rows)) = expected.get_mut(&lane) else { continue };
            if row.try_get::<i64, _>("is_event")? == 0 {
                let (count, sum) = (row.try_get("seq")?, row.try_get("size")?);
                *seen = Checksum { count, sum, xor: row.try_get("occurred_at")? };
            } else {
                rows.push(next_row(&row)?);
            }
        }
        let in_order = expected.into_iter().filter(|(_, (expected, seen, _))| expected == seen);
        let in_order = in_order.map(|(lane, (_, _, mut rows))| {
            rows.sort_by_key(|row: &Next| row.event.seq);
            (lane, rows)
        });
        Ok(in_order.collect())
    }

    /// The first events of a lane that were not read, whatever their numbers: some transaction has
    /// committed late, or another relay has deleted what it delivered before it lost the lane.
    async fn with_stragglers(
        &mut self,
        connection: &mut MySqlConnection,
        read: &LaneRead<MySqlCursor>,
        bound: Bound,
    ) -> Result<Vec<Next>, StoreError> {
        let text = format!(
            "{}e.seq not in (select x.s from json_table(?, '$[*]' columns (s bigint path '$')) x) order by e.seq limit ?)",
            filled_size(NEXT)
        );
        let unacked: Vec<i64> = self.unacked(read.lane).numbers().collect();
        let bytes_each = bound.bytes_each.cast_signed();
        let rows = sqlx::query(AssertSqlSafe(self.names.fill(&text)))
            .bind(bytes_each)
            .bind(bytes_each)
            .bind(bytes_each)
            .bind(read.lane.number())
            .bind(json(&unacked))
            .bind(bound.events)
            .fetch_all(connection)
            .await?;
        Ok(rows.iter().map(next_row).collect::<Result<_, _>>()?)
    }

    async fn batch(
        &mut self,
        connection: &mut MySqlConnection,
        read: &LaneRead<MySqlCursor>,
        bound: Bound,
        rows: Vec<Next>,
    ) -> Result<LaneBatch<MySqlCursor>, StoreError> {
        let is_all = rows.len() < bound.events as usize;
        let mut rest = if is_all { Rest::Nothing } else { Rest::More };
        let (mut events, mut large, mut bytes) = (Vec::with_capacity(rows.len()), Vec::new(), 0);
        for Next { event, size } in rows {
            if bytes + size > read.bytes {
                rest = if bytes == 0 { Rest::TooLarge(size) } else { Rest::More };
                break;
            }
            bytes += size;
            if size <= bound.bytes_each {
                events.push(event);
            } else {
                large.push(event.seq);
            }
        }
        if !large.is_empty() {
            events.extend(self.whole(connection, read, &large).await?);
            events.sort_by_key(|event| event.seq);
        }
        let position = read.from.position;
        let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
        self.unacked(read.lane).read(position, numbers.iter().copied());
        Ok(LaneBatch {
            lane: read.lane,
            end: MySqlCursor::at(position + numbers.len() as u64, Vec::new()),
            start: MySqlCursor::at(position, numbers),
            events,
            save: false,
            rest,
        })
    }

    /// Events of which only the sizes were read. One that is missing was delivered meanwhile, by a
    /// relay that held the lane before.
    async fn whole(
        &self,
        connection: &mut MySqlConnection,
        read: &LaneRead<MySqlCursor>,
        large: &[i64],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let text = format!(
            "{}e.seq in (select x.s from json_table(?, '$[*]' columns (s bigint path '$')) x))",
            filled_size(NEXT)
        );
        let bytes = read.bytes.cast_signed();
        let rows = sqlx::query(AssertSqlSafe(self.names.fill(&text)))
            .bind(bytes)
            .bind(bytes)
            .bind(bytes)
            .bind(read.lane.number())
            .bind(json(large))
            .fetch_all(connection)
            .await?;
        Ok(rows.iter().map(stored_event).collect::<Result<_, _>>()?)
    }
}

fn filled_size(text: &str) -> String {
    // `{}` is an object of JSON here, and no name.
    text.replace("{size}", SIZE).replace("'{}'", "char(123, 125)")
}

fn next_row(row: &MySqlRow) -> Result<Next, sqlx::Error> {
    let size: i64 = row.try_get("size")?;
    Ok(Next { event: stored_event(row)?, size: size.unsigned_abs() })
}
