//! Where a lock is read from: a file, or a revision of git.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use outbox_contracts::git::{self, NotShown};
use outbox_contracts::{Lock, Topics};

use crate::failure::Failure;
use crate::file::read_at_most;

/// Where the state is that another one is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Git { revision: String, path: Option<String> },
}

impl Source {
    /// `git:REVISION`, `git:REVISION:PATH`, or the path of a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(of_git) = text.strip_prefix("git:") else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        let (revision, path) = match of_git.split_once(':') {
            Some((revision, path)) => (revision, Some(path.to_owned())),
            None => (of_git, None),
        };
        // git would take it for an option.
        if revision.is_empty() || revision.starts_with('-') || path.as_deref() == Some("") {
            return Err(
                "write git:REVISION or git:REVISION:PATH, such as git:origin/main".to_owned()
            );
        }
        Ok(Self::Git { revision: revision.to_owned(), path })
    }

    /// The lock. `beside`: the file that is compared, whose path a revision has as well.
    pub fn read(&self, beside: &Path) -> Result<Lock, Failure> {
        match self {
            Self::File(path) => read_file(path),
            Self::Git { revision, path: Some(path) } => of_git(Path::new("."), revision, path),
            Self::Git { revision, path: None } => {
                let folder = match beside.parent() {
                    Some(folder) if folder != Path::new("") => folder,
                    _ => Path::new("."),
                };
                let name = beside.file_name().unwrap_or_default().to_string_lossy();
                // Of the folder in which git is started, not of the root of the repository.
                of_git(folder, revision, &format!("./{name}"))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Git { revision, path: None } => write!(f, "git:{revision}"),
            Self::Git { revision, path: Some(path) } => write!(f, "git:{revision}:{path}"),
        }
    }
}

/// The lock in a file.
pub fn read_file(path: &Path) -> Result<Lock, Failure> {
    let shown = path.display();
    let text = read_at_most(path, Lock::MOST_BYTES).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => {
                ". The file has the events of a project: --lock names another one"
            }
            _ => "",
        };
        Failure::failed(format!("cannot read the lock {shown}: {error}{help}"))
    })?;
    parsed(&text, &shown.to_string())
}

/// What is wanted of the topics of a lock, in a file that people write.
pub fn read_topics(path: &Path, lock: &Lock) -> Result<Topics, Failure> {
    let shown = path.display();
    let text = read_at_most(path, Lock::MOST_BYTES).map_err(|error| {
        Failure::failed(format!("cannot read {shown}, and nothing was done: {error}"))
    })?;
    Topics::parse(&text, lock).map_err(|error| {
        let said = crate::text::one_line(&error.to_string());
        Failure::failed(format!(
            "{shown} does not say what topics are to be, and nothing was done: {said}"
        ))
    })
}

fn of_git(folder: &Path, revision: &str, path: &str) -> Result<Lock, Failure> {
    let object = format!("{revision}:{path}");
    let shown = git::show(folder, &object).map_err(|error| {
        Failure::failed(match error {
            NotShown::NoGit(error) => format!("cannot run git: {error}"),
            NotShown::Missing(why) => format!(
                "git has no {object}: {}. In CI, the revision has to be fetched first; and a project without a lock has nothing to \
                 compare with before the commit that adds it",
                crate::text::one_line(&why)
            ),
        })
    })?;
    let text = String::from_utf8(shown)
        .map_err(|_| Failure::failed(format!("the lock {object} is not UTF-8")))?;
    parsed(&text, &object)
}

fn parsed(text: &str, shown: &str) -> Result<Lock, Failure> {
    Lock::parse(text).map_err(|error| {
        let said = crate::text::one_line(&error.to_string());
        Failure::failed(format!("{shown} is no lock of events: {said}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_no_option_of_git() {
        let git = |revision: &str, path: Option<&str>| {
            Ok(Source::Git { revision: revision.to_owned(), path: path.map(str::to_owned) })
        };
        assert_eq!(Source::parse("git:origin/main"), git("origin/main", None));
        assert_eq!(Source::parse("git:v1:a/b.lock"), git("v1", Some("a/b.lock")));
        assert_eq!(Source::parse("a.lock"), Ok(Source::File(PathBuf::from("a.lock"))));
        for wrong in ["git:", "git:--output=x", "git:main:"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }
}
