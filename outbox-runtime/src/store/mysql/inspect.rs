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

/// Transactions that no statement runs in, of this database. Needs the right `PROCESS`.
const OF_OTHERS: &str = "\
select concat('of connection ', p.id, ' of the server, since ', t.trx_started) as open
from information_schema.innodb_trx t
join information_schema.processlist p on p.id = t.trx_mysql_thread_id
where p.db = database() and p.command = 'Sleep' and p.id <> connection_id()";

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
        match connection.fetch_all(sqlx::raw_sql(OF_OTHERS)).await {
            Ok(rows) => {
                for row in rows {
                    open.push(row.try_get("open")?);
                }
                Ok(open)
            }
            Err(error) if fault_of(&error) == Fault::Denied => Ok(open),
            Err(error) => Err(error),
        }
    }
}
