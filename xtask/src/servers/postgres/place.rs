//! Where a server can run: Postgres refuses root, and another user may not reach the directory.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::paths::ScratchDir;
use crate::process::run;
use crate::servers::unprivileged::{User, open_to_all};

/// Where the server can run.
pub(super) struct Place {
    pub(super) home: PathBuf,
    /// The parent of the data directory.
    pub(super) parent: PathBuf,
    pub(super) elsewhere: Option<ScratchDir>,
}

impl Place {
    pub(super) fn find(user: Option<User>, fetched: PathBuf, dir: &Path) -> Result<Self, Error> {
        let here = Self { home: fetched.clone(), parent: dir.to_owned(), elsewhere: None };
        let Some(user) = user else { return Ok(here) };
        let reaches_program = user.may_use(&fetched.join("bin/postgres"))?;
        let reaches_dir = user.may_use(dir)?;
        if reaches_program && reaches_dir {
            return Ok(here);
        }

        let elsewhere = ScratchDir::in_dir(&env::temp_dir(), "xtask-postgres")?;
        let place = elsewhere.path();
        open_to_all(place)
            .map_err(|error| Error::io(format_args!("open {} to all", place.display()), error))?;
        if !user.may_use(place)? {
            return Err(Error::new(format!(
                "Postgres refuses to run as root, and another user reaches neither {} nor {}: set TMPDIR to a \
                 directory which every user may enter, or run the tests as another user",
                dir.display(),
                place.display()
            )));
        }
        let home = if reaches_program {
            fetched
        } else {
            let home = place.join("home");
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(&fetched).arg(&home);
            run(cp, "copy Postgres to the temporary directory")?;
            open_to_all(&home).map_err(|error| {
                Error::io(format_args!("open {} to all", home.display()), error)
            })?;
            home
        };
        let parent = if reaches_dir { dir.to_owned() } else { place.to_owned() };
        Ok(Self { home, parent, elsewhere: Some(elsewhere) })
    }
}
