//! PgBouncer, the transaction pooler, in front of a Postgres.

use std::fmt;
use std::fs;
use std::path::Path;

use super::session::opens_session;
use super::unprivileged::{User, open_to_all};
use super::{Postgres, wait_until_ready};
use crate::paths::{ScratchDir, create_dir_all};
use crate::process::Daemon;
use crate::tools::Tool;
use crate::{Error, net};

/// A running PgBouncer that lends out connections to one [`Postgres`] for a transaction each.
/// Dropped, it is killed.
pub struct PgBouncer {
    url: String,
    _daemon: Daemon,
    _settings: ScratchDir,
}

impl PgBouncer {
    /// Starts one in front of `postgres`, with its log in `dir/pgbouncer.log`, and waits until it
    /// answers.
    ///
    /// Its settings are those that sqlx's prepared statements need (see the README), and it gives
    /// each transaction a different connection than the one before, so that nothing works by
    /// chance.
    ///
    /// # Errors
    ///
    /// It is not installed and cannot be fetched, or does not start; the message has the end of its
    /// log.
    pub fn start(dir: &Path, postgres: &Postgres) -> Result<Self, Error> {
        let resets = "server_reset_query = DEALLOCATE ALL\nserver_reset_query_always = 1\n";
        Self::with_settings(dir, postgres, resets)
    }

    /// The same, as PgBouncer is by default: the statements that one client has prepared stay in
    /// the session that the next one gets.
    ///
    /// # Errors
    ///
    /// As [`PgBouncer::start`].
    pub fn start_keeping_statements(dir: &Path, postgres: &Postgres) -> Result<Self, Error> {
        Self::with_settings(dir, postgres, "")
    }

    fn with_settings(dir: &Path, postgres: &Postgres, more: &str) -> Result<Self, Error> {
        create_dir_all(dir)?;
        let [port] = net::free_ports()?;
        let settings = ScratchDir::in_dir(&std::env::temp_dir(), "xtask-pgbouncer")?;
        let file = settings.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 200\nserver_round_robin = 1\n\
             {more}ignore_startup_parameters = extra_float_digits,options\n",
            postgres.port()
        );
        fs::write(&file, text)
            .and_then(|()| open_to_all(settings.path()))
            .map_err(|error| Error::io(format_args!("write {}", file.display()), error))?;
        // It refuses to run as root, as Postgres does.
        let user = User::instead_of_root()?;
        let mut command = Tool::PgBouncer.command_as(user, settings.path())?;
        command.arg(&file);
        let log = dir.join("pgbouncer.log");
        let mut daemon = Daemon::spawn(command, &log, "KILL")?;
        wait_until_ready(&mut daemon, || opens_session(port).unwrap_or(false)).map_err(
            |reason| Error::server(format_args!("pgbouncer on port {port} {reason}"), &log),
        )?;
        Ok(Self {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            _daemon: daemon,
            _settings: settings,
        })
    }

    /// Where to connect: `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for PgBouncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgBouncer at {}", self.url)
    }
}
