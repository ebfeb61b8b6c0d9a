//! Changes the file of a lock, while other tests and other processes do so too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::file::{self, Loaded};
use super::said;
use crate::lock::Lock;

/// Longest wait for the others, each of which takes milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Calls `change` with what is in the file now, and writes what became of it. Nothing that another
/// process wrote is lost, and who reads sees the file before the change or after it.
pub(super) fn update<T>(path: &Path, change: impl FnOnce(&mut Lock) -> T) -> Result<T, String> {
    /// What was written or read last, so that not each test reads the whole again.
    static LAST: Mutex<Option<(PathBuf, Loaded)>> = Mutex::new(None);
    // What is renamed to a link would replace it.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let _others_wait = exclusive(path)?;
    let text = file::text_of(path)?.unwrap_or_default();
    let mut lock = match last.take() {
        Some((of, known)) if of == *path && known.text == text => known.lock,
        _ if text.is_empty() => Lock::default(),
        _ => file::parsed(text.clone(), &said::path(path))?.lock,
    };
    let before = lock.clone();
    let result = change(&mut lock);
    let text = if lock == before && !text.is_empty() {
        text
    } else {
        let text = lock.to_string();
        replace(path, &text).map_err(|error| said::not_written(path, &error))?;
        text
    };
    *last = Some((path.clone(), Loaded { text, lock }));
    Ok(result)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = write(path, &beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not even have been made.
        drop(fs::remove_file(&beside));
    }
    written
}

fn write(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    // A file that may not be written is meant to stay, also if its folder may be.
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().readonly() => {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        _ => {}
    }
    File::create(beside)?.write_all(text.as_bytes())
}

/// Waits until no other process changes the file. What is locked is its folder, since the file
/// itself is replaced; or, where folders cannot be locked, a file that stands for it.
fn exclusive(path: &Path) -> Result<File, String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let deadline = Instant::now() + LONGEST_WAIT;
    let of_folder = File::open(folder).and_then(|folder| locked(folder, deadline));
    let locked = of_folder.or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Err(error),
        _ => locked(stand_in(path)?, deadline),
    });
    locked.map_err(|error| said::not_written(path, &error))
}

fn locked(file: File, deadline: Instant) -> io::Result<File> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "another process has held it for a minute",
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn stand_in(path: &Path) -> io::Result<File> {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let name = format!("outbox-events-{:016x}.lock", hasher.finish());
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(std::env::temp_dir().join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Contract, EventName};

    /// The variable by which the test is a process that writes.
    const WRITER: &str = "OUTBOX_TEST_WRITER";

    fn add(path: &Path, name: &str) {
        update(path, |lock| {
            let contract = Contract { content_type: "x".to_owned(), ..Contract::default() };
            lock.accept(&EventName::new("t", name, 1), contract)
        })
        .unwrap();
    }

    #[test]
    fn what_many_write_at_once_is_all_there() {
        if let Some(writer) = std::env::var_os(WRITER) {
            let writer = writer.into_string().unwrap();
            let (path, number) = writer.rsplit_once('#').unwrap();
            for i in 0..20 {
                add(Path::new(path), &format!("{number}.{i}"));
            }
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.lock");
        let this = "program::update::tests::what_many_write_at_once_is_all_there";
        let writers: Vec<_> = (0..6)
            .map(|number| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", this])
                    .env(WRITER, format!("{}#{number}", path.display()))
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // Who reads meanwhile sees whole files.
        let mut running = writers;
        while !running.is_empty() {
            running.retain_mut(|writer| match writer.try_wait().unwrap() {
                None => true,
                Some(status) => {
                    assert!(status.success());
                    false
                }
            });
            if let Some(text) = file::text_of(&path).unwrap() {
                Lock::parse(&text).unwrap();
            }
        }
        let lock = Lock::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(lock.events.len(), 6 * 20);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_may_not_be_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.lock");
        add(&path, "a");
        let before = fs::read_to_string(&path).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let error = update(&path, |lock| lock.events.clear()).unwrap_err();
        assert!(error.contains("cannot be written"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
}
