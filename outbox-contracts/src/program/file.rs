//! The file of a lock: where it is, and what is in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::said;
use crate::lock::Lock;

/// The variable that names the lock of all crates of a workspace.
pub(super) const VARIABLE: &str = "OUTBOX_EVENTS_LOCK";

/// Its name, beside the manifest of a crate.
const NAME: &str = "events.lock";

/// A lock that was read, and the text that it was read from.
pub(super) struct Loaded {
    pub(super) text: String,
    pub(super) lock: Lock,
}

/// Where the lock of a crate is, whose manifest is in this folder.
pub(super) fn of_crate(manifest: Option<&str>) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_absolute() { Ok(named) } else { Err(said::relative_variable(&named)) };
    }
    Ok(folder(manifest)?.join(NAME))
}

/// The folder of a crate's manifest. Tests may run on another machine than the one that built them,
/// from an archive of nextest: then a variable says where it is.
pub(super) fn folder(manifest: Option<&str>) -> Result<PathBuf, String> {
    let built = manifest.map(PathBuf::from).filter(|folder| folder.is_dir());
    let run = || std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    built.or_else(run).ok_or_else(said::no_folder)
}

/// The lock in a file, read once in a process. `Ok(None)`: there is no such file.
pub(super) fn load(path: &Path) -> Result<Option<Arc<Loaded>>, String> {
    static READ: Mutex<BTreeMap<PathBuf, Arc<Loaded>>> = Mutex::new(BTreeMap::new());
    // Tests that begin at the same time wait for the one that reads.
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = read.get(path) {
        return Ok(Some(Arc::clone(loaded)));
    }
    let Some(text) = text_of(path)? else { return Ok(None) };
    let loaded = Arc::new(parsed(text, &said::path(path))?);
    read.insert(path.to_owned(), Arc::clone(&loaded));
    Ok(Some(loaded))
}

/// What is in the file now. `Ok(None)`: there is no such file.
pub(super) fn text_of(path: &Path) -> Result<Option<String>, String> {
    match Lock::text_of(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => Err(said::too_large(path)),
            _ => Err(said::unreadable(path, &error)),
        },
    }
}

pub(super) fn parsed(text: String, shown: &str) -> Result<Loaded, String> {
    match Lock::parse(&text) {
        Ok(lock) => Ok(Loaded { text, lock }),
        Err(error) => Err(said::no_lock(shown, &error)),
    }
}
