//! What was committed between two moments, and what of it may be missing.
//!
//! A number is drawn before its commit, so what commits late has a lower number than what was shown
//! before. And a relay deletes what it has published: without a retention, nothing is left of it. So
//! a moment has, besides the highest number that was visible, the numbers below it that were not
//! ([`Unseen`]): each is of a transaction that is not committed yet, or was rolled back, or of an
//! event that is published and gone. The next window shows those of them that are visible by then,
//! and what has higher numbers. An event that is shown is not shown again: it moves to the table of
//! parked or retained events in one transaction, and each of the three is looked at in one snapshot.
//!
//! Two kinds of events are not shown:
//!
//! - one that is published between two looks, unless a relay retains it;
//! - one that commits after [`REACH`] later numbers were visible.

use std::fmt::{self, Display, Write as _};
use std::time::SystemTime;

use sqlx::{MySql, MySqlConnection, MySqlPool, QueryBuilder, Row as _};

use super::clock::unix_micros;
use super::counter::last_drawn;
use super::events::listed;
use super::lists::push_list;
use super::{connection, statement};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::row::row;
use crate::store::sealed::Tail;
use crate::store::tail::{
    COUNTED, Moment, PAGE_BYTES, PAGE_EVENTS, TailFilter, TailPage, TailRow, TailWindow,
};

/// How many numbers below the highest one are remembered as not visible. It bounds what a moment
/// takes in memory, and what it costs to find them.
const REACH: i64 = 10_000;
/// Most numbers that one statement returns.
const NUMBERS_AT_ONCE: u32 = 2_000;
/// Where an event may be.
const TABLES: [&str; 3] = ["{event}", "{parked}", "{sent}"];

/// The server's id is told since a server that takes over from another one must have its own.
const HIGHEST: &str = "\
select max(v.seq) as highest, convert(@@server_id using utf8mb4) as server
from (select max(seq) as seq from {event} union all select max(seq) from {parked} union all select max(seq) from {sent}) v";

/// The numbers after the first parameter up to before the last one that are not visible. The last
/// one is above all that are looked for, so that the numbers below it are between two as well.
const INVISIBLE: &str = "\
select g.previous + 1 as first_number, g.seq - 1 as last_number
from (
  select v.seq, coalesce(lag(v.seq) over (order by v.seq), ?) as previous
  from (
    select e.seq from {event} e where e.seq > ? and e.seq < ?
    union all select e.seq from {parked} e where e.seq > ? and e.seq < ?
    union all select e.seq from {sent} e where e.seq > ? and e.seq < ?
    union all select cast(? as signed)) v) g
where g.seq > g.previous + 1 order by g.seq";

/// Without what was published before the time. What is pending or parked may have occurred before.
const FIRST_SINCE: &str = "\
select min(v.seq) from (
  select min(seq) as seq from {event} union all select min(seq) from {parked}
  union all select min(seq) from {sent} where sent_at >= ?) v";

row! {
    struct HighestRow {
        highest: Option<i64>,
        server: String,
    }

    /// Numbers that are not visible, the last one included.
    struct InvisibleRow {
        first_number: i64,
        last_number: i64,
    }
}

/// The numbers up to a moment's floor, at most [`REACH`] below it, that were not visible in it: as
/// ranges that include their ends, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unseen(Vec<(i64, i64)>);

impl Unseen {
    /// None of a moment that is before all above a floor.
    fn of(moment: &Moment) -> Self {
        let range = |range: &str| {
            let (first, last) = range.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Self(moment.snapshot.split_whitespace().filter_map(range).collect())
    }

    fn has(&self, seq: i64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= seq);
        after > 0 && seq <= self.0[after - 1].1
    }

    fn first(&self) -> Option<i64> {
        self.0.first().map(|(first, _)| *first)
    }
}

impl Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{first}-{last}")?;
        }
        Ok(())
    }
}

/// Which numbers a window shows.
struct Shown {
    floor: i64,
    before: Unseen,
    after: Unseen,
}

impl Shown {
    fn of(window: &TailWindow) -> Self {
        let (before, after) = (Unseen::of(&window.prev), Unseen::of(&window.cur));
        Self { floor: window.prev.floor, before, after }
    }

    /// Whether it was not visible in the moment before, and was in the one after.
    fn has(&self, seq: i64) -> bool {
        (seq > self.floor || self.before.has(seq)) && !self.after.has(seq)
    }

    /// The number after which they begin, at least `last`.
    fn begin_after(&self, last: i64) -> i64 {
        let first = self.before.first().map_or(self.floor, |first| first - 1);
        first.min(self.floor).max(last)
    }
}

fn push_matches(query: &mut QueryBuilder<MySql>, filter: &TailFilter, window: &TailWindow) {
    if !filter.topics.is_empty() {
        query.push(" and e.topic in (");
        push_list(query, filter.topics.iter().map(String::as_str));
    }
    if let Some(key) = &filter.key {
        query.push(" and e.event_key = ").push_bind(&**key);
    }
    if let Some(name) = &filter.name {
        query.push(" and e.name = ").push_bind(&**name);
    }
    if let Some(since) = filter.since.filter(|_| window.is_past) {
        query.push(" and e.occurred_at >= ").push_bind(unix_micros(since));
    }
    if let Some(lane) = filter.lane() {
        query.push(" and e.lane = ").push_bind(lane);
    }
}

/// The next numbers of a window up to `up_to`, at most `most`.
async fn numbers(
    connection: &mut MySqlConnection,
    names: &Names,
    filter: &TailFilter,
    window: &TailWindow,
    (up_to, most): (i64, i64),
) -> Result<Vec<i64>, sqlx::Error> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let shown = Shown::of(window);
    let mut from = shown.begin_after(window.last);
    let mut numbers = Vec::new();
    while numbers.len() < most {
        let mut query = QueryBuilder::new("");
        for (place, table) in TABLES.iter().enumerate() {
            query.push(if place == 0 { "(" } else { ") union all (" });
            let select = format!("select e.seq from {table} e where e.seq > ");
            query.push(statement(names, &select).as_str()).push_bind(from);
            query.push(" and e.seq <= ").push_bind(up_to);
            push_matches(&mut query, filter, window);
            query.push(" order by e.seq limit ").push_bind(NUMBERS_AT_ONCE);
        }
        query.push(") order by seq limit ").push_bind(NUMBERS_AT_ONCE);
        let found = query.build_query_scalar().persistent(false);
        let found: Vec<i64> = found.fetch_all(&mut *connection).await?;
        numbers.extend(found.iter().copied().filter(|seq| shown.has(*seq)));
        match found.last() {
            Some(last) if found.len() >= NUMBERS_AT_ONCE as usize => from = *last,
            _ => break,
        }
    }
    numbers.truncate(most);
    Ok(numbers)
}

/// Selects from each table what has one of the numbers.
fn of_numbers(names: &Names, select: &str, numbers: &[i64]) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new("");
    for (place, table) in TABLES.iter().enumerate() {
        query.push(if place == 0 { "" } else { " union all " });
        let select = format!("select {select} from {table} e where e.seq in (");
        query.push(statement(names, &select).as_str());
        push_list(&mut query, numbers.iter().copied());
    }
    query.push(" order by seq");
    query
}

/// Events without their payloads, but with how many bytes these have.
async fn without_payloads(
    connection: &mut MySqlConnection,
    names: &Names,
    numbers: &[i64],
) -> Result<Vec<TailRow>, sqlx::Error> {
    let select = format!(
        "{}, cast(length(e.payload) as signed) as payload_bytes, cast(null as binary) as payload, 0 as running",
        listed()
    );
    let mut query = of_numbers(names, &select, numbers);
    query.build_query_as().persistent(false).fetch_all(connection).await
}

/// Reads the payloads of those that are not too large, as long as the page has room.
async fn read_payloads(
    connection: &mut MySqlConnection,
    names: &Names,
    rows: &mut [TailRow],
    largest: i64,
) -> Result<(), sqlx::Error> {
    let mut running = 0;
    for row in rows.iter_mut() {
        running += row.payload_bytes.filter(|bytes| *bytes <= largest).unwrap_or(0);
        row.running = running;
    }
    let is_shown = |row: &&TailRow| {
        row.running <= PAGE_BYTES && row.payload_bytes.is_some_and(|bytes| bytes <= largest)
    };
    let shown: Vec<i64> = rows.iter().filter(is_shown).map(|row| row.seq).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let mut query = of_numbers(names, "e.seq, e.payload", &shown);
    for payload in query.build().persistent(false).fetch_all(connection).await? {
        let seq: i64 = payload.try_get("seq")?;
        if let Ok(place) = rows.binary_search_by_key(&seq, |row| row.seq) {
            rows[place].payload = payload.try_get("payload")?;
        }
    }
    Ok(())
}

/// What is not visible up to a floor, and at most [`REACH`] below it.
async fn unseen(
    connection: &mut MySqlConnection,
    names: &Names,
    floor: i64,
) -> Result<Unseen, sqlx::Error> {
    let (begin, end) = ((floor - REACH).max(0), floor + 1);
    let mut query = sqlx::query_as(statement(names, INVISIBLE)).bind(begin);
    for _ in TABLES {
        query = query.bind(begin).bind(end);
    }
    let rows: Vec<InvisibleRow> = query.bind(end).fetch_all(connection).await?;
    Ok(Unseen(rows.into_iter().map(|row| (row.first_number, row.last_number)).collect()))
}

impl Tail for MySql {
    async fn moment(
        pool: &MySqlPool,
        names: &Names,
        before: Option<&Moment>,
    ) -> Result<Moment, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let HighestRow { highest, server } =
            sqlx::query_as(statement(names, HIGHEST)).fetch_one(&mut *tx).await?;
        let mut floor = highest.unwrap_or(0);
        let known = before.map(|before| before.floor);
        if highest.is_none() || known.is_some_and(|known| floor < known) {
            // Published and gone; or drawn and lost, if fewer were drawn than before.
            let drawn = last_drawn(&mut tx, names).await?;
            floor = floor.max(known.map_or(drawn, |known| known.min(drawn)));
        }
        let snapshot = unseen(&mut tx, names, floor).await?.to_string();
        tx.rollback().await?;
        Ok(Moment { floor, snapshot, horizon: String::new(), server })
    }

    async fn before_all_since(
        pool: &MySqlPool,
        names: &Names,
        since: SystemTime,
    ) -> Result<Moment, StoreError> {
        /// For clocks that differ.
        const A_MINUTE: i64 = 60_000_000;
        let mut tx = connection::begin_reading(pool).await?;
        let since = unix_micros(since).saturating_sub(A_MINUTE);
        let first: Option<i64> = sqlx::query_scalar(statement(names, FIRST_SINCE))
            .bind(since)
            .fetch_one(&mut *tx)
            .await?;
        let floor = match first {
            Some(first) => first - 1,
            None => last_drawn(&mut tx, names).await?,
        };
        tx.rollback().await?;
        Ok(Moment::before_all_above(floor))
    }

    async fn page(
        pool: &MySqlPool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<TailPage, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let bounds = (window.up_to(), PAGE_EVENTS);
        let numbers = numbers(&mut tx, names, filter, window, bounds).await?;
        let mut rows = Vec::new();
        if !numbers.is_empty() {
            rows = without_payloads(&mut tx, names, &numbers).await?;
            read_payloads(&mut tx, names, &mut rows, filter.payload_bytes()).await?;
        }
        tx.rollback().await?;
        Ok(TailPage::of(rows))
    }

    async fn count(
        pool: &MySqlPool,
        names: &Names,
        filter: &TailFilter,
        window: &TailWindow,
    ) -> Result<u64, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let bounds = (window.cur.floor, COUNTED);
        let numbers = numbers(&mut tx, names, filter, window, bounds).await?;
        tx.rollback().await?;
        Ok(numbers.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(floor: i64, unseen: &[(i64, i64)]) -> Moment {
        let snapshot = Unseen(unseen.to_vec()).to_string();
        Moment { floor, snapshot, horizon: String::new(), server: "1".to_owned() }
    }

    fn window(prev: Moment, cur: Moment) -> TailWindow {
        TailWindow { prev, cur, last: 0, is_past: false }
    }

    fn shown(window: &TailWindow) -> Vec<i64> {
        let shown = Shown::of(window);
        let from = shown.begin_after(window.last);
        (from + 1..=window.cur.floor).filter(|seq| shown.has(*seq)).collect()
    }

    #[test]
    fn each_number_is_shown_once_whenever_it_becomes_visible() {
        let first = moment(5, &[(2, 3)]);
        let second = moment(8, &[(3, 3), (6, 7)]);
        let third = moment(8, &[(7, 7)]);
        assert_eq!(shown(&window(first, second.clone())), [2, 8], "2 has committed late");
        assert_eq!(shown(&window(second, third)), [3, 6]);
    }

    #[test]
    fn a_window_that_is_partly_read_goes_on_after_the_last_number() {
        let mut window = window(moment(5, &[(2, 4)]), moment(8, &[]));
        assert_eq!(shown(&window), [2, 3, 4, 6, 7, 8]);
        window.last = 3;
        assert_eq!(shown(&window), [4, 6, 7, 8]);
        window.last = 7;
        assert_eq!(shown(&window), [8]);
    }

    #[test]
    fn before_all_above_a_floor_nothing_below_it_is_awaited() {
        let window = window(Moment::before_all_above(5), moment(7, &[]));
        assert_eq!(shown(&window), [6, 7]);
    }

    #[test]
    fn numbers_that_were_not_visible_are_read_as_they_were_written() {
        let unseen = Unseen(vec![(1, 1), (5, 9), (12, 12)]);
        let moment = moment(12, &unseen.0);
        assert_eq!(Unseen::of(&moment), unseen);
        let has: Vec<i64> = (0..15).filter(|seq| unseen.has(*seq)).collect();
        assert_eq!(has, [1, 5, 6, 7, 8, 9, 12]);
    }
}
