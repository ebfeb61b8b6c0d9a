//! The commands of `cargo xtask`; `cargo xtask help` lists them.

mod bench;
mod cargo;
mod fuzz;
mod guide;
mod interrupt;
mod summary;
mod test;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{Error, openssl};

/// Runs the tests and benchmarks of outbox against real servers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = SERVERS)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

const SERVERS: &str = "\
The servers' programs are fetched once into target/servers, before anything else is done: by Maven,
and what the machine lacks for that (Java 17, Maven, xz, PgBouncer, the headers of OpenSSL) and MariaDB
10.11 from Debian's packages, without root. A C compiler, make and tar must be there. `test` fetches
nothing beforehand if all four variables are set.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run `cargo test --workspace [ARGS]…` against real servers
    ///
    /// Servers that are not named by DATABASE_URL (the main Postgres), DATABASE_URL_ALT (a second
    /// one of another version), MYSQL_URL (MariaDB 10.11) and KAFKA_BROKERS are started for the run
    /// and stopped after it.
    Test(CargoTest),
    /// What cargo runs a program of tests by, beside others
    #[command(hide = true, disable_help_flag = true)]
    RunUnlessBeside {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run `tests/fuzz.rs` for longer, on each version of Postgres; or `tests/fuzz_mysql.rs`
    ///
    /// Relays are killed and suspended, the broker is restarted, transactions commit late, all of
    /// it under load.
    Fuzz(fuzz::Fuzz),
    /// Run `tests/soak.rs` for longer
    ///
    /// Consumers leave, join and are killed, the broker is restarted, handlers fail, and garbage
    /// is among the messages.
    Soak(fuzz::Soak),
    /// Run `test` beside four busy loops: no test depends on how fast the machine is
    Stress(CargoTest),
    /// Build the programs of the README and of the guide as they are written there, and run their
    /// tests if DATABASE_URL and KAFKA_BROKERS are set
    Guide,
    /// Start a Postgres and a Kafka that stay: eval "$(cargo xtask up)"
    Up(up::Up),
    /// Stop the servers of `up`; their data stays for the next `up`
    Down,
    /// Print what has cargo link an OpenSSL that is there, instead of compiling one: eval "$(cargo
    /// xtask openssl)"
    ///
    /// That of the machine, or else Debian's, which is fetched without root.
    Openssl,
    /// Measure what the README claims, side by side with others
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
struct CargoTest {
    /// Arguments of `cargo test`: `--test it leases`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Runs the command which the arguments name, the first of which is the program itself, and returns
/// the status to exit with.
pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(Arguments { command: Some(command) }) => command,
        Ok(Arguments { command: None }) => {
            print!("{}", Arguments::command().render_help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    execute(command).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn execute(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Test(CargoTest { arguments }) => test::run(&arguments),
        Command::RunUnlessBeside { program, arguments } => {
            test::run_unless_beside(&program, &arguments)
        }
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Soak(soak) => soak.run(),
        Command::Stress(CargoTest { arguments }) => fuzz::stress(&arguments),
        Command::Guide => guide::run(),
        Command::Up(up) => up.run(),
        Command::Down => up::down(),
        Command::Openssl => Ok(openssl::print()),
        Command::Bench(bench) => bench.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Arguments::try_parse_from(line.split_whitespace()).ok()?.command
    }

    #[test]
    fn the_definition_of_the_commands_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_meant_for_cargo_goes_to_cargo() {
        let Some(Command::Test(test)) = parse("xtask test --test it leases -- --nocapture") else {
            panic!("it is a command");
        };
        assert_eq!(test.arguments, ["--test", "it", "leases", "--", "--nocapture"]);
    }

    #[test]
    fn what_is_not_understood_runs_nothing() {
        for right in [
            "fuzz",
            "fuzz --pg 14..15 --minutes 3 --seed 42",
            "fuzz --mysql mariadb-10.11,mysql-8.0 --minutes 3",
            "soak --seconds 5",
            "soak --mysql mysql-8.0",
            "up",
            "up --mysql",
        ] {
            assert!(parse(&format!("xtask {right}")).is_some(), "{right}");
        }
        for wrong in [
            "fuzz --pg",
            "fuzz --minutes soon",
            "fuzz 14..18",
            "fuzz --pg 12",
            "fuzz --mysql",
            "fuzz --mysql mariadb",
            "fuzz --mysql mysql-8.0 --pg 15",
            "up now",
            "up --mysql --secured",
            "bench",
        ] {
            assert!(parse(&format!("xtask {wrong}")).is_none(), "{wrong}");
        }
    }
}
