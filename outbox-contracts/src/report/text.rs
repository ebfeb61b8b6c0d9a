//! As the compiler would say it.

use std::fmt::Write as _;

use super::{plain, subject};
use crate::check::Violation;

/// For a person at a terminal. `file` is what was checked.
#[must_use]
pub fn text(violations: &[Violation], file: &str) -> String {
    let mut text = String::new();
    for violation in violations {
        let Violation { event, rule, what, line, .. } = violation;
        let (event, what) = (plain(&event.to_string()), plain(what));
        let _ = writeln!(text, "error[{rule}]: {event}: {}{what}", plain(&subject(violation)));
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = writeln!(text, "  --> {file}{line}");
        let _ = writeln!(text, "   = {}", rule.consequence());
        let _ = writeln!(text, "   = help: {}\n", rule.fix());
    }
    text
}
