//! `cargo xtask up` and `down`: servers that stay between commands.

mod running;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Error;
use crate::net::{is_free, wait_for};
use crate::paths::{create_dir_all, remove_dir_all, servers_dir};
use crate::servers::{
    Kafka, KafkaOptions, MySql, MySqlOptions, MySqlServer, PgOptions, PgVersion, Postgres, Secured,
    fetch_all,
};
use crate::tools::Tool;
use running::{Running, read_state, write_state};

const POSTGRES: &str = "postgres";
const KAFKA: &str = "kafka";
const MYSQL: &str = "mysql";
/// Long enough for Postgres to write a checkpoint on a slow disk.
const STOP_BOUND: Duration = Duration::from_secs(30);
/// Of the secured Postgres. Its rules ask for the password of a user by the database's name.
const USER: &str = "outbox";
const PASSWORD: &str = "outbox-secret";
const DATABASE: &str = "by_password";

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// Servers of their own that take only TLS and a password, as most managed ones do
    #[arg(long, conflicts_with = "mysql")]
    secured: bool,
    /// A MariaDB 10.11, too
    #[arg(long)]
    mysql: bool,
}

impl Up {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let home = Home::new(self.secured)?;
        let _lock = home.lock()?;
        let asked = if self.mysql { &[POSTGRES, KAFKA, MYSQL][..] } else { &[POSTGRES, KAFKA] };
        // One that an earlier command was asked for may have stopped since.
        for server in home.ensure(asked)?.iter().filter(|server| server.is_alive()) {
            println!("export {}='{}'", variable(&server.name), server.address);
        }
        if self.secured {
            home.secrets().iter().for_each(|(name, value)| println!("export {name}='{value}'"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// By which a server is named to tests.
fn variable(server: &str) -> &'static str {
    match server {
        POSTGRES => "DATABASE_URL",
        MYSQL => "MYSQL_URL",
        _ => "KAFKA_BROKERS",
    }
}

pub(super) fn down() -> Result<ExitCode, Error> {
    let mut alive = 0;
    for secured in [false, true] {
        let home = Home::new(secured)?;
        let _lock = home.lock()?;
        let servers = read_state(&home.dir);
        alive += servers.iter().filter(|server| server.is_alive()).count();
        stop(&servers)?;
        // The next `up` gives each its port again: what was told of it stays true.
        let stopped: Vec<Running> = servers.into_iter().map(Running::stopped).collect();
        write_state(&home.dir, &stopped)?;
    }
    eprintln!("{}", if alive == 0 { "nothing is up" } else { "down" });
    Ok(ExitCode::SUCCESS)
}

/// Where the servers of one kind are.
struct Home {
    dir: PathBuf,
    secured: bool,
}

impl Home {
    fn new(secured: bool) -> Result<Self, Error> {
        let dir = servers_dir().join(if secured { "up-secured" } else { "up" });
        create_dir_all(&dir)?;
        Ok(Self { dir, secured })
    }

    /// Two commands at a time would start two of each.
    fn lock(&self) -> Result<File, Error> {
        let path = self.dir.join("up.lock");
        File::create(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| Error::io(format_args!("lock {}", path.display()), error))
    }

    /// Starts those of the asked ones that do not run, each on the port that it had. One that runs
    /// is left alone: programs are connected to it. Returns what is known of all.
    fn ensure(&self, asked: &[&str]) -> Result<Vec<Running>, Error> {
        let begin = Instant::now();
        let mut servers = read_state(&self.dir);
        let missing: Vec<&str> = asked
            .iter()
            .copied()
            .filter(|name| !servers.iter().any(|server| server.name == *name && server.is_alive()))
            .collect();
        if missing.is_empty() {
            eprintln!("already up");
            return Ok(servers);
        }
        let options = MySqlOptions { fsync: true, ..MySqlOptions::default() };
        let mysql: &[MySqlServer] = if asked.contains(&MYSQL) { &[options.server] } else { &[] };
        fetch_all(&[PgVersion::V15], mysql, &[Tool::Java])?;
        for name in missing {
            let before = servers.iter().position(|server| server.name == name);
            let before = before.map(|place| servers.remove(place));
            let before = before.as_ref();
            match name {
                POSTGRES => self.start_postgres(before, &mut servers)?,
                MYSQL => self.start_mysql(before, &mut servers, options.clone())?,
                _ => self.start_kafka(before, &mut servers)?,
            }
        }
        eprintln!(
            "up in {:.1} s; logs and data are in {}",
            begin.elapsed().as_secs_f64(),
            self.dir.display()
        );
        Ok(servers)
    }

    fn start_postgres(
        &self,
        before: Option<&Running>,
        servers: &mut Vec<Running>,
    ) -> Result<(), Error> {
        let version = PgVersion::V15;
        remove_elsewhere(before)?;
        let options = PgOptions { fsync: true, tls: self.secured, ..PgOptions::default() };
        let port = port_again(POSTGRES, before);
        let postgres = Postgres::start_on(port, version, &self.dir.join(POSTGRES), options)?;
        let url = if self.secured {
            postgres.create(USER, PASSWORD, DATABASE)?;
            format!(
                "postgres://{USER}@127.0.0.1:{}/{DATABASE}?sslmode=verify-full&sslrootcert={}",
                postgres.port(),
                postgres.certificates()?.authority().display()
            )
        } else {
            postgres.url().to_owned()
        };
        eprintln!("postgres {version} at {url}");
        if let Some(traces) = postgres.traces() {
            servers.push(Running::new(POSTGRES, &url, traces));
        }
        // Until it is detached, it ends with this process, so that no server is left without a
        // record of it.
        write_state(&self.dir, servers)?;
        postgres.detach();
        self.tell_of_elsewhere(servers.last());
        Ok(())
    }

    fn start_mysql(
        &self,
        before: Option<&Running>,
        servers: &mut Vec<Running>,
        options: MySqlOptions,
    ) -> Result<(), Error> {
        remove_elsewhere(before)?;
        let server = options.server;
        let port = port_again(MYSQL, before);
        let mysql = MySql::start_on(port, &self.dir.join(MYSQL), options)?;
        eprintln!("{server} at {}", mysql.url());
        if let Some(traces) = mysql.traces() {
            servers.push(Running::new(MYSQL, mysql.url(), traces));
        }
        write_state(&self.dir, servers)?;
        mysql.detach();
        self.tell_of_elsewhere(servers.last());
        Ok(())
    }

    fn tell_of_elsewhere(&self, server: Option<&Running>) {
        let Some(Running { name, elsewhere: Some(elsewhere), .. }) = server else { return };
        eprintln!(
            "the data of {name} is in {} until it stops: its user cannot reach {}",
            elsewhere.display(),
            self.dir.display()
        );
    }

    fn start_kafka(
        &self,
        before: Option<&Running>,
        servers: &mut Vec<Running>,
    ) -> Result<(), Error> {
        let port = port_again(KAFKA, before);
        let options = KafkaOptions { secured: self.secured, ..KafkaOptions::default() };
        let kafka = Kafka::start_on(port, &self.kafka(), options)?;
        let brokers = if self.secured { kafka.secured()?.sasl() } else { kafka.brokers().into() };
        eprintln!("kafka at {brokers}");
        if let Some(traces) = kafka.traces() {
            servers.push(Running::new(KAFKA, &brokers, traces));
        }
        write_state(&self.dir, servers)?;
        kafka.detach();
        Ok(())
    }

    fn kafka(&self) -> PathBuf {
        self.dir.join(KAFKA)
    }

    /// The variables besides the addresses, by which clients are let in.
    fn secrets(&self) -> [(&'static str, String); 6] {
        let authority = Secured::authority(&self.kafka()).display().to_string();
        [
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("OUTBOX_KAFKA_SECURITY_PROTOCOL", "sasl_ssl".to_owned()),
            ("OUTBOX_KAFKA_SSL_CA_LOCATION", authority),
            ("OUTBOX_KAFKA_SASL_MECHANISMS", "SCRAM-SHA-512".to_owned()),
            ("OUTBOX_KAFKA_SASL_USERNAME", Secured::USER.to_owned()),
            ("OUTBOX_KAFKA_SASL_PASSWORD", Secured::PASSWORD.to_owned()),
        ]
    }
}

/// Removes what a server that has died left outside of `target`.
fn remove_elsewhere(before: Option<&Running>) -> Result<(), Error> {
    let elsewhere = before.and_then(|server| server.elsewhere.as_deref());
    elsewhere.map_or(Ok(()), remove_dir_all)
}

/// The port that a server had, unless another program listens there now.
fn port_again(name: &str, before: Option<&Running>) -> Option<u16> {
    let port = before?.port()?;
    if is_free(port) {
        return Some(port);
    }
    eprintln!(
        "another program listens on port {port}, where {name} was, so it gets a new one: set the variables again"
    );
    None
}

/// Stops what still runs.
fn stop(servers: &[Running]) -> Result<(), Error> {
    for server in servers.iter().filter(|server| server.is_alive()) {
        // Postgres: SIGINT ends the sessions, SIGTERM would wait for them.
        server.signal(if server.name == POSTGRES { Signal::INT } else { Signal::TERM });
    }
    for server in servers {
        if wait_for(STOP_BOUND, || (!server.is_alive()).then_some(())).is_none() {
            eprintln!(
                "{} did not stop within {} s: it is killed",
                server.name,
                STOP_BOUND.as_secs()
            );
            server.kill();
        }
        if let Some(elsewhere) = &server.elsewhere {
            remove_dir_all(elsewhere)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Stops them, however the test ends.
    struct Servers<'a>(&'a Path);

    impl Drop for Servers<'_> {
        fn drop(&mut self) {
            let _ = stop(&read_state(self.0));
        }
    }

    #[test]
    fn the_one_that_died_is_started_on_its_port_and_the_others_are_left_alone() {
        let dir = crate::ScratchDir::new("unit").unwrap();
        let _servers = Servers(dir.path());
        let home = Home { dir: dir.path().to_owned(), secured: false };
        let all = [POSTGRES, KAFKA, MYSQL];
        let first = home.ensure(&all).unwrap();
        let kafka = first.iter().find(|server| server.name == KAFKA).unwrap();
        kafka.kill();

        let second = home.ensure(&all).unwrap();
        let places = |servers: &[Running]| {
            let mut places: Vec<_> = servers
                .iter()
                .map(|server| (server.name.clone(), server.address.clone()))
                .collect();
            places.sort();
            places
        };
        let up = second.iter().filter(|server| server.is_alive()).count();
        let untouched = second.iter().filter(|server| first.contains(server)).count();
        let recorded = read_state(dir.path());

        assert_eq!((places(&second), up), (places(&first), 3));
        assert_eq!(untouched, 2, "another was restarted: {first:?} {second:?}");
        assert_eq!(recorded, second);
    }

    #[test]
    fn a_server_that_is_not_asked_for_is_left_as_it_is() {
        let dir = crate::ScratchDir::new("unit").unwrap();
        let _servers = Servers(dir.path());
        let home = Home { dir: dir.path().to_owned(), secured: false };
        let [mysql] = &home.ensure(&[MYSQL]).unwrap()[..] else { panic!("it alone is asked for") };
        mysql.kill();

        let known = home.ensure(&[]).unwrap();

        assert_eq!(known, std::slice::from_ref(mysql), "its port stays known");
        assert!(!known[0].is_alive());
        assert_eq!(variable(&known[0].name), "MYSQL_URL");
    }
}
