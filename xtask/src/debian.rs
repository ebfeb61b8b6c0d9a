//! Debian packages without root: found with lists of our own, downloaded and unpacked, never
//! installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::paths::create_dir_all;
use crate::process::run;
use crate::tools::is_installed;

/// Unpacks `package`, and what it needs that the machine does not have, into `root`. `work` is a
/// directory for temporary files.
///
/// Scripts of the packages do not run. The caller does what is needed of them.
pub(crate) fn unpack(package: &str, work: &Path, root: &Path) -> Result<(), Error> {
    update(package, work)?;
    let simulated = run(
        apt(work, &["install", "--simulate", "--no-install-recommends", package]),
        "find what the package needs",
    )?;
    let mut packages = to_install(&simulated);
    if !packages.iter().any(|name| name == package) {
        // Debian thinks that it is installed, but its program is missing.
        packages.push(package.to_owned());
    }
    unpack_these(&packages, work, root)
}

/// As [`unpack`], without what it needs: for a program that is linked statically.
pub(crate) fn unpack_alone(package: &str, work: &Path, root: &Path) -> Result<(), Error> {
    update(package, work)?;
    unpack_these(&[package.to_owned()], work, root)
}

fn update(package: &str, work: &Path) -> Result<(), Error> {
    if !is_installed("apt-get") {
        return Err(Error::new("there is no `apt-get`"));
    }
    for dir in ["apt/lists/partial", "apt/cache/archives/partial", "debs"] {
        create_dir_all(&work.join(dir))?;
    }
    eprintln!("fetching {package} and what it needs with apt-get, once for this target directory");
    run(apt(work, &["update"]), "fetch the lists of Debian's packages").map(drop)
}

fn unpack_these(packages: &[String], work: &Path, root: &Path) -> Result<(), Error> {
    create_dir_all(root)?;
    let mut download = apt(work, &["download"]);
    download.args(packages).current_dir(work.join("debs"));
    run(download, "download Debian packages")?;
    let archives = fs::read_dir(work.join("debs"))
        .map_err(|error| Error::io("list the downloaded packages", error))?
        .flatten()
        .map(|entry| entry.path());
    for archive in archives {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("-x").arg(&archive).arg(root);
        run(extract, "unpack a Debian package")?;
    }
    let root =
        root.canonicalize().map_err(|error| Error::io("find the unpacked packages", error))?;
    keep_links_inside(&root, &root)
}

fn apt(work: &Path, arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    let apt_dir = work.join("apt");
    for (option, dir) in [("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
        apt.arg("-o").arg(format!("{option}={}", apt_dir.join(dir).display()));
    }
    // No locks: they are in directories that only root may write. No sandbox: the user `_apt`
    // cannot write into our directory.
    apt.args(["-q", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"])
        .args(arguments);
    apt
}

/// The packages of the lines `Inst NAME (VERSION …)`.
fn to_install(simulated: &str) -> Vec<String> {
    let names =
        simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// Packages link to absolute paths, which lead into `root` here.
fn keep_links_inside(dir: &Path, root: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(dir)
        .map_err(|error| Error::io(format_args!("read {}", dir.display()), error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_symlink() {
            let Some(inside) = target_inside(&path, root) else { continue };
            fs::remove_file(&path)
                .and_then(|()| symlink(&inside, &path))
                .map_err(|error| Error::io(format_args!("link {}", path.display()), error))?;
        } else if path.is_dir() {
            keep_links_inside(&path, root)?;
        }
    }
    Ok(())
}

/// Relative, so that `root` may be moved: up from the link to the root, and down to the target.
fn target_inside(link: &Path, root: &Path) -> Option<PathBuf> {
    let target = fs::read_link(link).ok()?;
    let below = target.strip_prefix("/").ok()?;
    fs::symlink_metadata(root.join(below)).ok()?;
    let depth = link.parent()?.strip_prefix(root).ok()?.components().count();
    Some(std::iter::repeat_n("..", depth).collect::<PathBuf>().join(below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScratchDir;

    #[test]
    fn the_packages_to_download_are_those_that_would_be_installed() {
        let simulated = "Reading package lists...\nInst libc-ares2 (1.18.1-3 Debian:12 [amd64])\n\
                         Inst pgbouncer (1.18.0-1 Debian:12 [amd64]) []\nConf pgbouncer (1.18.0-1)";
        assert_eq!(to_install(simulated), ["libc-ares2", "pgbouncer"]);
    }

    #[test]
    fn absolute_links_of_a_package_lead_into_its_root() {
        let dir = ScratchDir::new("unit").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("usr/share/tool")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/tool.conf"), "ours").unwrap();
        let link = root.join("usr/share/tool/conf");
        symlink("/etc/tool.conf", &link).unwrap();
        let elsewhere = root.join("usr/share/tool/elsewhere");
        symlink("/not/of/this/package", &elsewhere).unwrap();

        keep_links_inside(&root, &root).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&root, &moved).unwrap();

        assert_eq!(fs::read_to_string(moved.join("usr/share/tool/conf")).unwrap(), "ours");
        assert_eq!(
            fs::read_link(moved.join("usr/share/tool/elsewhere")).unwrap(),
            Path::new("/not/of/this/package")
        );
    }
}
