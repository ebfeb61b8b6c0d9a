//! SQL fragments that several statements share.

use sqlx::SqlStr;

use crate::store::names::{Names, sql};

/// The columns that [`EventColumns`](super::event_row::EventColumns) reads, of a row `e`.
const COLUMNS: &str = "e.lane, e.seq, e.id, e.topic, e.key, e.name, e.version, e.content_type, e.headers, e.payload, \
                       e.occurred_at, e.kafka_partition";

/// The columns that [`BoundedColumns`](super::event_row::BoundedColumns) reads, of a row `e` with
/// its `size` and whether it `fits`. A row that does not fit has its size in `too_large`, and no
/// contents.
const BOUNDED_COLUMNS: &str = "\
e.lane, e.seq, e.id, case when e.fits then e.topic end as topic, case when e.fits then e.key end as key,
       case when e.fits then e.name end as name, e.version, case when e.fits then e.content_type end as content_type,
       case when e.fits then e.headers end as headers, case when e.fits then e.payload end as payload,
       e.occurred_at, e.kafka_partition, case when not e.fits then e.size end as too_large";

/// The bytes of a row `e`, from the headers of its values: nothing is read from the TOAST table or
/// decompressed. Their sums are of floats, which do not overflow.
const SIZE: &str = "\
coalesce(octet_length(e.payload), 0)::bigint + coalesce(octet_length(e.key), 0) + pg_column_size(e.headers) + octet_length(e.topic)
      + octet_length(e.name) + octet_length(e.content_type) as size";

/// The transactions of which a lane `l` may have stragglers (see `window.rs`). Their rows are
/// selected `between` an id and the same id, in the order of `xid`: only the index that begins with
/// `xid` gives that order. With `= xid`, the planner may choose the index on (lane, seq), and read
/// everything that is retained.
const UNFINISHED: &str = "\
(select pg_snapshot_xip(l.prev)
 union all
 select generate_series(pg_snapshot_xmax(l.prev)::text::bigint, l.prev_h::text::bigint - 1)::text::xid8
) as unfinished (xid)";

/// The last number that was drawn, null if there was none. It is not selected from the sequence as
/// from a table: while Postgres logs it, the row may be up to 32 too high. With a floor that is too
/// high, the events with these numbers would be lost. The function takes the page's lock.
const SEQUENCE: &str = "pg_sequence_last_value({'seq'}) as s (last_value)";

/// The latest progress of each lane. A lane without any has lost its rows, or is read by a snapshot
/// older than the last TRUNCATE. That is never taken for a lane that has published nothing, or
/// everything.
const CURSORS: &str = "\
(select p.* from generate_series(0, 15) as lanes (lane)
 cross join lateral (select p.* from {progress} p where p.lane = lanes.lane order by p.id desc limit 1) p)";

pub(super) fn fill(names: &Names, statement: &str) -> SqlStr {
    let statement = statement
        .replace("{columns}", COLUMNS)
        .replace("{bounded_columns}", BOUNDED_COLUMNS)
        .replace("{size}", SIZE)
        .replace("{unfinished}", UNFINISHED)
        .replace("{cursors}", CURSORS)
        .replace("{sequence}", SEQUENCE);
    sql(names.fill(&statement))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use sqlx::{Executor, PgPool};
    use uuid::Uuid;

    use super::*;

    const DRAW: &str =
        "do $$ begin for i in 1..1500000 loop perform nextval({'seq'}); end loop; end $$";
    const READ_AND_DRAW: &str = "\
do $$ declare seen bigint; begin
  for i in 1..150000 loop
    select s.last_value into seen from {sequence};
    if seen >= nextval({'seq'}) then raise exception 'a number at or below %, which was read before', seen; end if;
  end loop;
end $$";

    #[tokio::test]
    async fn no_number_drawn_after_the_last_value_was_read_is_below_it() {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a Postgres");
        let pool: PgPool = PgPoolOptions::new().max_connections(3).connect(&url).await.unwrap();
        let schema = format!("sequence_{}", Uuid::now_v7().simple());
        let names = Names { schema: Some(schema), ..Names::default() };
        for statement in
            ["create schema {schema}", "create sequence {seq} cache 1", "select nextval({'seq'})"]
        {
            pool.execute(fill(&names, statement)).await.unwrap();
        }
        let (one, two, read) = tokio::join!(
            pool.execute(fill(&names, DRAW)),
            pool.execute(fill(&names, DRAW)),
            pool.execute(fill(&names, READ_AND_DRAW)),
        );
        one.and(two).and(read).unwrap();
        pool.execute(fill(&names, "drop schema {schema} cascade")).await.unwrap();
    }
}
