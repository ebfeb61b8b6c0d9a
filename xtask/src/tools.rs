//! The programs that fetch and run the servers: the machine's own, or else Debian's packages,
//! unpacked below `target/servers/dist` without root.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fetch::fetch_once;
use crate::process::run;
use crate::servers::User;
use crate::{Error, debian, java};

/// A program that the servers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Java 17 or later, which Kafka 4 asks for.
    Java,
    Maven,
    Xz,
    PgBouncer,
    /// Sets the clock of one process by a preloaded library.
    FakeTime,
    /// Checks alert rules of Prometheus and tests them.
    Promtool,
    /// A browser without a window.
    Chromium,
    /// A client of Kafka for the console.
    Kcat,
    /// Python 3.10 or later with pip.
    Python,
}

impl Tool {
    /// What the tests start. Maven and `xz` are needed by what remains to be fetched.
    pub(crate) const OF_TESTS: &[Self] =
        &[Self::Java, Self::PgBouncer, Self::FakeTime, Self::Chromium, Self::Kcat, Self::Python];

    fn program(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Maven => "mvn",
            Self::Xz => "xz",
            Self::PgBouncer => "pgbouncer",
            Self::FakeTime => "faketime",
            Self::Promtool => "promtool",
            Self::Chromium => "chromium-headless-shell",
            Self::Kcat => "kcat",
            Self::Python => "python3",
        }
    }

    /// The Debian package that has it.
    fn package(self) -> &'static str {
        match self {
            Self::Java => "default-jre-headless",
            Self::Maven => "maven",
            Self::Xz => "xz-utils",
            Self::PgBouncer => "pgbouncer",
            Self::FakeTime => "faketime",
            Self::Promtool => "prometheus",
            Self::Chromium => "chromium-headless-shell",
            Self::Kcat => "kcat",
            Self::Python => "python3-pip",
        }
    }

    /// A command that runs it.
    ///
    /// # Errors
    ///
    /// The machine does not have it, and it cannot be fetched.
    pub(crate) fn command(self) -> Result<Command, Error> {
        if let Some(program) = self.on_this_machine() {
            return Ok(self.in_its_environment(Command::new(program)));
        }
        self.command_below(&self.fetched()?)
    }

    /// A command that runs it as `user`. `spare` is a directory which that user may enter: a
    /// program that it cannot reach is copied there.
    pub(crate) fn command_as(self, user: Option<User>, spare: &Path) -> Result<Command, Error> {
        let mut command = self.command()?;
        let Some(user) = user else { return Ok(command) };
        if !user.may_use(Path::new(command.get_program()))? {
            let copy = spare.join(self.program());
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(self.fetched()?).arg(&copy);
            run(cp, "copy a server's program to a directory that its user may enter")?;
            command = self.command_below(&copy)?;
        }
        user.apply(&mut command);
        Ok(command)
    }

    fn command_below(self, root: &Path) -> Result<Command, Error> {
        let program = self.below(root).ok_or_else(|| self.absent("its packages do not have it"))?;
        let mut command = Command::new(program);
        command
            .env("LD_LIBRARY_PATH", env::join_paths(library_directories(root)).unwrap_or_default());
        Ok(self.in_its_environment(command))
    }

    /// Has Maven run on the same Java, which need not be the one on the path.
    fn in_its_environment(self, mut command: Command) -> Command {
        if self == Self::Maven
            && Self::Java.on_this_machine().is_none()
            && let Ok(root) = Self::Java.fetched()
            && let Some(home) = java::home(&root)
        {
            command.env("JAVA_HOME", home);
        }
        command
    }

    fn on_this_machine(self) -> Option<PathBuf> {
        let found =
            search_path().map(|dir| dir.join(self.program())).find(|path| path.is_file())?;
        let is_usable = match self {
            Self::Java => java::is_recent(&found),
            Self::Python => is_recent_python(&found),
            _ => true,
        };
        is_usable.then_some(found)
    }

    /// The directory into which its packages are unpacked, as if it were the root of a system.
    fn fetched(self) -> Result<PathBuf, Error> {
        fetch_once(&format!("debian-{}", self.program()), |partial| {
            let root = partial.join("root");
            let unpacked = match self {
                Self::Promtool => debian::unpack_alone(self.package(), partial, &root),
                _ => debian::unpack(self.package(), partial, &root),
            };
            unpacked.map_err(|error| self.absent(error))?;
            if self == Self::Java {
                java::trust(&root)?;
            }
            Ok(root)
        })
    }

    fn below(self, root: &Path) -> Option<PathBuf> {
        let candidates = match self {
            Self::Java => vec![java::home(root)?.join("bin/java")],
            Self::Maven => vec![root.join("usr/share/maven/bin/mvn")],
            Self::Xz => vec![root.join("usr/bin/xz"), root.join("bin/xz")],
            Self::PgBouncer => {
                vec![root.join("usr/sbin/pgbouncer"), root.join("usr/bin/pgbouncer")]
            }
            Self::FakeTime => vec![root.join("usr/bin/faketime")],
            Self::Promtool => vec![root.join("usr/bin/promtool")],
            // Not the script in `usr/bin`, which names the place where it would be installed.
            Self::Chromium => vec![root.join("usr/lib/chromium/chromium-headless-shell")],
            Self::Kcat => vec![root.join("usr/bin/kcat")],
            Self::Python => vec![root.join("usr/bin/python3")],
        };
        candidates.into_iter().find(|path| path.is_file())
    }

    fn absent(self, why: impl std::fmt::Display) -> Error {
        let version = match self {
            Self::Java => " (17 or later)",
            Self::Python => " (3.10 or later, with pip)",
            _ => "",
        };
        Error::new(format!(
            "`{}`{version} is not on this machine and cannot be fetched: {why}. Install it (Debian: `apt-get install {}`)",
            self.program(),
            self.package()
        ))
    }
}

/// A command that runs `promtool`, which checks alert rules of Prometheus and tests them.
///
/// # Errors
///
/// The machine does not have it, and it cannot be fetched.
pub fn promtool() -> Result<Command, Error> {
    Tool::Promtool.command()
}

/// A command that runs Chromium without a window.
///
/// # Errors
///
/// The machine does not have it, and it cannot be fetched.
pub fn chromium() -> Result<Command, Error> {
    Tool::Chromium.command()
}

/// The library that [`Tool::FakeTime`] preloads.
///
/// # Errors
///
/// The machine does not have it, and it cannot be fetched.
pub(crate) fn faketime_library() -> Result<PathBuf, Error> {
    let tool = Tool::FakeTime;
    let root = if tool.on_this_machine().is_some() { PathBuf::from("/") } else { tool.fetched()? };
    let mut candidates =
        library_directories(&root).map(|dir| dir.join("faketime/libfaketime.so.1"));
    let found = candidates.find(|path| path.is_file());
    found.ok_or_else(|| tool.absent("its packages have no library"))
}

/// The directories of `PATH`, and those of Debian that are not on every user's path.
fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = env::split_paths(&path).collect();
    directories.into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
}

fn is_recent_python(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import sys, pip; sys.exit(sys.version_info < (3, 10))"]);
    run(command, "ask for Python's version").is_ok()
}

/// Whether a program is on the path.
pub(crate) fn is_installed(program: &str) -> bool {
    search_path().any(|dir| dir.join(program).is_file())
}

/// The directories with the shared libraries of a system.
pub(crate) fn library_directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    let directories = ["usr/lib", "lib"].map(|lib| root.join(lib));
    directories.into_iter().flat_map(|lib| {
        let triplets = fs::read_dir(&lib).into_iter().flatten().flatten().map(|entry| entry.path());
        let triplets = triplets.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        // PulseAudio has a folder of its own, which Chromium asks for.
        let triplets = triplets.flat_map(|triplet| [triplet.join("pulseaudio"), triplet]);
        triplets.chain([lib.clone()]).collect::<Vec<_>>()
    })
}
