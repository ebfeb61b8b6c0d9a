//! How a transaction of its own is to begin.

use std::time::Duration;

/// Options with which a transaction begins: for [`Outbox::begin_with`](crate::Outbox::begin_with),
/// and those of `#[transactional_outbox]`.
///
/// ```
/// use outbox::tx::{Isolation, TxOptions};
///
/// const CREATE_ORDER: TxOptions = TxOptions::new()
///     .isolation(Isolation::Serializable)
///     .name("create_order");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxOptions {
    pub(crate) isolation: Option<Isolation>,
    pub(crate) name: Option<&'static str>,
    /// Whether the transaction records conflicts.
    pub(crate) watch: bool,
    /// Time after which the database ends a statement, and a little later the transaction if its
    /// process is suspended. `None`: no limit of ours. A transaction with a limit may be abandoned
    /// at any time: dropped before its end, it closes its connection.
    pub(crate) limit: Option<Duration>,
}

/// How far a transaction is isolated from concurrent ones.
///
/// SQLite has one writer at a time, so its transactions are always serializable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it. Postgres's default.
    ReadCommitted,
    /// All statements see what was committed before the first. Postgres refuses to update a row
    /// that another transaction has updated since
    /// ([`ErrorKind::Conflict`](crate::ErrorKind::Conflict)).
    RepeatableRead,
    /// As if transactions ran one after the other. Postgres refuses what would differ from that
    /// ([`ErrorKind::Conflict`](crate::ErrorKind::Conflict)), at the latest when it commits.
    Serializable,
}

impl TxOptions {
    /// The database's defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { isolation: None, name: None, watch: false, limit: None }
    }

    /// The isolation level. Default: that of the database, the role or the connection, which may
    /// have been chosen for the business; the outbox's promises hold at each level. (A consumer's
    /// transactions are always `READ COMMITTED`: a handler that locks a row and then reads must see
    /// what the lock's last holder wrote.)
    #[must_use]
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Name of the transaction while it runs: in Postgres its connection's `application_name`,
    /// which `pg_stat_activity` and the server's log show (up to 63 bytes of ASCII). Default: the
    /// connection's own. No effect on SQLite.
    #[must_use]
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// The options of a consumer's transactions: its inbox and its locks depend on `READ
    /// COMMITTED`, and its offset, which is stored after the commit, on a commit that is on disk.
    pub(crate) const fn of_consumer(limit: Duration) -> Self {
        Self::new().isolation(Isolation::ReadCommitted).limit(limit)
    }

    pub(crate) const fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}
