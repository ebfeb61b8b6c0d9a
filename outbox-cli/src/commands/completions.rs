//! `outbox completions`.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;

/// Print a script by which a shell completes the arguments
///
/// For bash: `outbox completions bash > ~/.local/share/bash-completion/completions/outbox`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    // In memory first: `generate` panics if the reader has closed the pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "outbox", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
