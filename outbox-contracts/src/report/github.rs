//! As annotations of a pull request on GitHub.

use std::fmt::Write as _;

use super::{plain, subject};
use crate::check::Violation;

/// One `::error …` a line: GitHub shows each at its line of `file`.
#[must_use]
pub fn github(violations: &[Violation], file: &str) -> String {
    let mut lines = String::new();
    for violation in violations {
        let Violation { event, rule, what, line, .. } = violation;
        let said = format!(
            "{event}: {}{what}\n{}\n{}",
            subject(violation),
            rule.consequence(),
            rule.fix()
        );
        let said: Vec<String> = said.lines().map(plain).collect();
        let _ = writeln!(
            lines,
            "::error file={},line={},title={rule}::{}",
            property(file),
            line.unwrap_or(1),
            data(&said.join("\n")),
        );
    }
    lines
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
