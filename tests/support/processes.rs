//! The examples, and tests themselves, as processes which tests kill and pause.

use std::fs::File;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait::{eventually, eventually_some};

/// A process that is started again when it ends, as an orchestrator does.
pub struct Process {
    pub name: &'static str,
    log: PathBuf,
    command: Command,
    child: Child,
}

impl Process {
    pub fn start(
        name: &'static str,
        example: &str,
        role: &[&str],
        environment: &[(&str, &str)],
        logs: &Path,
    ) -> Self {
        let mut command = Command::new(example_program(example));
        command.args(role);
        Self::run(name, command, environment, logs)
    }

    /// The test `test` of this program again, which finds in its environment what it is to be.
    pub fn of_test(
        name: &'static str,
        test: &str,
        environment: &[(&str, &str)],
        logs: &Path,
    ) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]);
        Self::run(name, command, environment, logs)
    }

    fn run(
        name: &'static str,
        mut command: Command,
        environment: &[(&str, &str)],
        logs: &Path,
    ) -> Self {
        let path = logs.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path).unwrap();
        command
            .env("RUST_LOG", "info,outbox::consumer=debug")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        Self { name, log: path, command, child }
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP and SIGCONT: a machine that is suspended, and resumed later.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its exit code, once it has ended without a signal of ours.
    pub async fn ended(&mut self) -> Option<i32> {
        let what = format!("{} ends by itself", self.name);
        eventually_some(&what, || ready(self.child.try_wait().unwrap())).await.code()
    }

    /// Waits until its log has `words`.
    pub async fn says(&self, words: &str) {
        let says = async || std::fs::read_to_string(&self.log).unwrap().contains(words);
        eventually(&format!("{} says `{words}`", self.name), says).await;
    }

    pub fn keep_alive(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.child = self.command.spawn().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo has built this program: it is in `debug/deps` there.
pub fn target_dir() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// Cargo builds the examples along with the tests, beside them.
pub fn example_program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo build --examples` builds it",
        program.display()
    );
    program
}
