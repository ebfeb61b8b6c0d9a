//! The lock of the program that emits what this one reads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{self, Loaded};
use super::said;
use crate::git::{self, NotShown};
use crate::lock::Lock;

/// The lock, and what it is called. Read once in a process.
pub(super) fn load(source: &str, manifest: Option<&str>) -> Result<(Arc<Loaded>, String), String> {
    // A path has no lines.
    if source.contains('\n') {
        let shown = "the lock in `emitted_by`".to_owned();
        return Ok((once(source, || Ok(source.to_owned()), &shown)?, shown));
    }
    let folder = file::folder(manifest)?;
    if let Some(object) = source.strip_prefix("git:") {
        return Ok((once(source, || of_git(&folder, object), object)?, object.to_owned()));
    }
    let path = folder.join(source);
    let shown = said::path(&path);
    let loaded = file::load(&path)?;
    loaded.map(|loaded| (loaded, shown)).ok_or_else(|| said::no_emitter(source, &path))
}

fn once(
    source: &str,
    text: impl FnOnce() -> Result<String, String>,
    shown: &str,
) -> Result<Arc<Loaded>, String> {
    static READ: Mutex<BTreeMap<String, Arc<Loaded>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = read.get(source) {
        return Ok(Arc::clone(loaded));
    }
    let loaded = Arc::new(file::parsed(text()?, shown)?);
    read.insert(source.to_owned(), Arc::clone(&loaded));
    Ok(loaded)
}

/// `REVISION:PATH`, where a path that begins with `./` is one of the crate.
fn of_git(folder: &Path, object: &str) -> Result<String, String> {
    // git would take it for an option.
    let has_path = object.split_once(':').is_some_and(|(_, path)| !path.is_empty());
    if object.starts_with(['-', ':']) || !has_path {
        return Err(said::no_revision(object));
    }
    let shown = git::show(folder, object).map_err(|error| match error {
        NotShown::NoGit(error) => said::no_git(&error),
        NotShown::Missing(why) => said::not_in_git(object, &why),
    })?;
    match String::from_utf8(shown) {
        Ok(text) if text.len() as u64 <= Lock::MOST_BYTES => Ok(text),
        _ => Err(said::too_large(Path::new(object))),
    }
}
