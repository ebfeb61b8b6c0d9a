//! What the refusal of a database means, independently of its codes.

/// The meaning of a database's error. Each store reads its own codes, in its `fault.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// No database refuses for all of these reasons.
#[cfg_attr(not(all(feature = "postgres", feature = "mysql")), allow(dead_code))]
pub(crate) enum Fault {
    /// There is no such table, or no such schema.
    MissingTable,
    /// There is no such column, function or type: the tables are of another version than the
    /// statement.
    MissingColumn,
    /// The server says that it does not support what the statement asks for.
    Unsupported,
    /// A conflict with a concurrent transaction. The same transaction may succeed when it runs
    /// again.
    Conflict,
    /// A conflict, for which the database has rolled the whole transaction back (MySQL's deadlock).
    /// It takes each statement that follows as a transaction of its own.
    RolledBack,
    /// A lock was not granted in the time that is allowed for it.
    LockTimeout,
    /// The statement was cancelled, usually because it took too long.
    Cancelled,
    /// The statement was ended while it ran, by hand or by a time limit. Unlike one that was
    /// cancelled, it may be done: a commit whose last step was under way.
    Interrupted,
    /// The server ended the session. It may do so when a commit is done and only the answer is
    /// missing.
    SessionEnded,
    /// The database does not answer, or can do nothing now: it shuts down, has no connection left,
    /// or its disk is full.
    Unavailable,
    /// The server takes no writes: it is a standby.
    ReadOnly,
    /// An earlier statement of the transaction failed, and the database takes no more of it.
    Aborted,
    /// The role lacks a privilege.
    Denied,
    /// The server does not accept the credentials, or has no such database.
    LoginRefused,
    /// TLS with the server fails: its certificate, or ours, is not accepted.
    Tls,
    /// The session does not know a statement that was prepared in it: a transaction pooler gave the
    /// statement to another session.
    OtherSession,
    /// Anything else.
    Other,
}

impl Fault {
    /// Whether the options by which the pool connects are wrong: at a start, waiting would not
    /// change it.
    pub(crate) fn is_of_connecting(self) -> bool {
        matches!(self, Self::LoginRefused | Self::Tls)
    }

    /// Whether the same transaction may succeed when it runs again.
    pub(crate) fn is_conflict(self) -> bool {
        matches!(self, Self::Conflict | Self::RolledBack)
    }

    /// Whether nothing can be said about the statement, because the database did not get to it.
    pub(crate) fn is_unavailable(self) -> bool {
        matches!(self, Self::SessionEnded | Self::Unavailable | Self::Tls)
    }
}
