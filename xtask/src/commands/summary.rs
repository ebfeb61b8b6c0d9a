//! The sum of what the test binaries report.

use std::fmt;

/// Most lines that are kept of what a failed test printed.
const MOST_LINES: usize = 40;
/// Most tests of which they are kept.
const MOST_REASONS: usize = 20;

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
    /// What those printed.
    reasons: Vec<Reason>,
    /// Whether the lines that come are of the last reason.
    in_reason: bool,
}

/// Why a test failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Reason {
    test: String,
    /// Empty until it [says why](says_why).
    lines: Vec<String>,
}

impl Summary {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; …` and `test NAME ... FAILED`; any
    /// other line adds nothing.
    pub(super) fn add_line(&mut self, line: &str) {
        let line = without_colors(line);
        self.add_reason(&line);
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

    /// `---- NAME stdout ----` begins what a test printed, and the next one or `failures:` ends it.
    fn add_reason(&mut self, line: &str) {
        if let Some(test) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.in_reason = self.reasons.len() < MOST_REASONS;
            if self.in_reason {
                self.reasons.push(Reason { test: test.to_owned(), ..Reason::default() });
            }
            return;
        }
        self.in_reason &= line != "failures:";
        if let Some(reason) = self.reasons.last_mut().filter(|_| self.in_reason)
            && reason.lines.len() < MOST_LINES
            && (!reason.lines.is_empty() || says_why(line))
        {
            reason.lines.push(line.to_owned());
        }
    }

    /// Adds what others report.
    pub(super) fn add(&mut self, mut other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.append(&mut other.failures);
        self.reasons.append(&mut other.reasons);
    }

    /// Whether any test was executed.
    pub(super) fn ran_any(&self) -> bool {
        self.passed + self.failed > 0
    }

    /// The failed tests of all binaries, and what each said; empty if there are none. Where a log is
    /// cut in the middle, its end is what is read.
    pub(super) fn failures(&self) -> String {
        let mut text = String::new();
        for Reason { test, lines } in &self.reasons {
            text.push_str(&format!("---- {test}\n{}\n", lines.join("\n").trim_end()));
        }
        for name in &self.failures {
            text.push_str(&format!("FAILED {name}\n"));
        }
        text
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The first line of what matters: a panic, the error of a test that returns one, or the compiler's
/// of an example.
fn says_why(line: &str) -> bool {
    line.contains("panicked at ") || line.starts_with("Error: ") || line.starts_with("error")
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
    fn what_runs_side_by_side_is_one_sum() {
        let output = |test| {
            format!(
                "test {test} ... FAILED\n---- {test} stdout ----\npanicked at {test}\nfailures:\n\
                 test result: FAILED. 1 passed; 1 failed; 2 ignored"
            )
        };
        let mut both = sum(&output("a"));
        both.add(sum(&output("b")));
        assert_eq!(both.to_string(), "2 passed, 2 failed, 4 skipped");
        let said = "---- a\npanicked at a\n---- b\npanicked at b\nFAILED a\nFAILED b\n";
        assert_eq!(both.failures(), said);
    }

    #[test]
    fn the_failures_of_all_binaries_are_listed() {
        let summary =
            sum("test a ... FAILED\ntest b ... ok\ntest src/lib.rs - c (line 3) ... FAILED\n");
        assert_eq!(summary.failures(), "FAILED a\nFAILED src/lib.rs - c (line 3)\n");
    }

    #[test]
    fn the_end_says_why_each_test_failed() {
        let failed = sum("\
test a ... FAILED
failures:

---- a stdout ----
a line of the log

thread 'a' panicked at src/lib.rs:1:1:
left is not right

---- b stdout ----
Error: not found


failures:
    a
    b
");
        let said = "---- a\nthread 'a' panicked at src/lib.rs:1:1:\nleft is not right\n---- b\nError: not found\nFAILED a\n";
        assert_eq!(failed.failures(), said);
        let long = "panicked at x\n".repeat(MOST_LINES + 1);
        let long = sum(&format!("---- a stdout ----\n{long}")).failures();
        assert_eq!(long.lines().count(), 1 + MOST_LINES);
        let many = sum(&"---- a stdout ----\npanicked at x\n".repeat(MOST_REASONS + 1));
        assert_eq!(many.failures().lines().count(), 2 * MOST_REASONS);
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
