//! The loop that one writes by hand, for a table from which it deletes what is delivered. Like the
//! relay, it publishes nothing that a crash of the server can take back. It keeps no order when
//! events are refused, passes over events that commit late until it starts again, and cannot run
//! twice.

use std::fmt::Write as _;

use outbox::Outbox;
use outbox_bench_report::Drained;
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlConnection, Row};

use super::open;
use crate::Failure;
use crate::bare::{BareEvent, ROWS, Source, bare_events, drain_from};

/// Without the lane, and so with one index less than the outbox's.
const EVENTS: &str = "\
create table bare_event (
  seq bigint not null auto_increment primary key, id binary(16) not null, topic varchar(249) not null,
  event_key mediumblob, name varchar(255) not null, version integer not null, content_type varchar(255) not null,
  headers mediumblob not null, payload longblob, occurred_at timestamp(6) not null
) engine = InnoDB row_format = dynamic default character set utf8mb4 collate utf8mb4_bin";

/// Most events that one statement deletes.
const DELETED_AT_ONCE: usize = 5_000;

/// What is read is on disk once a later commit is.
const FLUSH: &str = "update bare_flush set flushes = flushes + 1";

pub(super) async fn create_tables(outbox: &Outbox<MySql>) -> Result<(), Failure> {
    for statement in [
        EVENTS,
        "create table bare_flush (flushes bigint not null) engine = InnoDB",
        "insert into bare_flush values (0)",
    ] {
        outbox.pool().execute(statement).await?;
    }
    Ok(())
}

pub(super) async fn drain(events: u64) -> Result<Drained, Failure> {
    let pool = open(2).await?.pool().clone();
    let reading = pool.acquire().await?.detach();
    drain_from(reading, pool.acquire().await?.detach(), events).await
}

const READ: &str = "\
select seq, id, topic, event_key, name, version, content_type, headers, payload, occurred_at
from bare_event where seq > ? order by seq limit ?";

impl Source for MySqlConnection {
    async fn read(&mut self, after: i64) -> Result<Vec<BareEvent>, Failure> {
        let rows = sqlx::query(READ).bind(after).bind(ROWS).fetch_all(&mut *self).await?;
        if !rows.is_empty() {
            self.execute(FLUSH).await?;
        }
        bare_events!(rows, serde_json::from_slice)
    }

    async fn save(&mut self, delivered: &[i64]) -> Result<(), Failure> {
        for numbers in delivered.chunks(DELETED_AT_ONCE) {
            let mut delete = "delete from bare_event where seq in (".to_owned();
            for (n, number) in numbers.iter().enumerate() {
                _ = write!(delete, "{}{number}", if n == 0 { "" } else { "," });
            }
            delete.push(')');
            (&mut *self).execute(AssertSqlSafe(delete)).await?;
        }
        Ok(())
    }
}
