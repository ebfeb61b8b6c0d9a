//! Packages of npm: only files are taken of them, and nothing in them runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::fetch::fetch_once;
use crate::process::run;
use crate::tools::is_installed;

/// The official schemas of AsyncAPI documents.
const SPECS: &str = "@asyncapi/specs";
const VERSION: &str = "6.11.1";
const SHA256: &str = "01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928";

/// The JSON schema (draft 7) that each AsyncAPI 3.0.0 document must match, bindings included: that
/// of the package `@asyncapi/specs`, fetched once.
///
/// # Errors
///
/// `npm` is not installed, or does not reach its registry, or what it fetched is not what is
/// expected.
pub fn asyncapi_schema() -> Result<PathBuf, Error> {
    let specs = fetch_once(&format!("asyncapi-specs-{VERSION}"), |partial| {
        eprintln!("fetching {SPECS} with npm, once for this target directory");
        let archive = pack(partial, SPECS, VERSION, SHA256)?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive).arg("-C").arg(partial);
        run(tar, "unpack a package of npm")?;
        Ok(partial.join("package"))
    })?;
    Ok(specs.join("schemas/3.0.0.json"))
}

/// The archive of a package, in `dir`.
fn pack(dir: &Path, name: &str, version: &str, sha256: &str) -> Result<PathBuf, Error> {
    if !is_installed("npm") {
        return Err(Error::new(format!(
            "`npm` is not on this machine, and the package {name} cannot be fetched without it. Install it (Debian: \
             `apt-get install npm`)"
        )));
    }
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--ignore-scripts", &format!("{name}@{version}")]);
    npm.arg("--cache").arg(dir.join("cache")).arg("--pack-destination").arg(dir).current_dir(dir);
    let packed = run(npm, "fetch a package of npm: check that it reaches its registry")?;
    let archive = dir.join(packed.trim());
    let mut sum = Command::new("sha256sum");
    sum.arg(&archive);
    let sum = run(sum, "check a package of npm")?;
    if sum.split_whitespace().next() != Some(sha256) {
        return Err(Error::new(format!(
            "the package {name} {version} that npm fetched is not the expected one: its SHA-256 is not {sha256}"
        )));
    }
    Ok(archive)
}
