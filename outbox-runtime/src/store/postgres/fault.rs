//! What the error codes of Postgres mean
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use sqlx::postgres::PgDatabaseError;

use crate::store::fault::Fault;

pub(crate) fn of(error: &PgDatabaseError) -> Fault {
    match error.code() {
        // undefined_table, invalid_schema_name
        "42P01" | "3F000" => Fault::MissingTable,
        // undefined_column, undefined_function, undefined_object
        "42703" | "42883" | "42704" => Fault::MissingColumn,
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Fault::Conflict,
        // lock_not_available
        "55P03" => Fault::LockTimeout,
        // query_canceled
        "57014" => Fault::Cancelled,
        // admin_shutdown, crash_shutdown: see `ProcessInterrupts` and `CommitTransaction` in the
        // source of Postgres.
        "57P01" | "57P02" => Fault::SessionEnded,
        // disk_full, too_many_connections
        "53100" | "53300" => Fault::Unavailable,
        // read_only_sql_transaction
        "25006" => Fault::ReadOnly,
        // feature_not_supported: a standby refuses so to begin a transaction that is to write.
        "0A000" if error.message().contains("recovery") => Fault::ReadOnly,
        "0A000" => Fault::Unsupported,
        // in_failed_sql_transaction
        "25P02" => Fault::Aborted,
        // insufficient_privilege
        "42501" => Fault::Denied,
        // invalid_catalog_name
        "3D000" => Fault::LoginRefused,
        // invalid_sql_statement_name, duplicate_prepared_statement: never without a pooler.
        "26000" | "42P05" => Fault::OtherSession,
        // Connection failures, and other ways of shutting down.
        code if code.starts_with("08") || code.starts_with("57P") => Fault::Unavailable,
        // Authorization failures.
        code if code.starts_with("28") => Fault::LoginRefused,
        _ => Fault::Other,
    }
}
