//! What a consumer group has handled, and which events wait for an earlier one of their key. The
//! statements are shared by all stores. The functions that run them are written out for each store:
//! generic ones would need more bounds on sqlx's types than they have lines.

use uuid::Uuid;

/// A key, as a consumer group sees it.
#[derive(Debug, Clone, Copy)]
pub struct GroupKey<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The key.
    pub key: &'a [u8],
}

impl GroupKey<'_> {
    /// The key's digest for indexes, which do not accept keys of any length. Keys with the same
    /// digest would wait for each other; nothing else would follow.
    pub(crate) fn digest(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.key)
    }
}

/// An event that later events of its key may have to wait for. It is identified by its id: offsets
/// begin again with a topic that is deleted and created again.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Its key.
    pub of: GroupKey<'a>,
    /// Its id.
    pub event_id: Uuid,
    /// Partition in which it was first, for the operator.
    pub partition: i32,
    /// Offset at which it was first, for the operator.
    pub offset: i64,
}

/// Which other events of a key wait, and whether this one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// Whether this event was waiting.
    pub noted: bool,
    /// Whether it was recorded as being in a retry topic.
    pub in_retry_topic: bool,
    /// Whether an earlier event waits; any event, if this one did not wait.
    pub earlier: bool,
    /// Whether a later event waits; any event, if this one did not wait.
    pub later: bool,
}

/// The contents of a message: everything but its place and key.
#[derive(Debug, Clone)]
pub struct Content {
    /// The headers, as JSON.
    pub headers: Vec<u8>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
}

/// The first waiting event of a key.
#[derive(Debug, Clone)]
pub struct FirstWaiting {
    /// Its id.
    pub event_id: Uuid,
    /// Partition in which it was first.
    pub partition: i32,
    /// Offset at which it was first.
    pub offset: i64,
    /// Its contents. `None`: it is in a retry topic, or about to be.
    pub content: Option<Content>,
}

pub(crate) const INSERT: &str =
    "insert into {inbox} (consumer_group, event_id) values ($1, $2) on conflict do nothing";
pub(crate) const DELETE: &str = "delete from {inbox} where consumer_group = $1 and event_id = $2";
/// A row in the state `kept` stays so until its copy is in the retry topic: the event is nowhere
/// else.
pub(crate) const BEGIN_WAITING: &str = "\
insert into {waiting} (consumer_group, topic, key_digest, event_id, key, source_partition, source_offset, state)
values ($1, $2, $3, $4, $5, $6, $7, 'failed')
on conflict (consumer_group, topic, key_digest, event_id) do nothing";
/// Changes nothing if the copy was settled before this: a row inserted now would block its key for
/// nothing.
pub(crate) const SENT_WAITING: &str = "\
update {waiting} set state = 'sent', headers = null, payload = null, since = {now}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4";
pub(crate) const END_WAITING: &str = "\
delete from {waiting}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4
returning place, state";
pub(crate) const OTHERS_WAIT: &str = "\
select exists (
  select 1 from {waiting} where consumer_group = $1 and topic = $2 and key_digest = $3 and place < $4),
exists (
  select 1 from {waiting} where consumer_group = $1 and topic = $2 and key_digest = $3 and place > $4)";
pub(crate) const PLACE: &str = "\
select place from {waiting}
where consumer_group = $1 and topic = $2 and key_digest = $3 and event_id = $4";
/// Keys whose first event has been kept here for a while: perhaps no process comes back for it.
pub(crate) const LEFT_BEHIND: &str = "\
select topic, key from {waiting} w
where consumer_group = $1 and state = 'kept' and {old}
  and not exists (
    select 1 from {waiting} e
    where e.consumer_group = w.consumer_group and e.topic = w.topic and e.key_digest = w.key_digest
      and e.place < w.place)
limit 100";
pub(crate) const PARK: &str = "\
insert into {waiting}
  (consumer_group, topic, key_digest, event_id, key, source_partition, source_offset, state, headers, payload)
values ($1, $2, $3, $4, $5, $6, $7, 'kept', $8, $9)
on conflict (consumer_group, topic, key_digest, event_id)
do update set state = 'kept', headers = excluded.headers, payload = excluded.payload";
pub(crate) const FIRST_WAITING: &str = "\
select event_id, source_partition, source_offset, state, headers, payload
from {waiting} where consumer_group = $1 and topic = $2 and key_digest = $3
order by place limit 1";

/// A store's `Inbox`. Its module imports that trait, and has the statements `FORGET` and
/// `FORGET_WAITING`; `NOW` and `OLD`, for this moment and for a row older than a minute; `millis`,
/// which converts a duration for them; and `lock`, which locks a key until the transaction ends.
macro_rules! impl_inbox {
    ($database:ty, $connection:ty) => {
        use sqlx::Row as _;
        use $crate::store::error::StoreError;
        use $crate::store::inbox::{
            BEGIN_WAITING, DELETE, END_WAITING, FIRST_WAITING, INSERT, LEFT_BEHIND, OTHERS_WAIT,
            PARK, PLACE, SENT_WAITING,
        };
        use $crate::store::{Content, FirstWaiting, GroupKey, Names, Others, Waiting, sql};

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

            async fn forget_inbox(
                connection: &mut $connection,
                names: &Names,
                group: &str,
                retention: std::time::Duration,
                most: u32,
            ) -> Result<u64, StoreError> {
                let waiting = sqlx::query(sql(names.fill(FORGET_WAITING)));
                waiting.bind(group).bind(millis(retention)).execute(&mut *connection).await?;
                let handled = sqlx::query(sql(names.fill(FORGET)));
                let handled = handled.bind(group).bind(millis(retention)).bind(i64::from(most));
                Ok(handled.execute(connection).await?.rows_affected())
            }

            /// The row of the inbox, which exists for a moment, makes others wait.
            async fn begin_waiting(
                connection: &mut $connection,
                names: &Names,
                waiting: &Waiting<'_>,
            ) -> Result<bool, StoreError> {
                if !Self::insert_inbox(connection, names, waiting.of.group, waiting.event_id)
                    .await?
                {
                    return Ok(false);
                }
                let begin = event(BEGIN_WAITING, names, waiting);
                let begin = begin.bind(waiting.of.key).bind(waiting.partition).bind(waiting.offset);
                begin.execute(&mut *connection).await?;
                let delete = sqlx::query(sql(names.fill(DELETE)));
                delete.bind(waiting.of.group).bind(waiting.event_id).execute(connection).await?;
                Ok(true)
            }

            async fn sent_waiting(
                connection: &mut $connection,
                names: &Names,
                waiting: &Waiting<'_>,
            ) -> Result<(), StoreError> {
                let sent = event(&SENT_WAITING.replace("{now}", NOW), names, waiting);
                sent.execute(connection).await?;
                Ok(())
            }

            async fn end_waiting(
                connection: &mut $connection,
                names: &Names,
                waiting: &Waiting<'_>,
            ) -> Result<Others, StoreError> {
                let own =
                    event(END_WAITING, names, waiting).fetch_optional(&mut *connection).await?;
                let Some(own) = own else {
                    let (any, _) = others(connection, names, &waiting.of, i64::MAX).await?;
                    return Ok(Others {
                        noted: false,
                        in_retry_topic: false,
                        earlier: any,
                        later: any,
                    });
                };
                // From here on, the result stays true until the transaction ends.
                lock(connection, names, &waiting.of).await?;
                let (earlier, later) =
                    others(connection, names, &waiting.of, own.try_get(0)?).await?;
                let state: String = own.try_get(1)?;
                Ok(Others { noted: true, in_retry_topic: state == "sent", earlier, later })
            }

            async fn park_waiting(
                connection: &mut $connection,
                names: &Names,
                waiting: &Waiting<'_>,
                content: &Content,
            ) -> Result<bool, StoreError> {
                lock(connection, names, &waiting.of).await?;
                let own = event(PLACE, names, waiting).fetch_optional(&mut *connection).await?;
                let place = own.map_or(Ok(i64::MAX), |own| own.try_get(0))?;
                let (earlier, _) = others(connection, names, &waiting.of, place).await?;
                if earlier {
                    let park = event(PARK, names, waiting);
                    let park =
                        park.bind(waiting.of.key).bind(waiting.partition).bind(waiting.offset);
                    park.bind(&*content.headers)
                        .bind(content.payload.as_deref())
                        .execute(connection)
                        .await?;
                }
                Ok(earlier)
            }

            async fn left_behind(
                connection: &mut $connection,
                names: &Names,
                group: &str,
            ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
                let statement = sql(names.fill(&LEFT_BEHIND.replace("{old}", OLD)));
                let rows = sqlx::query(statement).bind(group).fetch_all(connection).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
            }

            async fn first_waiting(
                connection: &mut $connection,
                names: &Names,
                of: &GroupKey<'_>,
            ) -> Result<Option<FirstWaiting>, StoreError> {
                let first = sqlx::query(sql(names.fill(FIRST_WAITING)));
                let first = first.bind(of.group).bind(of.topic).bind(of.digest());
                let Some(row) = first.fetch_optional(connection).await? else { return Ok(None) };
                let state: String = row.try_get(3)?;
                let content = if state == "kept" {
                    Some(Content { headers: row.try_get(4)?, payload: row.try_get(5)? })
                } else {
                    None
                };
                Ok(Some(FirstWaiting {
                    event_id: row.try_get(0)?,
                    partition: row.try_get(1)?,
                    offset: row.try_get(2)?,
                    content,
                }))
            }
        }

        /// Whether an event of the key waits before the given place, and whether one waits after
        /// it.
        async fn others(
            connection: &mut $connection,
            names: &Names,
            of: &GroupKey<'_>,
            place: i64,
        ) -> Result<(bool, bool), sqlx::Error> {
            let others = sqlx::query(sql(names.fill(OTHERS_WAIT)));
            let others = others.bind(of.group).bind(of.topic).bind(of.digest()).bind(place);
            let others = others.fetch_one(connection).await?;
            Ok((others.try_get(0)?, others.try_get(1)?))
        }

        fn event<'q>(
            statement: &str,
            names: &Names,
            waiting: &Waiting<'q>,
        ) -> sqlx::query::Query<
            'q,
            <$connection as sqlx::Connection>::Database,
            <<$connection as sqlx::Connection>::Database as sqlx::Database>::Arguments,
        > {
            let Waiting { of, event_id, .. } = *waiting;
            let statement = sqlx::query(sql(names.fill(statement)));
            statement.bind(of.group).bind(of.topic).bind(of.digest()).bind(event_id)
        }
    };
}
pub(crate) use impl_inbox;
