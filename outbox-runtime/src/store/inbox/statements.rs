//! The statements of Postgres and SQLite, and the functions that run them, written out for each (a
//! generic one would need more bounds on sqlx's types than it has lines). MySQL has no `on conflict`
//! and no `returning`, and so statements of its own.

pub(crate) const INSERT: &str =
    "insert into {inbox} (consumer_group, event_id) values ($1, $2) on conflict do nothing";
pub(crate) const DELETE: &str = "delete from {inbox} where consumer_group = $1 and event_id = $2";
/// An event that is kept here stays so until its copy is in the retry topic: it is nowhere else.
pub(crate) const ENQUEUE_FAILED: &str = "\
insert into {key_queue} (consumer_group, topic, key_digest, event_id, key, source_partition, source_offset, state)
values ($1, $2, $3, $4, $5, $6, $7, 'failed')
on conflict (consumer_group, topic, key_digest, event_id) do nothing";
/// Changes nothing if the copy in the retry topic is settled already: a new row would stay for
/// ever.
pub(crate) const MARK_SENT: &str = "\
update {key_queue} set state = 'sent', headers = null, payload = null, since = {now}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4";
pub(crate) const DEQUEUE: &str = "\
delete from {key_queue}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4
returning place, state";
pub(crate) const NEIGHBOURS: &str = "\
select exists (
  select 1 from {key_queue} where consumer_group = $1 and topic = $2 and key_digest = $3 and place < $4
) as earlier, exists (
  select 1 from {key_queue} where consumer_group = $1 and topic = $2 and key_digest = $3 and place > $4
) as later";
pub(crate) const PLACE: &str = "\
select place from {key_queue}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4";
/// Keys whose queues begin with an event that is kept here, and has been for a while: no task may
/// be left that drains them.
pub(crate) const STRANDED: &str = "\
select topic, key from {key_queue} w
where consumer_group = $1 and state = 'kept' and {old}
  and not exists (
    select 1 from {key_queue} e
    where e.consumer_group = w.consumer_group and e.topic = w.topic and e.key_digest = w.key_digest
      and e.place < w.place)
limit 100";
pub(crate) const ENQUEUE_BEHIND: &str = "\
insert into {key_queue}
  (consumer_group, topic, key_digest, event_id, key, source_partition, source_offset, state, headers, payload)
values ($1, $2, $3, $4, $5, $6, $7, 'kept', $8, $9)
on conflict (consumer_group, topic, key_digest, event_id)
do update set state = 'kept', headers = excluded.headers, payload = excluded.payload";
/// The groups are found by one search each, however many events they have handled. `{oldest}` and
/// `{latest}` make microseconds of times.
pub(crate) const INBOX_STATS: &str = "\
with recursive groups as (
  select min(consumer_group) as consumer_group from {inbox}
  union all
  select (select min(i.consumer_group) from {inbox} i where i.consumer_group > g.consumer_group)
  from groups g where g.consumer_group is not null
)
select s.consumer_group, s.handled, {oldest} as oldest_micros, {latest} as latest_micros
from (
  select g.consumer_group,
         (select count(*) from (
           select 1 from {inbox} i where i.consumer_group = g.consumer_group limit $1) counted) as handled,
         (select min(i.handled_at) from {inbox} i where i.consumer_group = g.consumer_group) as oldest,
         (select max(i.handled_at) from {inbox} i where i.consumer_group = g.consumer_group) as latest
  from groups g where g.consumer_group is not null
) s
where s.oldest is not null
order by s.consumer_group";
pub(crate) const WAITING_KEYS: &str = "\
select consumer_group, topic, keys, kept, {since} as since_micros
from (
  select consumer_group, topic, count(distinct key_digest) as keys,
         sum(case when state = 'kept' then 1 else 0 end) as kept, min(since) as since
  from {key_queue} group by consumer_group, topic
) w
order by consumer_group, topic";
pub(crate) const HANDLED_BEFORE: &str = "\
select count(*) as counted from (
  select 1 from {inbox} where consumer_group = $1 and {before} limit $3) counted";
pub(crate) const QUEUE_HEAD: &str = "\
select event_id, source_partition, source_offset, state, headers, payload
from {key_queue} where consumer_group = $1 and topic = $2 and key_digest = $3
order by place limit 1";

/// A store's `Inbox`. Its module imports that trait, and has the statements `FORGET` and
/// `FORGET_QUEUED`; `NOW` and `OLD`, for this moment and for a row older than a minute; `BEFORE`, for
/// a row handled longer ago than `$2`; `millis`, which converts a duration for them; `micros`, which
/// makes the SQL for microseconds of a time; `lock`, which locks a key until the transaction ends; and
/// `insert_all` and `any_queued`, which do what the trait's functions say.
///
/// What operators ask is not `persistent`, for the reason in `postgres/unnamed.rs`.
macro_rules! impl_inbox {
    ($database:ty, $connection:ty) => {
        use sqlx::Row as _;
        use $crate::store::error::StoreError;
        use $crate::store::inbox::statements::{
            DELETE, DEQUEUE, ENQUEUE_BEHIND, ENQUEUE_FAILED, HANDLED_BEFORE, INBOX_STATS, INSERT,
            MARK_SENT, NEIGHBOURS, PLACE, QUEUE_HEAD, STRANDED, WAITING_KEYS,
        };
        use $crate::store::inbox::{InboxStats, InboxStatsRow, WaitingKeys, WaitingKeysRow};
        use $crate::store::names::sql;
        use $crate::store::{
            GroupKey, Names, QueueHead, QueuePosition, QueuedEvent, StoredMessage,
        };

        impl Inbox for $database {
            async fn insert_inbox(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                event_id: uuid::Uuid,
            ) -> Result<bool, StoreError> {
                let insert = sqlx::query(sql(names.fill(INSERT)));
                Ok(insert.bind(group).bind(event_id).execute(connection).await?.rows_affected()
                    == 1)
            }

            async fn insert_inbox_all(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                event_ids: &[uuid::Uuid],
            ) -> Result<Vec<uuid::Uuid>, StoreError> {
                Ok(insert_all(connection, names, group, event_ids).await?)
            }

            async fn any_queued(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                topic: &str,
                keys: &[uuid::Uuid],
            ) -> Result<bool, StoreError> {
                Ok(any_queued(connection, names, group, topic, keys).await?)
            }

            async fn forget_inbox(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                retention: std::time::Duration,
                most: u32,
            ) -> Result<u64, StoreError> {
                let queued = sqlx::query(sql(names.fill(FORGET_QUEUED))).persistent(false);
                queued.bind(group).bind(millis(retention)).execute(&mut *connection).await?;
                let handled = sqlx::query(sql(names.fill(FORGET))).persistent(false);
                let handled = handled.bind(group).bind(millis(retention)).bind(i64::from(most));
                Ok(handled.execute(connection).await?.rows_affected())
            }

            /// The row of the inbox, which is there until the commit, makes other transactions
            /// wait.
            async fn enqueue_failed(
                connection: &mut $connection,
                names: &Names,
                event: &QueuedEvent<'_>,
            ) -> Result<bool, StoreError> {
                if !Self::insert_inbox(connection, names, event.of.group, event.event_id).await? {
                    return Ok(false);
                }
                let insert = query(ENQUEUE_FAILED, names, event);
                let insert = insert.bind(event.of.key).bind(event.partition).bind(event.offset);
                insert.execute(&mut *connection).await?;
                let delete = sqlx::query(sql(names.fill(DELETE)));
                delete.bind(event.of.group).bind(event.event_id).execute(connection).await?;
                Ok(true)
            }

            async fn mark_sent(
                connection: &mut $connection,
                names: &Names,
                event: &QueuedEvent<'_>,
            ) -> Result<(), StoreError> {
                let sent = query(&MARK_SENT.replace("{now}", NOW), names, event);
                sent.execute(connection).await?;
                Ok(())
            }

            async fn dequeue(
                connection: &mut $connection,
                names: &Names,
                event: &QueuedEvent<'_>,
            ) -> Result<QueuePosition, StoreError> {
                let own = query(DEQUEUE, names, event).fetch_optional(&mut *connection).await?;
                let Some(own) = own else {
                    let (any, _) = others(connection, names, &event.of, i64::MAX).await?;
                    return Ok(QueuePosition {
                        queued: false,
                        in_retry_topic: false,
                        earlier: any,
                        later: any,
                    });
                };
                // From here on, the result stays true until the transaction ends.
                lock(connection, names, &event.of).await?;
                let (earlier, later) =
                    others(connection, names, &event.of, own.try_get("place")?).await?;
                let state: String = own.try_get("state")?;
                Ok(QueuePosition { queued: true, in_retry_topic: state == "sent", earlier, later })
            }

            async fn enqueue_behind(
                connection: &mut $connection,
                names: &Names,
                event: &QueuedEvent<'_>,
                message: &StoredMessage,
            ) -> Result<bool, StoreError> {
                lock(connection, names, &event.of).await?;
                let own = query(PLACE, names, event).fetch_optional(&mut *connection).await?;
                let place = own.map_or(Ok(i64::MAX), |own| own.try_get("place"))?;
                let (earlier, _) = others(connection, names, &event.of, place).await?;
                if earlier {
                    let insert = query(ENQUEUE_BEHIND, names, event);
                    let insert = insert.bind(event.of.key).bind(event.partition).bind(event.offset);
                    insert
                        .bind(&*message.headers)
                        .bind(message.payload.as_deref())
                        .execute(connection)
                        .await?;
                }
                Ok(earlier)
            }

            async fn stranded_keys(
                connection: &mut $connection,
                names: &Names,
                group: &str,
            ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
                let statement = sql(names.fill(&STRANDED.replace("{old}", OLD)));
                let rows = sqlx::query(statement).bind(group).fetch_all(connection).await?;
                rows.iter().map(|row| Ok((row.try_get("topic")?, row.try_get("key")?))).collect()
            }

            async fn inbox_stats(
                connection: &mut $connection,
                names: &Names,
            ) -> Result<Vec<InboxStats>, StoreError> {
                let statement = INBOX_STATS.replace("{oldest}", &micros("s.oldest"));
                let statement = statement.replace("{latest}", &micros("s.latest"));
                let stats = sqlx::query_as::<_, InboxStatsRow>(sql(names.fill(&statement)))
                    .persistent(false);
                let counted = InboxStats::COUNTED.cast_signed();
                let rows = stats.bind(counted).fetch_all(connection).await?;
                Ok(rows.into_iter().map(InboxStats::from).collect())
            }

            async fn waiting_keys(
                connection: &mut $connection,
                names: &Names,
            ) -> Result<Vec<WaitingKeys>, StoreError> {
                let statement = WAITING_KEYS.replace("{since}", &micros("w.since"));
                let waiting = sqlx::query_as::<_, WaitingKeysRow>(sql(names.fill(&statement)))
                    .persistent(false);
                let rows = waiting.fetch_all(connection).await?;
                Ok(rows.into_iter().map(WaitingKeys::from).collect())
            }

            async fn handled_before(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                retention: std::time::Duration,
            ) -> Result<u64, StoreError> {
                let statement = HANDLED_BEFORE.replace("{before}", BEFORE);
                let count = sqlx::query(sql(names.fill(&statement))).persistent(false);
                let count = count.bind(group).bind(millis(retention));
                let row =
                    count.bind(InboxStats::COUNTED.cast_signed()).fetch_one(connection).await?;
                Ok(row.try_get::<i64, _>("counted")?.unsigned_abs())
            }

            async fn queue_head(
                connection: &mut $connection,
                names: &Names,
                of: &GroupKey<'_>,
            ) -> Result<Option<QueueHead>, StoreError> {
                let first = sqlx::query(sql(names.fill(QUEUE_HEAD)));
                let first = first.bind(of.group).bind(of.topic).bind(of.digest());
                let Some(row) = first.fetch_optional(connection).await? else { return Ok(None) };
                let state: String = row.try_get("state")?;
                let message = if state == "kept" {
                    Some(StoredMessage {
                        headers: row.try_get("headers")?,
                        payload: row.try_get("payload")?,
                    })
                } else {
                    None
                };
                Ok(Some(QueueHead {
                    event_id: row.try_get("event_id")?,
                    partition: row.try_get("source_partition")?,
                    offset: row.try_get("source_offset")?,
                    message,
                }))
            }
        }

        /// Whether events of the key are queued before the place, and behind it.
        async fn others(
            connection: &mut $connection,
            names: &Names,
            of: &GroupKey<'_>,
            place: i64,
        ) -> Result<(bool, bool), StoreError> {
            let others = sqlx::query(sql(names.fill(NEIGHBOURS)));
            let others = others.bind(of.group).bind(of.topic).bind(of.digest()).bind(place);
            let others = others.fetch_one(connection).await?;
            Ok((others.try_get("earlier")?, others.try_get("later")?))
        }

        fn query<'q>(
            statement: &str,
            names: &Names,
            event: &QueuedEvent<'q>,
        ) -> sqlx::query::Query<
            'q,
            <$connection as sqlx::Connection>::Database,
            <<$connection as sqlx::Connection>::Database as sqlx::Database>::Arguments,
        > {
            let QueuedEvent { of, event_id, .. } = *event;
            let statement = sqlx::query(sql(names.fill(statement)));
            statement.bind(of.group).bind(of.topic).bind(of.digest()).bind(event_id)
        }
    };
}
pub(crate) use impl_inbox;
