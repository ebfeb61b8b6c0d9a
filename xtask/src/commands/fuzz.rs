//! `cargo xtask fuzz`: `tests/fuzz.rs` for longer, and on any version of Postgres.

use std::env;
use std::process::{Command, ExitCode, Stdio};

use crate::Error;
use crate::paths::workspace_root;
use crate::servers::PgVersion;

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    let Some(asked) = Asked::parse(arguments) else {
        eprintln!(
            "which Postgres, and for how long? `cargo xtask fuzz [--pg 14..18|15,18] [--minutes 10] [--seed SEED]`"
        );
        return Ok(ExitCode::from(2));
    };
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    for arguments in [
        &["build", "--quiet", "--workspace", "--all-features", "--examples"] as &[_],
        &["test", "--all-features", "--test", "fuzz", "--", "--nocapture"],
    ] {
        let mut command = Command::new(&cargo);
        command.args(arguments).current_dir(workspace_root()).stdin(Stdio::null());
        command.env("OUTBOX_FUZZ_PG", &asked.versions).env("OUTBOX_FUZZ_MINUTES", &asked.minutes);
        if let Some(seed) = &asked.seed {
            command.env("OUTBOX_SEED", seed);
        }
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
        let expected =
            Asked { versions: "14,15".to_owned(), minutes: "3".to_owned(), seed: Some("42".to_owned()) };
        assert_eq!(asked, expected);
        assert!(parsed("").is_some());
        for wrong in ["--pg", "--minutes soon", "14..18", "--pg 12"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
