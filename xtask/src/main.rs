//! `cargo xtask <command>`; see [`xtask::commands`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::commands::run(std::env::args())
}
