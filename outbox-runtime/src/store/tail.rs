//! What was committed between two moments, for those who look at events as they come.

use std::time::SystemTime;

use uuid::Uuid;

use super::row::row;
use crate::check::from_unix_micros;
use crate::record::Lane;

/// Largest payload that is shown, in bytes. Of a larger one, only the size is told.
pub(crate) const PAYLOAD_BYTES: i64 = 1 << 20;
/// Most bytes of payloads in a page. One payload always fits.
pub(crate) const PAGE_BYTES: i64 = 4 << 20;
/// Most events in a page.
pub(crate) const PAGE_EVENTS: i64 = 500;
/// Numbers of the sequence that one statement searches. It bounds what a rare name or key costs.
pub(crate) const PAGE_RANGE: i64 = 50_000;
/// Most events that are counted when they are not shown.
pub(crate) const COUNTED: i64 = 100_000;

/// An event that was committed, as [`EventTail`](crate::EventTail) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailedEvent {
    /// Number in the outbox's sequence.
    pub seq: i64,
    /// Its lane.
    pub lane: Lane,
    /// Its id. A replayed event is shown again.
    pub id: Uuid,
    /// Its topic.
    pub topic: String,
    /// Its key, or the first 1,024 bytes of it. `None`: it has none.
    pub key: Option<Vec<u8>>,
    /// Its name on the wire.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Time at which it occurred. `None`: the database's time is in no calendar.
    pub occurred_at: Option<SystemTime>,
    /// Bytes of payload, key, headers and names.
    pub bytes: u64,
    /// Bytes of its payload. `None`: it is a tombstone.
    pub payload_bytes: Option<u64>,
    /// Its payload, if payloads were asked for and it has at most a mebibyte.
    pub payload: Option<Vec<u8>>,
}

/// Which events are looked at.
#[derive(Debug, Clone, Default)]
pub struct TailFilter {
    /// Empty: any.
    pub(crate) topics: Vec<String>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) name: Option<String>,
    /// Of what was committed before the first look.
    pub(crate) since: Option<SystemTime>,
    pub(crate) payloads: bool,
}

impl TailFilter {
    pub(crate) fn lane(&self) -> Option<i16> {
        self.key.as_deref().map(|key| Lane::of_key(key).number())
    }

    /// Largest payload to read, in bytes. Negative: none.
    pub(crate) fn payload_bytes(&self) -> i64 {
        if self.payloads { PAYLOAD_BYTES } else { -1 }
    }
}

/// What was visible at a time. On Postgres it is exact, whatever the order of the commits: see
/// `postgres/lanes/window.rs`. On MySQL it is, of the last numbers: see `mysql/tail.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Last number of the sequence that was drawn. On MySQL, the highest one that was visible.
    pub(crate) floor: i64,
    /// On Postgres, what was visible. On MySQL, which of the last numbers were not.
    pub(crate) snapshot: String,
    /// Postgres only: a transaction id above those of all numbers up to `floor`.
    pub(crate) horizon: String,
    /// On Postgres, since when the server runs. On MySQL, its id.
    pub(crate) server: String,
}

impl Moment {
    /// At which nothing was visible. Numbers up to `floor` are passed over.
    pub(crate) fn before_all_above(floor: i64) -> Self {
        let (snapshot, horizon) = ("3:3:".to_owned(), "3".to_owned());
        Self { floor, snapshot, horizon, server: String::new() }
    }
}

/// What became visible between two moments, and how far it is read.
#[derive(Debug, Clone)]
pub struct TailWindow {
    pub(crate) prev: Moment,
    pub(crate) cur: Moment,
    /// Number up to which it is read.
    pub(crate) last: i64,
    /// Whether it is what was committed before the first look.
    pub(crate) is_past: bool,
}

impl TailWindow {
    /// Up to which number the next statement searches.
    pub(crate) fn up_to(&self) -> i64 {
        let from = self.last.max(self.prev.floor);
        self.cur.floor.min(from.saturating_add(PAGE_RANGE))
    }
}

row! {
    /// An event that was committed, as stores return it.
    pub(crate) struct TailRow {
        seq: i64,
        lane: i16,
        id: Uuid,
        topic: String,
        key: Option<Vec<u8>>,
        name: String,
        version: i32,
        occurred_micros: Option<i64>,
        bytes: i64,
        payload_bytes: Option<i64>,
        payload: Option<Vec<u8>>,
        /// Bytes of the page's payloads up to this one.
        running: i64,
    }
}

impl From<TailRow> for TailedEvent {
    fn from(row: TailRow) -> Self {
        Self {
            seq: row.seq,
            lane: Lane::from_number(row.lane),
            id: row.id,
            topic: row.topic,
            key: row.key,
            name: row.name,
            version: row.version.unsigned_abs(),
            occurred_at: row.occurred_micros.and_then(from_unix_micros),
            bytes: row.bytes.unsigned_abs(),
            payload_bytes: row.payload_bytes.map(i64::unsigned_abs),
            payload: row.payload,
        }
    }
}

/// A page of a window.
#[derive(Debug, Default)]
pub struct TailPage {
    pub(crate) events: Vec<TailedEvent>,
    /// Whether there are more in the numbers that were searched.
    pub(crate) is_cut: bool,
}

impl TailPage {
    /// Of at most [`PAGE_EVENTS`] rows, those whose payloads fit.
    pub(crate) fn of(rows: Vec<TailRow>) -> Self {
        let found = rows.len();
        let fits = rows.into_iter().enumerate();
        let fits = fits.take_while(|(at, row)| *at == 0 || row.running <= PAGE_BYTES);
        let events: Vec<_> = fits.map(|(_, row)| row.into()).collect();
        let is_cut = events.len() < found || found >= PAGE_EVENTS as usize;
        Self { events, is_cut }
    }
}
