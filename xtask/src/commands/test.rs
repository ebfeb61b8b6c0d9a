//! `cargo xtask test`: the whole test suite against servers which stop when the run ends.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cargo::{BUILD_EXAMPLES, Cargo, Pieces};
use super::interrupt::Interrupt;
use super::summary::Summary;
use crate::paths::{self, ScratchDir};
use crate::servers::{
    Kafka, KafkaOptions, MySql, MySqlOptions, MySqlServer, PgOptions, PgVersion, Postgres,
    fetch_all,
};
use crate::tools::Tool;
use crate::{Error, TESTED_FEATURES, clients, disk, servers};

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let interrupt = Interrupt::listen()?;
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // Beside it, what the tests need is fetched: that waits for the network.
    let mut examples = build_examples(&cargo, arguments.is_empty())?;
    if !Servers::all_are_given() {
        fetch_all(&[MAIN, ALTERNATIVE], MySqlServer::of_this_machine(), Tool::OF_TESTS)?;
        clients::fetch()?;
        servers::registry::fetch()?;
        servers::postgres_libraries()?;
    }
    if !examples.wait(&interrupt, || Ok(()))?.0.success() {
        return match interrupt.received() {
            Some(signal) => Ok(exit_code(128 + signal)),
            None => Err(Error::new("the examples do not build, and the tests run them")),
        };
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
    print!("{}", summary.failures());
    if let Some(broken) = broken {
        println!("the tests were stopped, and the last failures have this cause: {broken}");
    }
    println!("{summary}, in {} s", begin.elapsed().as_secs());
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
    summary: Summary,
    /// Why the tests could not go on.
    broken: Option<Error>,
}

impl Outcome {
    /// Of both: the code is that of the first that failed.
    fn and(mut self, other: Self) -> Self {
        self.summary.add(other.summary);
        let code = if self.code == 0 { other.code } else { self.code };
        Self { code, summary: self.summary, broken: self.broken.or(other.broken) }
    }
}

/// Builds what tests run as processes, which `cargo test --test …` does not build. Of the whole
/// `suite`, with the programs that run beside the others: they begin at once then.
fn build_examples(cargo: &str, suite: bool) -> Result<Cargo, Error> {
    let mut build = Command::new(cargo);
    build.args(BUILD_EXAMPLES);
    if suite {
        build.args(tests(&BESIDE.concat()));
    }
    Cargo::spawn(cargo, &mut build)
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

fn cargo_test(
    cargo: &str,
    arguments: &[String],
    servers: &mut Servers,
    interrupt: &Interrupt,
) -> Result<Outcome, Error> {
    let environment = servers.environment.clone();
    let servers = Mutex::new(servers);
    let run = Run {
        cargo,
        environment,
        can_go_on: &|| servers.lock().unwrap_or_else(PoisonError::into_inner).can_go_on(),
        interrupt,
    };
    let outcome = if arguments.is_empty() {
        thread::scope(|scope| {
            let beside = BESIDE.map(|programs| {
                let run = &run;
                scope.spawn(move || run.tests(&[], &tests(programs), Pieces::Lines))
            });
            let mut all = run.tests(&without_those(), &[], Pieces::Lines);
            for other in beside {
                let other = join(other);
                all = all.and_then(|all| Ok(all.and(other?)));
            }
            all
        })
    } else {
        run.tests(&[], arguments, Pieces::Any)
    }?;
    if outcome.code == 0 && !outcome.summary.ran_any() {
        eprintln!(
            "error: no test was executed, which proves nothing: check the filter in `{}`",
            arguments.join(" ")
        );
        return Ok(Outcome { code: 1, ..outcome });
    }
    Ok(outcome)
}

/// Programs that run beside each other and beside all the rest, those of a list one after another:
/// they mostly wait, for servers or for a compiler.
const BESIDE: [&[&str]; 2] = [&["it"], &["fuzz", "fuzz_mysql", "soak"]];

/// Arguments of cargo that select these programs.
fn tests(programs: &[&str]) -> Vec<String> {
    programs.iter().flat_map(|program| ["--test", program]).map(str::to_owned).collect()
}

/// Arguments of cargo by which it runs all but those: [`run_unless_beside`] is told of each program.
/// Cargo itself would either select the tests of the documentation, or programs.
fn without_those() -> [String; 2] {
    let xtask = env::current_exe().unwrap_or_default();
    let runner = [xtask.to_string_lossy().into_owned(), RUNNER.to_owned()];
    ["--config".to_owned(), format!("target.'cfg(all())'.runner={runner:?}")]
}

/// The command that is a runner of cargo.
const RUNNER: &str = "run-unless-beside";

/// Becomes a program of tests, unless that runs beside the others.
pub(super) fn run_unless_beside(program: &Path, arguments: &[OsString]) -> Result<ExitCode, Error> {
    if is_beside(program) {
        println!("runs beside the others");
        return Ok(ExitCode::SUCCESS);
    }
    let error = Command::new(program).args(arguments).exec();
    Err(Error::spawn(&program.to_string_lossy(), error))
}

fn is_beside(program: &Path) -> bool {
    // `debug/deps/it-449c0a60a2173a4b`
    let name = program.file_stem().and_then(|name| name.to_str()?.rsplit_once('-'));
    name.is_some_and(|(name, _)| BESIDE.concat().contains(&name))
}

/// What the commands of a run have in common.
struct Run<'a> {
    cargo: &'a str,
    environment: Vec<(&'static str, String)>,
    can_go_on: &'a (dyn Fn() -> Result<(), Error> + Sync),
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Runs tests, unless the run is to end.
    fn tests(
        &self,
        of_cargo: &[String],
        arguments: &[String],
        pieces: Pieces,
    ) -> Result<Outcome, Error> {
        if let Some(signal) = self.interrupt.received() {
            return Ok(Outcome { code: 128 + signal, ..Outcome::default() });
        }
        let mut test = Command::new(self.cargo);
        // All failures of a run are reported, not only those of the first binary that has any.
        test.args(of_cargo)
            .args(["test", "--workspace", "--features", TESTED_FEATURES, "--no-fail-fast"])
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(THREADS, given(THREADS).unwrap_or_else(threads))
            .stdout(Stdio::piped());
        let mut test = Cargo::spawn(self.cargo, &mut test)?;
        let summary = test.pass_on_and_sum(pieces);

        let end = test.wait(self.interrupt, self.can_go_on);
        // Ends what a test left running in the group, which may hold an end of the pipe.
        drop(test);
        let (status, broken) = end?;
        let summary = summary
            .and_then(|sum| sum.recv_timeout(Duration::from_secs(10)).ok())
            .unwrap_or_default();

        let code = match (self.interrupt.received(), status.code()) {
            (Some(signal), _) => 128 + signal,
            (None, _) if broken.is_some() => 1,
            (None, Some(code)) => code,
            (None, None) => 128 + status.signal().unwrap_or(0),
        };
        Ok(Outcome { code, summary, broken })
    }
}

/// How many tests of a program run at the same time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Two for each core, instead of one: most tests wait for a server most of their time.
fn threads() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    // Each has connections to the same Postgres.
    (2 * cores).min(16).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_runs_beside_the_others_is_known_by_its_file() {
        for (file, expected) in [
            ("/target/debug/deps/it-449c0a60a2173a4b", true),
            ("/target/debug/deps/fuzz_mysql-0", true),
            ("/target/debug/deps/exit_codes-449c0a60a2173a4b", false),
            ("/tmp/rustdoctest/it", false),
        ] {
            assert_eq!(is_beside(Path::new(file)), expected, "{file}");
        }
    }
}
