//! SQLite has no channel between processes: their relays poll.

use std::sync::Arc;

use sqlx::{Sqlite, SqlitePool};

use crate::doorbell::Doorbell;
use crate::store::names::Names;
use crate::store::sealed::Wakeup;

impl Wakeup for Sqlite {
    async fn notify_others(_: SqlitePool, _: Arc<Names>, _: Arc<Doorbell>) {
        std::future::pending().await
    }

    async fn listen_to_others(_: SqlitePool, _: Arc<Names>, _: Arc<Doorbell>) {
        std::future::pending().await
    }
}
