//! `cargo xtask up` and `down`: servers that stay between commands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::net::wait_for;
use crate::paths::{create_dir_all, remove_dir_all, servers_dir};
use crate::procfs;
use crate::servers::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres, Traces, fetch_all};
use crate::tools::Tool;

const POSTGRES: &str = "postgres";
const KAFKA: &str = "kafka";
/// Long enough for Postgres to write a checkpoint on a slow disk.
const STOP_BOUND: Duration = Duration::from_secs(30);

pub(super) fn up() -> Result<ExitCode, Error> {
    let dir = home()?;
    let _lock = lock(&dir)?;
    let mut servers = read_state(&dir);
    if servers.len() == 2 && servers.iter().all(Running::is_alive) {
        eprintln!("already up");
    } else {
        // One of two may have died, or the machine was restarted.
        stop(&dir, &servers)?;
        servers = start(&dir)?;
    }
    for Running { name, address, .. } in &servers {
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
    stop(&dir, &servers)?;
    eprintln!("{}", if alive == 0 { "nothing is up" } else { "down" });
    Ok(ExitCode::SUCCESS)
}

fn start(dir: &Path) -> Result<Vec<Running>, Error> {
    fetch_all(&[PgVersion::V15], &[Tool::Java])?;
    let begin = Instant::now();
    let postgres = Postgres::start(
        PgVersion::V15,
        &dir.join(POSTGRES),
        PgOptions { fsync: true, ..PgOptions::default() },
    )?;
    eprintln!("postgres {} at {}", PgVersion::V15, postgres.url());
    let kafka = Kafka::start(&dir.join(KAFKA), KafkaOptions::default())?;
    eprintln!("kafka at {}", kafka.brokers());
    let traces = [
        postgres.traces().map(|traces| Running::new(POSTGRES, postgres.url(), traces)),
        kafka.traces().map(|traces| Running::new(KAFKA, kafka.brokers(), traces)),
    ];
    let servers: Vec<Running> = traces.into_iter().flatten().collect();
    // Until they are detached, both end with this process, so that no server is left without a
    // record of it.
    write_state(dir, &servers)?;
    postgres.detach();
    kafka.detach();
    for directory in servers.iter().filter_map(|server| server.elsewhere.as_deref()) {
        eprintln!(
            "the data of Postgres is in {} until `down`: its user cannot reach {}",
            directory.display(),
            dir.display()
        );
    }
    eprintln!(
        "up in {:.1} s; logs and data are in {}",
        begin.elapsed().as_secs_f64(),
        dir.display()
    );
    Ok(servers)
}

/// Stops what still runs, and removes the record of all.
fn stop(dir: &Path, servers: &[Running]) -> Result<(), Error> {
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
    match fs::remove_file(state_file(dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format_args!("remove {}", state_file(dir).display()), error))
        }
        _ => Ok(()),
    }
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

/// Without a state file nothing is up.
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
