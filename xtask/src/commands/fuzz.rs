//! `cargo xtask fuzz` and `cargo xtask soak`: `tests/fuzz.rs`, `tests/fuzz_mysql.rs` and
//! `tests/soak.rs` for longer, the first two on any version of their servers. `cargo xtask stress`:
//! the whole suite on a machine that is busy with something else.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Args;

use super::cargo::BUILD_EXAMPLES;
use super::test;
use crate::paths::workspace_root;
use crate::servers::{MySqlServer, PgVersion, fetch_all};
use crate::tools::Tool;
use crate::{Error, TESTED_FEATURES, openssl};

#[derive(Debug, Args)]
pub(super) struct Fuzz {
    /// Which versions of Postgres: a range, `14..18`, or a list, `15,18`
    #[arg(long, default_value = "14..18", value_parser = versions, value_name = "VERSIONS")]
    pg: Versions,
    /// These servers instead, all at once: mariadb-10.11, mariadb-11.4, mysql-8.0
    #[arg(long, conflicts_with = "pg", value_delimiter = ',', value_name = "SERVERS")]
    mysql: Vec<MySqlServer>,
    /// How long on each version
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Replays the decisions of an earlier run, which has printed it
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Soak {
    /// How long
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// On this server, in place of Postgres: mariadb-10.11, mariadb-11.4 or mysql-8.0
    #[arg(long, value_name = "SERVER")]
    mysql: Option<MySqlServer>,
    /// Replays the decisions of an earlier run, which has printed it
    #[arg(long)]
    seed: Option<u64>,
}

impl Fuzz {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        if !self.mysql.is_empty() {
            return self.run_on_mysql();
        }
        fetch_all(&self.pg.0, &[], &[Tool::Java])?;
        let versions: Vec<String> = self.pg.0.iter().map(ToString::to_string).collect();
        let environment = [
            ("OUTBOX_FUZZ_PG", Some(versions.join(","))),
            ("OUTBOX_FUZZ_MINUTES", Some(self.minutes.to_string())),
            ("OUTBOX_SEED", self.seed.map(|seed| seed.to_string())),
        ];
        run_test("fuzz", "", &environment)
    }

    fn run_on_mysql(self) -> Result<ExitCode, Error> {
        fetch_all(&[], &self.mysql, &[Tool::Java])?;
        let servers: Vec<String> = self.mysql.iter().map(|server| server.argument()).collect();
        let environment = [
            ("OUTBOX_FUZZ_MYSQL", Some(servers.join(","))),
            ("OUTBOX_FUZZ_MINUTES", Some(self.minutes.to_string())),
            ("OUTBOX_SEED", self.seed.map(|seed| seed.to_string())),
        ];
        run_test("fuzz_mysql", "", &environment)
    }
}

impl Soak {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match &self.mysql {
            None => fetch_all(&[PgVersion::V15], &[], &[Tool::Java])?,
            Some(server) => fetch_all(&[], &[*server], &[Tool::Java])?,
        }
        let environment = [
            ("OUTBOX_SOAK_SECONDS", Some(self.seconds.to_string())),
            ("OUTBOX_SOAK_MYSQL", self.mysql.map(MySqlServer::argument)),
            ("OUTBOX_SEED", self.seed.map(|seed| seed.to_string())),
        ];
        let on = if self.mysql.is_some() { "mysql::" } else { "postgres::" };
        run_test("soak", on, &environment)
    }
}

/// The whole suite beside programs that take all the processor they can get: a test that depends on
/// the time something takes fails here.
pub(super) fn stress(arguments: &[String]) -> Result<ExitCode, Error> {
    const BUSY_LOOPS: usize = 4;

    /// Ends the loops, also if the suite panics: the scope waits for them.
    struct Done<'a>(&'a AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = Done(&done);
        for _ in 0..BUSY_LOOPS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        test::run(arguments)
    })
}

/// Runs a program of tests that starts servers of its own. `part`: of what the names of its tests
/// have.
fn run_test(
    test: &str,
    part: &str,
    environment: &[(&str, Option<String>)],
) -> Result<ExitCode, Error> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    for arguments in [
        &BUILD_EXAMPLES as &[_],
        // Of all packages, since the features are: one of them has the program.
        &[
            "test",
            "--workspace",
            "--features",
            TESTED_FEATURES,
            "--test",
            test,
            "--",
            "--nocapture",
            part,
        ],
    ] {
        let mut command = Command::new(&cargo);
        command.args(arguments).current_dir(workspace_root()).stdin(Stdio::null());
        command.envs(openssl::environment());
        for (name, value) in environment {
            command.envs(value.iter().map(|value| (name, value)));
        }
        let status = command.status().map_err(|error| Error::spawn(&cargo, error))?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Versions(Vec<PgVersion>);

/// `14..18`, both ends included, or `15,18`.
fn versions(text: &str) -> Result<Versions, String> {
    let all = PgVersion::ALL;
    let place = |number: &str| {
        let found = all.iter().position(|version| version.to_string() == number);
        found.ok_or_else(|| {
            format!("`{number}` is no version from {} to {}", all[0], all[all.len() - 1])
        })
    };
    if let Some((first, last)) = text.split_once("..") {
        let range = all.get(place(first)?..=place(last)?).unwrap_or_default();
        return if range.is_empty() {
            Err("the first is later than the last".to_owned())
        } else {
            Ok(Versions(range.to_vec()))
        };
    }
    let list: Result<_, String> = text.split(',').map(|number| Ok(all[place(number)?])).collect();
    list.map(Versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_a_range_or_a_list() {
        let shown = |text| {
            let versions = versions(text).map(|versions| versions.0);
            versions.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown("14..18").unwrap(), "14 15 16 17 18");
        assert_eq!(shown("16..16").unwrap(), "16");
        assert_eq!(shown("15,18").unwrap(), "15 18");
        for wrong in ["13", "14..19", "18..14", "", "15,", "x..y"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
