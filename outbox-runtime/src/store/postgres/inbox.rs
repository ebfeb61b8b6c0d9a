//! The inbox.

use std::time::Duration;

use sqlx::{PgConnection, Postgres};

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

crate::store::inbox::impl_inbox!(Postgres, PgConnection);
