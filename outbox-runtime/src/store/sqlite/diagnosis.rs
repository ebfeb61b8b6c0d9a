//! What a file and its settings mean for an outbox.

use std::time::SystemTime;

use sqlx::{Sqlite, SqlitePool};

use super::lanes::session::Durability;
use crate::store::diagnosis::Diagnosis;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::sealed::Diagnose;

const HAS_TABLES: &str =
    "select exists (select 1 from sqlite_schema where type = 'table' and name = $1)";

/// The latest events, by their numbers.
const TOPICS: &str = "\
select distinct topic from (select topic from {event} order by seq desc limit 1000) order by topic";

impl Diagnose for Sqlite {
    async fn diagnose(pool: &SqlitePool, names: &Names) -> Result<Diagnosis, StoreError> {
        let mut tx = pool.begin().await?;
        let version: String =
            sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *tx).await?;
        let is_read_only: i64 = sqlx::query_scalar("select query_only from pragma_query_only")
            .fetch_one(&mut *tx)
            .await?;
        let commits_reach_the_disk = Durability::of(&mut tx).await?.is_enough();
        let has_tables: bool = sqlx::query_scalar(HAS_TABLES)
            .bind(format!("{}event", names.prefix))
            .fetch_one(&mut *tx)
            .await?;
        let topics = if has_tables {
            sqlx::query_scalar(sql(names.fill(TOPICS))).fetch_all(&mut *tx).await?
        } else {
            Vec::new()
        };
        tx.rollback().await?;
        Ok(Diagnosis {
            server: format!("SQLite {version}"),
            user: None,
            at: SystemTime::now(),
            unfit: None,
            is_read_only: is_read_only != 0,
            is_pooled: false,
            commits_reach_the_disk,
            synchronous_standbys: None,
            connections: None,
            sees_transactions: false,
            longest_transaction: None,
            notify_queue: None,
            longest_statement: None,
            snapshot_isolation: None,
            is_of_another_cluster: false,
            topics,
            lacking_rights: None,
        })
    }
}
