//! `cargo xtask bench`: what the README claims, measured side by side.

mod crates;
mod figure;
mod macros;
mod measure;
mod relay;

use std::env;
use std::process::{Command, ExitCode};

use crate::Error;

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    match arguments {
        [which] if which == "macros" => macros::run().map(|()| ExitCode::SUCCESS),
        [which, figures @ ..]
            if which == "relay" && figures.iter().all(|figure| is_figure(figure)) =>
        {
            relay::run(figures).map(|()| ExitCode::SUCCESS)
        }
        _ => {
            let figures = relay::FIGURES.map(|(name, _)| name).join("|");
            eprintln!(
                "what is to be measured? `cargo xtask bench macros`, or `cargo xtask bench relay [{figures}]…`"
            );
            Ok(ExitCode::from(2))
        }
    }
}

fn is_figure(name: &str) -> bool {
    relay::FIGURES.iter().any(|(figure, _)| *figure == name)
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
