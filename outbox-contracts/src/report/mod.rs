//! Violations, for people and for programs.

mod github;
mod json;
mod junit;
mod text;

pub use github::github;
pub use json::json;
pub use junit::junit;
pub use text::text;

use crate::check::Violation;

/// What is in the payload, or the event.
pub(crate) fn subject(violation: &Violation) -> String {
    match &*violation.path {
        "" => String::new(),
        path => format!("`{path}`: "),
    }
}

/// The characters that move a terminal's cursor, or hide what is around them, as escapes. All that
/// is said here may have been written by the author of a pull request.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || crate::shape::is_invisible(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}
