//! The store seam: what a database must offer to hold an outbox. All SQL is below this folder.
//!
//! A database is one folder, and each part of [`sealed::Database`] is implemented in the file that
//! has its SQL.

pub(crate) mod admin;
pub(crate) mod begun;
pub(crate) mod databases;
pub(crate) mod diagnosis;
pub(crate) mod doubt;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod fault;
pub(crate) mod groups;
mod headers;
pub(crate) mod inbox;
#[cfg(feature = "postgres")]
mod interned;
pub(crate) mod lanes;
pub(crate) mod liveness;
pub(crate) mod migrate;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
pub(crate) mod names;
pub(crate) mod parked;
pub(crate) mod parked_filter;
pub(crate) mod pause;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod relays;
pub(crate) mod row;
pub(crate) mod sealed;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod tls;
pub(crate) mod tx_options;

pub use inbox::{GroupKey, QueueHead, QueuePosition, QueuedEvent, StoredMessage};
pub use lanes::{
    Claimed, HeldElsewhere, KnownParked, LaneBatch, LaneRead, LaneStore, Lease, Progress, Rest,
    Saved, Share,
};
pub(crate) use names::Names;
pub use parked::{NextEvent, Parking, Released, Retry, RetryResult};
pub(crate) use pause::Paused;
pub use pause::{Pause, PauseScope};

/// A database that can hold an outbox: [`sqlx::Postgres`] with the feature `postgres`,
/// [`sqlx::MySql`] with the feature `mysql`, [`sqlx::Sqlite`] with the feature `sqlite`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that `outbox` can use",
    note = "turn on the feature `postgres`, `mysql` or `sqlite` of the crate `outbox`"
)]
pub trait OutboxDatabase: sqlx::Database + sealed::Database {}

impl<DB: sealed::Database> OutboxDatabase for DB {}
