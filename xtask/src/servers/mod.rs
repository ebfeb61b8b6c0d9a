//! Disposable servers: started on a free port, killed and restarted as a test likes, stopped when
//! dropped.

mod connect;
pub(crate) mod kafka;
mod mysql;
mod pgbouncer;
mod place;
mod postgres;
pub(crate) mod registry;
mod session;
mod unprivileged;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

pub use connect::Connect;
pub(crate) use connect::{
    ConnectOptions, DEBEZIUM, DEBEZIUM_OF_MARIA_DB, Setup, Source, postgres_libraries,
};
pub use kafka::{
    Acl, Kafka, KafkaCluster, KafkaOptions, Operation, Partition, Proxied, Resource, Secured,
};
pub use mysql::{MySql, MySqlOptions, MySqlServer};
pub use pgbouncer::PgBouncer;
pub use postgres::{PgOptions, PgVersion, Postgres, Standby};
pub use registry::SchemaRegistry;
pub(crate) use unprivileged::User;

use crate::net::wait_for;
use crate::paths::{create_dir_all, servers_dir};
use crate::process::Daemon;
use crate::tools::{Tool, is_installed};
use crate::{Error, disk};

/// Fetches what a command needs, before it begins: Postgres in these versions, these servers that
/// speak MySQL's protocol, Kafka, and these programs.
///
/// # Errors
///
/// All that is missing is in one message, room on the disk included.
pub(crate) fn fetch_all(
    versions: &[PgVersion],
    mysql: &[MySqlServer],
    tools: &[Tool],
) -> Result<(), Error> {
    const NOT_FETCHED: [(&str, &str); 4] =
        [("cc", "build-essential"), ("make", "build-essential"), ("tar", "tar"), ("sh", "dash")];

    let absent =
        NOT_FETCHED.iter().filter(|(program, _)| !is_installed(program)).map(|(program, package)| {
            format!("`{program}` is not on this machine. Install it (Debian: `apt-get install {package}`)")
        });
    let mut missing: Vec<String> = absent.collect();
    let mut note = |result: Result<(), Error>| {
        let message = result.err().map(|error| error.to_string());
        missing.extend(message.filter(|message| !missing.contains(message)));
    };
    tools.iter().for_each(|tool| note(tool.command().map(drop)));
    versions.iter().for_each(|version| note(postgres::fetch(*version).map(drop)));
    mysql.iter().for_each(|server| note(mysql::fetch(*server).map(drop)));
    note(kafka::fetch().map(drop));
    let dir = servers_dir();
    note(create_dir_all(&dir).and_then(|()| disk::has_room_to_begin(&dir)));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("nothing was run, for this is missing:\n- {}", missing.join("\n- "))))
}

/// What another process needs to find a server again.
pub(crate) struct Traces {
    pub(crate) pid: i32,
    /// An argument of its command line that no other program has.
    pub(crate) mark: String,
    /// A directory outside of `target` to remove once it has stopped.
    pub(crate) elsewhere: Option<PathBuf>,
}

/// The longest time for a start: more than any seen on a busy machine, with crash recovery.
const START_BOUND: Duration = Duration::from_secs(90);

/// Why a server does not answer.
enum NotReady {
    Ended(ExitStatus),
    Silent,
}

fn wait_until_ready(
    daemon: &mut Daemon,
    mut answers: impl FnMut() -> bool,
) -> Result<(), NotReady> {
    wait_for(START_BOUND, || {
        if let Some(status) = daemon.ended() {
            return Some(Err(NotReady::Ended(status)));
        }
        answers().then_some(Ok(()))
    })
    .unwrap_or(Err(NotReady::Silent))
}

/// A server that was killed on purpose has no daemon.
fn still_runs(daemon: Option<&mut Daemon>, what: &str, log: &Path) -> Result<(), Error> {
    match daemon.and_then(Daemon::ended) {
        Some(status) => Err(Error::server(format_args!("{what} ended by itself ({status})"), log)),
        None => Ok(()),
    }
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(status) => write!(f, "ended while it started ({status})"),
            Self::Silent => write!(f, "runs but did not answer within {} s", START_BOUND.as_secs()),
        }
    }
}
