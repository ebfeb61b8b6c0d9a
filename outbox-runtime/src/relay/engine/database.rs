//! Whether the relay can use its database, and what it does and logs when it cannot.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::{Meter, target};
use crate::store::fault::Fault;

pub(super) struct Database {
    meter: Meter,
    backoff: Backoff,
    /// Time of the next attempt, since the last one failed.
    back_at: Option<Instant>,
    /// Trouble that was logged; `None` while the database answers.
    trouble: Option<Trouble>,
    /// Whether it has answered once.
    has_answered: bool,
}

/// Why the database cannot be used. Changes are logged, not each error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Away,
    ReadOnly,
    /// The server refuses the credentials, or has no such database.
    Refused,
    /// The certificate of the server, or ours, is not accepted.
    Tls,
    NoTables,
}

impl Database {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            meter,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            back_at: None,
            trouble: None,
            has_answered: false,
        }
    }

    /// Whether its last answer was no error.
    pub(super) fn is_usable(&self) -> bool {
        self.back_at.is_none()
    }

    /// Time until which it is not asked. `None`: it may be asked now.
    pub(super) fn away_until(&self, now: Instant) -> Option<Instant> {
        self.back_at.filter(|back| *back > now)
    }

    pub(super) fn answered(&mut self) {
        self.backoff.reset();
        if !self.has_answered || self.back_at.is_some() {
            self.meter.database_up(true);
        }
        self.has_answered = true;
        self.trouble = None;
        if self.back_at.take().is_some() {
            tracing::info!(target: target::RELAY, "the relay can use the database again");
        }
    }

    /// Has the relay wait, and logs why, if that is news.
    ///
    /// # Errors
    /// If the relay ends by it. A relay that has worked waits for everything that can change:
    /// credentials are rotated, a failover ends, tables are restored.
    pub(super) fn failed(&mut self, error: OutboxError, now: Instant) -> Result<(), OutboxError> {
        self.meter.database_up(false);
        let trouble = Trouble::of(&error);
        if error.kind() == ErrorKind::Config || !self.has_answered && trouble.ends_a_start() {
            return Err(error);
        }
        if self.trouble.replace(trouble) != Some(trouble) {
            tracing::warn!(target: target::RELAY, %error, "{}", trouble.what_it_means());
        }
        self.back_at = Some(now + self.backoff.pause());
        Ok(())
    }
}

impl Trouble {
    fn of(error: &OutboxError) -> Self {
        match error.fault() {
            _ if error.kind() == ErrorKind::NotMigrated => Self::NoTables,
            Fault::LoginRefused => Self::Refused,
            Fault::Tls => Self::Tls,
            Fault::ReadOnly => Self::ReadOnly,
            _ => Self::Away,
        }
    }

    /// A wrong password, a database that does not exist, a certificate that is not accepted,
    /// missing tables: at the start, waiting would not change them.
    fn ends_a_start(self) -> bool {
        matches!(self, Self::Refused | Self::Tls | Self::NoTables)
    }

    fn what_it_means(self) -> &'static str {
        match self {
            Self::Away => {
                "the relay cannot use the database: nothing is lost, it tries again until it can. Is the address right?"
            }
            Self::ReadOnly => {
                "the relay cannot use the database, which takes no writes (a standby, as in a failover): nothing is lost, it \
                 connects again until it reaches the primary. Does the address lead there?"
            }
            Self::Refused => {
                "the relay cannot use the database, which refuses its credentials: nothing is lost, it tries again, with \
                 those that the pool has then (`Pool::set_connect_options`)"
            }
            Self::Tls => {
                "the relay cannot use the database, with which TLS fails: nothing is lost, it tries again until it does not"
            }
            Self::NoTables => {
                "the relay cannot use the database, in which its tables are no more: it tries again until they are back"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_end_a_relay_and_missing_tables_only_one_that_never_worked() {
        let (now, mut database) = (Instant::now(), Database::new(Meter::default()));
        let error = |kind| OutboxError::new(kind, "no");
        assert!(database.failed(error(ErrorKind::NotMigrated), now).is_err());
        assert!(database.failed(error(ErrorKind::Database), now).is_ok(), "it may only be away");
        assert!(database.away_until(now).is_some() && !database.is_usable());
        database.answered();
        assert!(database.away_until(now).is_none() && database.is_usable());
        assert!(database.failed(error(ErrorKind::NotMigrated), now).is_ok());
        assert!(database.failed(error(ErrorKind::Config), now).is_err());
    }
}
