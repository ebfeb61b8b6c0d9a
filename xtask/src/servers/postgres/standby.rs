//! A second server that follows a first one, and can take its place.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::super::session::Session;
use super::super::unprivileged::User;
use super::{PgOptions, PgVersion, Postgres};
use crate::Error;
use crate::net::wait_for;
use crate::paths::remove_dir_all;

/// Whether commits wait for a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    /// They wait until it has them, too: a failover loses none. While it is down, no commit ends.
    Synchronous,
    /// A failover loses those that it does not have.
    Asynchronous,
}

/// What a standby is told of the server that it follows.
#[derive(Debug, Clone)]
pub(super) struct Follows {
    port: u16,
    /// Its replication slot, and its name in the view `pg_stat_replication`.
    name: String,
}

impl Follows {
    pub(super) fn settings(&self) -> [String; 2] {
        let Self { port, name } = self;
        let address = format!("host=127.0.0.1 port={port} user=postgres application_name={name}");
        [format!("primary_conninfo={address}"), format!("primary_slot_name={name}")]
    }
}

/// The longest time for what a standby waits for: more than any seen on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

impl Postgres {
    /// Starts a standby of this server, with its data in `dir/data` and its log in
    /// `dir/postgres.log`, and waits until it follows. It can be read.
    ///
    /// A failover that loses no commit: [`kill`](Self::kill) this server, and
    /// [`promote`](Self::promote) the standby, which has to be a synchronous one. A failover that
    /// loses some: kill an asynchronous standby, commit, kill this server,
    /// [`restart`](Self::restart) the standby and promote it.
    ///
    /// What was set by `alter system` here is not set there.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A server with [`PgOptions::tls`] has no standby.
    pub fn start_standby(&self, dir: &Path, standby: Standby) -> Result<Self, Error> {
        if self.options.tls {
            return Err(Error::new("a Postgres with `PgOptions::tls` has no standby"));
        }
        let options = PgOptions { clock: false, ..self.options };
        let (mut server, parent) = Self::place(None, self.version, dir, options)?;
        let follows = Follows { port: self.port, name: format!("standby_{}", server.port) };
        let name = follows.name.clone();
        // `data` exists only when complete.
        let partial = parent.join("data.partial");
        remove_dir_all(&partial)?;
        self.copy_to(&partial, &name, self.user)?;
        fs::rename(&partial, &server.data)
            .map_err(|error| Error::io(format_args!("create {}", server.data.display()), error))?;
        server.follows = Some(follows);
        server.run()?;
        self.until_it_follows(&server, &name, "state = 'streaming'")?;
        if standby == Standby::Synchronous {
            let mut session = Session::open(self.port)?;
            session.query(&format!("alter system set synchronous_standby_names = '{name}'"))?;
            session.query("select pg_reload_conf()")?;
            self.until_it_follows(&server, &name, "sync_state = 'sync'")?;
        }
        Ok(server)
    }

    /// Has a standby become a server that takes writes, and waits until it is one.
    ///
    /// # Errors
    ///
    /// It is no standby, or does not answer.
    pub fn promote(&self) -> Result<(), Error> {
        let promoted = Session::open(self.port)?.query("select pg_promote(true, 80)")?;
        if promoted == "t" {
            return Ok(());
        }
        Err(Error::server("a standby of Postgres was not promoted within 80 s", &self.log))
    }

    fn until_it_follows(&self, standby: &Self, name: &str, state: &str) -> Result<(), Error> {
        let follows = format!(
            "select count(*) from pg_stat_replication where application_name = '{name}' and {state}"
        );
        let mut session = Session::open(self.port)?;
        wait_for(BOUND, || match session.query(&follows) {
            Ok(count) => (count == "1").then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })
        .unwrap_or_else(|| {
            let late = format_args!("a standby of Postgres is not one with {state} within 90 s");
            Err(Error::server(late, &standby.log))
        })
    }

    /// The fetched programs have no `pg_basebackup`: this is what it does.
    fn copy_to(&self, to: &Path, slot: &str, user: Option<User>) -> Result<(), Error> {
        let (start, stop) = if self.version < PgVersion::V15 {
            ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)")
        } else {
            ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
        };
        // The backup lasts as long as the session that began it.
        let mut session = Session::open(self.port)?;
        session.query(&format!("select pg_create_physical_replication_slot('{slot}', true)"))?;
        session.query(&format!("select {start}"))?;
        let failed = |error| Error::io(format_args!("copy {}", self.data.display()), error);
        copy_dir(&self.data, to, user).map_err(failed)?;
        let label = session.query(&format!("select labelfile from {stop}"))?;
        for (file, text) in [("backup_label", &*label), ("standby.signal", "")] {
            let file = to.join(file);
            fs::write(&file, text).and_then(|()| give(&file, user)).map_err(failed)?;
        }
        Ok(())
    }
}

/// What belongs to the running server alone, or is streamed to the standby.
const NOT_COPIED: [&str; 3] = ["postmaster.pid", "postmaster.opts", "postgresql.auto.conf"];
const LEFT_EMPTY: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

fn copy_dir(from: &Path, to: &Path, user: Option<User>) -> io::Result<()> {
    new_dir(to, user)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, to) = (entry.file_name(), to.join(entry.file_name()));
        let is_one_of = |names: &[&str]| names.iter().any(|other| name == **other);
        let copied = match entry.file_type()?.is_dir() {
            _ if is_one_of(&NOT_COPIED) => Ok(()),
            true if is_one_of(&LEFT_EMPTY) => new_dir(&to, user),
            true => copy_dir(&entry.path(), &to, user),
            false => fs::copy(entry.path(), &to).and_then(|_| give(&to, user)),
        };
        // The server goes on, and removes files: what it does is in its log, which the standby
        // gets.
        if let Err(error) = copied
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

fn new_dir(path: &Path, user: Option<User>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    give(path, user)
}

fn give(path: &Path, user: Option<User>) -> io::Result<()> {
    match user {
        Some(user) => user.own(path).map_err(io::Error::other),
        None => Ok(()),
    }
}
