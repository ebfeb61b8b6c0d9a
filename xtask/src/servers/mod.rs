//! Disposable servers: started on a free port, killed and restarted at will, gone when dropped.

mod connect;
mod kafka;
mod pgbouncer;
mod postgres;
mod unprivileged;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub(crate) use connect::{Connect, ConnectOptions, DEBEZIUM};
pub use kafka::{Kafka, KafkaOptions};
pub use pgbouncer::PgBouncer;
pub use postgres::{PgOptions, PgVersion, Postgres};

use crate::net::wait_for;
use crate::process::Daemon;

/// By what another process finds a server again.
pub(crate) struct Traces {
    pub(crate) pid: i32,
    /// An argument of its command line which no other program has.
    pub(crate) mark: String,
    /// A directory outside of `target` to remove once it has stopped.
    pub(crate) elsewhere: Option<PathBuf>,
}

/// Longer than any start seen on a busy machine, crash recovery included.
const START_BOUND: Duration = Duration::from_secs(90);

/// Why a server does not answer.
enum NotReady {
    Ended(ExitStatus),
    Silent,
}

fn wait_until_ready(daemon: &mut Daemon, mut answers: impl FnMut() -> bool) -> Result<(), NotReady> {
    wait_for(START_BOUND, || {
        if let Some(status) = daemon.ended() {
            return Some(Err(NotReady::Ended(status)));
        }
        answers().then_some(Ok(()))
    })
    .unwrap_or(Err(NotReady::Silent))
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(status) => write!(f, "ended while it started ({status})"),
            Self::Silent => write!(f, "runs but did not answer within {} s", START_BOUND.as_secs()),
        }
    }
}
