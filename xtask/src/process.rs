//! A server as a child process which cannot outlive this one.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::net::wait_for;
use crate::procfs;

/// A running server: its process, its log and its watchdog.
///
/// Dropped, it is killed by SIGKILL.
pub(crate) struct Daemon {
    child: Child,
    watchdog: Option<Watchdog>,
}

impl Daemon {
    /// Starts `command` in the background, in a process group of its own: Ctrl-C reaches only this
    /// process, which then stops its servers in order.
    pub(crate) fn spawn(
        mut command: Command,
        log: &Path,
        orphan_signal: &str,
    ) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let (stdout, stderr) = open_log(log)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
        let child = command.spawn().map_err(|error| Error::spawn(&program, error))?;
        let mut daemon = Self { child, watchdog: None };
        daemon.watchdog = Some(Watchdog::guard(&daemon.child.id().to_string(), orphan_signal)?);
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How the server ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends `signal` and waits. Returns whether the server ended within `bound`.
    pub(crate) fn end_with(&mut self, signal: Signal, bound: Duration) -> bool {
        if self.ended().is_none() {
            let _ = kill_process(self.pid(), signal);
        }
        wait_for(bound, || self.ended()).is_some()
    }

    /// Stops the server as a frozen machine would stop it. It has stopped when this returns.
    pub(crate) fn suspend(&self) {
        let _ = kill_process(self.pid(), Signal::STOP);
        let _ = wait_for(Duration::from_secs(5), || procfs::is_stopped(self.pid()).then_some(()));
    }

    /// Kills the server and its children at once, so that none of them sees another one die.
    pub(crate) fn kill(mut self) {
        if self.ended().is_some() {
            return;
        }
        // A stopped process has no new children while they are listed.
        self.suspend();
        let children = procfs::children(self.pid());
        let _ = kill_process(self.pid(), Signal::KILL);
        children.iter().for_each(|child| child.kill());
        let _ = self.child.wait();
        let _ = wait_for(Duration::from_secs(10), || {
            children.iter().all(|child| !child.is_running()).then_some(())
        });
    }

    /// Lets the server outlive this process.
    pub(crate) fn detach(mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        // Not dropped, so not killed. It holds nothing else to release.
        std::mem::forget(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The watchdog ends before the child is collected: until then, its pid cannot belong to
        // another process.
        let _ = self.child.kill();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        let _ = self.child.wait();
    }
}

fn open_log(log: &Path) -> Result<(File, File), Error> {
    let file = File::options().create(true).append(true).open(log);
    file.and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|error| Error::io(format_args!("write the log {}", log.display()), error))
}

/// A small shell that signals a process as soon as this one has ended, even by SIGKILL.
///
/// It reads from a pipe whose other end only this process has, so it reads the end of the file when
/// this process ends. The kernel's own parent-death signal is no substitute: it fires when the
/// *thread* that started the child ends, and tests start servers in threads which end before the
/// test binary does.
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// `target` is a pid, or a process group with a minus sign.
    pub(crate) fn guard(target: &str, signal: &str) -> Result<Self, Error> {
        let shell = Command::new("sh")
            .args(["-c", "read -r _ || kill -s \"$1\" -- \"$2\"", "watchdog", signal, target])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| Error::spawn("sh", error))?;
        Ok(Self { shell })
    }

    /// Ends the watchdog without a kill.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}

/// Runs a command to its end, or to the end of this process: an orphaned download would write into
/// the directory of the next one. The output is part of the error when it fails.
pub(crate) fn run(mut command: Command, purpose: &str) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::spawn(&program, error))?;
    let watchdog = Watchdog::guard(&child.id().to_string(), "KILL")?;
    let output = child.wait_with_output();
    watchdog.dismiss();
    let output = output.map_err(|error| Error::io(format_args!("wait for `{program}`"), error))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.trim_end().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let program = PathBuf::from(program);
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    Err(Error::new(format!("`{name}` could not {purpose} ({}):\n{stdout}{stderr}", output.status)))
}
