//! The command `outbox`, for those who operate an outbox and its consumers.
//!
//! It ends with 0, with 1 if something could not be done, and with 2 if it was not understood.

#![forbid(unsafe_code)]

mod args;
mod dead_letters;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Cli, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::understand(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Command::DeadLetters(command) = cli.command;
    let Err(failure) = dead_letters::run(&command, &mut io::stdout()).await else {
        return ExitCode::SUCCESS;
    };
    // Whoever read us has seen enough: `outbox dead-letters list … | head`.
    if failure
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    // Where nobody listens there is still the exit code.
    let _ = writeln!(io::stderr(), "error: {failure}");
    ExitCode::FAILURE
}
