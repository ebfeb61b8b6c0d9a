//! `cargo xtask bench`: what the README claims, measured side by side.

mod crates;
mod curve;
mod figure;
mod macros;
mod measure;
mod picture;
mod relay;

use std::env;
use std::process::{Command, ExitCode};

use clap::Subcommand;

use crate::Error;

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Measure what the macros cost, next to the same by hand and to other macros: 10 minutes
    ///
    /// In CPU seconds of the compiler, and in service calls on a Postgres with fsync.
    Macros,
    /// Measure the relay next to a producer alone, a loop by hand and Debezium: hours for all
    Relay {
        /// Which figures; all of them if none is named
        #[arg(value_name = "FIGURE", value_enum)]
        figures: Vec<relay::Measured>,
        /// How many events `mysql-drain` drains, and how many `mysql-growth` does at most
        #[arg(long, value_name = "EVENTS")]
        backlog: Option<u64>,
    },
    /// Make the pictures and pages anew of the samples that `relay` has kept
    Show,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Macros => macros::run(),
            Self::Relay { figures, backlog } => relay::run(&figures, backlog),
            Self::Show => figure::show(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn cargo() -> Command {
    Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// What it was measured on.
fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cpus} cores ({})", model.map_or("of an unknown kind", |(_, model)| model))
}
