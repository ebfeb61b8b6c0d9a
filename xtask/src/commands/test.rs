//! `cargo xtask test`: the whole test suite against servers which stop when the run ends.

use std::env;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::TESTED_FEATURES;
use super::summary::Summary;
use crate::net::wait_for;
use crate::paths::{self, ScratchDir};
use crate::process::Watchdog;
use crate::servers::{
    Kafka, KafkaOptions, MySql, MySqlOptions, MySqlServer, PgOptions, PgVersion, Postgres,
    fetch_all,
};
use crate::tools::Tool;
use crate::{Error, clients, disk, openssl, servers};

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let interrupt = Interrupt::listen()?;
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // Beside it, what the tests need is fetched: that waits for the network.
    let mut examples = Cargo::build_examples(&cargo)?;
    if !Servers::all_are_given() {
        fetch_all(&[MAIN, ALTERNATIVE], MySqlServer::of_this_machine(), Tool::OF_TESTS)?;
        clients::fetch()?;
        servers::registry::fetch()?;
        servers::postgres_libraries()?;
    }
    match wait(&mut examples.child, &interrupt, || Ok(())) {
        Ok((status, _)) if status.success() => drop(examples),
        Ok(_) => match interrupt.received() {
            Some(signal) => return Ok(exit_code(128 + signal)),
            None => return Err(Error::new("the examples do not build, and the tests run them")),
        },
        Err(error) => return Err(Error::io("wait for cargo", error)),
    }
    let scratch = ScratchDir::new("test")?;
    let begin = Instant::now();

    let mut servers = Servers::start(scratch.path());
    let outcome = match (&mut servers, interrupt.received()) {
        (_, Some(signal)) => Ok(Outcome { code: 128 + signal, ..Outcome::default() }),
        (Ok(servers), None) => cargo_test(&cargo, arguments, servers, &interrupt),
        (Err(_), None) => Ok(Outcome { code: 1, ..Outcome::default() }),
    };
    // In any case, and before the summary.
    let started = servers.map(|servers| servers.stop());

    let failed = !matches!(outcome, Ok(Outcome { code: 0, .. }));
    if failed && interrupt.received().is_none() && !matches!(started, Ok(0)) {
        remove_data(scratch.path());
        eprintln!("the logs of the servers stay for an hour: {}", scratch.path().display());
        scratch.leave();
    }
    started?;
    let Outcome { code, summary, broken } = outcome?;
    if let Some(summary) = summary {
        print!("{}", summary.failures());
        if let Some(broken) = broken {
            println!("the tests were stopped, and the last failures have this cause: {broken}");
        }
        println!("{summary}, in {} s", begin.elapsed().as_secs());
    }
    Ok(exit_code(code))
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The Postgres of most tests, and the one of another version.
const MAIN: PgVersion = PgVersion::V15;
const ALTERNATIVE: PgVersion = PgVersion::V18;

#[derive(Default)]
struct Outcome {
    code: i32,
    summary: Option<Summary>,
    /// Why the tests could not go on.
    broken: Option<Error>,
}

/// The servers of one run: the environment that names them, and those which were started for it.
struct Servers {
    environment: Vec<(&'static str, String)>,
    postgres: Vec<Postgres>,
    mysql: Option<MySql>,
    kafka: Option<Kafka>,
}

impl Servers {
    /// Whether the environment names all of them. Then nothing is fetched beforehand: the tests
    /// that were asked for may start no server.
    fn all_are_given() -> bool {
        ["DATABASE_URL", "DATABASE_URL_ALT", "MYSQL_URL", "KAFKA_BROKERS"]
            .into_iter()
            .all(|name| given(name).is_some())
    }

    /// Starts, at the same time, what the environment does not name.
    fn start(dir: &Path) -> Result<Self, Error> {
        let postgres = |name, version: PgVersion| {
            let what = format!("postgres {version}");
            let start = || {
                Postgres::start(
                    version,
                    &dir.join(format!("postgres-{version}")),
                    PgOptions::default(),
                )
            };
            start_unless(given(name), name, &what, start, |server| server.url().to_owned())
        };
        let mysql = || {
            let options = MySqlOptions::default();
            let what = options.server.to_string();
            let start = || MySql::start(&dir.join("mysql"), options);
            start_unless(given("MYSQL_URL"), "MYSQL_URL", &what, start, |server| {
                server.url().to_owned()
            })
        };
        let kafka = || {
            let start = || Kafka::start(&dir.join("kafka"), KafkaOptions::default());
            start_unless(given("KAFKA_BROKERS"), "KAFKA_BROKERS", "kafka", start, |server| {
                server.brokers().to_owned()
            })
        };
        let (main, alternative, mysql, kafka) = thread::scope(|scope| {
            let main = scope.spawn(|| postgres("DATABASE_URL", MAIN));
            let alternative = scope.spawn(|| postgres("DATABASE_URL_ALT", ALTERNATIVE));
            let mysql = scope.spawn(mysql);
            let kafka = kafka();
            (join(main), join(alternative), join(mysql), kafka)
        });
        let ((main_url, main), (alternative_url, alternative)) = (main?, alternative?);
        let ((mysql_url, mysql), (brokers, kafka)) = (mysql?, kafka?);
        Ok(Self {
            environment: vec![
                ("DATABASE_URL", main_url),
                ("DATABASE_URL_ALT", alternative_url),
                ("MYSQL_URL", mysql_url),
                ("KAFKA_BROKERS", brokers),
            ],
            postgres: main.into_iter().chain(alternative).collect(),
            mysql,
            kafka,
        })
    }

    /// # Errors
    ///
    /// One has ended by itself, or the disk is full: no test that fails from now on says anything.
    fn can_go_on(&mut self) -> Result<(), Error> {
        self.postgres.iter_mut().try_for_each(Postgres::still_runs)?;
        self.mysql.as_mut().map_or(Ok(()), MySql::still_runs)?;
        self.kafka.as_mut().map_or(Ok(()), Kafka::still_runs)?;
        disk::has_room_to_go_on(&paths::workspace_root())
    }

    /// How many there were.
    fn stop(self) -> usize {
        let others = usize::from(self.mysql.is_some()) + usize::from(self.kafka.is_some());
        let started = self.postgres.len() + others;
        // They are disposable: no orderly shutdown.
        drop(self);
        started
    }
}

fn given(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The address of a server, and the server if it is one of ours.
fn start_unless<S>(
    given: Option<String>,
    name: &str,
    what: &str,
    start: impl FnOnce() -> Result<S, Error>,
    address: impl FnOnce(&S) -> String,
) -> Result<(String, Option<S>), Error> {
    if let Some(given) = given {
        // Not the address: it may hold a password.
        eprintln!("{what} is not started: {name} is set");
        return Ok((given, None));
    }
    let begin = Instant::now();
    let server = start()?;
    let address = address(&server);
    eprintln!("{what} at {address}, started in {:.1} s", begin.elapsed().as_secs_f64());
    Ok((address, Some(server)))
}

/// Only the logs are kept.
fn remove_data(dir: &Path) {
    for server in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir_all(server.path().join("data"));
    }
}

/// A cargo beside this process, with all that it starts. Dropped, they end.
struct Cargo {
    child: Child,
    watchdog: Option<Watchdog>,
}

impl Cargo {
    fn spawn(cargo: &str, command: &mut Command) -> Result<Self, Error> {
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

    /// Tests run the examples as processes, and `cargo test --test …` does not build them.
    fn build_examples(cargo: &str) -> Result<Self, Error> {
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--quiet",
            "--workspace",
            "--features",
            TESTED_FEATURES,
            "--examples",
        ]);
        Self::spawn(cargo, &mut build)
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

fn cargo_test(
    cargo: &str,
    arguments: &[String],
    servers: &mut Servers,
    interrupt: &Interrupt,
) -> Result<Outcome, Error> {
    let mut test = Command::new(cargo);
    // All failures of a run are reported, not only those of the first binary that has any.
    test.args(["test", "--workspace", "--features", TESTED_FEATURES, "--no-fail-fast"])
        .args(arguments)
        .envs(servers.environment.iter().map(|(name, value)| (name, value)))
        .env(THREADS, given(THREADS).unwrap_or_else(threads))
        .stdout(Stdio::piped());
    let mut test = Cargo::spawn(cargo, &mut test)?;
    let summary = test.child.stdout.take().map(pass_on_and_sum);

    let end = wait(&mut test.child, interrupt, || servers.can_go_on());
    // Ends what a test left running in the group, which may hold an end of the pipe.
    drop(test);
    let (status, broken) = end.map_err(|error| Error::io("wait for cargo", error))?;
    let summary =
        summary.and_then(|sum| sum.recv_timeout(Duration::from_secs(10)).ok()).unwrap_or_default();

    let code = match (interrupt.received(), status.code()) {
        (Some(signal), _) => 128 + signal,
        (None, _) if broken.is_some() => 1,
        (None, Some(0)) if !summary.ran_any() => {
            eprintln!(
                "error: no test was executed, which proves nothing: check the filter in `{}`",
                arguments.join(" ")
            );
            1
        }
        (None, Some(code)) => code,
        (None, None) => 128 + status.signal().unwrap_or(0),
    };
    Ok(Outcome { code, summary: Some(summary), broken })
}

/// How many tests of a program run at the same time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Two for each core, instead of one: most tests wait for a server most of their time.
fn threads() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    // Each has connections to the same Postgres.
    (2 * cores).min(16).to_string()
}

/// Waits for cargo, and ends it when this process gets a signal, which is passed on, or when the
/// tests can't go on: for the reason returned.
fn wait(
    child: &mut Child,
    interrupt: &Interrupt,
    mut can_go_on: impl FnMut() -> Result<(), Error>,
) -> io::Result<(ExitStatus, Option<Error>)> {
    let group = Pid::from_child(child);
    let mut broken = None;
    while interrupt.received().is_none() && broken.is_none() {
        if let Some(status) = child.try_wait()? {
            return Ok((status, None));
        }
        thread::sleep(Duration::from_millis(50));
        broken = can_go_on().err();
    }
    eprintln!("stopping the tests and the servers");
    let _ = kill_process_group(group, Signal::INT);
    let ended = wait_for(Duration::from_secs(5), || child.try_wait().transpose());
    if ended.is_none() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    ended.unwrap_or_else(|| child.wait()).map(|status| (status, broken))
}

/// Copies cargo's output to ours as it comes; the sum follows at its end.
fn pass_on_and_sum(mut output: ChildStdout) -> mpsc::Receiver<Summary> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut summary = Summary::default();
        let mut line = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            let chunk = &buffer[..length];
            let mut stdout = io::stdout().lock();
            // A closed pipe on our side is no reason to stop the tests.
            let _ = stdout.write_all(chunk).and_then(|()| stdout.flush());
            for byte in chunk {
                if *byte == b'\n' {
                    summary.add_line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(*byte);
                }
            }
        }
        let _ = sender.send(summary);
    });
    receiver
}

/// Ctrl-C or SIGTERM.
struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// The first signal is remembered. The second one ends this process at once; the watchdogs then
    /// kill what it has started.
    fn listen() -> Result<Self, Error> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            let value = usize::try_from(number).unwrap_or(0);
            signal_hook::flag::register_conditional_shutdown(
                number,
                128 + number,
                Arc::clone(&again),
            )
            .and_then(|_| signal_hook::flag::register(number, Arc::clone(&again)))
            .and_then(|_| signal_hook::flag::register_usize(number, Arc::clone(&signal), value))
            .map_err(|error| Error::io("listen for Ctrl-C", error))?;
        }
        Ok(Self { signal })
    }

    fn received(&self) -> Option<i32> {
        i32::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}
