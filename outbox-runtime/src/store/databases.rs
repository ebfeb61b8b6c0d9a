//! The databases that features switch on: a new one is entered here.

use sqlx::error::DatabaseError;

use super::fault::Fault;
use super::tls;

/// The text of each database's schema.
pub(crate) const SCHEMAS: &[&str] = &[
    #[cfg(feature = "postgres")]
    include_str!("postgres/schema_v1.sql"),
    #[cfg(feature = "sqlite")]
    include_str!("sqlite/schema_v1.sql"),
    #[cfg(feature = "mysql")]
    include_str!("mysql/schema_v1.sql"),
];

/// What an error of sqlx means.
pub(crate) fn fault_of(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => fault_of_database(&**error),
        error if tls::trouble(error).is_some() => Fault::Tls,
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Unavailable,
        _ => Fault::Other,
    }
}

/// What the error of a database means.
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite", feature = "mysql")),
    allow(unused_variables)
)]
pub(crate) fn fault_of_database(error: &dyn DatabaseError) -> Fault {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref() {
        return super::postgres::fault::of(error);
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.try_downcast_ref() {
        return super::sqlite::fault::of(error);
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref() {
        return super::mysql::fault::of(error);
    }
    Fault::Other
}
