//! `cargo xtask bench`: what the README claims, measured side by side.

mod crates;
mod macros;
mod measure;

use std::process::ExitCode;

use crate::Error;

pub(super) fn run(arguments: &[String]) -> Result<ExitCode, Error> {
    match arguments {
        [which] if which == "macros" => macros::run().map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("what is to be measured? `cargo xtask bench macros`");
            Ok(ExitCode::from(2))
        }
    }
}
