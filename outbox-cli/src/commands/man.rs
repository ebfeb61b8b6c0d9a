//! `outbox man`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::args::Cli;
use crate::failure::Failure;

/// Print the manual page
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder, into which the pages of all commands are written instead
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(folder) = &args.into {
        return clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
            Failure::failed(format!("cannot write the pages into {}: {error}", folder.display()))
        });
    }
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page)?;
    Ok(io::stdout().write_all(&page)?)
}
