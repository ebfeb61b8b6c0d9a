//! Programs of others that read and write records, for the tests: what they are, and how they are
//! fetched.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::fetch::{Artifact, Goal, dist, fetch_once};
use crate::process::run;
use crate::servers::kafka::RELEASE as KAFKA;
use crate::servers::registry::APICURIO;
use crate::tools::Tool;

const CLOUD_EVENTS: &str = "4.0.1";
const SPRING: &str = "3.3.3";
/// Runs a script on Java without a compiler, which a runtime environment does not have.
const GROOVY: &str = "4.0.33";
/// The SDK of CloudEvents for Python, and all that it needs.
const PACKAGES: [&str; 5] = [
    "cloudevents==2.2.0",
    "deprecation==2.1.0",
    "packaging==26.4",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
];
/// Changes with what is above.
const EDITION: &str = "3";
/// Longest time for one of them to read or write all its events.
const WITHIN_SECONDS: u32 = 90;

/// Fetches all that they need, before the first test.
pub(crate) fn fetch() -> Result<(), Error> {
    jars()?;
    packages().map(drop)
}

/// Runs one of them, which ends in time, and returns what it printed.
pub(crate) fn run_in_time(program: &Command, purpose: &str) -> Result<String, Error> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &WITHIN_SECONDS.to_string()]);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(command, purpose)
}

/// A class of Java, with all jars.
pub(crate) fn java(class: &str) -> Result<Command, Error> {
    let mut java = Tool::Java.command()?;
    java.arg("-cp").arg(jars()?.join("*")).arg(class);
    Ok(java)
}

/// A script on Java.
pub(crate) fn groovy(script: &str) -> Result<Command, Error> {
    let mut groovy = java("groovy.ui.GroovyMain")?;
    groovy.args(["-e", script]);
    Ok(groovy)
}

/// A script of Python, with its packages.
pub(crate) fn python(script: &str) -> Result<Command, Error> {
    let mut python = Tool::Python.command()?;
    // Whatever the locale is.
    python.env("PYTHONPATH", packages()?).env("PYTHONUTF8", "1").args(["-c", script]);
    Ok(python)
}

/// The folder with the jars, which are fetched if they are not there.
fn jars() -> Result<PathBuf, Error> {
    let jar = |group, name, version| Artifact { group, name, version };
    let artifacts = [
        // First, so that its version of the client is that of all.
        jar("org.apache.kafka", "kafka-tools", KAFKA),
        jar("io.apicurio", "apicurio-registry-serdes-avro-serde", APICURIO),
        jar("io.apicurio", "apicurio-registry-serdes-jsonschema-serde", APICURIO),
        jar("io.cloudevents", "cloudevents-kafka", CLOUD_EVENTS),
        jar("io.cloudevents", "cloudevents-json-jackson", CLOUD_EVENTS),
        jar("org.springframework.kafka", "spring-kafka", SPRING),
        jar("org.apache.groovy", "groovy", GROOVY),
    ];
    let name = format!("java-clients-{KAFKA}-{EDITION}");
    dist(&name, &artifacts, Goal::CopyJars, |jars| Ok(jars.to_owned()))
}

/// The folder with the packages of Python, which are fetched if they are not there.
fn packages() -> Result<PathBuf, Error> {
    fetch_once(&format!("python-clients-{EDITION}"), |partial| {
        eprintln!("fetching {} with pip, once for this target directory", PACKAGES[0]);
        pip(&partial.join("packages")).map_err(|error| {
            Error::new(format!(
                "the CloudEvents SDK for Python cannot be fetched: pip has to reach its repository. {error}"
            ))
        })
    })
}

fn pip(target: &Path) -> Result<PathBuf, Error> {
    let mut pip = Tool::Python.command()?;
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    // All of them are named above.
    pip.arg("--no-deps").arg("--target").arg(target).args(PACKAGES);
    run(pip, "fetch packages of Python")?;
    Ok(target.to_owned())
}
