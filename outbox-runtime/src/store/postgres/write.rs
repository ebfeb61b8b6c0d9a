//! Statements that run inside the user's transaction.

use sqlx::types::time::OffsetDateTime;
use sqlx::{Executor, PgConnection, Postgres, SqlStr};

use super::connection;
use crate::record::{EventRecord, Lane};
use crate::store::doubt::Doubt;
use crate::store::error::StoreError;
use crate::store::headers;
use crate::store::names::{Names, sql};
use crate::store::sealed::EventWriter;
use crate::store::tx_options::TxOptions;

/// One statement for all events of a transaction, so that their numbers are drawn as late as
/// possible, and in their order. `xid` comes first among the columns, so its default is drawn
/// before that of `seq`.
const INSERT_EVENTS: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
select lane, id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition
from unnest($1::smallint[], $2::uuid[], $3::text[], $4::bytea[], $5::text[], $6::integer[], $7::text[],
            $8::text[]::json[], $9::bytea[], $10::timestamptz[],
            $11::integer[])
  with ordinality
  as e (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at, kafka_partition,
        place)
order by place";

/// Most transactions have one event. The statement for many would cost a service with small
/// transactions a quarter of its throughput (`cargo xtask bench macros`).
const INSERT_EVENT: &str = "\
insert into {event} (lane, id, topic, key, name, version, content_type, headers, payload, occurred_at,
                     kafka_partition)
values ($1, $2, $3, $4, $5, $6, $7, $8::json, $9, $10, $11)";

impl EventWriter for Postgres {
    const CAN_GO_SILENT: bool = true;
    const COUNTS_ROLLBACKS_AT_ONCE: bool = true;
    const GOES_ON_AFTER_ITS_END: bool = false;

    fn begin_statement(options: TxOptions) -> Option<SqlStr> {
        Some(connection::begin_statement(options))
    }

    /// An insert of events would fail by itself.
    fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool {
        doubt.now && !has_events
    }

    async fn ensure_not_aborted(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute("select 1").await.map(drop)
    }

    async fn insert_events(
        connection: &mut PgConnection,
        names: &Names,
        events: &[EventRecord],
        _: bool,
    ) -> Result<(), StoreError> {
        if let [event] = events {
            sqlx::query(sql(names.fill(INSERT_EVENT)))
                .bind(lane(event))
                .bind(event.id)
                .bind(&*event.topic)
                .bind(event.key.as_deref())
                .bind(&*event.name)
                .bind(version(event))
                .bind(&*event.content_type)
                .bind(headers::to_json(&event.headers))
                .bind(event.payload.as_deref())
                .bind(OffsetDateTime::from(event.occurred_at))
                .bind(event.partition)
                .execute(connection)
                .await?;
            return Ok(());
        }
        fn column<'e, T>(
            events: &'e [EventRecord],
            field: impl Fn(&'e EventRecord) -> T,
        ) -> Vec<T> {
            events.iter().map(field).collect()
        }
        sqlx::query(sql(names.fill(INSERT_EVENTS)))
            .bind(column(events, lane))
            .bind(column(events, |e| e.id))
            .bind(column(events, |e| &*e.topic))
            .bind(column(events, |e| e.key.as_deref()))
            .bind(column(events, |e| &*e.name))
            .bind(column(events, version))
            .bind(column(events, |e| &*e.content_type))
            .bind(column(events, |e| headers::to_json(&e.headers)))
            .bind(column(events, |e| e.payload.as_deref()))
            .bind(column(events, |e| OffsetDateTime::from(e.occurred_at)))
            .bind(column(events, |e| e.partition))
            .execute(connection)
            .await?;
        Ok(())
    }
}

fn lane(event: &EventRecord) -> i16 {
    Lane::of(event.key.as_deref(), event.id).number()
}

fn version(event: &EventRecord) -> i32 {
    i32::try_from(event.version).unwrap_or(i32::MAX)
}
