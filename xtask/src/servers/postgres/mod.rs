//! Postgres, any of five versions.

mod standby;
mod version;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use standby::Follows;
pub use standby::Standby;
pub use version::PgVersion;
pub(super) use version::fetch;

use super::place::{Fetched, Place, create_data};
use super::session::{execute, opens_session};
use super::unprivileged::User;
use super::{Traces, still_runs, wait_until_ready};
use crate::certificates::{Certificates, Identity};
use crate::paths::{ScratchDir, create_dir_all};
use crate::process::{Daemon, run};
use crate::tools::faketime_library;
use crate::{Error, net};

/// How a Postgres runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PgOptions {
    /// Whether commits reach the disk before they are acknowledged. Default: `false`.
    ///
    /// Without it, the server is faster, and its data still survives [`Postgres::kill`]: the kernel
    /// keeps what the server has written. With it, throughput is measured as in production, and
    /// data survives a crash of the machine.
    pub fsync: bool,
    /// Whether the log has what logical replication needs, `wal_level = logical`. Default: `false`.
    pub logical: bool,
    /// Whether [`Postgres::set_clock`] sets the server's clock. Default: `false`.
    pub clock: bool,
    /// Whether it takes connections with TLS, too. To the databases `by_password` and
    /// `by_certificate` it takes no others, and asks for what their names say. Default: `false`.
    pub tls: bool,
}

/// A running Postgres which trusts every connection from this machine.
///
/// Dropped, it is shut down at once. `max_connections` is 400, `max_prepared_transactions` 20.
///
/// Postgres refuses to run as root. Root's servers run as the user `postgres`, or `nobody`; when
/// that user cannot reach the directory (a clone below a directory of mode 0700), the data and a
/// copy of the program go to a directory of their own in [`std::env::temp_dir`], removed with the
/// server. No permission of an existing directory changes.
pub struct Postgres {
    version: PgVersion,
    options: PgOptions,
    user: Option<User>,
    /// Has `bin`, `lib` and `share`.
    home: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    url: String,
    daemon: Option<Daemon>,
    certificates: Option<Certificates>,
    follows: Option<Follows>,
    elsewhere: Option<ScratchDir>,
}

impl Postgres {
    /// Starts a server with its data in `dir/data` and its log in `dir/postgres.log`, and waits
    /// until it answers. Data which an earlier server of the same version left in `dir` is used
    /// again.
    ///
    /// The first start of a version fetches it, about 15 MB.
    ///
    /// # Errors
    ///
    /// A program is missing, the download fails, or the server does not start; the message has the
    /// end of its log.
    pub fn start(version: PgVersion, dir: &Path, options: PgOptions) -> Result<Self, Error> {
        Self::start_on(None, version, dir, options)
    }

    /// Starts it on a port of the caller's choice.
    pub(crate) fn start_on(
        port: Option<u16>,
        version: PgVersion,
        dir: &Path,
        options: PgOptions,
    ) -> Result<Self, Error> {
        let (mut server, parent) = Self::place(port, version, dir, options)?;
        server.init()?;
        if options.tls {
            server.certificates = Some(server.make_certificates(&parent)?);
        }
        server.run()?;
        Ok(server)
    }

    /// A server that does not run yet, and the parent of its data directory.
    fn place(
        port: Option<u16>,
        version: PgVersion,
        dir: &Path,
        options: PgOptions,
    ) -> Result<(Self, PathBuf), Error> {
        let home = fetch(version)?;
        let fetched = Fetched { server: "Postgres", home, program: "bin/postgres" };
        create_dir_all(dir)?;
        let user = User::instead_of_root()?;
        let Place { home, parent, elsewhere } = Place::find(user, fetched, dir)?;
        let [free] = net::free_ports()?;
        let port = port.unwrap_or(free);
        let server = Self {
            version,
            options,
            user,
            home,
            data: parent.join("data"),
            log: dir.join("postgres.log"),
            port,
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            daemon: None,
            certificates: None,
            follows: None,
            elsewhere,
        };
        Ok((server, parent))
    }

    /// Where to connect: `postgres://postgres@127.0.0.1:PORT/postgres`, the same after every
    /// restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The authority of a server with [`PgOptions::tls`].
    ///
    /// # Errors
    ///
    /// The server has none.
    pub fn certificates(&self) -> Result<&Certificates, Error> {
        self.certificates
            .as_ref()
            .ok_or_else(|| Error::new("this Postgres has no `PgOptions::tls`"))
    }

    /// Creates a user and its database, unless they exist.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses.
    pub(crate) fn create(&self, user: &str, password: &str, database: &str) -> Result<(), Error> {
        execute(self.port, &format!("create role {user} login password '{password}'"))?;
        execute(self.port, &format!("create database {database} owner {user}"))
    }

    /// Whether the server accepts a session now.
    pub fn answers(&self) -> bool {
        opens_session(self.port).unwrap_or(false)
    }

    /// # Errors
    ///
    /// The server has ended by itself; the message has the end of its log.
    pub(crate) fn still_runs(&mut self) -> Result<(), Error> {
        still_runs(self.daemon.as_mut(), &format!("Postgres {}", self.version), &self.log)
    }

    /// A crash: SIGKILL to the server and all its processes, which have ended when this returns.
    ///
    /// Nothing happens if the server is down already.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Starts the server again with the same data and port, and waits until it answers. A running
    /// server is stopped first.
    ///
    /// # Errors
    ///
    /// The server does not start; the message has the end of its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.shut_down(Signal::INT, STOP_BOUND);
        self.run()
    }

    /// Stops the server in order: sessions are ended, everything is written to disk.
    pub fn stop(mut self) {
        self.shut_down(Signal::INT, STOP_BOUND);
    }

    /// What it takes to stop this server from another process.
    pub(crate) fn traces(&self) -> Option<Traces> {
        Some(Traces {
            pid: self.daemon.as_ref()?.pid().as_raw_pid(),
            mark: self.data.display().to_string(),
            elsewhere: self.elsewhere.as_ref().map(|dir| dir.path().to_owned()),
        })
    }

    /// Lets the server outlive this process.
    pub(crate) fn detach(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.detach();
        }
        if let Some(dir) = self.elsewhere.take() {
            dir.hand_over();
        }
    }

    /// Sets the clock of a server with [`PgOptions::clock`] to `seconds` after the machine's, or
    /// before it; running sessions see it within a second or two. The server's own timers are not
    /// affected.
    ///
    /// # Errors
    ///
    /// The file with the time cannot be written.
    pub fn set_clock(&self, seconds: i64) -> Result<(), Error> {
        let (clock, next) = (self.clock(), self.clock().with_extension("next"));
        fs::write(&next, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&next, &clock))
            .map_err(|error| Error::io(format_args!("write {}", clock.display()), error))
    }

    fn clock(&self) -> PathBuf {
        self.data.with_file_name("clock")
    }

    /// Has the server read its time from a file of ours.
    fn preload_clock(&self, postgres: &mut Command) -> Result<(), Error> {
        let library = self.data.with_file_name("libfaketime.so.1");
        if !library.exists() {
            let fetched = faketime_library()?;
            fs::copy(&fetched, &library)
                .map_err(|error| Error::io(format_args!("copy {}", fetched.display()), error))?;
        }
        if !self.clock().exists() {
            self.set_clock(0)?;
        }
        // Read once a second, and not each time that the clock is asked: Postgres asks in its signal
        // handlers, too, and to read the file there allocates memory, which now and then breaks the
        // heap of the session that was interrupted.
        postgres
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", self.clock())
            .envs([("FAKETIME_CACHE_DURATION", "1"), ("DONT_FAKE_MONOTONIC", "1")]);
        Ok(())
    }

    fn make_certificates(&self, parent: &Path) -> Result<Certificates, Error> {
        let made = Certificates::make(&parent.join("tls"))?;
        if let Some(user) = self.user {
            user.own(&made.server().key)?;
        }
        let rules = parent.join("tls/pg_hba.conf");
        fs::write(&rules, RULES)
            .map_err(|error| Error::io(format_args!("write {}", rules.display()), error))?;
        Ok(made)
    }

    /// The settings of TLS.
    fn tls(certificates: &Certificates) -> [String; 5] {
        let Identity { certificate, key } = certificates.server();
        let file = |name, path: PathBuf| format!("{name}={}", path.display());
        let authority = certificates.authority();
        [
            "ssl=on".to_owned(),
            file("ssl_cert_file", certificate),
            file("ssl_key_file", key),
            file("hba_file", authority.with_file_name("pg_hba.conf")),
            file("ssl_ca_file", authority),
        ]
    }

    fn shut_down(&mut self, signal: Signal, bound: Duration) {
        if let Some(mut daemon) = self.daemon.take()
            && !daemon.end_with(signal, bound)
        {
            daemon.kill();
        }
    }

    fn init(&self) -> Result<(), Error> {
        create_data(&self.data, self.user, |data| {
            let mut initdb = self.program("initdb");
            initdb.current_dir(data).arg("-D").arg(data).args(INITDB_ARGUMENTS);
            run(initdb, "create the data of a Postgres server").map(drop)
        })
    }

    fn run(&mut self) -> Result<(), Error> {
        let fsync = if self.options.fsync { "on" } else { "off" };
        let wal_level = if self.options.logical { "logical" } else { "replica" };
        let mut postgres = self.program("postgres");
        postgres.current_dir(&self.data).arg("-D").arg(&self.data);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.port),
            // A socket's path would have to be short, and no test uses one.
            "unix_socket_directories=",
            "max_connections=400",
            "max_prepared_transactions=20",
            &format!("fsync={fsync}"),
            &format!("full_page_writes={fsync}"),
            &format!("wal_level={wal_level}"),
        ] {
            postgres.args(["-c", setting]);
        }
        let tls = self.certificates.iter().flat_map(Self::tls);
        for setting in tls.chain(self.follows.iter().flat_map(Follows::settings)) {
            postgres.args(["-c", &setting]);
        }
        if self.options.clock {
            self.preload_clock(&mut postgres)?;
        }
        // With SIGQUIT, an orphaned server removes its shared memory.
        let mut daemon = Daemon::spawn(postgres, &self.log, "QUIT")?;
        let port = self.port;
        wait_until_ready(&mut daemon, || opens_session(port).unwrap_or(false)).map_err(
            |reason| {
                Error::server(
                    format_args!("postgres {} on port {port} {reason}", self.version),
                    &self.log,
                )
            },
        )?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// One of the server's programs, run by a user whom it accepts.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.home.join("bin").join(name));
        if let Some(user) = self.user {
            user.apply(&mut command);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: an immediate shutdown.
        self.shut_down(Signal::QUIT, Duration::from_secs(10));
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres {} at {}", self.version, self.url)
    }
}

const STOP_BOUND: Duration = Duration::from_secs(20);

/// Who may connect to a server with TLS, and how.
const RULES: &str = "\
hostssl by_password all 127.0.0.1/32 scram-sha-256
hostssl by_certificate all 127.0.0.1/32 cert
hostnossl by_password,by_certificate all 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
";

const INITDB_ARGUMENTS: [&str; 6] = [
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    // Only data that is written later has to survive a crash.
    "--no-sync",
    "--no-instructions",
];
