//! Is the server one on which an outbox can rest?
//!
//! A relay publishes events in the order of their numbers, which is right as long as a transaction
//! draws its numbers while it holds the locks of its rows, and a relay sees all of what was
//! committed before its statement. Databases that only speak the protocol of MySQL, replicas, and
//! engines without transactions are otherwise.

use std::collections::BTreeMap;

use sqlx::{MySqlConnection, Row as _};

use crate::error::{ErrorKind, OutboxError};
use crate::store::diagnosis::Unfit;
use crate::store::names::{Names, sql};

/// What a server says of itself.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// The variables that matter, as they are in this session, those that it knows.
    variables: BTreeMap<String, String>,
    /// The outbox's tables with another engine than InnoDB, and those engines.
    other_engines: Vec<(String, String)>,
}

/// Those of either database. A variable that one does not know is left out of the answer.
const VARIABLES: &str = "\
show session variables where variable_name in (
  'version', 'version_comment', 'log_bin', 'binlog_format', 'sync_binlog', 'innodb_flush_log_at_trx_commit',
  'read_only', 'super_read_only', 'innodb_read_only', 'max_allowed_packet', 'max_connections', 'innodb_snapshot_isolation')";

/// Of the schema of the names, or of the session's database.
const OTHER_ENGINES: &str = "\
select table_name as table_name, engine as engine from information_schema.tables
where table_schema = {database} and table_name in ({tables}) and engine <> 'InnoDB'
order by table_name";

pub(super) const TABLES: [&str; 12] = [
    "discarded",
    "event",
    "inbox",
    "key_queue",
    "lane",
    "migration",
    "parked",
    "parked_key",
    "pause",
    "relay",
    "sent",
    "slot",
];

/// What they are called, and what their servers call themselves.
const ONLY_BY_PROTOCOL: [&str; 4] = ["TiDB", "OceanBase", "Vitess", "SingleStore"];
const OLDEST_MYSQL: (u32, u32) = (8, 0);
const OLDEST_MARIADB: (u32, u32) = (10, 6);

/// Checks the server at the other end, and the tables on it, if there are any.
///
/// # Errors
/// If the server cannot hold an outbox (kind `Config`), takes no writes, or could not be asked.
pub(super) async fn check(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<(), OutboxError> {
    let server = Server::of(connection, names).await?;
    if let Some(unfit) = server.unfit() {
        return Err(refused(&server.name(), &unfit));
    }
    // It may be one of a failover: the next connection may lead to the new primary.
    if server.is_read_only() { Err(read_only(&server.name())) } else { Ok(()) }
}

impl Server {
    pub(super) async fn of(
        connection: &mut MySqlConnection,
        names: &Names,
    ) -> Result<Self, sqlx::Error> {
        let rows = sqlx::raw_sql(VARIABLES).fetch_all(&mut *connection).await?;
        let variable = |row: &sqlx::mysql::MySqlRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let variables = rows.iter().map(variable).collect::<Result<_, sqlx::Error>>()?;
        let database = if names.schema.is_some() { "?" } else { "database()" };
        let statement = OTHER_ENGINES
            .replace("{database}", database)
            .replace("{tables}", &["?"; TABLES.len()].join(", "));
        let mut others = sqlx::query_as(sql(statement)).persistent(false);
        if let Some(schema) = &names.schema {
            others = others.bind(schema);
        }
        for table in TABLES {
            others = others.bind(format!("{}{table}", names.prefix));
        }
        let other_engines = others.fetch_all(connection).await?;
        Ok(Self { variables, other_engines })
    }

    fn text(&self, variable: &str) -> &str {
        self.variables.get(variable).map_or("", String::as_str)
    }

    pub(super) fn number(&self, variable: &str) -> Option<u64> {
        self.text(variable).parse().ok()
    }

    pub(super) fn is_on(&self, variable: &str) -> bool {
        matches!(self.text(variable), "ON" | "1")
    }

    fn is_mariadb(&self) -> bool {
        self.text("version").to_ascii_lowercase().contains("mariadb")
    }

    /// Name and version.
    pub(super) fn name(&self) -> String {
        const LONGEST: usize = 100;
        let version = self.text("version");
        let database = if self.is_mariadb() { "MariaDB" } else { "MySQL" };
        let name = match self.impostor() {
            Some(impostor) => format!("{impostor}, as MySQL {version}"),
            None => format!("{database} {version}"),
        };
        name.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
    }

    pub(super) fn is_read_only(&self) -> bool {
        ["read_only", "super_read_only", "innodb_read_only"].iter().any(|name| self.is_on(name))
    }

    /// Whether a commit that was acknowledged survives a crash of the machine. Without its end, a
    /// binary log takes commits back: they are compared with it when the server starts.
    pub(super) fn commits_reach_the_disk(&self) -> bool {
        let is_flushed = matches!(self.text("innodb_flush_log_at_trx_commit"), "1" | "3");
        is_flushed && (!self.is_on("log_bin") || self.text("sync_binlog") == "1")
    }

    /// Whether a transaction at `REPEATABLE READ` is refused what others have changed since it
    /// began. `None`: the server has no such setting.
    pub(super) fn snapshot_isolation(&self) -> Option<bool> {
        let name = "innodb_snapshot_isolation";
        self.variables.contains_key(name).then(|| self.is_on(name))
    }

    fn impostor(&self) -> Option<&'static str> {
        let said = [self.text("version"), self.text("version_comment")];
        ONLY_BY_PROTOCOL.into_iter().find(|name| said.iter().any(|said| said.contains(name)))
    }

    /// Why an outbox cannot be on it. `None`: it can.
    pub(super) fn unfit(&self) -> Option<Unfit> {
        let unfit = |why: String, fix: &str| Some(Unfit { why, fix: fix.to_owned() });
        if let Some(impostor) = self.impostor() {
            return unfit(
                format!(
                    "{impostor} only speaks the protocol of MySQL: the numbers of its rows are not in the order in which \
                     transactions have the locks of their rows, so a relay would publish events out of order"
                ),
                "use MySQL 8.0 or MariaDB 10.6 itself, or later ones, self-managed or of a cloud (RDS, Aurora, Cloud SQL, \
                 Azure, …)",
            );
        }
        let oldest = if self.is_mariadb() { OLDEST_MARIADB } else { OLDEST_MYSQL };
        if release(self.text("version")).is_none_or(|release| release < oldest) {
            return unfit(
                "it is older than MySQL 8.0 and MariaDB 10.6, and lacks what a relay's statements need (`json_table`, `nowait`)"
                    .to_owned(),
                "upgrade it",
            );
        }
        if self.is_on("log_bin") && self.text("binlog_format") == "STATEMENT" {
            return unfit(
                "its binary log has statements (binlog_format = STATEMENT): InnoDB refuses to write to such a log in \
                 transactions at READ COMMITTED, which those of relays and consumers are"
                    .to_owned(),
                "set binlog_format = ROW (or MIXED), globally, and connect again",
            );
        }
        if let Some((table, engine)) = self.other_engines.first() {
            return unfit(
                format!(
                    "the outbox's table {table} has the engine {engine}, and not InnoDB. Events of transactions that roll back \
                     could be published, and those of others be lost"
                ),
                "stop what emits, and convert each of the outbox's tables: alter table … engine = InnoDB",
            );
        }
        None
    }
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    // What MariaDB says to replicas of old versions, and a proxy to everyone.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn refused(server: &str, unfit: &Unfit) -> OutboxError {
    let Unfit { why, fix } = unfit;
    OutboxError::config(format!(
        "this database cannot hold an outbox: {server}. {why}. Nothing was started or changed, and events that are in the \
         outbox stay there. What to do: {fix}"
    ))
}

fn read_only(server: &str) -> OutboxError {
    OutboxError::new(
        ErrorKind::Database,
        format!(
            "the server takes no writes (read_only): {server}. It is a replica, as in the middle of a failover. Nothing was \
             written, and the events stay in the outbox; the address must lead to the primary"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(variables: &[(&str, &str)]) -> Server {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Server { variables: variables.iter().map(owned).collect(), other_engines: Vec::new() }
    }

    fn why(server: &Server) -> String {
        server.unfit().map(|unfit| unfit.why).unwrap_or_default()
    }

    #[test]
    fn a_server_that_is_too_old_or_only_speaks_the_protocol_is_refused() {
        for version in ["8.0.15", "8.4.3", "9.1.0", "10.6.0-MariaDB", "5.5.5-10.11.6-MariaDB-log"] {
            assert_eq!(why(&server(&[("version", version)])), "", "{version}");
        }
        for version in ["5.7.44", "10.5.29-MariaDB-0+deb11u1", "unknown", ""] {
            assert!(why(&server(&[("version", version)])).contains("older"), "{version}");
        }
        let tidb = server(&[("version", "8.0.11-TiDB-v7.5.0")]);
        assert!(why(&tidb).contains("out of order") && tidb.name().starts_with("TiDB"));
    }

    #[test]
    fn a_log_of_statements_is_refused_only_where_it_is_written() {
        let log = |is_on| {
            let log = [("version", "8.0.15"), ("log_bin", is_on), ("binlog_format", "STATEMENT")];
            why(&server(&log))
        };
        assert!(log("ON").contains("READ COMMITTED"));
        assert_eq!(log("OFF"), "");
    }

    #[test]
    fn a_table_without_transactions_is_refused() {
        let table = ("outbox_event".to_owned(), "MyISAM".to_owned());
        let server = Server { other_engines: vec![table], ..server(&[("version", "8.0.15")]) };
        assert!(why(&server).contains("outbox_event has the engine MyISAM"));
    }

    #[test]
    fn a_commit_reaches_the_disk_if_both_logs_do() {
        let reaches = |flush, log, sync| {
            let flush = ("innodb_flush_log_at_trx_commit", flush);
            server(&[flush, ("log_bin", log), ("sync_binlog", sync)]).commits_reach_the_disk()
        };
        assert!(reaches("1", "OFF", "0") && reaches("1", "ON", "1"));
        assert!(!reaches("1", "ON", "0") && !reaches("2", "OFF", "1"));
    }

    #[test]
    fn all_tables_are_examined() {
        let schema = include_str!("schema_v1.sql");
        for table in TABLES {
            let creates = ["create table {", "create table if not exists {"];
            let is_created =
                creates.iter().any(|create| schema.contains(&format!("{create}{table}}}")));
            assert!(is_created || table == "migration", "{table}");
        }
        assert_eq!(schema.matches("create table ").count() + 1, TABLES.len());
    }
}
