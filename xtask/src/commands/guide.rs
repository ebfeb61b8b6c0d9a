//! `cargo xtask guide`: the programs of the README and of the guide, built and tested as a reader
//! would write them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::Error;
use crate::paths::{create_dir_all, remove_dir_all, servers_dir, workspace_root};

/// Folders beside the repository, and the pages that say what is in them.
const PROJECTS: [(&str, &[&str]); 2] = [
    ("hello-outbox", &["README.md"]),
    ("shop", &["docs/guide/getting-started.md", "docs/guide/testing.md"]),
];

pub(super) fn run() -> Result<ExitCode, Error> {
    let root = workspace_root();
    let beside = target_dir().join("guide");
    remove_dir_all(&beside)?;
    create_dir_all(&beside)?;
    // The pages say `outbox = { path = "../outbox" }`.
    std::os::unix::fs::symlink(&root, beside.join("outbox"))
        .map_err(|error| Error::io("link to the repository", error))?;

    let runs = ["DATABASE_URL", "KAFKA_BROKERS"].iter().all(|name| env::var_os(name).is_some());
    if !runs {
        eprintln!("the tests are built and not run: `eval \"$(cargo xtask up)\"` starts servers");
    }
    for (project, pages) in PROJECTS {
        let directory = beside.join(project);
        for page in pages {
            let page = root.join(page);
            let text = fs::read_to_string(&page)
                .map_err(|error| Error::io(format_args!("read {}", page.display()), error))?;
            files(&text).iter().try_for_each(|file| file.write(&directory))?;
        }
        stand_alone(&directory.join("Cargo.toml"))?;
        // The versions that the repository is tested with.
        fs::copy(root.join("Cargo.lock"), directory.join("Cargo.lock"))
            .map_err(|error| Error::io("copy Cargo.lock", error))?;
        if !test(&directory, runs)? {
            eprintln!(
                "{} do not work as they are written; what was built is in {}",
                pages.join(", "),
                directory.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    remove_dir_all(&beside)?;
    Ok(ExitCode::SUCCESS)
}

/// A package below this repository would be looked for in its workspace.
fn stand_alone(manifest: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(manifest)
        .map_err(|error| Error::io(format_args!("read {}", manifest.display()), error))?;
    if text.contains("[workspace]") {
        return Ok(());
    }
    fs::write(manifest, text + "\n[workspace]\n")
        .map_err(|error| Error::io(format_args!("write {}", manifest.display()), error))
}

fn test(project: &Path, runs: bool) -> Result<bool, Error> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace"]).current_dir(project);
    // What the repository has compiled with the same features is not compiled again.
    cargo.env("CARGO_TARGET_DIR", target_dir()).env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    if !runs {
        cargo.arg("--no-run");
    }
    let status = cargo.status().map_err(|error| Error::spawn("cargo", error))?;
    Ok(status.success())
}

/// Cargo's.
fn target_dir() -> PathBuf {
    let servers = servers_dir();
    servers.parent().map_or(servers.clone(), Path::to_owned)
}

/// A file that a page shows: a paragraph that begins with its path, then a block of code.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    path: PathBuf,
    /// The block is added to what the file has already.
    adds: bool,
    text: String,
}

impl Shown {
    fn write(&self, project: &Path) -> Result<(), Error> {
        let path = project.join(&self.path);
        if let Some(directory) = path.parent() {
            create_dir_all(directory)?;
        }
        let mut text = if self.adds { fs::read_to_string(&path) } else { Ok(String::new()) }
            .map_err(|error| Error::io(format_args!("read {}", path.display()), error))?;
        text.push_str(&self.text);
        fs::write(&path, text)
            .map_err(|error| Error::io(format_args!("write {}", path.display()), error))
    }
}

fn files(page: &str) -> Vec<Shown> {
    let mut files = Vec::new();
    let mut named = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let block = lines.by_ref().take_while(|line| *line != "```");
            let text: String = block.flat_map(|line| [line, "\n"]).collect();
            files.extend(named.take().map(|(path, adds)| Shown { path, adds, text }));
        } else if let Some((path, rest)) = line.strip_prefix('`').and_then(|l| l.split_once('`')) {
            let adds = rest.starts_with(", in addition:");
            if adds || rest.starts_with(':') {
                named = Some((PathBuf::from(path), adds));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_belongs_to_the_file_that_is_named_before_it() {
        let page = "```sh\ncargo new\n```\n`Cargo.toml`:\n\n```toml\n[package]\n```\n\n\
                    `src/main.rs`: the program.\nIt ends.\n\n```rust,no_run\nfn main() {}\n```\n\n\
                    `Cargo.toml`, in addition:\n\n```toml\n[x]\n```\n`cargo run` prints:\n```text\n```\n";
        let shown =
            |path: &str, adds, text: &str| Shown { path: path.into(), adds, text: text.to_owned() };
        assert_eq!(
            files(page),
            [
                shown("Cargo.toml", false, "[package]\n"),
                shown("src/main.rs", false, "fn main() {}\n"),
                shown("Cargo.toml", true, "[x]\n"),
            ]
        );
    }
}
