//! What a server and its settings mean for an outbox.

use std::fmt::Write as _;

use sqlx::{PgConnection, PgPool, Postgres};

use super::fragments::fill;
use super::lanes::LEAVES;
use super::{connection, unnamed};
use crate::store::diagnosis::{Diagnosis, LackingRight, LackingRow, ServerRow, TransactionRow};
use crate::store::error::StoreError;
use crate::store::names::Names;
use crate::store::sealed::Diagnose;

/// `transaction_read_only` would be that of this transaction.
const SERVER: &str = "\
select 'PostgreSQL ' || current_setting('server_version') as server, current_user::text as user_name,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_micros,
       pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean as is_read_only,
       current_setting('fsync')::boolean as reach_disk,
       current_setting('synchronous_standby_names') as standbys,
       (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend') as open,
       current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint as most,
       pg_notification_queue_usage() as notify_queue";

/// Of this database and others: each holds back what may be removed, and what a relay may skip.
const LONGEST: &str = "\
select pid::bigint as pid, coalesce(application_name, '') as application, coalesce(state, '') as state,
       (extract(epoch from clock_timestamp() - xact_start) * 1000000)::bigint as age_micros,
       'select pg_terminate_backend(' || pid || ')' as ended_by
from pg_catalog.pg_stat_activity
where xact_start is not null and pid <> pg_backend_pid() and backend_type = 'client backend'
order by xact_start limit 1";

const OF_ANOTHER_CLUSTER: &str = "\
select exists (select from {lane} where sysid <> (select system_identifier from pg_catalog.pg_control_system()))";

/// The latest of each lane, by the index on lane and number.
const TOPICS: &str = "\
select distinct latest.topic
from generate_series(0, 15) lane
cross join lateral (select e.topic from {event} e where e.lane = lane order by e.seq desc limit 64) latest
order by 1 limit 1000";

/// What docs/guide/postgres.md grants: who, on what, and what.
const RIGHTS: &[(&str, &str, &[&str])] = &[
    ("emitter", "migration", &["SELECT"]),
    ("emitter", "event", &["INSERT"]),
    ("consumer", "inbox", &["SELECT", "INSERT", "DELETE"]),
    ("consumer", "key_queue", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("relay", "migration", &["SELECT"]),
    ("relay", "event", &["SELECT"]),
    ("relay", "lane", &["SELECT", "INSERT", "UPDATE"]),
    ("relay", "progress", &["SELECT", "INSERT", "TRUNCATE"]),
    ("relay", "heartbeat", &["SELECT", "INSERT", "TRUNCATE"]),
    ("relay", "sequence_mark", &["SELECT", "INSERT", "TRUNCATE"]),
    ("relay", "relay", &["SELECT", "INSERT", "DELETE"]),
    ("relay", "pause", &["SELECT"]),
    ("relay", "group", &["SELECT"]),
    ("relay", "parked", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("relay", "parked_key", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("relay", "discarded", &["SELECT", "DELETE"]),
    ("exactly_once", "group", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("exactly_once", "witness", &["SELECT", "INSERT", "TRUNCATE"]),
    ("operator", "event", &["SELECT", "INSERT"]),
    ("operator", "lane", &["SELECT"]),
    ("operator", "progress", &["SELECT"]),
    ("operator", "relay", &["SELECT"]),
    ("operator", "heartbeat", &["SELECT"]),
    ("operator", "group", &["SELECT"]),
    ("operator", "parked", &["SELECT", "UPDATE", "DELETE"]),
    ("operator", "parked_key", &["SELECT", "UPDATE"]),
    ("operator", "discarded", &["SELECT", "INSERT", "DELETE"]),
    ("operator", "pause", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
];

/// Who draws numbers from the sequence.
const OF_SEQUENCE: [&str; 3] = ["emitter", "relay", "operator"];

impl Diagnose for Postgres {
    async fn diagnose(pool: &PgPool, names: &Names) -> Result<Diagnosis, StoreError> {
        let is_pooled = is_pooled(pool).await?;
        let mut tx = connection::begin_reading(pool).await?;
        let server: ServerRow = unnamed::query_as(SERVER).fetch_one(&mut *tx).await?;
        let longest: Option<TransactionRow> =
            unnamed::query_as(LONGEST).fetch_optional(&mut *tx).await?;
        let mut diagnosis = Diagnosis::of_server(server, longest, is_pooled);
        let has_tables = fill(names, "select to_regclass({'event'}) is not null");
        if unnamed::query_scalar(has_tables).fetch_one(&mut *tx).await? {
            of_tables(&mut tx, names, &mut diagnosis).await?;
        }
        tx.rollback().await?;
        Ok(diagnosis)
    }
}

async fn of_tables(
    connection: &mut PgConnection,
    names: &Names,
    diagnosis: &mut Diagnosis,
) -> Result<(), sqlx::Error> {
    let lacking: Vec<LackingRow> =
        unnamed::query_as(fill(names, &lacking_rights())).fetch_all(&mut *connection).await?;
    let lacking: Vec<LackingRight> = lacking.into_iter().map(LackingRight::from).collect();
    let may_read = |table: &str| {
        let table = names.qualified(table);
        !lacking.iter().any(|lacking| lacking.right == "SELECT" && lacking.object == table)
    };
    let (lanes, events) = (may_read("lane"), may_read("event"));
    diagnosis.lacking_rights = Some(lacking);
    if lanes {
        let asked = unnamed::query_scalar(fill(names, OF_ANOTHER_CLUSTER));
        diagnosis.is_of_another_cluster = asked.fetch_one(&mut *connection).await?;
    }
    if events {
        let asked = unnamed::query_scalar(fill(names, TOPICS));
        diagnosis.topics = asked.fetch_all(&mut *connection).await?;
    }
    Ok(())
}

/// A statement that returns the rights that the user lacks.
fn lacking_rights() -> String {
    let mut rows = String::new();
    let mut row = |who: &str, kind: &str, object: &str, privilege: &str| {
        let comma = if rows.is_empty() { "" } else { ", " };
        _ = write!(rows, "{comma}('{who}', '{kind}', {{'{object}'}}, '{privilege}')");
    };
    for (who, table, privileges) in RIGHTS {
        privileges.iter().for_each(|privilege| row(who, "table", table, privilege));
    }
    for leaf in 0..LEAVES {
        let leaf = format!("event_{leaf}");
        for (who, privilege) in [("relay", "SELECT"), ("relay", "TRUNCATE"), ("operator", "SELECT")]
        {
            row(who, "table", &leaf, privilege);
        }
    }
    for who in OF_SEQUENCE {
        row(who, "sequence", "seq", "USAGE");
    }
    format!(
        "select who, privilege, object from (values {rows}) as needed (who, kind, object, privilege) \
         where not case kind when 'table' then has_table_privilege(object, privilege) \
         else has_sequence_privilege(object, privilege) end order by who, object, privilege"
    )
}

async fn is_pooled(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let mut one = connection::connect(pool).await?;
    let mut other = connection::connect(pool).await?;
    let session = connection::session_of_its_own(&mut one, &mut other).await?;
    for connection in [one, other] {
        sqlx::Connection::close(connection).await?;
    }
    Ok(session.is_none())
}
