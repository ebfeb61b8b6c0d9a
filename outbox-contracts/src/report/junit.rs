//! As the results of tests, which every CI server shows.

use std::fmt::Write as _;

use super::subject;
use crate::check::Violation;
use crate::lock::Lock;
use crate::markup::escaped;

/// A test for each event of `lock`, and for each that is gone from it.
#[must_use]
pub fn junit(violations: &[Violation], lock: &Lock, file: &str) -> String {
    let mut names: Vec<_> =
        lock.events.keys().chain(violations.iter().map(|violation| &violation.event)).collect();
    names.sort();
    names.dedup();
    let failed = names.iter().filter(|name| violations.iter().any(|found| found.event == ***name));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites><testsuite name=\"events\" tests=\"{}\" failures=\"{}\">",
        names.len(),
        failed.count()
    );
    for name in names {
        let _ = write!(
            xml,
            "<testcase classname=\"{}\" name=\"{} v{}\" file=\"{}\">",
            escaped(&name.topic),
            escaped(&name.name),
            name.version,
            escaped(file)
        );
        let of_it: Vec<_> = violations.iter().filter(|found| found.event == *name).collect();
        if let Some(first) = of_it.first() {
            let rules: Vec<&str> = of_it.iter().map(|violation| violation.rule.id()).collect();
            let _ = write!(
                xml,
                "<failure type=\"{}\" message=\"{}\">",
                first.rule,
                escaped(&rules.join(", "))
            );
            for violation in &of_it {
                let Violation { rule, what, .. } = violation;
                let said = format!("{rule}: {}{what}", subject(violation));
                for line in [&*said, rule.consequence(), rule.fix()] {
                    xml.push_str(&escaped(line));
                    xml.push('\n');
                }
            }
            xml.push_str("</failure>");
        }
        xml.push_str("</testcase>\n");
    }
    xml.push_str("</testsuite></testsuites>\n");
    xml
}
