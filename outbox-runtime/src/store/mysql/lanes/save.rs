//! Saving how far lanes are delivered: what is delivered is deleted, by a list of numbers.
//!
//! That needs no lease: an event that was delivered need not be delivered again, whoever holds its
//! lane by now. So nothing but what was delivered is ever deleted, whatever clocks and leases do.

use sqlx::MySqlConnection;

use super::lease::is_ours;
use super::{MySqlCursor, MySqlLaneStore, park};
use crate::failpoint::failpoint;
use crate::store::error::StoreError;
use crate::store::lanes::{Progress, Saved};
use crate::store::mysql::lists::json;
use crate::store::mysql::{connection, statement};

/// The list comes first: MySQL and MariaDB may scan the table for `seq in (…)`, and wait there for a
/// row that another transaction has locked.
const DELETE: &str = "\
delete e from json_table(?, '$[*]' columns (s bigint path '$')) x
straight_join {event} e force index (primary) on e.seq = x.s";

/// `ignore`: one that was copied before, by a relay whose deletion failed after it, is there.
const RETAIN: &str = "\
insert ignore into {sent} (seq, lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at,
                           kafka_partition, sent_at)
select e.seq, e.lane, e.id, e.topic, e.event_key, e.name, e.version, e.content_type, e.headers, e.payload, e.occurred_at,
       e.kafka_partition, {now}
from json_table(?, '$[*]' columns (s bigint path '$')) x
straight_join {event} e force index (primary) on e.seq = x.s";

/// Most events that one statement deletes.
const DELETED_AT_ONCE: usize = 5_000;

impl MySqlLaneStore {
    pub(super) async fn save_lanes(
        &mut self,
        connection: &mut MySqlConnection,
        progress: &[Progress<MySqlCursor>],
    ) -> Result<Saved, StoreError> {
        let (delivered, parking): (Vec<_>, Vec<_>) =
            progress.iter().partition(|progress| progress.parked.is_empty());
        let numbers: Vec<i64> =
            delivered.iter().flat_map(|progress| self.passed(progress)).collect();
        // Those of all lanes together: each commit waits for the disk.
        for some in numbers.chunks(DELETED_AT_ONCE) {
            persistently!(self.delete(connection, some))?;
        }
        for Progress { lease, cursor, .. } in delivered {
            self.unacked(lease.lane).deleted_before(cursor.position);
        }
        let mut saved = Saved::default();
        for progress in parking {
            let (lane, passed) = (progress.lease.lane, self.passed(progress));
            match persistently!(self.park_and_delete(connection, progress, &passed)) {
                Ok(true) => self.unacked(lane).deleted_before(progress.cursor.position),
                Ok(false) => saved.lost.push(lane),
                Err(error) if error.is_of_one_statement() => saved.failed.push((lane, error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(saved)
    }

    /// The numbers that a lane has passed.
    fn passed(&mut self, progress: &Progress<MySqlCursor>) -> Vec<i64> {
        self.unacked(progress.lease.lane).before(progress.cursor.position)
    }

    /// Deletes what is delivered, and keeps a copy if it is retained.
    async fn delete(
        &self,
        connection: &mut MySqlConnection,
        delivered: &[i64],
    ) -> Result<(), StoreError> {
        let delivered = json(delivered);
        let delete = sqlx::query(statement(&self.names, DELETE)).bind(&delivered);
        if self.retention.is_zero() {
            delete.execute(connection).await?;
            return Ok(());
        }
        let mut tx = connection::begin_on(connection).await?;
        let retain = sqlx::query(statement(&self.names, RETAIN));
        retain.bind(&delivered).execute(&mut *tx).await?;
        failpoint("after-retaining");
        delete.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Returns `false` if the lane is lost.
    async fn park_and_delete(
        &self,
        connection: &mut MySqlConnection,
        Progress { lease, parked, .. }: &Progress<MySqlCursor>,
        passed: &[i64],
    ) -> Result<bool, StoreError> {
        let mut tx = connection::begin_on(connection).await?;
        if !is_ours(&mut tx, &self.names, self.owner, *lease).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        failpoint("before-parking");
        park::park(&mut tx, &self.names, parked).await?;
        if !self.retention.is_zero() {
            let is_parked = |seq: &&i64| parked.iter().any(|parking| parking.event.seq == **seq);
            let delivered: Vec<i64> =
                passed.iter().filter(|seq| !is_parked(seq)).copied().collect();
            let retain = sqlx::query(statement(&self.names, RETAIN));
            retain.bind(json(&delivered)).execute(&mut *tx).await?;
        }
        let delete = sqlx::query(statement(&self.names, DELETE));
        delete.bind(json(passed)).execute(&mut *tx).await?;
        failpoint("after-parking");
        tx.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::mysql::MySqlPoolOptions;
    use sqlx::{Executor, MySql, MySqlPool, Row};
    use uuid::Uuid;

    use super::*;
    use crate::outbox::Outbox;
    use crate::record::EventRecord;
    use crate::store::mysql::test_url;

    async fn pool() -> MySqlPool {
        MySqlPoolOptions::new().max_connections(2).connect(&test_url()).await.unwrap()
    }

    fn record(n: u32) -> EventRecord {
        EventRecord {
            id: Uuid::now_v7(),
            topic: "t".into(),
            key: Some(n.to_be_bytes().to_vec()),
            name: "n".into(),
            version: 1,
            content_type: "c".into(),
            headers: outbox_event::Headers::new(),
            payload: Some(vec![b'x'; 300]),
            partition: None,
            occurred_at: std::time::SystemTime::now(),
        }
    }

    /// Of a statement that deletes or copies what is delivered, the table of the events must be the
    /// second one, and each of its rows found by the whole primary key.
    #[tokio::test]
    async fn what_is_delivered_is_found_by_its_numbers_and_nothing_else_is_looked_at() {
        let pool = pool().await;
        let schema = format!("explained_{}", Uuid::now_v7().simple());
        let outbox: Outbox<MySql> = Outbox::builder(pool.clone()).schema(&schema).build().unwrap();
        outbox.migrate().await.unwrap();
        let mut tx = outbox.begin().await.unwrap();
        for n in 0..5_000 {
            tx.emit_record(record(n)).unwrap();
        }
        tx.commit().await.unwrap();
        let names = &outbox.core().names;
        pool.execute(statement(names, "analyze table {event}")).await.unwrap();
        for of in [DELETE, RETAIN] {
            // Few of many, as for a quiet lane, and nearly all, as in a backlog.
            for delivered in [vec![17, 18], (1..4_000).collect()] {
                let explain = format!("explain {of}");
                let plan = sqlx::query(statement(names, &explain))
                    .bind(json(&delivered))
                    .fetch_all(&pool)
                    .await
                    .unwrap();
                let of_events = plan.iter().find(|row| {
                    row.try_get::<Option<String>, _>("table").unwrap().as_deref() == Some("e")
                });
                let text =
                    |column| of_events.unwrap().try_get::<Option<String>, _>(column).unwrap();
                assert_eq!(text("type").as_deref(), Some("eq_ref"), "{of}");
                assert_eq!(text("key").as_deref(), Some("PRIMARY"), "{of}");
            }
        }
        pool.execute(statement(names, "drop schema {schema}")).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), pool.close()).await.unwrap();
    }
}
