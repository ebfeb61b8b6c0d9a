//! Where the servers' programs and data are, and directories that are removed with their owner.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::Error;

/// The root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
    this_crate.parent().unwrap_or(this_crate).to_owned()
}

/// `servers` in cargo's target directory: everything this crate writes, but for
/// [what Postgres cannot reach there](crate::servers::Postgres).
pub(crate) fn servers_dir() -> PathBuf {
    let root = workspace_root();
    // A relative CARGO_TARGET_DIR is relative to where cargo was called: usually the root. Called
    // from elsewhere, everything is downloaded a second time.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join("servers")
}

pub(crate) fn create_dir_all(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path)
        .map_err(|error| Error::io(format_args!("create the directory {}", path.display()), error))
}

/// Removes what is there; an absent directory is fine.
pub(crate) fn remove_dir_all(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format_args!("remove the directory {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// A fresh directory below `target/servers/run`, for the data and logs of disposable servers.
///
/// It is removed on drop, unless the thread is panicking: then the servers' logs in it may tell
/// why. A directory that is left, also after a SIGKILL, is removed by a later [`ScratchDir::new`],
/// at least an hour after it was made.
///
/// Declare it before the servers which live in it: locals are dropped in reverse order.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    /// Locked until the owner ends. The kernel releases the lock even if the owner is killed.
    _owner: File,
}

const OWNER: &str = "owner.lock";
/// Long enough to read the logs of a failed test.
const LEFTOVERS_STAY: Duration = Duration::from_secs(3600);

impl ScratchDir {
    /// Makes `target/servers/run/<name>-<pid>-<n>`.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn new(name: &str) -> Result<Self, Error> {
        Self::in_dir(&servers_dir().join("run"), name)
    }

    pub(crate) fn in_dir(parent: &Path, name: &str) -> Result<Self, Error> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);

        create_dir_all(parent)?;
        sweep(parent, name);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{name}-{}-{n}", process::id()));
            // `create` refuses a path that exists, symbolic links included: no other user can
            // prepare it in a shared temporary directory.
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => {}
                // An earlier process had the same pid.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(Error::io(
                        format_args!("create the directory {}", path.display()),
                        error,
                    ));
                }
            }
            let owner = File::create(path.join(OWNER))
                .and_then(|file| file.lock().map(|()| file))
                .map_err(|error| {
                    Error::io(format_args!("lock {}", path.join(OWNER).display()), error)
                })?;
            return Ok(Self { path, _owner: owner });
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory for a person to look at; a later run removes it.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// Leaves the directory for good: the process that takes it over removes it.
    pub(crate) fn hand_over(self) {
        // Without the lock file, it is not taken for a leftover.
        let _ = fs::remove_file(self.path.join(OWNER));
        std::mem::forget(self);
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if !thread::panicking() {
            // What cannot be removed now is removed by a later run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes the directories called `name` which dead processes left in `parent`.
///
/// Errors are ignored: another process may do the same at the same time.
fn sweep(parent: &Path, name: &str) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(&format!("{name}-"))
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == me);
        if is_ours && is_leftover(&entry.path().join(OWNER)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_leftover(owner: &Path) -> bool {
    File::open(owner).is_ok_and(|file| {
        let age = file
            .metadata()
            .and_then(|m| m.modified())
            .map(|made| made.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age > LEFTOVERS_STAY) && file.try_lock().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn leftovers_of_dead_owners_are_swept_and_directories_in_use_stay() {
        let outer = ScratchDir::new("unit").unwrap();
        let used = ScratchDir::in_dir(outer.path(), "a").unwrap();
        let left = ScratchDir::in_dir(outer.path(), "a").unwrap();
        for dir in [&used, &left] {
            dir._owner.set_modified(SystemTime::now() - 2 * LEFTOVERS_STAY).unwrap();
        }
        // The lock is released, as when a process dies; the directory stays.
        let left_path = left.path.clone();
        left._owner.unlock().unwrap();
        left.leave();

        let next = ScratchDir::in_dir(outer.path(), "a").unwrap();

        assert!(used.path().is_dir());
        assert!(next.path().is_dir());
        assert!(!left_path.exists());
    }
}
