//! Whether the disk has room. A server on a full one dies at some write, and all tests after it fail
//! for a reason that none of them names.

use std::path::Path;

use crate::Error;

/// What a run needs at its start: the test programs, as far as they are not built yet, and the data
/// of the servers.
const TO_BEGIN: u64 = 4 << 30;
/// With less, the next write of a server may fail.
const TO_GO_ON: u64 = 256 << 20;

/// # Errors
///
/// The disk of `dir` has less free space than a run needs.
pub(crate) fn has_room_to_begin(dir: &Path) -> Result<(), Error> {
    has(free(dir)?, TO_BEGIN, dir)
}

/// # Errors
///
/// The disk of `dir` is about to be full.
pub(crate) fn has_room_to_go_on(dir: &Path) -> Result<(), Error> {
    has(free(dir)?, TO_GO_ON, dir)
}

fn has(free: u64, needed: u64, dir: &Path) -> Result<(), Error> {
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes| bytes >> 20;
    Err(Error::new(format!(
        "the disk of {} has {} MiB free, and {} MiB are needed. Free some: `cargo clean` removes \
         what cargo has built here, and the servers' programs",
        dir.display(),
        mib(free),
        mib(needed)
    )))
}

/// Free bytes for users other than root, whom Postgres does not run as.
fn free(dir: &Path) -> Result<u64, Error> {
    rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)).map_err(
        |error| {
            Error::io(format_args!("ask for the free space of {}", dir.display()), error.into())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_full_is_named_with_what_is_needed() {
        let error = has(3 << 20, TO_BEGIN, Path::new("/d")).unwrap_err().to_string();

        assert!(
            error.starts_with("the disk of /d has 3 MiB free, and 4096 MiB are needed"),
            "{error}"
        );
        assert!(has(TO_BEGIN, TO_BEGIN, Path::new("/d")).is_ok());
    }

    #[test]
    fn the_free_space_is_that_of_the_directory() {
        assert!(free(Path::new("/proc")).unwrap() == 0);
        assert!(free(&std::env::temp_dir()).unwrap() > 0);
    }
}
