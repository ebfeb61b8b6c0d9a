//! One error for the whole crate: causes are read by people, and none is handled by a program.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// What happened, what it means and what to do next.
pub struct Error {
    message: String,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An operating system call failed; `doing` completes "cannot …".
    pub(crate) fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        Self { message: format!("cannot {doing}"), source: Some(source) }
    }

    /// `program` could not be run at all.
    pub(crate) fn spawn(program: &str, source: io::Error) -> Self {
        if source.kind() != io::ErrorKind::NotFound {
            return Self::io(format_args!("run `{program}`"), source);
        }
        let package = match program {
            "sh" => "dash",
            "test" | "id" | "cp" => "coreutils",
            "apt-get" => "apt",
            "dpkg-deb" => "dpkg",
            other => other,
        };
        Self::new(format!(
            "`{program}` was not found. Install it (Debian: `apt-get install {package}`)"
        ))
    }

    /// A server did not do what it should; the end of its log tells why.
    pub(crate) fn server(what: impl fmt::Display, log: &Path) -> Self {
        Self::new(format!("{what}\n--- the end of {} ---\n{}", log.display(), tail(log)))
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let bytes = match fs::read(log) {
        Ok(bytes) if bytes.is_empty() => return "(the log is empty)".to_owned(),
        Ok(bytes) => bytes,
        Err(error) => return format!("(the log cannot be read: {error})"),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The same text as [`Display`](fmt::Display): it is what a test prints when it unwraps or returns
/// the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The cause is part of the message, so there is no `source` to print a second time.
impl std::error::Error for Error {}
