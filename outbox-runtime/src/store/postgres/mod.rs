//! Postgres: an append-only table, read in windows between snapshots.

mod admin;
mod compact;
mod connection;
mod fragments;
mod inbox;
mod lanes;
#[cfg(test)]
mod protocol_model;
mod reclaim;
mod schema;
mod wakeup;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Executor, PgConnection, PgPool, Postgres, SqlStr};
use uuid::Uuid;

use crate::doorbell::Doorbell;
use crate::error::OutboxError;
use crate::outbox::admin::{DiscardedEvent, ParkedEvent, Replay, Status};
use crate::record::{EventRecord, KeyDigest, Lane};
use crate::store::sealed::Database;
use crate::store::tx_options::TxOptions;
use crate::store::{
    Content, Discard, FirstWaiting, GroupKey, Migration, Names, Others, Release, Waiting,
};
use crate::tx::Doubt;

use lanes::PgStore;

impl Database for Postgres {
    const CAN_GO_SILENT: bool = true;

    type Store = PgStore;

    const MIGRATIONS: &'static [Migration] = schema::MIGRATIONS;
    const MIGRATION_TABLE: &'static str = schema::MIGRATION_TABLE;

    fn begin_statement(options: TxOptions) -> Option<SqlStr> {
        Some(connection::begin_statement(options))
    }

    fn check_names(names: &Names) -> Result<(), OutboxError> {
        schema::check_names(names)
    }

    async fn insert_events(
        connection: &mut PgConnection,
        names: &Names,
        events: &[EventRecord],
    ) -> Result<(), sqlx::Error> {
        write::insert_events(connection, names, events).await
    }

    async fn insert_inbox(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
        event_id: Uuid,
    ) -> Result<bool, sqlx::Error> {
        inbox::insert(connection, names, group, event_id).await
    }

    async fn forget_inbox(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
        retention: Duration,
        most: u32,
    ) -> Result<u64, sqlx::Error> {
        inbox::forget(connection, names, group, retention, most).await
    }

    async fn begin_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<bool, sqlx::Error> {
        inbox::begin_waiting(connection, names, waiting).await
    }

    async fn sent_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<(), sqlx::Error> {
        inbox::sent_waiting(connection, names, waiting).await
    }

    async fn end_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
    ) -> Result<Others, sqlx::Error> {
        inbox::end_waiting(connection, names, waiting).await
    }

    async fn park_waiting(
        connection: &mut PgConnection,
        names: &Names,
        waiting: &Waiting<'_>,
        content: &Content,
    ) -> Result<bool, sqlx::Error> {
        inbox::park_waiting(connection, names, waiting, content).await
    }

    async fn left_behind(
        connection: &mut PgConnection,
        names: &Names,
        group: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, sqlx::Error> {
        inbox::left_behind(connection, names, group).await
    }

    async fn first_waiting(
        connection: &mut PgConnection,
        names: &Names,
        of: &GroupKey<'_>,
    ) -> Result<Option<FirstWaiting>, sqlx::Error> {
        inbox::first_waiting(connection, names, of).await
    }

    /// An insert of events finds out by itself.
    fn asks_before_commit(doubt: Doubt, has_events: bool) -> bool {
        doubt.now && !has_events
    }

    const COUNTS_ROLLBACKS_AT_ONCE: bool = true;

    async fn confirm(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute("select 1").await.map(drop)
    }

    async fn migrate(pool: &PgPool, names: &Names) -> Result<(), OutboxError> {
        schema::migrate(pool, names).await
    }

    fn open_store(pool: &PgPool, names: &Arc<Names>, lease: Duration) -> PgStore {
        PgStore::new(pool, names, lease)
    }

    fn own_pool(pool: &PgPool) -> PgPool {
        connection::own_pool(pool)
    }

    fn follow(own: &PgPool, pool: &PgPool) {
        connection::follow(own, pool);
    }

    async fn located(pool: &PgPool, names: &Names) -> Result<Arc<Names>, OutboxError> {
        Ok(Arc::new(connection::located(pool, names).await?))
    }

    async fn others_if_unused(pool: &PgPool, names: &Names) -> Result<Vec<String>, OutboxError> {
        admin::others_if_unused(pool, names).await
    }

    async fn reclaim(
        pool: &PgPool,
        names: &Names,
        retention: Duration,
    ) -> Result<u64, OutboxError> {
        reclaim::reclaim(pool, names, retention).await
    }

    async fn status(pool: &PgPool, names: &Names) -> Result<Status, OutboxError> {
        admin::status(pool, names).await
    }

    async fn parked(
        pool: &PgPool,
        names: &Names,
        after: Option<(Lane, KeyDigest, i64)>,
        limit: u32,
    ) -> Result<Vec<ParkedEvent>, OutboxError> {
        admin::parked(pool, names, after, limit).await
    }

    async fn release_parked(
        pool: &PgPool,
        names: &Names,
        which: Release<'_>,
    ) -> Result<u64, OutboxError> {
        let released = admin::release_parked(pool, names, which).await?;
        wakeup::call_relays(pool, &connection::located(pool, names).await?).await?;
        Ok(released)
    }

    async fn discard_parked(
        pool: &PgPool,
        names: &Names,
        id: Uuid,
        insist: bool,
    ) -> Result<Discard, OutboxError> {
        let discard = admin::discard_parked(pool, names, id, insist).await?;
        wakeup::call_relays(pool, &connection::located(pool, names).await?).await?;
        Ok(discard)
    }

    async fn discarded(
        pool: &PgPool,
        names: &Names,
        limit: u32,
    ) -> Result<Vec<DiscardedEvent>, OutboxError> {
        admin::discarded(pool, names, limit).await
    }

    async fn replay(pool: &PgPool, names: &Names, which: &Replay) -> Result<u64, OutboxError> {
        admin::replay(pool, names, which).await
    }

    fn notify_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        wakeup::notify_others(pool.clone(), Arc::clone(names), doorbell)
    }

    fn listen_to_others(
        pool: &PgPool,
        names: &Arc<Names>,
        doorbell: Arc<Doorbell>,
    ) -> impl Future<Output = ()> + Send + 'static {
        wakeup::listen_to_others(pool.clone(), Arc::clone(names), doorbell)
    }
}
