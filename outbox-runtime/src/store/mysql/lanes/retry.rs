//! Parked events are tried again: those of keys that an operator has released, and of those that
//! were refused the longest ago.

use sqlx::{MySql, MySqlConnection, QueryBuilder, SqlStr};
use uuid::Uuid;

use super::lease::is_ours;
use super::park::{AT_ONCE, retain};
use crate::record::{KeyDigest, Lane};
use crate::store::error::StoreError;
use crate::store::lanes::Lease;
use crate::store::mysql::clock::micros;
use crate::store::mysql::event_row::stored_event;
use crate::store::mysql::lists::{json, push_list};
use crate::store::mysql::statement;
use crate::store::names::Names;
use crate::store::parked::{
    Candidate, KEYS, NextEvent, OF_A_KEY, Released, Retry, RetryResult, storable, with_events,
    within,
};
use crate::store::row::row;

/// By the list: with `in (…)`, the table may be scanned.
const DELETE: &str = "\
delete e from json_table(?, '$[*]' columns (s bigint path '$')) x
straight_join {parked} e force index (primary) on e.seq = x.s";

/// Whether the topic of a parked key `k` is not paused. What is parked of a paused one is not tried,
/// and does not hold up the others.
const UNPAUSED: &str =
    "not exists (select 1 from {pause} p where p.scope = 'topic' and p.target = k.topic)";

/// The keys of a lane that were refused the longest ago. A time in the future comes from a clock
/// that was set back since.
const LONGEST_PARKED: &str = "\
(select k.lane, k.key_digest, k.since from {parked_key} k force index (parked_key_since)
 where k.lane = {of_lane} and k.released = 0 and (k.since <= {now} - ? or k.since > {now}) and {unpaused}
 order by k.since limit ?)";

const RELEASE: &str = "update {parked_key} force index (primary) set released = 1 where lane = ";

const RELEASED: &str = "\
(select k.lane, k.key_digest, k.since from {parked_key} k force index (parked_key_since)
 where k.lane = {of_lane} and k.released = 1 and {unpaused} order by k.since limit ?)";

const FIRST_EVENTS: &str = "\
(select {place} as place, e.seq, e.bytes from {parked} e force index (parked_key_seq)
 where e.lane = ? and e.key_digest = ? order by e.seq limit ?)";

const REFUSED_AGAIN: &str =
    "update {parked} set attempts = attempts + 1, reason = ?, since = {now} where seq = ?";

const TRY_LATER: &str =
    "update {parked_key} set released = 0, since = {now} where lane = ? and key_digest = ?";

const FORGET_KEY: &str = "\
delete from {parked_key} where lane = ? and key_digest = ?
and not exists (select 1 from {parked} p where p.lane = ? and p.key_digest = ?)";

row! {
    /// A parked key, and since when.
    struct KeyRow {
        lane: i16,
        key_digest: Uuid,
        since: i64,
    }

    /// One of the first events of the key at a place of a list.
    struct FirstRow {
        place: i64,
        seq: i64,
        bytes: i64,
    }
}

/// The rows of all these lanes, each searched for itself.
fn of_lanes(names: &Names, select: &str, held: &[Lease]) -> SqlStr {
    let of_lane = |lease: &Lease| select.replace("{of_lane}", &lease.lane.number().to_string());
    let text = held.iter().map(of_lane).collect::<Vec<_>>().join(" union all ");
    statement(names, &text.replace("{unpaused}", UNPAUSED))
}

pub(super) async fn released(
    connection: &mut MySqlConnection,
    names: &Names,
    held: &[Lease],
    retry: &Retry,
) -> Result<Vec<Released>, StoreError> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    if retry.keys > 0 {
        release_the_longest_parked(connection, names, held, retry).await?;
    }
    let candidates = candidates(connection, names, held, &retry.except).await?;
    let chosen = within(&candidates, retry.bytes);
    let numbers: Vec<i64> = chosen.iter().flat_map(|(.., numbers)| numbers.clone()).collect();
    let mut events = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(AT_ONCE) {
        let select = statement(names, "select * from {parked} where seq in (");
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(select.as_str());
        push_list(&mut query, some.iter().copied());
        for row in query.build().persistent(false).fetch_all(&mut *connection).await? {
            events.push(stored_event(&row)?);
        }
    }
    Ok(with_events(chosen, events))
}

/// They are read without locks, and usually there are none: then nothing is written.
async fn release_the_longest_parked(
    connection: &mut MySqlConnection,
    names: &Names,
    held: &[Lease],
    retry: &Retry,
) -> Result<(), StoreError> {
    let mut query = sqlx::query_as(of_lanes(names, LONGEST_PARKED, held));
    for _ in held {
        query = query.bind(micros(retry.after)).bind(retry.keys);
    }
    let mut due: Vec<KeyRow> = query.fetch_all(&mut *connection).await?;
    due.sort_by_key(|key| key.since);
    due.truncate(retry.keys as usize);
    due.sort_by_key(|key| (key.lane, key.key_digest));
    for of_lane in due.chunk_by(|one, next| one.lane == next.lane) {
        for some in of_lane.chunks(AT_ONCE) {
            let release = statement(names, RELEASE);
            let mut query: QueryBuilder<MySql> = QueryBuilder::new(release.as_str());
            query.push_bind(some[0].lane).push(" and key_digest in (");
            push_list(&mut query, some.iter().map(|key| key.key_digest));
            query.build().persistent(false).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// The keys that were released the longest ago, each with its first events.
async fn candidates(
    connection: &mut MySqlConnection,
    names: &Names,
    held: &[Lease],
    except: &[KeyDigest],
) -> Result<Vec<Candidate>, StoreError> {
    let most = KEYS.saturating_add(u32::try_from(except.len()).unwrap_or(u32::MAX));
    let mut query = sqlx::query_as(of_lanes(names, RELEASED, held));
    for _ in held {
        query = query.bind(most);
    }
    let mut keys: Vec<KeyRow> = query.fetch_all(&mut *connection).await?;
    keys.retain(|key| !except.contains(&KeyDigest(key.key_digest)));
    keys.sort_by_key(|key| (key.since, key.lane, key.key_digest));
    keys.truncate(KEYS as usize);
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let events = first_events(connection, names, &keys).await?;
    Ok(of_keys(&keys, &events))
}

/// The first events of each key. MariaDB has no lateral joins: there is one search for each.
async fn first_events(
    connection: &mut MySqlConnection,
    names: &Names,
    keys: &[KeyRow],
) -> Result<Vec<FirstRow>, sqlx::Error> {
    let text = |place: usize| FIRST_EVENTS.replace("{place}", &place.to_string());
    let text = (0..keys.len()).map(text).collect::<Vec<_>>().join(" union all ");
    let mut query = sqlx::query_as(statement(names, &text));
    for key in keys {
        query = query.bind(key.lane).bind(key.key_digest).bind(OF_A_KEY);
    }
    query.persistent(false).fetch_all(connection).await
}

/// The keys with their events, both in order. A key whose events were all discarded is among them.
fn of_keys(keys: &[KeyRow], events: &[FirstRow]) -> Vec<Candidate> {
    let mut candidates = Vec::with_capacity(keys.len().max(events.len()));
    for (place, key) in keys.iter().enumerate() {
        let (lane, digest) = (Lane::from_number(key.lane), KeyDigest(key.key_digest));
        let mut of_key: Vec<(i64, u64)> = events
            .iter()
            .filter(|event| usize::try_from(event.place) == Ok(place))
            .map(|event| (event.seq, event.bytes.unsigned_abs()))
            .collect();
        of_key.sort_unstable();
        if of_key.is_empty() {
            candidates.push((lane, digest, None));
        }
        candidates.extend(of_key.into_iter().map(|event| (lane, digest, Some(event))));
    }
    candidates
}

/// `None`: the lane is lost. `retains`: whether a copy is kept of what is delivered.
pub(super) async fn save_retry(
    connection: &mut MySqlConnection,
    names: &Names,
    owner: Uuid,
    lease: Lease,
    result: &RetryResult,
    retains: bool,
) -> Result<Option<bool>, StoreError> {
    let (lane, key) = (lease.lane.number(), result.key.0);
    if !is_ours(connection, names, owner, lease).await? {
        return Ok(None);
    }
    if !result.delivered.is_empty() {
        if retains {
            retain(connection, names, &result.delivered).await?;
        }
        let delete = sqlx::query(statement(names, DELETE));
        delete.bind(json(&result.delivered)).execute(&mut *connection).await?;
    }
    if let NextEvent::Refused(seq, reason) = &result.next {
        let refused = sqlx::query(statement(names, REFUSED_AGAIN));
        refused.bind(storable(reason)).bind(seq).execute(&mut *connection).await?;
    }
    if !matches!(result.next, NextEvent::Untried) {
        let later = sqlx::query(statement(names, TRY_LATER));
        later.bind(lane).bind(key).execute(&mut *connection).await?;
    }
    let forget = sqlx::query(statement(names, FORGET_KEY));
    let forget = forget.bind(lane).bind(key).bind(lane).bind(key);
    let forgotten = forget.execute(&mut *connection).await?;
    Ok(Some(forgotten.rows_affected() == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_key_are_in_order_and_a_key_without_any_is_told() {
        let key = |lane, n| KeyRow { lane, key_digest: Uuid::from_u128(n), since: 0 };
        let event = |place, seq| FirstRow { place, seq, bytes: 7 };
        let candidates =
            of_keys(&[key(3, 1), key(5, 2), key(3, 3)], &[event(2, 9), event(0, 8), event(0, 4)]);
        let told: Vec<_> = candidates
            .iter()
            .map(|(lane, key, event)| (lane.number(), key.0.as_u128(), event.map(|(seq, _)| seq)))
            .collect();
        assert_eq!(told, [(3, 1, Some(4)), (3, 1, Some(8)), (5, 2, None), (3, 3, Some(9))]);
    }
}
