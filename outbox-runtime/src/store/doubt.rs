//! Whether a transaction still stands, so that a commit has to ask only where it is in doubt.

/// What is known of a transaction by the answers to its statements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// The last thing known is not the success of a statement.
    pub(crate) now: bool,
    /// A statement failed, or may have failed unseen, at any time.
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

    /// The connection is handed out: what is done on it is not seen.
    pub(crate) fn out_of_sight(&mut self) {
        self.statement_refused();
    }
}
