//! The command `outbox`, for those who operate an outbox and its consumers.
//!
//! Data goes to stdout, everything else to stderr. The exit codes are in `failure.rs`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod confirm;
mod connect;
mod context;
mod failure;
mod file;
mod http;
mod logs;
mod output;
mod progress;
mod settings;
mod signals;
mod spans;
mod text;
mod times;
mod values;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use context::Context;
use failure::Failure;
use spans::Spans;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

async fn run() -> Result<(), Failure> {
    let (cli, settings) = args::parse(std::env::args_os().collect())?;
    let context = Context::new(&cli.global, settings);
    let spans = Spans::start(&context.settings)?;
    // Lines would be written over what it draws. Where stderr is a file, they go there.
    if !cli.command.draws() || !io::stderr().is_terminal() {
        logs::install(&context, cli.command.log_level(), spans.layer());
    }
    // On the heap: the futures of all commands would be one large one.
    let ran = Box::pin(cli.command.run(&context)).await;
    spans.finish().await;
    ran
}
