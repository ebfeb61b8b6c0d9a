//! The inbox.

use std::time::Duration;

use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

use crate::record::fnv1a;
use crate::store::sealed::Inbox;

const FORGET: &str = "\
delete from {inbox} where ctid = any (array(
  select ctid from {inbox}
  where handled_at < now() - $2 * interval '1 millisecond' and consumer_group = $1
  limit $3))";
/// Rows in the state `kept` stay: their events are nowhere else.
const FORGET_QUEUED: &str = "\
delete from {key_queue}
where consumer_group = $1 and since < now() - $2 * interval '1 millisecond' and state <> 'kept'";

const BEFORE: &str = "handled_at < now() - $2 * interval '1 millisecond'";
const NOW: &str = "now()";
const OLD: &str = "since < now() - interval '1 minute'";

/// In the order of the ids: two transactions with the same events wait for each other in one
/// direction only.
const INSERT_ALL: &str = "\
insert into {inbox} (consumer_group, event_id)
select $1, e.id from unnest($2::uuid[]) as e (id) order by e.id
on conflict do nothing returning event_id";
const ANY_QUEUED: &str = "\
select exists (
  select from unnest($3::uuid[]) as k (digest)
  join {key_queue} q on q.consumer_group = $1 and q.topic = $2 and q.key_digest = k.digest)";

fn micros(time: &str) -> String {
    format!("(extract(epoch from {time}) * 1000000)::bigint")
}

/// At most a hundred years, which Postgres's intervals can hold.
fn millis(time: Duration) -> f64 {
    time.as_millis().min(100 * 365 * 24 * 60 * 60 * 1000) as f64
}

/// Two keys with the same hash sometimes wait for each other; there is no other effect.
async fn lock(
    connection: &mut PgConnection,
    names: &Names,
    of: &GroupKey<'_>,
) -> Result<(), sqlx::Error> {
    let digest = of.digest();
    let key = [of.group.as_bytes(), of.topic.as_bytes(), digest.as_bytes()].join(&b'\0');
    // By the table's own number: one process may name its schema, and another may find it by a
    // `search_path`.
    let lock =
        sql(names.fill("select pg_advisory_xact_lock($1 # {'key_queue'}::regclass::oid::bigint)"));
    let lock = sqlx::query(lock).bind(fnv1a(&key).cast_signed());
    lock.execute(connection).await.map(drop)
}

async fn insert_all(
    connection: &mut PgConnection,
    names: &Names,
    group: &str,
    event_ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let insert = sqlx::query_scalar(sql(names.fill(INSERT_ALL)));
    insert.bind(group).bind(event_ids).fetch_all(connection).await
}

async fn any_queued(
    connection: &mut PgConnection,
    names: &Names,
    group: &str,
    topic: &str,
    keys: &[Uuid],
) -> Result<bool, sqlx::Error> {
    let any = sqlx::query_scalar(sql(names.fill(ANY_QUEUED)));
    any.bind(group).bind(topic).bind(keys).fetch_one(connection).await
}

crate::store::inbox::statements::impl_inbox!(Postgres, PgConnection);
