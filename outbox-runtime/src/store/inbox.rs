//! What a consumer group has handled, and what waits for an earlier event of its key: the statements that all stores share, and
//! the functions that run them, written out for each (a generic one would need more bounds on sqlx's types than it has lines).

pub(crate) const INSERT: &str =
    "insert into {inbox} (consumer_group, event_id) values ($1, $2) on conflict do nothing";
pub(crate) const DELETE: &str = "delete from {inbox} where consumer_group = $1 and event_id = $2";
pub(crate) const BEGIN_WAITING: &str = "\
insert into {waiting} (consumer_group, topic, key, source_partition, source_offset, in_retry_topic)
values ($1, $2, $3, $4, $5, true)
on conflict (consumer_group, topic, key, source_partition, source_offset)
do update set in_retry_topic = true, headers = null, payload = null";
pub(crate) const END_WAITING: &str = "\
delete from {waiting}
where consumer_group = $1 and topic = $2 and key = $3 and source_partition = $4 and source_offset = $5
returning in_retry_topic";
/// A key is in more than one partition if its topic was enlarged: then its order is lost, and this is one all the same.
pub(crate) const OTHERS_WAIT: &str = "\
select exists (
  select 1 from {waiting}
  where consumer_group = $1 and topic = $2 and key = $3 and (source_partition, source_offset) < ($4, $5)),
exists (
  select 1 from {waiting}
  where consumer_group = $1 and topic = $2 and key = $3 and (source_partition, source_offset) > ($4, $5))";
/// Keys whose first event is kept here, and has been for a while: nobody may be left who would come back for it.
pub(crate) const LEFT_BEHIND: &str = "\
select topic, key from {waiting} w
where consumer_group = $1 and not in_retry_topic and {old}
  and not exists (
    select 1 from {waiting} e
    where e.consumer_group = w.consumer_group and e.topic = w.topic and e.key = w.key
      and (e.source_partition, e.source_offset) < (w.source_partition, w.source_offset))
limit 100";
pub(crate) const PARK: &str = "\
insert into {waiting}
  (consumer_group, topic, key, source_partition, source_offset, in_retry_topic, headers, payload)
values ($1, $2, $3, $4, $5, false, $6, $7)
on conflict (consumer_group, topic, key, source_partition, source_offset)
do update set in_retry_topic = false, headers = excluded.headers, payload = excluded.payload";
pub(crate) const FIRST_WAITING: &str = "\
select source_partition, source_offset, in_retry_topic, headers, payload
from {waiting} where consumer_group = $1 and topic = $2 and key = $3
order by source_partition, source_offset limit 1";

/// The functions of a store's inbox. Its module has the statements `FORGET` and `FORGET_WAITING`; `OLD`, for a row of a minute ago; `millis`, which makes of
/// a time what they compare with; and `lock`, which keeps others from a key until the transaction ends.
macro_rules! inbox_functions {
    ($connection:ty, $pool:ty) => {
        use sqlx::Row as _;
        use $crate::store::inbox::{
            BEGIN_WAITING, DELETE, END_WAITING, FIRST_WAITING, INSERT, LEFT_BEHIND, OTHERS_WAIT, PARK,
        };
        use $crate::store::{Content, FirstWaiting, Names, Others, Waiting, sql};

        /// Whether it is new.
        pub(super) async fn insert(
            connection: &mut $connection,
            names: &Names,
            group: &str,
            event_id: uuid::Uuid,
        ) -> Result<bool, sqlx::Error> {
            let insert = sqlx::query(sql(names.fill(INSERT)));
            Ok(insert.bind(group).bind(event_id).execute(connection).await?.rows_affected() == 1)
        }

        pub(super) async fn forget(
            pool: &$pool,
            names: &Names,
            group: &str,
            retention: std::time::Duration,
            most: u32,
        ) -> Result<u64, sqlx::Error> {
            let waiting = sqlx::query(sql(names.fill(FORGET_WAITING)));
            waiting.bind(group).bind(millis(retention)).execute(pool).await?;
            let handled = sqlx::query(sql(names.fill(FORGET)));
            let handled = handled.bind(group).bind(millis(retention)).bind(i64::from(most));
            Ok(handled.execute(pool).await?.rows_affected())
        }

        /// The row of the inbox, which is there for a moment, is what makes others wait.
        pub(super) async fn begin_waiting(
            connection: &mut $connection,
            names: &Names,
            waiting: &Waiting<'_>,
            event_id: uuid::Uuid,
        ) -> Result<bool, sqlx::Error> {
            if !insert(connection, names, waiting.group, event_id).await? {
                return Ok(false);
            }
            placed(BEGIN_WAITING, names, waiting).execute(&mut *connection).await?;
            let delete = sqlx::query(sql(names.fill(DELETE)));
            delete.bind(waiting.group).bind(event_id).execute(connection).await?;
            Ok(true)
        }

        pub(super) async fn end_waiting(
            connection: &mut $connection,
            names: &Names,
            waiting: &Waiting<'_>,
        ) -> Result<Others, sqlx::Error> {
            let own = placed(END_WAITING, names, waiting).fetch_optional(&mut *connection).await?;
            let mut in_retry_topic = false;
            if let Some(own) = own {
                in_retry_topic = own.try_get(0)?;
                lock(connection, names, waiting).await?;
            }
            let others = placed(OTHERS_WAIT, names, waiting).fetch_one(connection).await?;
            Ok(Others { earlier: others.try_get(0)?, later: others.try_get(1)?, in_retry_topic })
        }

        pub(super) async fn park_waiting(
            connection: &mut $connection,
            names: &Names,
            waiting: &Waiting<'_>,
            content: &Content,
        ) -> Result<bool, sqlx::Error> {
            lock(connection, names, waiting).await?;
            let others = placed(OTHERS_WAIT, names, waiting).fetch_one(&mut *connection).await?;
            let earlier = others.try_get(0)?;
            if earlier {
                let park = placed(PARK, names, waiting);
                park.bind(&*content.headers).bind(content.payload.as_deref()).execute(connection).await?;
            }
            Ok(earlier)
        }

        pub(super) async fn left_behind(
            connection: &mut $connection,
            names: &Names,
            group: &str,
        ) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
            let statement = sql(names.fill(&LEFT_BEHIND.replace("{old}", OLD)));
            let rows = sqlx::query(statement).bind(group).fetch_all(connection).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        }

        pub(super) async fn first_waiting(
            connection: &mut $connection,
            names: &Names,
            waiting: &Waiting<'_>,
        ) -> Result<Option<FirstWaiting>, sqlx::Error> {
            let first = sqlx::query(sql(names.fill(FIRST_WAITING)));
            let first = first.bind(waiting.group).bind(waiting.topic).bind(waiting.key);
            let Some(row) = first.fetch_optional(connection).await? else { return Ok(None) };
            let content = if row.try_get(2)? {
                None
            } else {
                Some(Content { headers: row.try_get(3)?, payload: row.try_get(4)? })
            };
            Ok(Some(FirstWaiting { partition: row.try_get(0)?, offset: row.try_get(1)?, content }))
        }

        fn placed<'q>(
            statement: &'static str,
            names: &Names,
            waiting: &Waiting<'q>,
        ) -> sqlx::query::Query<
            'q,
            <$connection as sqlx::Connection>::Database,
            <<$connection as sqlx::Connection>::Database as sqlx::Database>::Arguments,
        > {
            let Waiting { group, topic, key, partition, offset } = *waiting;
            let statement = sqlx::query(sql(names.fill(statement)));
            statement.bind(group).bind(topic).bind(key).bind(partition).bind(offset)
        }
    };
}
pub(crate) use inbox_functions;
