//! MySQL, and MariaDB.

mod server;
mod session;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

pub use server::MySqlServer;
pub(super) use server::fetch;
use server::{Layout, libraries};

use super::place::{Fetched, Place, create_data, new_dir};
use super::unprivileged::User;
use super::{Traces, still_runs, wait_until_ready};
use crate::paths::{ScratchDir, create_dir_all};
use crate::process::{Daemon, run};
use crate::{Error, net};

/// How a [`MySql`] runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MySqlOptions {
    /// Which server. Default: MariaDB 10.11.
    pub server: MySqlServer,
    /// Whether commits reach the disk before they are acknowledged. Default: `false`.
    ///
    /// Without it, the server is faster, and its data still survives [`MySql::kill`]: the kernel
    /// keeps what the server has written. With it, throughput is measured as in production, and
    /// data survives a crash of the machine.
    pub fsync: bool,
    /// Settings besides those of every server, as they are written on its command line after two
    /// dashes: `binlog_format=statement`. They count over ours, from the creation of the data on.
    /// Default: none.
    pub settings: Vec<String>,
}

/// A running MySQL or MariaDB, of which `root` has no password on 127.0.0.1. It has no TLS.
///
/// Dropped, it is killed. `max_connections` is 400. Whether it has a binary log is the server's own
/// default: MySQL does, MariaDB does not.
///
/// These servers refuse to run as root, as [`Postgres`](super::Postgres) does: the same users take
/// its place, in the same directories.
pub struct MySql {
    options: MySqlOptions,
    user: Option<User>,
    /// The programs.
    home: PathBuf,
    layout: &'static Layout,
    /// The parent of the data directory.
    parent: PathBuf,
    log: PathBuf,
    port: u16,
    url: String,
    daemon: Option<Daemon>,
    elsewhere: Option<ScratchDir>,
}

impl MySql {
    /// Starts a server with its data in `dir/data` and its log in `dir/mysql.log`, and waits until
    /// it answers. Data which an earlier server of the same version left in `dir` is used again.
    ///
    /// The first start of a version fetches it: 149 MB for MariaDB 11.4, 34 MB for MySQL, 10 MB for
    /// MariaDB 10.11.
    ///
    /// # Errors
    ///
    /// A program is missing, the download fails, or the server does not start; the message has the
    /// end of its log.
    pub fn start(dir: &Path, options: MySqlOptions) -> Result<Self, Error> {
        Self::start_on(None, dir, options)
    }

    /// Starts it on a port of the caller's choice.
    pub(crate) fn start_on(
        port: Option<u16>,
        dir: &Path,
        options: MySqlOptions,
    ) -> Result<Self, Error> {
        let server = options.server;
        let home = fetch(server)?;
        let layout = Layout::of(server, &home);
        let fetched = Fetched { server: server.name(), home, program: layout.program };
        create_dir_all(dir)?;
        let user = User::instead_of_root()?;
        let Place { home, parent, elsewhere } = Place::find(user, fetched, dir)?;
        let [free] = net::free_ports()?;
        let port = port.unwrap_or(free);
        let mut server = Self {
            options,
            user,
            home,
            layout,
            parent,
            log: dir.join("mysql.log"),
            port,
            url: format!("mysql://root@127.0.0.1:{port}/{DATABASE}"),
            daemon: None,
            elsewhere,
        };
        server.init()?;
        server.run()?;
        Ok(server)
    }

    /// Where to connect: `mysql://root@127.0.0.1:PORT/outbox`, the same after every restart.
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

    /// Whether the server accepts a session now.
    pub fn answers(&self) -> bool {
        session::opens_session(self.port).unwrap_or(false)
    }

    /// Has `root` execute a statement in the database of [`url`](Self::url). Returns the first
    /// column of its last row; empty if there is none, or if it is null.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses.
    pub fn query(&self, statement: &str) -> Result<String, Error> {
        let (server, port) = (self.options.server, self.port);
        session::query(port, DATABASE, statement)
            .map_err(|error| Error::io(format_args!("ask {server} on port {port}"), error))?
            .map_err(|refusal| {
                Error::new(format!("{server} on port {port} refuses `{statement}`: {refusal}"))
            })
    }

    /// # Errors
    ///
    /// The server has ended by itself; the message has the end of its log.
    pub(crate) fn still_runs(&mut self) -> Result<(), Error> {
        still_runs(self.daemon.as_mut(), &self.options.server.to_string(), &self.log)
    }

    /// A crash: SIGKILL to the server, which has ended when this returns.
    ///
    /// Nothing happens if the server is down already.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// A machine that froze: SIGSTOP to the server. Connections stay open, and nothing is answered
    /// any more.
    pub fn suspend(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.suspend();
        }
    }

    /// Starts the server again with the same data and port, and waits until it answers. A running
    /// server is stopped first.
    ///
    /// # Errors
    ///
    /// The server does not start; the message has the end of its log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.shut_down();
        self.run()
    }

    /// Stops the server in order: sessions are ended, everything is written to disk.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// What it takes to stop this server from another process.
    pub(crate) fn traces(&self) -> Option<Traces> {
        Some(Traces {
            pid: self.daemon.as_ref()?.pid().as_raw_pid(),
            mark: datadir(&self.data()),
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

    fn shut_down(&mut self) {
        if let Some(mut daemon) = self.daemon.take()
            && !daemon.end_with(Signal::TERM, Duration::from_secs(20))
        {
            daemon.kill();
        }
    }

    fn data(&self) -> PathBuf {
        self.parent.join("data")
    }

    /// Where the server puts temporary tables.
    fn temporary(&self) -> PathBuf {
        self.parent.join("tmp")
    }

    /// What root and the database are made by. It is there until a server has executed it.
    fn first_statements(&self) -> PathBuf {
        self.parent.join("first.sql")
    }

    fn init(&self) -> Result<(), Error> {
        if !self.temporary().is_dir() {
            new_dir(&self.temporary(), self.user)?;
        }
        create_data(&self.data(), self.user, |data| {
            let (program, arguments) = self.layout.installer;
            let mut install = self.program(program);
            install.current_dir(data).arg("--no-defaults").args(self.directories(data));
            install.args(arguments).args(self.settings());
            run(install, "create the data of a MySQL server")?;
            let first = self.first_statements();
            fs::write(&first, FIRST_STATEMENTS)
                .map_err(|error| Error::io(format_args!("write {}", first.display()), error))?;
            self.user.map_or(Ok(()), |user| user.own(&first))
        })
    }

    fn run(&mut self) -> Result<(), Error> {
        let (server, port, data) = (self.options.server, self.port, self.data());
        let first = Some(self.first_statements()).filter(|path| path.exists());
        let mut mysqld = self.program(self.layout.program);
        mysqld.current_dir(&data).arg("--no-defaults").args(self.directories(&data));
        mysqld.args([
            "--bind-address=127.0.0.1",
            &format!("--port={port}"),
            // A socket's path would have to be short, and no test uses one.
            "--socket=",
            "--skip-name-resolve",
            "--skip-ssl",
            "--max-connections=400",
        ]);
        if !server.is_maria_db() {
            // A second protocol, on a port of its own.
            mysqld.arg("--mysqlx=OFF");
            // sqlx begins to log in as the server offers first, and by the newer way not without a
            // password.
            mysqld.arg("--default-authentication-plugin=mysql_native_password");
        }
        mysqld.args(first.iter().map(|path| format!("--init-file={}", path.display())));
        mysqld.args(self.settings());
        let mut daemon = Daemon::spawn(mysqld, &self.log, "KILL")?;
        wait_until_ready(&mut daemon, || session::opens_session(port).unwrap_or(false)).map_err(
            |reason| Error::server(format_args!("{server} on port {port} {reason}"), &self.log),
        )?;
        self.daemon = Some(daemon);
        first.map_or(Ok(()), |path| {
            fs::remove_file(&path)
                .map_err(|error| Error::io(format_args!("remove {}", path.display()), error))
        })
    }

    fn directories(&self, data: &Path) -> [String; 2] {
        let base = self.home.join(self.layout.base);
        [format!("--basedir={}", base.display()), datadir(data)]
    }

    /// What counts for the creation of the data, too.
    fn settings(&self) -> Vec<String> {
        let MySqlOptions { fsync, settings, .. } = &self.options;
        let (at_commit, binlog) = if *fsync { (1, 1) } else { (2, 0) };
        let ours = [
            "--character-set-server=utf8mb4".to_owned(),
            "--innodb-buffer-pool-size=64M".to_owned(),
            // 2: the log is written at each commit, and flushed once a second.
            format!("--innodb-flush-log-at-trx-commit={at_commit}"),
            format!("--sync-binlog={binlog}"),
        ];
        ours.into_iter().chain(settings.iter().map(|setting| format!("--{setting}"))).collect()
    }

    /// One of the server's programs, run by a user whom it accepts.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.home.join(name));
        command.env("LD_LIBRARY_PATH", libraries(&self.home)).env("TMPDIR", self.temporary());
        if let Some(user) = self.user {
            user.apply(&mut command);
        }
        command
    }
}

impl Drop for MySql {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.options.server, self.url)
    }
}

const DATABASE: &str = "outbox";

/// A statement a line, as the servers want them. Without name resolution, `localhost` is nobody.
const FIRST_STATEMENTS: &str = "\
create user if not exists root@'127.0.0.1' identified with mysql_native_password;
grant all privileges on *.* to root@'127.0.0.1' with grant option;
create database if not exists outbox;
";

fn datadir(data: &Path) -> String {
    format!("--datadir={}", data.display())
}
