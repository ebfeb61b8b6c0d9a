//! The sum of what the test binaries report.

use std::fmt;

/// How many tests passed, failed and were skipped, over all `test result:` lines.
///
/// Displayed as `N passed, N failed, N skipped`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// The names of the tests that failed.
    failures: Vec<String>,
}

impl Summary {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; …` and `test NAME ... FAILED`; any
    /// other line adds nothing.
    pub(super) fn add_line(&mut self, line: &str) {
        let line = without_colors(line);
        if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Whether any test was executed.
    pub(super) fn ran_any(&self) -> bool {
        self.passed + self.failed > 0
    }

    /// The failed tests, a line each, of all binaries; empty if there are none.
    pub(super) fn failures(&self) -> String {
        let lines = self.failures.iter().map(|name| format!("FAILED {name}\n"));
        lines.collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// `ESC [ … letter` sets the color of a terminal.
fn without_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut plain, part| {
        plain.push_str(
            part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, text)| text),
        );
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(output: &str) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.add_line(line));
        summary
    }

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let summary = sum("\
running 4 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s
");
        assert_eq!(summary.to_string(), "13 passed, 2 failed, 1 skipped");
        assert!(summary.ran_any());
    }

    #[test]
    fn the_failures_of_all_binaries_are_listed() {
        let summary =
            sum("test a ... FAILED\ntest b ... ok\ntest src/lib.rs - c (line 3) ... FAILED\n");
        assert_eq!(summary.failures(), "FAILED a\nFAILED src/lib.rs - c (line 3)\n");
    }

    #[test]
    fn colors_do_not_hide_a_result() {
        let line = "test result: \u{1b}[32mok\u{1b}[m. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(sum(line).passed, 3);
    }

    #[test]
    fn ignored_tests_alone_are_no_run() {
        let summary =
            sum("test result: ok. 0 passed; 0 failed; 5 ignored; 0 measured; 0 filtered out");
        assert!(!summary.ran_any());
    }

    #[test]
    fn other_lines_add_nothing() {
        assert_eq!(
            sum("the test result: ok. 3 passed; 0 failed\n3 passed; 1 failed"),
            Summary::default()
        );
    }
}
