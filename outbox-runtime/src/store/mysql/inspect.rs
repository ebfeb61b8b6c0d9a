//! What the test kit asks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sqlx::{Executor as _, MySql, MySqlConnection, MySqlPool, Row as _};

use super::event_row::stored_event;
use super::statement;
use crate::record::StoredEvent;
use crate::store::databases::fault_of;
use crate::store::error::StoreError;
use crate::store::fault::Fault;
use crate::store::names::Names;
use crate::store::sealed::{EventWriter as _, Inspect};

const COLUMNS: &str = "\
seq, lane, id, topic, event_key, name, version, content_type, headers, payload, occurred_at, kafka_partition";

/// Pending, parked, and published ones that are retained: an event is in one of the tables.
const EVENTS: &str = "\
select {columns} from {event} union all select {columns} from {parked} union all select {columns} from {sent}
order by seq";

/// The transactions of the server, in a text. `innodb_trx` does not do: it is a copy, which the
/// server does not renew while it is read more often than each 0.1 s. Needs the right `PROCESS`.
const TRANSACTIONS: &str = "show engine innodb status";
/// Other connections in which no statement runs, of this database.
const IDLE: &str = "\
select cast(id as signed) from information_schema.processlist
where db = database() and command = 'Sleep' and id <> connection_id()";

impl Inspect for MySql {
    async fn events(pool: &MySqlPool, names: &Names) -> Result<Vec<StoredEvent>, StoreError> {
        let events = statement(names, &EVENTS.replace("{columns}", COLUMNS));
        let rows = sqlx::query(events).persistent(false).fetch_all(pool).await?;
        Ok(rows.iter().map(stored_event).collect::<Result<_, _>>()?)
    }

    async fn keep(_: &MySqlPool) -> Option<MySqlConnection> {
        None
    }

    async fn hold_answers(_: &mut MySqlConnection, _: Arc<AtomicBool>) -> Result<(), sqlx::Error> {
        // They take longer than a poll.
        Ok(())
    }

    async fn open_transactions(
        connection: &mut MySqlConnection,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut open = Vec::new();
        match MySql::ensure_not_aborted(connection).await {
            Ok(()) => open.push("of a connection in the pool".to_owned()),
            // There is none.
            Err(sqlx::Error::InvalidArgument(_)) => {}
            Err(error) => return Err(error),
        }
        let status: Vec<u8> = match connection.fetch_one(sqlx::raw_sql(TRANSACTIONS)).await {
            Ok(row) => row.try_get_unchecked("Status")?,
            Err(error) if fault_of(&error) == Fault::Denied => return Ok(open),
            Err(error) => return Err(error),
        };
        let status = String::from_utf8_lossy(&status);
        let active = active(&status);
        for row in connection.fetch_all(sqlx::raw_sql(IDLE)).await? {
            let id: i64 = row.try_get(0)?;
            let of_it = active.iter().filter(|(connection, _)| *connection == id);
            open.extend(of_it.map(|(_, transaction)| {
                format!("transaction {transaction} of connection {id} of the server")
            }));
        }
        Ok(open)
    }
}

/// The connections with a transaction that has begun, and the server's number of that.
fn active(status: &str) -> Vec<(i64, &str)> {
    let transactions = status.split("\n---").skip(1);
    let active = transactions.filter_map(|transaction| {
        let (name, state) = transaction.lines().next()?.split_once(", ")?;
        let name = name.strip_prefix("TRANSACTION ").filter(|_| state.starts_with("ACTIVE"))?;
        let (_, connection) = transaction.split_once(" thread id ")?;
        let (connection, _) = connection.split_once(',')?;
        Some((connection.parse().ok()?, name))
    });
    active.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::Connection as _;
    use uuid::Uuid;

    use super::*;
    use crate::store::mysql::test_url;
    use crate::store::names::sql;

    #[tokio::test]
    async fn a_transaction_is_told_of_as_long_as_it_is_open_and_no_longer() {
        let url = test_url();
        let mut one = MySqlConnection::connect(&url).await.unwrap();
        let mut other = MySqlConnection::connect(&url).await.unwrap();
        let database = format!("open_{}", Uuid::now_v7().simple());
        one.execute(sql(format!("create database {database}"))).await.unwrap();
        for connection in [&mut one, &mut other] {
            connection.execute(sql(format!("use {database}"))).await.unwrap();
        }
        one.execute("create table t (n int) engine = InnoDB").await.unwrap();
        for _ in 0..10 {
            one.execute("begin").await.unwrap();
            one.execute("insert into t values (1)").await.unwrap();
            // The server answers before it counts the connection as idle.
            let seen =
                async { while MySql::open_transactions(&mut other).await.unwrap().is_empty() {} };
            tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
            one.execute("commit").await.unwrap();
            assert_eq!(MySql::open_transactions(&mut other).await.unwrap(), [] as [&str; 0]);
        }
        one.execute(sql(format!("drop database {database}"))).await.unwrap();
    }

    #[test]
    fn active_transactions_are_read_from_the_status_of_both_servers() {
        let status = "\
------------\nTRANSACTIONS\n------------\nTrx id counter 1812\nLIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 421394, not started\n0 lock struct(s), heap size 1128, 0 row lock(s)
---TRANSACTION 1811, ACTIVE 3 sec\n2 lock struct(s), heap size 1128, 1 row lock(s), undo log entries 1
MySQL thread id 9, OS thread handle 1397, query id 73 localhost root
---TRANSACTION (0x7f0e2c), ACTIVE 0 sec fetching rows\nmysql tables in use 1, locked 0
MariaDB thread id 875, OS thread handle 1398, query id 74 localhost 127.0.0.1 root Sending data
select ' thread id 7,'
---TRANSACTION 1813, ACTIVE (PREPARED) 1 sec\nrollback of recovered transaction
--------\nFILE I/O\n--------\n";
        let expected = [(9, "1811"), (875, "(0x7f0e2c)")];
        assert_eq!(active(status), expected);
    }
}
