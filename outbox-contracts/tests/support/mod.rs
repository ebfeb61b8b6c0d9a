//! `cargo test` as a user runs it, in a project that depends on `outbox`.

use std::path::Path;
use std::process::Command;

/// Whether the libraries of a project pass, and what is said. Offline, so with the `Cargo.lock` of
/// this repository. `built`: the name of the folder for what is built.
pub fn cargo_test(
    project: &Path,
    built: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (bool, String) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--offline", "--lib", "--quiet"]).args(arguments).current_dir(project);
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join(built));
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
    for ours in ["CI", "OUTBOX_CONTRACTS", "OUTBOX_EVENTS_LOCK", "RUSTFLAGS"] {
        cargo.env_remove(ours);
    }
    cargo.envs(variables.iter().copied()).env("RUST_BACKTRACE", "0");
    let output = cargo.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
