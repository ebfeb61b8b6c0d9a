//! The command `outbox`, for those who operate an outbox and its consumers.
//!
//! Exit codes: 0 for success, 1 if something failed, 2 for wrong arguments.

#![forbid(unsafe_code)]

mod args;
mod dead_letters;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Cli, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Command::DeadLetters(command) = cli.command;
    let Err(failure) = dead_letters::run(&command, &mut io::stdout()).await else {
        return ExitCode::SUCCESS;
    };
    // The reader has closed the pipe: `outbox dead-letters list … | head`.
    if failure
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    // If stderr is closed, there is still the exit code.
    let _ = writeln!(io::stderr(), "error: {failure}");
    ExitCode::FAILURE
}
