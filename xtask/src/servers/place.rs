//! Where a server can run that refuses root: another user may not reach its directory.

use std::env;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::unprivileged::{User, open_to_all};
use crate::Error;
use crate::paths::{ScratchDir, remove_dir_all};
use crate::process::run;

/// A server's programs, as they were fetched.
pub(super) struct Fetched {
    /// What the server is called in errors.
    pub(super) server: &'static str,
    pub(super) home: PathBuf,
    /// The program that runs as another user, below `home`.
    pub(super) program: &'static str,
}

/// Where the server can run.
pub(super) struct Place {
    pub(super) home: PathBuf,
    /// The parent of the data directory.
    pub(super) parent: PathBuf,
    pub(super) elsewhere: Option<ScratchDir>,
}

impl Place {
    pub(super) fn find(user: Option<User>, fetched: Fetched, dir: &Path) -> Result<Self, Error> {
        let Fetched { server, home, program } = fetched;
        let here = Self { home: home.clone(), parent: dir.to_owned(), elsewhere: None };
        let Some(user) = user else { return Ok(here) };
        let reaches_program = user.may_use(&home.join(program))?;
        let reaches_dir = user.may_use(dir)?;
        if reaches_program && reaches_dir {
            return Ok(here);
        }

        let name = format!("xtask-{}", server.to_lowercase());
        let elsewhere = ScratchDir::in_dir(&env::temp_dir(), &name)?;
        let place = elsewhere.path();
        open_to_all(place)
            .map_err(|error| Error::io(format_args!("open {} to all", place.display()), error))?;
        if !user.may_use(place)? {
            return Err(Error::new(format!(
                "{server} refuses to run as root, and another user reaches neither {} nor {}: set TMPDIR to a \
                 directory which every user may enter, or run the tests as another user",
                dir.display(),
                place.display()
            )));
        }
        let home = if reaches_program {
            home
        } else {
            let copy = place.join("home");
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(&home).arg(&copy);
            run(cp, "copy a server's programs to the temporary directory")?;
            open_to_all(&copy).map_err(|error| {
                Error::io(format_args!("open {} to all", copy.display()), error)
            })?;
            copy
        };
        let parent = if reaches_dir { dir.to_owned() } else { place.to_owned() };
        Ok(Self { home, parent, elsewhere: Some(elsewhere) })
    }
}

/// Has `fill` make the directory `data`, which is empty when it begins, unless it is there.
///
/// It exists only when complete: what was interrupted is done again.
pub(super) fn create_data(
    data: &Path,
    user: Option<User>,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    if data.is_dir() {
        return Ok(());
    }
    let partial = data.with_extension("partial");
    remove_dir_all(&partial)?;
    new_dir(&partial, user)?;
    fill(&partial)?;
    fs::rename(&partial, data)
        .map_err(|error| Error::io(format_args!("create {}", data.display()), error))
}

/// A directory for `user` alone.
pub(super) fn new_dir(path: &Path, user: Option<User>) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        Error::io(format_args!("create the directory {}", path.display()), error)
    })?;
    user.map_or(Ok(()), |user| user.own(path))
}
