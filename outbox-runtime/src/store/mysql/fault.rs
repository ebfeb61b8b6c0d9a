//! What the error numbers of MySQL and MariaDB mean
//! (<https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
//! <https://mariadb.com/kb/en/mariadb-error-code-reference/>). Their SQLSTATEs are too coarse: a
//! missing database and a syntax error have the same.

use sqlx::mysql::MySqlDatabaseError;

use crate::store::fault::Fault;
use crate::store::names::are_named_in;

/// What the names of our savepoints begin with: `write.rs` says what they are for.
const OUR_SAVEPOINT: &str = "outbox_alive_";

pub(in crate::store) fn of(error: &MySqlDatabaseError) -> Fault {
    meaning(error.number(), error.message())
}

/// The message may be in any language. The names and options in it are not.
fn meaning(number: u16, message: &str) -> Fault {
    match number {
        // ER_NO_SUCH_TABLE
        1146 => Fault::MissingTable,
        // ER_BAD_DB_ERROR: of a statement, or of the login.
        1049 if are_named_in(message) => Fault::MissingTable,
        // ER_BAD_FIELD_ERROR, ER_KEY_DOES_NOT_EXITS
        1054 | 1176 => Fault::MissingColumn,
        // ER_NOT_SUPPORTED_YET, ER_BINLOG_STMT_MODE_AND_ROW_ENGINE
        1235 | 1665 => Fault::Unsupported,
        // ER_LOCK_DEADLOCK, ER_LOCK_TABLE_FULL; ER_CHECKREAD, by MariaDB's
        // `innodb_snapshot_isolation`; ER_TRANSACTION_ROLLBACK_DURING_COMMIT, by another member of
        // a group.
        1213 | 1206 | 1020 | 3101 => Fault::RolledBack,
        // ER_LOCK_WAIT_TIMEOUT, which undoes only the statement; ER_TABLE_DEF_CHANGED, to a
        // transaction that is older than the table.
        1205 | 1412 => Fault::Conflict,
        // ER_LOCK_NOWAIT. (MariaDB has ER_LOCK_WAIT_TIMEOUT for it.)
        3572 => Fault::LockTimeout,
        // ER_QUERY_TIMEOUT, which only a `select` has.
        3024 => Fault::Cancelled,
        // ER_QUERY_INTERRUPTED, and ER_STATEMENT_TIMEOUT of MariaDB
        1317 | 1969 => Fault::Interrupted,
        // ER_SERVER_SHUTDOWN, ER_NEW_ABORTING_CONNECTION; ER_CONNECTION_KILLED of MariaDB;
        // ER_SESSION_WAS_KILLED and ER_CLIENT_INTERACTION_TIMEOUT of MySQL; ER_SERVER_LOST, which a
        // proxy gives.
        1053 | 1184 | 1927 | 3169 | 4031 | 2013 => Fault::SessionEnded,
        // ER_DISK_FULL, ER_OUT_OF_RESOURCES, ER_RECORD_FILE_FULL, ER_CANT_CREATE_THREAD
        1021 | 1041 | 1114 | 1135 => Fault::Unavailable,
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED,
        // ER_HOST_IS_BLOCKED
        1040 | 1203 | 1226 | 1129 => Fault::Unavailable,
        // ER_NORMAL_SHUTDOWN, ER_SHUTDOWN_COMPLETE, ER_SERVER_ISNT_AVAILABLE
        1077 | 1079 | 3168 => Fault::Unavailable,
        // ER_UNKNOWN_COM_ERROR: a node of a Galera cluster that is not ready.
        1047 if message.contains("WSREP") => Fault::Unavailable,
        // ER_OPTION_PREVENTS_STATEMENT: other options do so as well.
        1290 if message.contains("read-only") || message.contains("read_only") => Fault::ReadOnly,
        // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE, ER_INNODB_READ_ONLY
        1792 | 1836 | 1874 => Fault::ReadOnly,
        // ER_SP_DOES_NOT_EXIST, which is also of a function: the transaction that had our savepoint
        // is over.
        1305 if message.contains(OUR_SAVEPOINT) => Fault::Aborted,
        // ER_DBACCESS_DENIED_ERROR: of a statement on the schema of an outbox, or of the login.
        1044 if are_named_in(message) => Fault::Denied,
        // ER_TABLEACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR, ER_SPECIFIC_ACCESS_DENIED_ERROR,
        // ER_PROCACCESS_DENIED_ERROR
        1142 | 1143 | 1227 | 1370 => Fault::Denied,
        1044 | 1049 => Fault::LoginRefused,
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_HOST_NOT_PRIVILEGED
        1045 | 1698 | 1130 => Fault::LoginRefused,
        // ER_NOT_SUPPORTED_AUTH_MODE, ER_PLUGIN_IS_NOT_LOADED, ER_MUST_CHANGE_PASSWORD,
        // ER_MUST_CHANGE_PASSWORD_LOGIN, ER_ACCOUNT_HAS_BEEN_LOCKED (MySQL, MariaDB)
        1251 | 1524 | 1820 | 1862 | 3118 | 4151 => Fault::LoginRefused,
        // ER_SECURE_TRANSPORT_REQUIRED
        3159 => Fault::LoginRefused,
        // ER_UNKNOWN_STMT_HANDLER: never without a proxy.
        1243 => Fault::OtherSession,
        _ => Fault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::names::Names;

    #[test]
    fn a_number_with_several_meanings_is_told_apart_by_the_names_in_its_message() {
        let savepoint = format!("SAVEPOINT {OUR_SAVEPOINT}1 existiert nicht");
        assert_eq!(meaning(1305, &savepoint), Fault::Aborted);
        assert_eq!(meaning(1305, "FUNCTION shop.f does not exist"), Fault::Other);

        let of_standby = "The MySQL server is running with the --super-read-only option";
        assert_eq!(meaning(1290, of_standby), Fault::ReadOnly);
        assert_eq!(meaning(1290, "… running with the --secure-file-priv option"), Fault::Other);
    }

    #[test]
    fn a_schema_that_is_missing_is_no_wrong_login() {
        let schema = Some("schema_of_faults".to_owned());
        Names { schema, ..Names::default() }.note_use();
        let missing = |schema: &str| format!("Unknown database '{schema}'");
        assert_eq!(meaning(1049, &missing("schema_of_faults")), Fault::MissingTable);
        assert_eq!(meaning(1049, &missing("database_of_nobody")), Fault::LoginRefused);
    }

    #[test]
    fn what_another_transaction_is_in_the_way_of_may_be_tried_again() {
        for number in [1213, 1205, 1020, 3101] {
            assert!(meaning(number, "").is_conflict(), "{number}");
        }
        // The transaction goes on.
        assert_eq!(meaning(1205, ""), Fault::Conflict);
    }
}
