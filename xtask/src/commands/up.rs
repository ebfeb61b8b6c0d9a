//! `cargo xtask up` and `down`: servers that stay between commands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::net::{is_free, wait_for};
use crate::paths::{create_dir_all, remove_dir_all, servers_dir};
use crate::procfs;
use crate::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres, Traces, fetch_all};
use crate::tools::Tool;

const POSTGRES: &str = "postgres";
const KAFKA: &str = "kafka";
/// No process has this number.
const NO_PROCESS: i32 = 0;
/// Long enough for Postgres to write a checkpoint on a slow disk.
const STOP_BOUND: Duration = Duration::from_secs(30);

pub(super) fn up() -> Result<ExitCode, Error> {
    let dir = home()?;
    let _lock = lock(&dir)?;
    for Running { name, address, .. } in &ensure(&dir)? {
        let variable = if name == POSTGRES { "DATABASE_URL" } else { "KAFKA_BROKERS" };
        println!("export {variable}={address}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down() -> Result<ExitCode, Error> {
    let dir = home()?;
    let _lock = lock(&dir)?;
    let servers = read_state(&dir);
    let alive = servers.iter().filter(|server| server.is_alive()).count();
    stop(&servers)?;
    // The next `up` gives each its port again: what was told of it stays true.
    let stopped: Vec<Running> = servers.into_iter().map(Running::stopped).collect();
    write_state(&dir, &stopped)?;
    eprintln!("{}", if alive == 0 { "nothing is up" } else { "down" });
    Ok(ExitCode::SUCCESS)
}

/// Starts those of the two that do not run, each on the port that it had. One that runs is left
/// alone: programs are connected to it.
fn ensure(dir: &Path) -> Result<Vec<Running>, Error> {
    let begin = Instant::now();
    let mut servers = read_state(dir);
    let missing: Vec<&str> = [POSTGRES, KAFKA]
        .into_iter()
        .filter(|name| !servers.iter().any(|server| server.name == *name && server.is_alive()))
        .collect();
    if missing.is_empty() {
        eprintln!("already up");
        return Ok(servers);
    }
    fetch_all(&[PgVersion::V15], &[Tool::Java])?;
    for name in missing {
        let before = servers.iter().position(|server| server.name == name);
        let before = before.map(|place| servers.remove(place));
        if name == POSTGRES {
            start_postgres(dir, before.as_ref(), &mut servers)?;
        } else {
            start_kafka(dir, before.as_ref(), &mut servers)?;
        }
    }
    eprintln!(
        "up in {:.1} s; logs and data are in {}",
        begin.elapsed().as_secs_f64(),
        dir.display()
    );
    Ok(servers)
}

fn start_postgres(
    dir: &Path,
    before: Option<&Running>,
    servers: &mut Vec<Running>,
) -> Result<(), Error> {
    let version = PgVersion::V15;
    if let Some(elsewhere) = before.and_then(|server| server.elsewhere.as_deref()) {
        remove_dir_all(elsewhere)?;
    }
    let options = PgOptions { fsync: true, ..PgOptions::default() };
    let port = port_again(POSTGRES, before);
    let postgres = Postgres::start_on(port, version, &dir.join(POSTGRES), options)?;
    eprintln!("postgres {version} at {}", postgres.url());
    if let Some(traces) = postgres.traces() {
        servers.push(Running::new(POSTGRES, postgres.url(), traces));
    }
    // Until it is detached, it ends with this process, so that no server is left without a record
    // of it.
    write_state(dir, servers)?;
    postgres.detach();
    if let Some(elsewhere) = servers.last().and_then(|server| server.elsewhere.as_deref()) {
        eprintln!(
            "the data of Postgres is in {} until it stops: its user cannot reach {}",
            elsewhere.display(),
            dir.display()
        );
    }
    Ok(())
}

fn start_kafka(
    dir: &Path,
    before: Option<&Running>,
    servers: &mut Vec<Running>,
) -> Result<(), Error> {
    let port = port_again(KAFKA, before);
    let kafka = Kafka::start_on(port, &dir.join(KAFKA), KafkaOptions::default())?;
    eprintln!("kafka at {}", kafka.brokers());
    if let Some(traces) = kafka.traces() {
        servers.push(Running::new(KAFKA, kafka.brokers(), traces));
    }
    write_state(dir, servers)?;
    kafka.detach();
    Ok(())
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

fn home() -> Result<PathBuf, Error> {
    let dir = servers_dir().join("up");
    create_dir_all(&dir)?;
    Ok(dir)
}

/// Two commands at a time would start two of each.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("up.lock");
    File::create(&path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::io(format_args!("lock {}", path.display()), error))
}

/// One line of the state file: the fields with tabs between them.
#[derive(Debug, PartialEq, Eq)]
struct Running {
    name: String,
    address: String,
    pid: i32,
    mark: String,
    elsewhere: Option<PathBuf>,
}

impl Running {
    fn new(name: &str, address: &str, Traces { pid, mark, elsewhere }: Traces) -> Self {
        Self { name: name.to_owned(), address: address.to_owned(), pid, mark, elsewhere }
    }

    /// What stays known of it: its port.
    fn stopped(self) -> Self {
        Self { pid: NO_PROCESS, elsewhere: None, ..self }
    }

    /// The port in its address: behind the last colon, up to the path if there is one.
    fn port(&self) -> Option<u16> {
        self.address.rsplit(':').next()?.split('/').next()?.parse().ok()
    }

    fn is_alive(&self) -> bool {
        procfs::runs_with(self.pid, &self.mark)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = kill_process(pid, signal);
        }
    }

    fn kill(&self) {
        let children = Pid::from_raw(self.pid).map(procfs::children).unwrap_or_default();
        self.signal(Signal::KILL);
        children.iter().for_each(|child| child.kill());
        let _ = wait_for(Duration::from_secs(10), || (!self.is_alive()).then_some(()));
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Self {
            name: fields.next()?,
            address: fields.next()?,
            pid: fields.next()?.parse().ok()?,
            mark: fields.next()?,
            elsewhere: fields.next().filter(|path| !path.is_empty()).map(PathBuf::from),
        })
    }

    fn line(&self) -> String {
        let elsewhere = self.elsewhere.as_deref().unwrap_or(Path::new("")).display();
        format!("{}\t{}\t{}\t{}\t{elsewhere}\n", self.name, self.address, self.pid, self.mark)
    }
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state")
}

/// Without a state file nothing was ever up.
fn read_state(dir: &Path) -> Vec<Running> {
    let text = fs::read_to_string(state_file(dir)).unwrap_or_default();
    text.lines().filter_map(Running::parse).collect()
}

fn write_state(dir: &Path, servers: &[Running]) -> Result<(), Error> {
    let path = state_file(dir);
    fs::write(&path, servers.iter().map(Running::line).collect::<String>())
        .map_err(|error| Error::io(format_args!("write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_file_tells_what_was_written() {
        for elsewhere in [None, Some(PathBuf::from("some where"))] {
            let server = Running {
                name: KAFKA.into(),
                address: "127.0.0.1:1".into(),
                pid: 7,
                mark: "a b".into(),
                elsewhere,
            };
            assert_eq!(Running::parse(server.line().trim_end_matches('\n')), Some(server));
        }
    }

    #[test]
    fn the_one_that_died_is_started_on_its_port_and_the_other_is_left_alone() {
        /// Stops them, however the test ends.
        struct Servers<'a>(&'a Path);
        impl Drop for Servers<'_> {
            fn drop(&mut self) {
                let _ = stop(&read_state(self.0));
            }
        }

        let dir = crate::ScratchDir::new("unit").unwrap();
        let _servers = Servers(dir.path());
        let first = ensure(dir.path()).unwrap();
        let kafka = first.iter().find(|server| server.name == KAFKA).unwrap();
        kafka.kill();

        let second = ensure(dir.path()).unwrap();
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

        assert_eq!((places(&second), up), (places(&first), 2));
        assert_eq!(untouched, 1, "Postgres was restarted: {first:?} {second:?}");
        assert_eq!(recorded, second);
    }

    #[test]
    fn the_port_is_known_after_the_server_has_stopped() {
        for address in ["postgres://postgres@127.0.0.1:15432/postgres", "127.0.0.1:15432"] {
            let server = Running {
                name: POSTGRES.into(),
                address: address.into(),
                pid: 7,
                mark: "a b".into(),
                elsewhere: Some(PathBuf::from("somewhere")),
            };
            let stopped = server.stopped();
            assert_eq!((stopped.port(), &stopped.elsewhere), (Some(15_432), &None));
            assert!(!stopped.is_alive());
            assert_eq!(Running::parse(stopped.line().trim_end_matches('\n')), Some(stopped));
        }
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_server() {
        let me = i32::try_from(std::process::id()).unwrap();
        let stale = Running {
            name: POSTGRES.into(),
            address: String::new(),
            pid: me,
            mark: "not an argument of this test".into(),
            elsewhere: None,
        };
        assert!(!stale.is_alive());
    }
}
