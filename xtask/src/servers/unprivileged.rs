//! Most database servers refuse to run as root: the user they run as instead.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;
use crate::process::run;

#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The user to run as. `None`: this process does not run as root, and its own user will do.
    pub(crate) fn instead_of_root() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        Self::named("postgres").or_else(|_| Self::named("nobody")).map(Some)
    }

    fn named(name: &str) -> Result<Self, Error> {
        let id = |option| -> Result<u32, Error> {
            let mut id = Command::new("id");
            id.args([option, name]);
            run(id, "find an unprivileged user for a server")?
                .parse()
                .map_err(|_| Error::new(format!("`id {option} {name}` did not print a number")))
        };
        Ok(Self { uid: id("-u")?, gid: id("-g")? })
    }

    /// Makes `command` run as this user, without root's other groups.
    pub(crate) fn apply(self, command: &mut Command) {
        // The standard library drops the supplementary groups together with the user id of root.
        command.gid(self.gid).uid(self.uid);
    }

    /// Whether this user may enter the directory or run the program. The kernel is asked, which
    /// knows every directory on the path, access lists and mount options.
    pub(crate) fn may_use(self, path: &Path) -> Result<bool, Error> {
        let mut test = Command::new("test");
        test.arg("-x").arg(path);
        self.apply(&mut test);
        test.status().map(|status| status.success()).map_err(|error| Error::spawn("test", error))
    }

    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(|error| {
            Error::io(format_args!("give {} to another user", path.display()), error)
        })
    }
}

/// Lets every user enter a directory that this process made.
pub(crate) fn open_to_all(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}
