//! The session over which windows are opened, read and saved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::cursor::{PgCursor, Snapshot};
use super::floors::FloorIndex;
use crate::error::{ErrorKind, OutboxError};
use crate::store::lanes::LaneRead;
use crate::store::names::Names;

/// The session over which windows are opened, read and saved.
pub(super) struct Session<'s> {
    pub(super) connection: &'s mut PgConnection,
    /// Id of the server's process at its other end.
    pub(super) backend: i32,
    pub(super) names: &'s Names,
    pub(super) floors: &'s mut FloorIndex,
    /// The highest transaction id that a window has seen.
    pub(super) seen: &'s AtomicU64,
    /// Time after which no further statement of a read begins, so that leases are renewed in time.
    pub(super) until: Instant,
}

impl Session<'_> {
    /// Takes note of what a window rests on.
    pub(super) fn note_seen(&self, window: &Snapshot) {
        self.seen.fetch_max(window.end().max(window.horizon()), Ordering::Relaxed);
    }
}

/// A lane whose window is open, with the cursor from which to read it.
pub(super) type ToRead<'l> = (&'l LaneRead<PgCursor>, Arc<Snapshot>, PgCursor);

pub(super) fn through_a_pooler() -> OutboxError {
    OutboxError::new(
        ErrorKind::Config,
        "the relay's statements came to different sessions of the server: a transaction pooler is in between (PgBouncer with \
         pool_mode=transaction, or the like), and what the relay knows is of one session. It stopped; all events are still in \
         the outbox. Give it the address of Postgres itself, or of a pool with pool_mode=session: services that only \
         emit may stay behind the pooler",
    )
}
