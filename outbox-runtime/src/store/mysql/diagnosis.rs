//! What a server and its settings mean for an outbox.

use sqlx::{MySql, MySqlConnection, MySqlPool, Row as _};

use super::server::Server;
use super::{connection, statement};
use crate::store::admin::at;
use crate::store::databases::fault_of;
use crate::store::diagnosis::{Connections, Diagnosis, OpenTransaction, TransactionRow};
use crate::store::error::StoreError;
use crate::store::fault::Fault;
use crate::store::names::Names;
use crate::store::sealed::Diagnose;

const SELF: &str = "select current_user() as user_name, {now} as now_micros";

const OPEN: &str = "show global status where variable_name = 'Threads_connected'";

/// Needs the right `PROCESS`. Each holds back what the server may remove of deleted events, which a
/// relay then reads past. The time at which one began is the server's local time.
const LONGEST: &str = "\
select cast(t.trx_mysql_thread_id as signed) as pid, concat(p.user, '@', p.host) as application, p.command as state,
       timestampdiff(microsecond, convert_tz(t.trx_started, 'SYSTEM', '+00:00'), utc_timestamp(6)) as age_micros,
       concat('kill ', t.trx_mysql_thread_id) as ended_by
from information_schema.innodb_trx t
join information_schema.processlist p on p.id = t.trx_mysql_thread_id
where p.id <> connection_id()
order by t.trx_started limit 1";

/// Of the latest events that are there: pending, parked, or retained.
const TOPICS: &str = "\
select distinct l.topic from (
  (select topic from {event} force index (primary) order by seq desc limit 1000) union all
  (select topic from {parked} order by seq desc limit 1000) union all
  (select topic from {sent} order by seq desc limit 1000)) l
order by l.topic limit 1000";

impl Diagnose for MySql {
    async fn diagnose(pool: &MySqlPool, names: &Names) -> Result<Diagnosis, StoreError> {
        let mut tx = connection::begin_reading(pool).await?;
        let server = Server::of(&mut tx, names).await?;
        let this = sqlx::query(statement(names, SELF)).persistent(false);
        let this = this.fetch_one(&mut *tx).await?;
        let open = sqlx::raw_sql(OPEN).fetch_one(&mut *tx).await?;
        let open: String = open.try_get(1)?;
        let connections = Connections {
            open: open.parse().unwrap_or_default(),
            most: server.number("max_connections").unwrap_or_default(),
        };
        let longest = longest(&mut tx).await?;
        let topics = topics(&mut tx, names).await?;
        tx.rollback().await?;
        Ok(Diagnosis {
            server: server.name(),
            user: Some(this.try_get("user_name")?),
            at: at(this.try_get("now_micros")?),
            unfit: server.unfit(),
            is_read_only: server.is_read_only(),
            is_pooled: false,
            commits_reach_the_disk: server.commits_reach_the_disk(),
            synchronous_standbys: None,
            connections: Some(connections),
            sees_transactions: longest.is_some(),
            longest_transaction: longest.flatten(),
            notify_queue: None,
            longest_statement: server.number("max_allowed_packet"),
            snapshot_isolation: server.snapshot_isolation(),
            is_of_another_cluster: false,
            topics,
            lacking_rights: None,
        })
    }
}

/// `None`: this user may not see the transactions of others.
async fn longest(
    connection: &mut MySqlConnection,
) -> Result<Option<Option<OpenTransaction>>, sqlx::Error> {
    let longest = sqlx::query_as(LONGEST).persistent(false).fetch_optional(connection).await;
    match longest {
        Ok(row) => Ok(Some(row.map(|row: TransactionRow| row.into()))),
        Err(error) if fault_of(&error) == Fault::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// None if there are no tables, or this user may not read them.
async fn topics(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<Vec<String>, sqlx::Error> {
    let topics = sqlx::query_scalar(statement(names, TOPICS)).persistent(false);
    match topics.fetch_all(connection).await {
        Err(error) if matches!(fault_of(&error), Fault::Denied | Fault::MissingTable) => {
            Ok(Vec::new())
        }
        topics => topics,
    }
}
