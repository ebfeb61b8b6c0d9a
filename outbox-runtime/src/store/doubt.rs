//! Whether a transaction is still open and not aborted, so that a commit has to ask only if that is
//! in doubt.

/// What the answers to its statements say about a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Whether the last known answer is not the success of a statement.
    pub(crate) now: bool,
    /// Whether a statement ever failed, or may have failed unseen.
    pub(crate) ever: bool,
}

impl Doubt {
    pub(crate) fn statement_began(&mut self) {
        self.now = true;
    }

    pub(crate) fn statement_succeeded(&mut self) {
        self.now = false;
    }

    pub(crate) fn statement_refused(&mut self) {
        *self = Self { now: true, ever: true };
    }

    /// The connection is handed out, and what happens on it is not seen.
    pub(crate) fn out_of_sight(&mut self) {
        self.statement_refused();
    }
}
