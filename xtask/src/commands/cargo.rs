//! Cargo as a process beside this one, and what it prints.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::interrupt::Interrupt;
use super::summary::Summary;
use crate::net::wait_for;
use crate::process::Watchdog;
use crate::{Error, TESTED_FEATURES, openssl, paths};

/// Arguments that build what the tests run as processes. A test builds the good code itself.
pub(super) const BUILD_EXAMPLES: [&str; 8] = [
    "build",
    "--quiet",
    "--workspace",
    "--exclude",
    "good-code",
    "--features",
    TESTED_FEATURES,
    "--examples",
];

/// A cargo with all that it starts. Dropped, they end.
pub(super) struct Cargo {
    child: Child,
    watchdog: Option<Watchdog>,
}

impl Cargo {
    pub(super) fn spawn(cargo: &str, command: &mut Command) -> Result<Self, Error> {
        let child = command
            .envs(openssl::environment())
            .current_dir(paths::workspace_root())
            // In the background of the terminal, where it would be stopped if it read.
            .stdin(Stdio::null())
            // A group of its own: a signal to this process alone reaches cargo and its test binaries
            // too, as one from the terminal does.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::spawn(cargo, error))?;
        let watchdog = Watchdog::guard(&format!("-{}", child.id()), "KILL")?;
        Ok(Self { child, watchdog: Some(watchdog) })
    }

    /// Waits for its end, and ends it when this process gets a signal, which is passed on, or when
    /// the tests can't go on: for the reason returned.
    pub(super) fn wait(
        &mut self,
        interrupt: &Interrupt,
        can_go_on: impl Fn() -> Result<(), Error>,
    ) -> Result<(ExitStatus, Option<Error>), Error> {
        let error = |error| Error::io("wait for cargo", error);
        let group = Pid::from_child(&self.child);
        let mut broken = None;
        while interrupt.received().is_none() && broken.is_none() {
            if let Some(status) = self.child.try_wait().map_err(error)? {
                return Ok((status, None));
            }
            thread::sleep(Duration::from_millis(50));
            broken = can_go_on().err();
        }
        // One of several says it.
        static SAID: Once = Once::new();
        SAID.call_once(|| eprintln!("stopping the tests and the servers"));
        let _ = kill_process_group(group, Signal::INT);
        let ended = wait_for(Duration::from_secs(5), || self.child.try_wait().transpose());
        if ended.is_none() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = ended.unwrap_or_else(|| self.child.wait()).map_err(error)?;
        Ok((status, broken))
    }

    /// Has what it prints passed on, if that is piped; the sum follows at its end.
    pub(super) fn pass_on_and_sum(&mut self, pieces: Pieces) -> Option<mpsc::Receiver<Summary>> {
        self.child.stdout.take().map(|output| pass_on_and_sum(output, pieces))
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}

/// In what pieces output is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pieces {
    /// As it comes: the name of a test before its result.
    Any,
    /// Of one among several processes.
    Lines,
}

/// Copies cargo's output to ours as it comes.
fn pass_on_and_sum(mut output: ChildStdout, pieces: Pieces) -> mpsc::Receiver<Summary> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut summary = Summary::default();
        let mut line = Vec::new();
        let mut buffer = [0; 8192];
        let mut held = Vec::new();
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            let chunk = &buffer[..length];
            held.extend_from_slice(chunk);
            let last_end = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let shown = match pieces {
                Pieces::Lines if held.len() < LONGEST_LINE => last_end,
                Pieces::Any | Pieces::Lines => held.len(),
            };
            let mut stdout = io::stdout().lock();
            // A closed pipe on our side is no reason to stop the tests.
            let _ = stdout.write_all(&held[..shown]).and_then(|()| stdout.flush());
            held.drain(..shown);
            for byte in chunk {
                if *byte == b'\n' {
                    summary.add_line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(*byte);
                }
            }
        }
        let _ = io::stdout().lock().write_all(&held);
        let _ = sender.send(summary);
    });
    receiver
}

/// A longer line is passed on in several pieces.
const LONGEST_LINE: usize = 64 * 1024;
