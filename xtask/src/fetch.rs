//! The servers' programs, fetched once by Maven into `target/servers/dist`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::paths::{create_dir_all, remove_dir_all, servers_dir};
use crate::process::run;

/// A Maven artifact.
pub(crate) struct Artifact {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// What to do with the artifacts.
///
/// Maven itself unpacks: neither `unzip` nor a JDK's `jar` is needed, nor a crate that reads archives.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Keep the jars, those they depend on included.
    CopyJars,
    /// Keep what is in the jars.
    Unpack,
}

const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The directory with the distribution `name`, fetched unless it is there.
///
/// `finish` turns what Maven left in a directory into the distribution and returns where that is.
pub(crate) fn dist(
    name: &str,
    artifacts: &[Artifact],
    goal: Goal,
    finish: impl FnOnce(&Path) -> Result<PathBuf, Error>,
) -> Result<PathBuf, Error> {
    let dist_dir = servers_dir().join("dist");
    let dist = dist_dir.join(name);
    if dist.is_dir() {
        return Ok(dist);
    }
    create_dir_all(&dist_dir)?;
    // One lock for all: two Mavens at a time can spoil their common repository in the home directory.
    let lock = dist_dir.join("fetch.lock");
    let _lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| Error::io(format_args!("lock {}", lock.display()), error))?;
    if dist.is_dir() {
        return Ok(dist);
    }

    eprintln!("fetching {name} with Maven, once for this target directory");
    // A fetch that was interrupted left its beginning here, never in `dist`.
    let partial = dist_dir.join(format!("{name}.partial"));
    remove_dir_all(&partial)?;
    let fetched = partial.join("fetched");
    create_dir_all(&fetched)?;
    maven(&partial, &fetched, artifacts, goal)?;
    let finished = finish(&fetched)?;
    fs::rename(&finished, &dist)
        .map_err(|error| Error::io(format_args!("create {}", dist.display()), error))?;
    remove_dir_all(&partial)?;
    Ok(dist)
}

fn maven(dir: &Path, output: &Path, artifacts: &[Artifact], goal: Goal) -> Result<(), Error> {
    let pom = dir.join("pom.xml");
    fs::write(&pom, pom_xml(artifacts))
        .map_err(|error| Error::io(format_args!("write {}", pom.display()), error))?;
    let goal = match goal {
        Goal::CopyJars => "copy-dependencies",
        Goal::Unpack => "unpack-dependencies",
    };
    let mut mvn = Command::new("mvn");
    // -U: a failed download is otherwise remembered and not tried again for a day.
    mvn.args(["-q", "-B", "-U", "-f"]).arg(&pom).arg(format!("{PLUGIN}:{goal}"));
    mvn.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", output.display()));
    run(
        mvn,
        "fetch the servers of the tests: check that it reaches its repository, or set DATABASE_URL, \
         DATABASE_URL_ALT and KAFKA_BROKERS to servers you already run",
    )
    .map(drop)
}

fn pom_xml(artifacts: &[Artifact]) -> String {
    let dependencies: String = artifacts
        .iter()
        .map(|Artifact { group, name, version }| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
                 <version>{version}</version></dependency>\n"
            )
        })
        .collect();
    format!(
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>xtask</groupId>\n  \
         <artifactId>servers</artifactId>\n  <version>1</version>\n  <dependencies>\n{dependencies}  \
         </dependencies>\n</project>\n"
    )
}
