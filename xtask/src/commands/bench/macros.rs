//! `cargo xtask bench macros`: what the macros cost, when a program is compiled and when it runs.

use std::path::Path;
use std::process::{Command, Stdio};

use super::cargo;
use super::crates::{self, ITEMS, Way};
use super::measure::{Samples, cpu_seconds};
use crate::paths::{create_dir_all, servers_dir, workspace_root};
use crate::process::run as run_command;
use crate::servers::{PgOptions, PgVersion, Postgres};
use crate::{Error, ScratchDir};

/// How often each crate is compiled.
const ROUNDS: usize = 7;

pub(super) fn run() -> Result<(), Error> {
    let dir = servers_dir().with_file_name("bench").join("macros");
    create_dir_all(&dir)?;
    macro_crate(&dir)?;
    items(&dir)?;
    service_call()
}

/// Cargo for the packaged source of one of our crates, with its own target directory.
fn cargo_on_macros(subcommand: &str, target: &Path) -> Command {
    let mut command = cargo();
    command
        .args([subcommand, "--package", "outbox-macros", "--target-dir"])
        .arg(target)
        .env("CARGO_INCREMENTAL", "0")
        .current_dir(workspace_root());
    command
}

fn macro_crate(dir: &Path) -> Result<(), Error> {
    let target = dir.join("macro-crate");
    println!(
        "outbox-macros, beyond syn, quote and proc-macro2 (CPU seconds, median of {ROUNDS}, least to most)"
    );
    for subcommand in ["check", "build"] {
        run_command(cargo_on_macros(subcommand, &target), "compile outbox-macros")?;
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            run_command(cargo_on_macros("clean", &target), "clean outbox-macros")?;
            samples
                .push(cpu_seconds(cargo_on_macros(subcommand, &target), "compile outbox-macros")?);
        }
        let (least, most) = samples.spread();
        let budget = if subcommand == "check" { "   budget 2.5" } else { "" };
        println!(
            "  cargo {subcommand:<8} {:5.2}  ({least:.2} to {most:.2}){budget}",
            samples.median()
        );
    }
    println!();
    Ok(())
}

fn items(dir: &Path) -> Result<(), Error> {
    crates::write(dir)?;
    let measured = Measured::all(dir)?;
    println!(
        "A crate of {ITEMS} items (`cargo check`, CPU seconds, median of {ROUNDS}, least to most)"
    );
    println!("  {:<22} {:>6}  {:<16} {:>12}  {:>10}", "", "CPU s", "", "ms per item", "lines each");
    for (way, samples) in &measured.0 {
        let plain = if way.is_of_events() { Way::PlainStructs } else { Way::PlainMethods };
        let (least, most) = samples.spread();
        let lines = expanded_lines(dir, *way)?.saturating_sub(expanded_lines(dir, plain)?);
        println!(
            "  {:<22} {:6.2}  ({least:.2} to {most:.2})   {:>12.2}  {:>10.1}",
            way.package(),
            samples.median(),
            measured.per_item(*way, plain),
            lines as f64 / ITEMS as f64
        );
    }
    measured.print_sums();
    Ok(())
}

/// CPU seconds for the crate of each way.
struct Measured([(Way, Samples); Way::ALL.len()]);

impl Measured {
    fn all(dir: &Path) -> Result<Self, Error> {
        let check = |way: Way| {
            let mut command = cargo();
            command
                .args(["check", "--package", way.package(), "--target-dir"])
                .arg(dir.join("target"))
                .env("CARGO_INCREMENTAL", "0")
                .current_dir(dir);
            command
        };
        let mut samples = Way::ALL.map(|way| (way, Samples::default()));
        for way in Way::ALL {
            run_command(check(way), "check a generated crate")?;
        }
        // Interleaved: what disturbs the machine for a while disturbs all of them.
        for _ in 0..ROUNDS {
            for (way, samples) in &mut samples {
                touch(&crates::source(dir, *way))?;
                samples.push(cpu_seconds(check(*way), "check a generated crate")?);
            }
        }
        Ok(Self(samples))
    }

    /// Milliseconds that an item takes beyond the plain one.
    fn per_item(&self, way: Way, plain: Way) -> f64 {
        let of = |wanted: Way| {
            let found = self.0.iter().find(|(way, _)| *way == wanted);
            found.map_or(f64::NAN, |(_, samples)| samples.median())
        };
        (of(way) - of(plain)) / ITEMS as f64 * 1000.0
    }

    fn print_sums(&self) {
        let event = |way| self.per_item(way, Way::PlainStructs);
        let method = |way| self.per_item(way, Way::PlainMethods);
        let ours = event(Way::DeriveDomainEvent) + method(Way::TransactionalOutbox);
        let by_hand = event(Way::DomainEventByHand) + method(Way::TransactionByHand);
        println!("  an event and a method  {ours:.2} ms; budget: no more than each of");
        println!("    by hand                              {by_hand:.2} ms");
        for (name, way) in [("async_trait", Way::AsyncTrait), ("instrument", Way::Instrument)] {
            println!(
                "    derive(Serialize) and {name:<14} {:.2} ms",
                event(Way::DeriveSerialize) + method(way)
            );
        }
        println!();
    }
}

fn touch(source: &Path) -> Result<(), Error> {
    let file = std::fs::File::options().append(true).open(source);
    file.and_then(|file| file.set_modified(std::time::SystemTime::now()))
        .map_err(|error| Error::io(format_args!("touch {}", source.display()), error))
}

/// Number of lines of the crate after expansion, as rustc prints it. A stable toolchain prints it
/// only with a variable.
fn expanded_lines(dir: &Path, way: Way) -> Result<usize, Error> {
    let mut command = cargo();
    command
        .args([
            "rustc",
            "--quiet",
            "--profile",
            "check",
            "--package",
            way.package(),
            "--target-dir",
        ])
        .arg(dir.join("target"))
        .args(["--", "-Zunpretty=expanded"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0")
        .current_dir(dir);
    Ok(run_command(command, "expand a generated crate")?
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count())
}

/// The program `service-call` of the package `outbox-bench`, on a Postgres that waits for the disk.
fn service_call() -> Result<(), Error> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "outbox-bench", "--bin", "service-call"])
        .current_dir(workspace_root());
    run_command(build, "build the benchmark `service-call`")?;

    let scratch = ScratchDir::new("bench")?;
    let postgres = Postgres::start(
        PgVersion::V15,
        &scratch.path().join("postgres"),
        PgOptions { fsync: true, ..PgOptions::default() },
    )?;
    let status = cargo()
        .args(["run", "--quiet", "--release", "--package", "outbox-bench", "--bin", "service-call"])
        .env("DATABASE_URL", postgres.url())
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| Error::spawn("cargo", error))?;
    if status.success() { Ok(()) } else { Err(Error::new("the benchmark `service-call` failed")) }
}
