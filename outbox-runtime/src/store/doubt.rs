//! Whether a transaction is still open and not aborted, so that a commit has to ask only if that is
//! in doubt.

/// What the answers to its statements say about a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Whether the last known answer is not the success of a statement.
    pub(crate) now: bool,
    /// Whether a statement ever failed, or may have failed unseen.
    pub(crate) ever: bool,
    /// Whether a statement waits for its answer. Afterwards: whether it was given up in the middle
    /// of it.
    pub(crate) in_flight: bool,
    /// Whether the connection was handed out since the last known answer.
    pub(crate) unseen: bool,
    /// Whether the database has rolled the transaction back, and would take a statement as a
    /// transaction of its own.
    pub(crate) over: bool,
}

impl Doubt {
    pub(crate) fn statement_began(&mut self) {
        self.now = true;
    }

    pub(crate) fn statement_succeeded(&mut self) {
        self.now = false;
        self.unseen = false;
    }

    pub(crate) fn statement_refused(&mut self) {
        self.now = true;
        self.ever = true;
        self.unseen = false;
    }

    pub(crate) fn rolled_back(&mut self) {
        self.over = true;
    }

    /// Of a transaction whose statements were not seen.
    pub(crate) fn of_what_is_not_seen() -> Self {
        Self { now: true, ever: true, ..Self::default() }
    }

    /// The connection is handed out, and what happens on it is not seen.
    pub(crate) fn out_of_sight(&mut self) {
        self.statement_refused();
        self.unseen = true;
    }
}
