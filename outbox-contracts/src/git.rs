//! Files of revisions.

use std::io;
use std::path::Path;
use std::process::Command;

/// Why git shows no file.
#[derive(Debug)]
pub enum NotShown {
    /// git cannot be run.
    NoGit(io::Error),
    /// git has no such revision or file, which it says in these words.
    Missing(String),
}

/// What is in a file of a revision: `REVISION:PATH`, where a path that begins with `./` is one of
/// this folder. An object that begins with `-` is no option of git.
///
/// # Errors
/// If git cannot be run, or does not have the file.
pub fn show(folder: &Path, object: &str) -> Result<Vec<u8>, NotShown> {
    let shown = Command::new("git")
        .current_dir(folder)
        .args(["show", "--end-of-options", object])
        .output()
        .map_err(NotShown::NoGit)?;
    if shown.status.success() {
        Ok(shown.stdout)
    } else {
        let said = String::from_utf8_lossy(&shown.stderr);
        Err(NotShown::Missing(said.trim().to_owned()))
    }
}
