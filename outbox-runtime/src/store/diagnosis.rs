//! What a database and its settings mean for an outbox.

use std::time::{Duration, SystemTime};

use super::admin::at;
use super::row::row;

/// What [`Outbox::diagnose`](crate::Outbox::diagnose) finds: facts, which `outbox doctor` judges.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Name and version of the server, or of the library (SQLite).
    pub server: String,
    /// The user that it was asked as. `None`: the database has no users.
    pub user: Option<String>,
    /// Time of the database (SQLite: of this host) at which it answered.
    pub at: SystemTime,
    /// Why no outbox can be on it: a relay would not start. `None`: one can be, or that is found
    /// out only when a relay starts (Postgres).
    pub unfit: Option<Unfit>,
    /// Whether it refuses to write: a standby, or a setting.
    pub is_read_only: bool,
    /// Whether two connections led to the same session of the server: a transaction pooler is in
    /// between.
    pub is_pooled: bool,
    /// Whether a commit that was acknowledged survives a crash of the server's machine. On SQLite,
    /// one of a connection like the one that was asked.
    pub commits_reach_the_disk: bool,
    /// The standbys that a commit waits for, as `synchronous_standby_names` has them; empty if it
    /// waits for none. `None`: the database has none.
    pub synchronous_standbys: Option<String>,
    /// Connections of the server. `None`: the database has none.
    pub connections: Option<Connections>,
    /// Whether this user may see the transactions of others (MySQL: by the right `PROCESS`).
    pub sees_transactions: bool,
    /// The transaction that has been open for longest, of those that this user may see.
    pub longest_transaction: Option<OpenTransaction>,
    /// Part of the queue of `NOTIFY` that is full, from 0 to 1. `None`: the database has none.
    pub notify_queue: Option<f64>,
    /// Bytes of the longest statement that the server accepts (`max_allowed_packet`); it ends the
    /// connection of a longer one. `None`: the database has no such limit.
    pub longest_statement: Option<u64>,
    /// Whether a transaction at `REPEATABLE READ` is refused what others have changed since it
    /// began (`innodb_snapshot_isolation`). `None`: the database has no such setting.
    pub snapshot_isolation: Option<bool>,
    /// Whether the outbox's progress is in the transaction ids of another Postgres cluster: no
    /// relay claims lanes then.
    pub is_of_another_cluster: bool,
    /// Topics of the latest events, in alphabetical order. On MySQL, of those that are pending,
    /// parked or retained.
    pub topics: Vec<String>,
    /// Rights on the outbox's tables that this user does not have, by who needs them. `None`: they
    /// are not known (MySQL), or the database has no rights (SQLite).
    pub lacking_rights: Option<Vec<LackingRight>>,
}

/// Why no outbox can be on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfit {
    /// What is so, and what it would mean.
    pub why: String,
    /// What to do.
    pub fix: String,
}

/// Connections of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Number that is open.
    pub open: u64,
    /// Number that the server allows, without those that it reserves for superusers.
    pub most: u64,
}

/// A transaction that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenTransaction {
    /// Process id of its session.
    pub pid: i64,
    /// What its program calls itself, `application_name`. On MySQL its user and host.
    pub application: String,
    /// State of its session, such as `idle in transaction`.
    pub state: String,
    /// Time for which it has been open.
    pub age: Duration,
    /// The statement that ends its session.
    pub ended_by: String,
}

/// A right that a user does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LackingRight {
    /// Who needs it: `emitter`, `relay`, `consumer` or `operator`; or `exactly_once`, a relay that
    /// delivers exactly once, beside those of `relay`.
    pub who: String,
    /// The right, such as `TRUNCATE`.
    pub right: String,
    /// Qualified name of the table or sequence.
    pub object: String,
}

row! {
    /// What a server says of itself.
    pub(crate) struct ServerRow {
        server: String,
        user_name: String,
        now_micros: i64,
        is_read_only: bool,
        reach_disk: bool,
        standbys: String,
        open: i64,
        most: i64,
        notify_queue: f64,
    }

    /// An open transaction, as a store returns it.
    pub(crate) struct TransactionRow {
        pid: i64,
        application: String,
        state: String,
        age_micros: i64,
        ended_by: String,
    }

    /// A right that is lacking, as a store returns it.
    pub(crate) struct LackingRow {
        who: String,
        privilege: String,
        object: String,
    }
}

impl Diagnosis {
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub(crate) fn of_server(
        server: ServerRow,
        longest: Option<TransactionRow>,
        is_pooled: bool,
    ) -> Self {
        let connections = Connections {
            open: server.open.max(0).unsigned_abs(),
            most: server.most.max(0).unsigned_abs(),
        };
        Self {
            server: server.server,
            user: Some(server.user_name),
            at: at(server.now_micros),
            unfit: None,
            is_read_only: server.is_read_only,
            is_pooled,
            commits_reach_the_disk: server.reach_disk,
            synchronous_standbys: Some(server.standbys),
            connections: Some(connections),
            sees_transactions: true,
            longest_transaction: longest.map(OpenTransaction::from),
            notify_queue: Some(server.notify_queue),
            longest_statement: None,
            snapshot_isolation: None,
            is_of_another_cluster: false,
            topics: Vec::new(),
            lacking_rights: Some(Vec::new()),
        }
    }
}

impl From<TransactionRow> for OpenTransaction {
    fn from(row: TransactionRow) -> Self {
        let TransactionRow { pid, application, state, age_micros, ended_by } = row;
        let age = Duration::from_micros(age_micros.max(0).unsigned_abs());
        Self { pid, application, state, age, ended_by }
    }
}

impl From<LackingRow> for LackingRight {
    fn from(LackingRow { who, privilege, object }: LackingRow) -> Self {
        Self { who, right: privilege, object }
    }
}
