//! The programs of the servers, fetched once into `target/servers/dist`: by Maven, or from Debian's
//! packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::paths::{create_dir_all, remove_dir_all, servers_dir};
use crate::process::run;
use crate::tools::Tool;

/// A Maven artifact: a jar.
pub(crate) struct Artifact {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// What to do with the artifacts of Maven.
///
/// Maven itself unpacks: neither `unzip` nor a JDK's `jar` is needed, nor a crate that reads
/// archives.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Keep the jars, those they depend on included.
    CopyJars,
    /// Keep what is in the jars, without those they depend on.
    Unpack,
    /// Keep what is in the archives that have all of a program (`-all.zip`).
    UnpackProgram,
}

const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Where distributions are kept.
fn dist_dir() -> PathBuf {
    servers_dir().join("dist")
}

/// The directory with the distribution `name`, fetched unless it is there.
///
/// `finish` turns what Maven left in a directory into the distribution and returns where that is.
pub(crate) fn dist(
    name: &str,
    artifacts: &[Artifact],
    goal: Goal,
    finish: impl FnOnce(&Path) -> Result<PathBuf, Error>,
) -> Result<PathBuf, Error> {
    if let Some(dist) = fetched(name) {
        return Ok(dist);
    }
    // Before the lock is taken: fetching these takes the same lock.
    let mvn = Tool::Maven.command()?;
    fetch_once(name, |partial| {
        eprintln!("fetching {name} with Maven, once for this target directory");
        let fetched = partial.join("fetched");
        create_dir_all(&fetched)?;
        maven(mvn, partial, &fetched, artifacts, goal)?;
        finish(&fetched)
    })
}

/// The distribution `name`, if it is there.
pub(crate) fn fetched(name: &str) -> Option<PathBuf> {
    Some(dist_dir().join(name)).filter(|dist| dist.is_dir())
}

/// The directory `name`, made by `fetch` unless it is there. `fetch` works in a directory of its
/// own, and returns the part of it to keep.
pub(crate) fn fetch_once(
    name: &str,
    fetch: impl FnOnce(&Path) -> Result<PathBuf, Error>,
) -> Result<PathBuf, Error> {
    if let Some(dist) = fetched(name) {
        return Ok(dist);
    }
    let dist_dir = dist_dir();
    create_dir_all(&dist_dir)?;
    // One lock for all: two Mavens at a time can spoil their common repository in the home
    // directory.
    let lock = dist_dir.join("fetch.lock");
    let _lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::io(format_args!("lock {}", lock.display()), error))?;
    if let Some(dist) = fetched(name) {
        return Ok(dist);
    }
    // A fetch that was interrupted left its beginning here, never in `dist`.
    let partial = dist_dir.join(format!("{name}.partial"));
    remove_dir_all(&partial)?;
    create_dir_all(&partial)?;
    let finished = fetch(&partial)?;
    let dist = dist_dir.join(name);
    fs::rename(&finished, &dist)
        .map_err(|error| Error::io(format_args!("create {}", dist.display()), error))?;
    remove_dir_all(&partial)?;
    Ok(dist)
}

fn maven(
    mut mvn: Command,
    dir: &Path,
    output: &Path,
    artifacts: &[Artifact],
    goal: Goal,
) -> Result<(), Error> {
    let pom = dir.join("pom.xml");
    fs::write(&pom, pom_xml(artifacts, goal))
        .map_err(|error| Error::io(format_args!("write {}", pom.display()), error))?;
    let goal = match goal {
        Goal::CopyJars => "copy-dependencies",
        Goal::Unpack | Goal::UnpackProgram => "unpack-dependencies",
    };
    // -U: a failed download is otherwise remembered and not tried again for a day.
    mvn.args(["-q", "-B", "-U", "-f"]).arg(&pom).arg(format!("{PLUGIN}:{goal}"));
    mvn.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", output.display()));
    run(mvn, "fetch the servers of the tests: check that it reaches its repository").map(drop)
}

fn pom_xml(artifacts: &[Artifact], goal: Goal) -> String {
    const ALONE: &str = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>";

    let exclusions = match goal {
        Goal::CopyJars => "",
        Goal::Unpack | Goal::UnpackProgram => ALONE,
    };
    let kind = match goal {
        Goal::CopyJars | Goal::Unpack => "",
        Goal::UnpackProgram => "<type>zip</type><classifier>all</classifier>",
    };
    let dependencies: String = artifacts
        .iter()
        .map(|Artifact { group, name, version }| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
                 <version>{version}</version>{kind}{exclusions}</dependency>\n"
            )
        })
        .collect();
    format!(
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>xtask</groupId>\n  \
         <artifactId>servers</artifactId>\n  <version>1</version>\n  <dependencies>\n{dependencies}  \
         </dependencies>\n</project>\n"
    )
}
