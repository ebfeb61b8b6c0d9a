//! The commands of `cargo xtask`; `cargo xtask help` lists them.

mod bench;
mod fuzz;
mod summary;
mod test;
mod up;

use std::process::ExitCode;

use crate::Error;

const HELP: &str = "\
cargo xtask <command>

  test [args…]   Run `cargo test --workspace --all-features [args…]` against real servers. Those that are
                 not named by DATABASE_URL (the main Postgres), DATABASE_URL_ALT (a second one of another
                 version) and KAFKA_BROKERS are started for the run and stopped after it.
  fuzz [--pg 14..18|15,18] [--minutes 5] [--seed SEED]
                 Run `tests/fuzz.rs` for that long on each version of Postgres: relays killed and suspended,
                 the broker restarted, transactions that commit late, under load.
  soak [--seconds 180] [--seed SEED]
                 Run `tests/soak.rs` for that long: consumers that leave, join and are killed, the broker
                 restarted, handlers that fail, garbage among the messages.
  stress [args…] Run `test` beside four busy loops: no test rests on how fast the machine is.
  up             Start a Postgres and a Kafka that stay; prints what a shell evaluates:
                 eval \"$(cargo xtask up)\"
  down           Stop them; their data stays for the next `up`.
  bench macros   Measure what the macros cost, in CPU seconds of the compiler and in service calls on a
                 Postgres with fsync, next to the same by hand and to other macros. Takes about 10 minutes.
  bench relay [figure…]
                 Measure the relay next to a producer alone, a loop written by hand and Debezium: drain,
                 growth, latency, disturbances, writers, consumers; all of them take about an hour.
  help           Print this.

The servers' programs are fetched once into target/servers, before anything else is done: by Maven, and what
the machine lacks for that (Java 17, Maven, xz, PgBouncer) from Debian's packages, without root. A C compiler,
make and tar must be there. `test` fetches nothing beforehand if all three variables are set.
";

/// Runs the command which the arguments name, and returns the status to exit with.
pub fn run(arguments: Vec<String>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_deref() {
        Some("test") => test::run(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("soak") => fuzz::soak(&rest),
        Some("stress") => fuzz::stress(&rest),
        Some("bench") => bench::run(&rest),
        Some("up") if rest.is_empty() => up::up(),
        Some("down") if rest.is_empty() => up::down(),
        None | Some("help" | "-h" | "--help") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(unknown) => {
            let what = [&[unknown.to_owned()], rest.as_slice()].concat().join(" ");
            eprint!("`{what}` is no command\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|error: Error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
