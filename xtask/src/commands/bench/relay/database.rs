//! The server that holds the outbox.

use std::path::Path;

use crate::Error;
use crate::servers::{
    MySql, MySqlOptions, MySqlServer, PgOptions, PgVersion, Postgres, Source, Traces,
};

const DEBEZIUM_USER: [&str; 2] = [
    "create user if not exists debezium@'127.0.0.1' identified by 'debezium'",
    "grant select, reload, show databases, replication slave, replication client on *.* to debezium@'127.0.0.1'",
];

pub(super) enum Database {
    Postgres(Box<Postgres>),
    MySql(Box<MySql>, MySqlServer),
}

/// Whether a MariaDB has a binary log. MySQL has one by default, and MariaDB none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinaryLog {
    AsByDefault,
    /// Of rows, which is what Debezium reads.
    On,
}

impl Database {
    /// How MySQL and MariaDB are set.
    pub(super) const OF_MYSQL: &str = "fsync and a buffer pool of 1 GiB";

    pub(super) fn postgres(dir: &Path) -> Result<Self, Error> {
        let options = PgOptions { fsync: true, logical: true, ..PgOptions::default() };
        Postgres::start(PgVersion::V15, dir, options).map(|server| Self::Postgres(Box::new(server)))
    }

    pub(super) fn mysql(dir: &Path, server: MySqlServer, log: BinaryLog) -> Result<Self, Error> {
        let mut settings = vec![
            // They have the tables' pages there alone, where Postgres has the kernel's memory, too.
            "innodb-buffer-pool-size=1G".to_owned(),
            "innodb-log-file-size=512M".to_owned(),
            // By default it writes 200 pages a second while it has nothing else to do, so that the
            // backlog of one turn would be written to disk during the next.
            "innodb-io-capacity=10000".to_owned(),
            "innodb-io-capacity-max=20000".to_owned(),
            // What a backlog leaves in the binary log is several times as large as its tables.
            "binlog-expire-logs-seconds=60".to_owned(),
        ];
        if log == BinaryLog::On {
            settings.extend(["server-id=1", "log-bin=binlog", "binlog-format=ROW"].map(Into::into));
        }
        let options = MySqlOptions { server, fsync: true, settings };
        MySql::start(dir, options).map(|mysql| Self::MySql(Box::new(mysql), server))
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Postgres(server) => server.url(),
            Self::MySql(server, _) => server.url(),
        }
    }

    pub(super) fn traces(&self) -> Option<Traces> {
        match self {
            Self::Postgres(server) => server.traces(),
            Self::MySql(server, _) => server.traces(),
        }
    }

    /// Where Debezium reads: of Postgres, from this slot. Of MySQL, as a user who has what it asks
    /// for.
    pub(super) fn source<'s>(&self, slot: &'s str) -> Result<Source<'s>, Error> {
        match self {
            Self::Postgres(server) => Ok(Source::Postgres { port: server.port(), slot }),
            Self::MySql(server, kind) => {
                for statement in DEBEZIUM_USER {
                    server.query(statement)?;
                }
                Ok(Source::MySql { port: server.port(), server: *kind })
            }
        }
    }
}
