//! `cargo xtask fuzz` and `cargo xtask soak`: `tests/fuzz.rs` and `tests/soak.rs` for longer, the
//! one on any version of Postgres. `cargo xtask stress`: the whole suite on a machine that is busy
//! with something else.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::test;
use crate::Error;
use crate::paths::workspace_root;
use crate::servers::{PgVersion, fetch_all};
use crate::tools::Tool;

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let Some(Asked { versions, minutes, seed }) = Asked::parse(arguments) else {
        eprintln!(
            "which Postgres, and for how long? `cargo xtask fuzz [--pg 14..18|15,18] [--minutes 10] [--seed SEED]`"
        );
        return Ok(ExitCode::from(2));
    };
    let asked =
        |version: &PgVersion| versions.split(',').any(|number| number == version.to_string());
    fetch_all(&PgVersion::ALL.into_iter().filter(asked).collect::<Vec<_>>(), &[Tool::Java])?;
    let environment = [("OUTBOX_FUZZ_PG", versions), ("OUTBOX_FUZZ_MINUTES", minutes)];
    run_test("fuzz", environment.into_iter().chain(seed.map(|seed| ("OUTBOX_SEED", seed))))
}

/// The whole suite beside programs that take all the processor they can get: a test that rests on
/// the time something takes fails here.
pub(super) fn stress(arguments: &[String]) -> Result<ExitCode, Error> {
    const BUSY_LOOPS: usize = 4;

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..BUSY_LOOPS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = test::run(arguments);
        done.store(true, Ordering::Relaxed);
        result
    })
}

pub(super) fn soak(arguments: &[String]) -> Result<ExitCode, Error> {
    let mut environment = vec![("OUTBOX_SOAK_SECONDS", "180".to_owned())];
    for pair in arguments.chunks(2) {
        match pair {
            [option, value] if option == "--seconds" && value.parse::<u64>().is_ok() => {
                environment.push(("OUTBOX_SOAK_SECONDS", value.clone()));
            }
            [option, value] if option == "--seed" && value.parse::<u64>().is_ok() => {
                environment.push(("OUTBOX_SEED", value.clone()));
            }
            _ => {
                eprintln!("for how long? `cargo xtask soak [--seconds 180] [--seed SEED]`");
                return Ok(ExitCode::from(2));
            }
        }
    }
    fetch_all(&[PgVersion::V15], &[Tool::Java])?;
    run_test("soak", environment.into_iter())
}

/// Runs a program of tests that starts servers of its own.
fn run_test(
    test: &str,
    environment: impl Iterator<Item = (&'static str, String)>,
) -> Result<ExitCode, Error> {
    let environment: Vec<_> = environment.collect();
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    for arguments in [
        &["build", "--quiet", "--workspace", "--all-features", "--examples"] as &[_],
        &["test", "--all-features", "--test", test, "--", "--nocapture"],
    ] {
        let mut command = Command::new(&cargo);
        command.args(arguments).current_dir(workspace_root()).stdin(Stdio::null());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let status = command.status().map_err(|error| Error::spawn(&cargo, error))?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// Separated by commas.
    versions: String,
    minutes: String,
    seed: Option<String>,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut asked = Self { versions: known().join(","), minutes: "5".to_owned(), seed: None };
        for pair in arguments.chunks(2) {
            match pair {
                [option, value] if option == "--pg" => asked.versions = versions(value)?,
                [option, value] if option == "--minutes" && value.parse::<u64>().is_ok() => {
                    asked.minutes.clone_from(value);
                }
                [option, value] if option == "--seed" && value.parse::<u64>().is_ok() => {
                    asked.seed = Some(value.clone());
                }
                _ => return None,
            }
        }
        Some(asked)
    }
}

fn known() -> Vec<String> {
    PgVersion::ALL.iter().map(ToString::to_string).collect()
}

/// `14..18`, both ends included, or `15,18`.
fn versions(text: &str) -> Option<String> {
    let known = known();
    let place = |version: &str| known.iter().position(|other| other == version);
    let Some((first, last)) = text.split_once("..") else {
        return text.split(',').all(|version| place(version).is_some()).then(|| text.to_owned());
    };
    Some(known.get(place(first)?..=place(last)?)?.join(",")).filter(|versions| !versions.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Asked> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn versions_are_a_range_or_a_list() {
        assert_eq!(versions("14..18").unwrap(), "14,15,16,17,18");
        assert_eq!(versions("16..16").unwrap(), "16");
        assert_eq!(versions("15,18").unwrap(), "15,18");
        for wrong in ["13", "14..19", "18..14", "", "15,", "x..y"] {
            assert_eq!(versions(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_understood_runs_nothing() {
        let asked = parsed("--pg 14..15 --minutes 3 --seed 42").unwrap();
        let expected = Asked {
            versions: "14,15".to_owned(),
            minutes: "3".to_owned(),
            seed: Some("42".to_owned()),
        };
        assert_eq!(asked, expected);
        assert!(parsed("").is_some());
        for wrong in ["--pg", "--minutes soon", "14..18", "--pg 12"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
