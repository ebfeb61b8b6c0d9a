//! A relay as a process that dies where a test wants it to: the test program again, which finds in
//! its environment that it is to be that relay.

use std::future::ready;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::wait::eventually_some;

const SIGABRT: i32 = 6;

/// Dropped, it is killed.
pub struct Doomed(Child);

impl Doomed {
    /// Runs the test `name` of this program, with these variables.
    pub fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until it has died at its failpoint.
    pub async fn dies(mut self) {
        let ended = || ready(self.0.try_wait().unwrap());
        let status = eventually_some("the relay comes to the failpoint", ended).await;
        assert_eq!(
            status.signal(),
            Some(SIGABRT),
            "it dies at the failpoint, and of nothing else: {status}"
        );
    }

    /// SIGSTOP and SIGCONT: a machine that is suspended, and resumed later.
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
