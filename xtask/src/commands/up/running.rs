//! What is known of the servers between commands: the state file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::net::wait_for;
use crate::servers::Traces;
use crate::{Error, procfs};

/// No process has this number.
const NO_PROCESS: i32 = 0;

/// One line of the state file: the fields with tabs between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) name: String,
    pub(super) address: String,
    pid: i32,
    mark: String,
    pub(super) elsewhere: Option<PathBuf>,
}

impl Running {
    pub(super) fn new(name: &str, address: &str, Traces { pid, mark, elsewhere }: Traces) -> Self {
        Self { name: name.to_owned(), address: address.to_owned(), pid, mark, elsewhere }
    }

    /// What stays known of it: its port.
    pub(super) fn stopped(self) -> Self {
        Self { pid: NO_PROCESS, elsewhere: None, ..self }
    }

    /// The port in its address: the number behind the host.
    pub(super) fn port(&self) -> Option<u16> {
        let (_, rest) = self.address.split_once("127.0.0.1:")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    pub(super) fn is_alive(&self) -> bool {
        procfs::runs_with(self.pid, &self.mark)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = kill_process(pid, signal);
        }
    }

    pub(super) fn kill(&self) {
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
pub(super) fn read_state(dir: &Path) -> Vec<Running> {
    let text = fs::read_to_string(state_file(dir)).unwrap_or_default();
    text.lines().filter_map(Running::parse).collect()
}

pub(super) fn write_state(dir: &Path, servers: &[Running]) -> Result<(), Error> {
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
                name: "kafka".into(),
                address: "127.0.0.1:1".into(),
                pid: 7,
                mark: "a b".into(),
                elsewhere,
            };
            assert_eq!(Running::parse(server.line().trim_end_matches('\n')), Some(server));
        }
    }

    #[test]
    fn the_port_is_known_after_the_server_has_stopped() {
        for address in [
            "postgres://postgres@127.0.0.1:15432/postgres",
            "postgres://me@127.0.0.1:15432/db?sslmode=verify-full&sslrootcert=/a:1/b",
            "127.0.0.1:15432",
        ] {
            let server = Running {
                name: "postgres".into(),
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
            name: "postgres".into(),
            address: String::new(),
            pid: me,
            mark: "not an argument of this test".into(),
            elsewhere: None,
        };
        assert!(!stale.is_alive());
    }
}
