//! OpenSSL for what cargo builds: that of the machine, or Debian's, unpacked without root. To
//! compile it takes minutes, and modules of perl that a fresh machine may not have.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::fetch::fetch_once;
use crate::tools::{is_installed, library_directories};
use crate::{Error, debian};

/// By which cargo's build scripts are told to link an OpenSSL that is there.
const NO_VENDOR: &str = "OPENSSL_NO_VENDOR";
const PACKAGE: &str = "libssl-dev";
const LIBRARIES: [&str; 2] = ["ssl", "crypto"];

/// Variables for a cargo that builds with the feature `kafka-ssl-vendored`. The user's own ones
/// count: if one of them says where OpenSSL is, there are none.
pub(crate) fn environment() -> Vec<(&'static str, OsString)> {
    if [NO_VENDOR, "OPENSSL_DIR", "OPENSSL_LIB_DIR"].iter().any(|name| env::var_os(name).is_some())
    {
        return Vec::new();
    }
    if has_pkg_config() {
        return vec![(NO_VENDOR, "1".into())];
    }
    if let Some(there) = Headers::below(Path::new("/")) {
        return there.variables().into();
    }
    match fetched() {
        Ok(there) => {
            let searched = [("CPATH", &there.include), ("LIBRARY_PATH", &there.lib)].into_iter();
            let searched = searched.chain([("LD_LIBRARY_PATH", &there.lib)]);
            let searched = searched.map(|(name, directory)| (name, before(name, directory)));
            there.variables().into_iter().chain(searched).collect()
        }
        Err(error) => {
            eprintln!(
                "OpenSSL is compiled, which takes minutes: its headers are not on this machine and cannot be fetched ({error}). \
                 Install them (Debian: `apt-get install {PACKAGE}`)"
            );
            Vec::new()
        }
    }
}

/// `cargo xtask openssl`: the same for a shell.
pub(crate) fn print() -> ExitCode {
    for (name, value) in environment() {
        println!("export {name}='{}'", value.to_string_lossy().replace('\'', r"'\''"));
    }
    ExitCode::SUCCESS
}

/// Where headers and libraries are.
struct Headers {
    include: PathBuf,
    lib: PathBuf,
}

impl Headers {
    fn below(root: &Path) -> Option<Self> {
        let include = root.join("usr/include");
        let lib = library_directories(root).find(|lib| lib.join("libssl.so").exists())?;
        include.join("openssl/ssl.h").is_file().then_some(Self { include, lib })
    }

    fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            (NO_VENDOR, "1".into()),
            ("OPENSSL_INCLUDE_DIR", self.include.clone().into()),
            ("OPENSSL_LIB_DIR", self.lib.clone().into()),
        ]
    }
}

fn has_pkg_config() -> bool {
    let mut exists = Command::new("pkg-config");
    exists.args(["--exists", "openssl"]).stdout(Stdio::null()).stderr(Stdio::null());
    is_installed("pkg-config") && exists.status().is_ok_and(|status| status.success())
}

fn fetched() -> Result<Headers, Error> {
    let root = fetch_once("debian-openssl", |partial| {
        let root = partial.join("root");
        debian::unpack(PACKAGE, partial, &root)?;
        link_to_installed(&root)?;
        Ok(root)
    })?;
    Headers::below(&root).ok_or_else(|| Error::new(format!("`{PACKAGE}` has no library")))
}

/// The package's `libssl.so` links to the library of another package beside it. Where that one is
/// installed, it was not fetched.
fn link_to_installed(root: &Path) -> Result<(), Error> {
    for lib in library_directories(root) {
        for library in LIBRARIES {
            let link = lib.join(format!("lib{library}.so"));
            let Ok(name) = fs::read_link(&link) else { continue };
            if link.exists() {
                continue;
            }
            let mut installed = library_directories(Path::new("/")).map(|lib| lib.join(&name));
            let Some(target) = installed.find(|path| path.is_file()) else { continue };
            fs::remove_file(&link)
                .and_then(|()| symlink(&target, &link))
                .map_err(|error| Error::io(format_args!("link {}", link.display()), error))?;
        }
    }
    Ok(())
}

/// A search path with `directory` before what it has already. Debian has some of the headers in a
/// directory of the machine's architecture.
fn before(name: &str, directory: &Path) -> OsString {
    let mut paths = vec![directory.to_owned()];
    if name == "CPATH" {
        let own = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        paths.extend(own.filter(|path| path.join("openssl").is_dir()));
    }
    if let Some(others) = env::var_os(name).filter(|others| !others.is_empty()) {
        paths.extend(env::split_paths(&others));
    }
    env::join_paths(paths).unwrap_or_else(|_| directory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScratchDir;

    #[test]
    fn headers_and_libraries_are_found_below_a_root_and_in_the_directory_of_the_architecture() {
        let dir = ScratchDir::new("unit").unwrap();
        let root = dir.path();
        assert!(Headers::below(root).is_none());
        let lib = root.join("usr/lib/x86_64-linux-gnu");
        for directory in
            [&lib, &root.join("usr/include/openssl"), &root.join("usr/include/x86/openssl")]
        {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(root.join("usr/include/openssl/ssl.h"), "").unwrap();
        // Of a package that is installed where the tests run, or not: then it stays as it is.
        symlink("libssl.so.none", lib.join("libssl.so")).unwrap();
        link_to_installed(root).unwrap();
        assert!(Headers::below(root).is_none(), "its library is missing");
        fs::write(lib.join("libssl.so.none"), "").unwrap();

        let there = Headers::below(root).unwrap();

        assert_eq!(there.lib, lib);
        let searched = before("CPATH", &there.include);
        let searched: Vec<PathBuf> = env::split_paths(&searched).take(2).collect();
        assert_eq!(searched, [there.include.clone(), there.include.join("x86")]);
    }
}
