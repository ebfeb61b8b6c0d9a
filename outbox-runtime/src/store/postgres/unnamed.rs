//! Statements of operators, which also work through a transaction pooler.
//!
//! sqlx names a prepared statement by a number of its connection, and a pooler gives each
//! transaction another session of the server: another client's statement may have the name there
//! (error 42P05), or ours is not there (26000). An unnamed statement is replaced by the next one,
//! whoever prepared it. It must run inside of a transaction, so that it is prepared and run in one
//! session. What relays and consumers run all the time is named, and prepared once.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, Postgres, SqlSafeStr};

pub(super) fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

pub(super) fn query_as<'q, O>(sql: impl SqlSafeStr) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

pub(super) fn query_scalar<'q, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}
