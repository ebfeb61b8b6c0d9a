//! What a command ends with if not with success: what is said on stderr, and the exit code.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::process::ExitCode;

use outbox::{ErrorKind, OutboxError};

/// The exit codes, beside 0 for success. Those above 64 are of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed, or was refused.
    Failed = 1,
    /// The arguments are wrong. Nothing was done.
    Usage = 2,
    /// What was asked about is so: `status --fail-if-parked`.
    ConditionTrue = 3,
    /// The database or Kafka does not answer: the same may succeed later.
    Unreachable = 69,
    /// A setting is wrong, or the tables are missing: it fails until somebody changes that.
    Configuration = 78,
    /// A change of events would break their consumers.
    Contract = 100,
}

/// What is said, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// `None`: the reader of stdout has closed the pipe, as `… | head` does. That is success.
    exit: Option<Exit>,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit: Some(exit), message: message.to_string() }
    }

    /// Something failed, or was refused.
    pub fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The arguments are wrong.
    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What was asked about is so.
    pub fn condition(message: impl Display) -> Self {
        Self::new(Exit::ConditionTrue, message)
    }

    /// The database or Kafka does not answer.
    pub fn unreachable(message: impl Display) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// A setting is wrong.
    pub fn configuration(message: impl Display) -> Self {
        Self::new(Exit::Configuration, message)
    }

    /// A change of events would break their consumers.
    pub fn contract(message: impl Display) -> Self {
        Self::new(Exit::Contract, message)
    }

    /// Whether the database or Kafka did not answer.
    pub fn is_unreachable(&self) -> bool {
        self.exit == Some(Exit::Unreachable)
    }

    /// Says it on stderr, and returns the exit code.
    pub fn told(self) -> ExitCode {
        let Some(exit) = self.exit else { return ExitCode::SUCCESS };
        let begins = if exit == Exit::ConditionTrue { "" } else { "error: " };
        // If stderr is closed, there is still the exit code.
        let _ = writeln!(io::stderr(), "{begins}{}", self.message);
        ExitCode::from(exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let exit = match error.kind() {
            _ if error.is_unreachable() => Exit::Unreachable,
            ErrorKind::Config | ErrorKind::NotMigrated => Exit::Configuration,
            _ => Exit::Failed,
        };
        if error.kind() == ErrorKind::NotMigrated {
            return Self::new(
                exit,
                format!("{error}. This command does it by `outbox migrate up`"),
            );
        }
        Self::new(exit, error)
    }
}

/// Of printing.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = (error.kind() != io::ErrorKind::BrokenPipe).then_some(Exit::Failed);
        Self { exit, message: format!("cannot write the output: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(gone.exit, None);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit, Some(Exit::Failed));
    }
}
